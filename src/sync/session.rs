//! What a run, a plan and an adoption share: the session with everything they need, its events, and pages of decisions.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::decide::{Decider, Decision};
use super::guard::GuardSet;
use super::options::{RunOptions, RunOrigin};
use crate::delivery::{Delivery, DeliveryCounters, LogLevel, Signal};
use crate::destination::ConfiguredDestination;
use crate::error::{Error, Kind, Result};
use crate::io::{Clock, Random};
use crate::ledger::{Comparison, Ledger};
use crate::mapping::Mapping;
use crate::source::dbt;

/// Candidates per page: what a crash leaves unconfirmed, and what is in memory at a time. Twice this many documents of a few
/// kilobytes (one page is sent while the next is prepared) are some tens of megabytes.
pub(super) const PAGE_CANDIDATES: u64 = 5_000;

/// An event of a run, for its monitor.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run is recorded as running.
    Began {
        /// Its id.
        run: &'a str,
        /// What delivery counts while it goes on.
        counters: Option<Arc<DeliveryCounters>>,
    },
    /// Crashed runs were folded.
    Recovered(&'a [String]),
    /// What the ledger holds of this group cannot be read: everything is sent again about it.
    Unreadable {
        /// The group.
        key: &'a str,
        /// What cannot be read.
        what: &'a str,
    },
    /// So many rows were read so far.
    Reading(u64),
    /// The comparison is done.
    Compared(&'a Comparison),
    /// More of the candidates have an outcome.
    Sending {
        /// How many more.
        settled: u64,
        /// All candidates of the run.
        total: u64,
    },
}

/// Someone who watches a run. The library never prints.
pub trait Monitor: Send + Sync {
    /// Something happened.
    fn note(&self, event: Event<'_>);
}

/// Everything a run needs.
pub struct Session<'a> {
    /// The mapping.
    pub mapping: &'a Mapping,
    /// Its fingerprint.
    pub fingerprint: &'a str,
    /// Every sync of the project: groups of another are those of a mapping that is gone, or has a new name. None where the ledger
    /// has no others'.
    pub syncs: Option<Vec<&'a str>>,
    /// Its destination as it is configured: a plan seals its settings.
    pub destination: Option<ConfiguredDestination<'a>>,
    /// The ledger.
    pub ledger: &'a dyn Ledger,
    /// The way to the destination; absent where nothing may be sent.
    pub delivery: Option<&'a Delivery<'a>>,
    /// The clock.
    pub clock: &'a dyn Clock,
    /// For run ids.
    pub random: &'a Random,
    /// Who watches.
    pub monitor: &'a dyn Monitor,
    /// What is requested of the run.
    pub options: &'a RunOptions,
    /// Where the run comes from.
    pub origin: &'a RunOrigin,
    /// Rises when the run should stop.
    pub signal: watch::Receiver<Signal>,
}

impl Session<'_> {
    /// Adds a line to the run's log.
    pub(super) fn log(&self, level: LogLevel, text: &str) {
        if let Some(delivery) = self.delivery {
            delivery.counters().log.add(self.clock.now(), level, text);
        }
    }

    pub(super) fn guard_set(&self, full: bool, now: DateTime<Utc>) -> GuardSet<'_> {
        let asks = self.mapping.guards.dbt || self.mapping.guards.dbt_age_max.is_some();
        GuardSet {
            guards: &self.mapping.guards,
            on_duplicate: self.mapping.policy.on_duplicate,
            accepted: &self.options.accept,
            full,
            former: None,
            dbt: self.mapping.dbt.as_ref().filter(|_| asks).map(dbt::state),
            now,
        }
    }

    pub(super) fn stopping(&self) -> bool {
        *self.signal.borrow() >= Signal::Stop
    }

    /// Resolves when the run should stop.
    pub(super) async fn stopped(&self) {
        let mut signal = self.signal.clone();
        // A closed channel means that no request can come any more: then this never resolves.
        if signal.wait_for(|signal| *signal >= Signal::Stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Reads a page of candidates and decides them, off the async threads. `None` after the last page.
    pub(super) async fn decided(&self, decider: &Arc<Decider>, position: u64) -> Result<Option<Vec<Decision>>> {
        self.decided_page(decider, position, true).await
    }

    /// `notify`: the monitor is notified of groups that cannot be read; pages may be read twice.
    pub(super) async fn decided_page(
        &self,
        decider: &Arc<Decider>,
        position: u64,
        notify: bool,
    ) -> Result<Option<Vec<Decision>>> {
        let candidates = self.ledger.page(position, PAGE_CANDIDATES).await?;
        if candidates.is_empty() {
            return Ok(None);
        }
        for candidate in candidates.iter().filter(|_| notify) {
            if let Some(what) = &candidate.unreadable {
                self.monitor.note(Event::Unreadable { key: &candidate.key, what });
                let text = format!("group `{}`: {what}; it is resent in full", candidate.key.escape_debug());
                self.log(LogLevel::Warning, &text);
            }
        }
        let decider = Arc::clone(decider);
        let decide = move || candidates.into_iter().map(|candidate| decider.decide(candidate)).collect();
        let decided = tokio::task::spawn_blocking(decide).await;
        decided.map(Some).map_err(|panic| Error::new(Kind::Bug, "failed to decide a page").because(panic))
    }
}
