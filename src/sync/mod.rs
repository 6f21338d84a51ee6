//! One run of one sync, top to bottom: read once, compare, guard, then page by page mark → send → record, and fold.
//!
//! [`run`], [`plan`] and [`adopt`] share one path up to the sending (`Session::phase`), so a plan shows what
//! a run will do because it is the same code. This module decides the order of things; it knows no SQL, no HTTP and no
//! terminal: it notifies a [`Monitor`].

pub mod decide;
pub mod group_keys;
pub mod guard;
mod missing;
pub mod options;
pub mod plan_file;
pub mod planned;
mod read;
mod record;
pub mod remote_groups;
pub mod report;
pub mod requests;
mod send;
mod start;
pub mod synced;
pub mod timeline;
pub mod trait_counts;
mod unchanged;
pub mod verify;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::delivery::{Delivery, DeliveryCounters, LogLevel, Signal};
use crate::destination::AddressedChange;
use crate::error::{Error, Kind, Result};
use crate::format::thousands;
use crate::io::{Clock, Random};
use crate::ledger::{
    CandidateKind, ChangeOutcome, Comparison, Cursor, JournalEntry, Ledger, PreviousRun, RunCheckpoint, RunStart,
    RunStatus,
};
use crate::mapping::Mapping;
use crate::mapping::diagnostic::Problem;
use crate::model::After;
use crate::source::dbt;

use decide::{Decider, Decision};
use guard::{GuardSet, Impact};
use plan_file::ApprovedChanges;
use read::ComparisonPhase;
use report::{Counts, Detail, Report};
use send::SendResult;

pub use group_keys::GroupKeys;
pub use options::{Flag, RunOptions, RunOrigin};
pub use read::{Reader, Rows, Warehouse};
pub use start::{run_id, target_of};

/// Candidates per page: what a crash leaves unconfirmed, and what is in memory at a time. Twice this many documents of a few
/// kilobytes (one page is sent while the next is prepared) are some tens of megabytes.
const PAGE_CANDIDATES: u64 = 5_000;

/// Groups that are adopted in one transaction: so many that DuckDB writes most of them to the ledger's file at once, past
/// its log.
const ADOPTED_AT_ONCE: usize = 250_000;
/// Bytes of their documents, after which there are fewer.
const ADOPTED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Mistakes of a mapping in a run's record: a person corrects some of the first hundred before the next run. With their lines
/// that is some hundred kilobytes.
const PROBLEMS_MAX: usize = 1_000;

/// Who started a run that a person requested with a command, in records and metrics.
pub const BY_COMMAND_LINE: &str = "command line";

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

/// What a run would do.
pub struct Plan {
    /// The sync's name.
    pub sync: String,
    /// What the comparison found.
    pub found: Comparison,
    /// What would be sent, counted as if every change were delivered.
    pub counts: Counts,
    /// The guard that would stop the run.
    pub guarded: Option<guard::Reading>,
    /// Whether the whole model was read.
    pub full: bool,
    /// The mapping's fingerprint.
    pub mapping: String,
}

/// Runs a sync. An error means the run did not take place or was stopped; what was acknowledged before is
/// recorded all the same.
pub async fn run(session: &Session<'_>, reader: &mut dyn Reader) -> Result<Report> {
    let approved = match session.permitted().await {
        Ok(approved) => approved,
        Err(error) => {
            if session.origin.run.is_some() {
                note_failure(session, &error, Vec::new()).await?;
            }
            return Err(error);
        }
    };
    let (start, previous) = session.begin().await?;
    session.monitor.note(Event::Began { run: &start.run, counters: session.delivery.map(Delivery::counters) });
    if !previous.recovered.is_empty() {
        session.monitor.note(Event::Recovered(&previous.recovered));
        let runs = previous.recovered.join(", ");
        session.log(LogLevel::Warning, &format!("recovered crashed run {runs}; unconfirmed groups are resent in full"));
    }
    let began = session.clock.elapsed();
    let (mut counts, mut detail) = (Counts::default(), Detail::default());
    let executed = match session.execute(start.clone(), previous, reader, approved, &mut counts, &mut detail).await {
        Ok(executed) => Ok(executed),
        Err(error) => Err(session.missing_for_now(error).await),
    };
    let ended_at = session.clock.now();
    detail.beyond_limit = executed.as_ref().map_or(0, |done| done.beyond_limit);
    if let Some(error) = executed.as_ref().map_or_else(Some, |done| done.stopped.as_ref()) {
        session.log(LogLevel::Error, &error.to_string());
    }
    if let Some(delivery) = session.delivery {
        detail.take(&delivery.counters());
    }
    detail.advice = match &executed {
        Ok(done) => done.stopped.as_ref().and_then(Error::advice),
        Err(error) => error.advice(),
    }
    .map(str::to_owned);
    let mut checkpoint = RunCheckpoint {
        status: counts.status(detail.beyond_limit),
        ended_at,
        counts: serde_json::to_string(&counts).unwrap_or_default(),
        rows: None,
        cursor: None,
        full: false,
        error: None,
        error_kind: None,
        guard: detail.stopped_by.take(),
        detail: serde_json::to_string(&detail).unwrap_or_default(),
    };
    match &executed {
        Ok(done) => {
            let whole = session.options.group.is_none() && counts.add_up();
            if !counts.add_up() {
                let error = Error::new(Kind::Bug, format!("the counts do not add up: {}", checkpoint.counts));
                checkpoint.status = RunStatus::Failed;
                checkpoint.error = Some(error.to_string());
                checkpoint.error_kind = Some(error.kind().name().to_owned());
            }
            let settled = counts.unfinished() == 0;
            checkpoint.rows = (done.full && whole).then_some(counts.rows);
            checkpoint.full = done.full && whole && settled;
            checkpoint.cursor = match (whole && settled, done.full || !whole) {
                (true, _) => done.cursor.clone(),
                // What is pending may be before the cursor, where an incremental run does not read.
                (false, true) if !settled => Some(Cursor::ReadAll),
                (false, _) => None,
            };
            if let (None, Some(stopped)) = (&checkpoint.error, &done.stopped) {
                if stopped.kind() == Kind::Interrupted && checkpoint.status == RunStatus::Incomplete {
                    checkpoint.status = RunStatus::Cancelled;
                }
                checkpoint.error = Some(stopped.to_string());
                checkpoint.error_kind = Some(stopped.kind().name().to_owned());
            }
        }
        Err(error) => {
            checkpoint.status = match error.kind() {
                Kind::Guard => RunStatus::StoppedByGuard,
                Kind::Interrupted => RunStatus::Cancelled,
                _ => RunStatus::Failed,
            };
            checkpoint.error = Some(error.to_string());
            checkpoint.error_kind = Some(error.kind().name().to_owned());
            // What it left unconfirmed may be before the cursor, where an incremental run does not read. A guard stops
            // before anything is sent.
            let beyond_cursor = detail.full || session.options.group.is_some();
            let sent_some = detail.found.is_some() && error.kind() != Kind::Guard;
            checkpoint.cursor = (beyond_cursor && sent_some).then_some(Cursor::ReadAll);
        }
    }
    let status = checkpoint.status;
    let bug = checkpoint.error.clone().filter(|_| executed.is_ok() && !counts.add_up());
    let finished = session.ledger.finish(&start.sync, &start.run, checkpoint).await;
    let done = executed?;
    finished?;
    if let Some(bug) = bug {
        return Err(Error::new(Kind::Bug, bug).at(format!("sync {}", start.sync)));
    }
    let seconds = (session.clock.elapsed() - began).as_secs_f64();
    Ok(Report {
        sync: start.sync,
        run: start.run,
        status,
        full: done.full,
        seconds,
        beyond_limit: done.beyond_limit,
        warnings: detail.warnings.clone(),
        detail,
        counts,
        stopped: done.stopped,
    })
}

/// Records a run that failed before it could begin: its source or destination could not be used at all, or the mapping does
/// not fit the source, which are `problems`. Failing to record it changes nothing about the failure.
pub async fn note_failure(session: &Session<'_>, error: &Error, mut problems: Vec<Problem>) -> Result<()> {
    problems.truncate(PROBLEMS_MAX);
    let mut start = session.start().await?;
    // The target of the last run stays recorded; see `check_target`.
    if let Some(last) = session.ledger.history().runs(Some(&start.sync), None, 1).await?.pop() {
        start.mapping = last.mapping;
    }
    session.ledger.begin(&start).await?;
    let checkpoint = RunCheckpoint {
        status: if error.kind() == Kind::Interrupted { RunStatus::Cancelled } else { RunStatus::Failed },
        ended_at: session.clock.now(),
        counts: serde_json::to_string(&Counts::default()).unwrap_or_default(),
        rows: None,
        cursor: None,
        full: false,
        error: Some(error.to_string()),
        error_kind: Some(error.kind().name().to_owned()),
        guard: None,
        detail: detail_of(error, problems),
    };
    session.ledger.finish(&start.sync, &start.run, checkpoint).await
}

/// The detail of a run that ended with this error and nothing else.
fn detail_of(error: &Error, problems: Vec<Problem>) -> String {
    let detail = Detail { advice: error.advice().map(str::to_owned), problems, ..Detail::default() };
    serde_json::to_string(&detail).unwrap_or_default()
}

/// Shows what a run would do, page by page as the run would send it, and writes nothing. `refuse` is what the destination
/// has against a change before anything is sent.
pub async fn plan(
    session: &Session<'_>,
    reader: &mut dyn Reader,
    refuse: &(dyn Fn(&AddressedChange) -> Option<String> + Send + Sync),
    show: &mut (dyn FnMut(&[Decision]) -> Result<()> + Send),
) -> Result<Plan> {
    session.check_target().await?;
    let (start, previous) = session.begin().await?;
    let phase = session.phase(start, previous, reader, |_| false).await?;
    let (mut counts, mut impact) = (Counts::of(&phase.found), Impact::default());
    let (mut position, mut first) = (0, None);
    while let Some(mut page) = session.decided(&phase.decider, position).await? {
        if session.stopping() {
            return Err(Error::new(Kind::Interrupted, "stopped before the plan was made"));
        }
        position += page.len() as u64;
        for decision in &mut page {
            impact.add(decision);
            if let Some(reason) = decision.addressed().as_ref().and_then(refuse) {
                decision.reject(reason);
            }
            count(&mut counts, decision, ChangeOutcome::Delivered);
        }
        first.get_or_insert_with(|| impact.clone());
        show(&page)?;
    }
    let guards = session.guard_set(phase.full, phase.started_at);
    let readings = guards.readings(&phase.found, session.rows_before(&phase), Some(&impact), first.as_ref());
    let guarded = guards.stopping(&readings).cloned();
    let (sync, mapping) = (session.mapping.name.clone(), session.fingerprint.to_owned());
    Ok(Plan { sync, found: phase.found, counts, guarded, full: phase.full, mapping })
}

/// Marks the source's rows as already synced, without sending anything. Returns how many groups.
pub async fn adopt(session: &Session<'_>, reader: &mut dyn Reader) -> Result<u64> {
    let (start, previous) = session.begin().await?;
    let sync = start.sync.clone();
    let run = start.run.clone();
    let adopted = session.adopt_rows(start, previous, reader).await;
    let (status, error) = match &adopted {
        Ok(_) => (RunStatus::Succeeded, None),
        Err(error) => (RunStatus::Failed, Some(error.to_string())),
    };
    let counts = Counts {
        rows: *adopted.as_ref().unwrap_or(&0),
        unchanged: *adopted.as_ref().unwrap_or(&0),
        ..Counts::default()
    };
    let checkpoint = RunCheckpoint {
        status,
        ended_at: session.clock.now(),
        counts: serde_json::to_string(&counts).unwrap_or_default(),
        rows: None,
        cursor: None,
        full: false,
        guard: None,
        error_kind: adopted.as_ref().err().map(|error| error.kind().name().to_owned()),
        detail: adopted.as_ref().err().map(|error| detail_of(error, Vec::new())).unwrap_or_default(),
        error,
    };
    session.ledger.finish(&sync, &run, checkpoint).await?;
    adopted
}

/// Adds a decision to the counts, with the outcome of its change if one was sent.
fn count(counts: &mut Counts, decision: &Decision, outcome: ChangeOutcome) {
    let outcome = decision.outcome(outcome);
    let missing = decision.kind == CandidateKind::Missing;
    let new = decision.kind == CandidateKind::New && outcome == ChangeOutcome::Delivered;
    counts.add(outcome, decision.traits(), missing, new);
}

impl Session<'_> {
    /// The changes that the run may send, where it has a plan, once its target is known to be the same.
    async fn permitted(&self) -> Result<Option<ApprovedChanges>> {
        self.check_target().await?;
        let Some(plan) = &self.options.plan else { return Ok(None) };
        let (plan, mapping) = (plan.clone(), self.mapping.clone());
        let read = tokio::task::spawn_blocking(move || ApprovedChanges::read(&plan, &mapping)).await;
        read.map_err(|panic| Error::new(Kind::Bug, "failed to read the plan").because(panic))?.map(Some)
    }

    fn guard_set(&self, full: bool, now: DateTime<Utc>) -> GuardSet<'_> {
        let asks = self.mapping.guards.dbt || self.mapping.guards.dbt_age_max.is_some();
        GuardSet {
            guards: &self.mapping.guards,
            on_duplicate: self.mapping.policy.on_duplicate,
            accepted: &self.options.accept,
            full,
            dbt: self.mapping.dbt.as_ref().filter(|_| asks).map(dbt::state),
            now,
        }
    }

    /// The remark about rows whose cursor lies in the future.
    fn remark_about_cursor(&self, phase: &ComparisonPhase) -> Option<String> {
        let (ahead, incremental) = (phase.ahead?, self.mapping.incremental.as_ref()?);
        let (rows, have, they) = if ahead.rows == 1 { ("row", "has", "it is") } else { ("rows", "have", "they are") };
        Some(format!(
            "{} {rows} {have} a `{}` in the future by {}: the checkpoint stays before the start of this run, and {they} read \
             in every run until then",
            ahead.rows, incremental.cursor, ahead.clock
        ))
    }

    /// Adds a line to the run's log.
    fn log(&self, level: LogLevel, text: &str) {
        if let Some(delivery) = self.delivery {
            delivery.counters().log.add(self.clock.now(), level, text);
        }
    }

    /// Stops the run if a guard does, and notes which.
    fn check(&self, guards: &GuardSet<'_>, detail: &mut Detail) -> Result<()> {
        let Some(reading) = guards.stopping(&detail.guards) else { return Ok(()) };
        let error = reading.error();
        detail.stopped_by = Some(reading.guard.clone());
        Err(error)
    }

    /// What a drop of rows is measured against.
    fn rows_before(&self, phase: &ComparisonPhase) -> Option<u64> {
        phase.previous.rows.filter(|_| self.options.group.is_none())
    }

    fn stopping(&self) -> bool {
        *self.signal.borrow() >= Signal::Stop
    }

    /// Resolves when the run should stop.
    async fn stopped(&self) {
        let mut signal = self.signal.clone();
        // A closed channel means that no request can come any more: then this never resolves.
        if signal.wait_for(|signal| *signal >= Signal::Stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Reads a page of candidates and decides them, off the async threads. `None` after the last page.
    async fn decided(&self, decider: &Arc<Decider>, position: u64) -> Result<Option<Vec<Decision>>> {
        self.decided_page(decider, position, true).await
    }

    /// `notify`: the monitor is notified of groups that cannot be read; pages may be read twice.
    async fn decided_page(&self, decider: &Arc<Decider>, position: u64, notify: bool) -> Result<Option<Vec<Decision>>> {
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

    /// The lines of the next candidates to adopt, none if there are no more; `position` moves on.
    async fn adoptable(&self, decider: &Arc<Decider>, position: &mut u64) -> Result<Vec<JournalEntry>> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while entries.len() < ADOPTED_AT_ONCE && bytes < ADOPTED_BYTES_MAX {
            let candidates = self.ledger.page(*position, PAGE_CANDIDATES).await?;
            if candidates.is_empty() {
                break;
            }
            *position += candidates.len() as u64;
            let decider = Arc::clone(decider);
            let adopt = move || {
                let decided = candidates.into_iter().map(|candidate| decider.decide(candidate));
                decided.filter_map(|decision| decider.adopted(decision)).collect::<Vec<_>>()
            };
            let page = tokio::task::spawn_blocking(adopt).await;
            let page = page.map_err(|panic| Error::new(Kind::Bug, "failed to decide a page").because(panic))?;
            let text_bytes = |entry: &JournalEntry| match &entry.document {
                Some(After::Text(text)) => text.len(),
                _ => 0,
            };
            bytes += page.iter().map(text_bytes).sum::<usize>();
            entries.extend(page);
        }
        Ok(entries)
    }

    async fn execute(
        &self,
        start: RunStart,
        previous: PreviousRun,
        reader: &mut dyn Reader,
        approved: Option<ApprovedChanges>,
        counts: &mut Counts,
        detail: &mut Detail,
    ) -> Result<SendResult> {
        // A plan has changes rather than plain values: with it, a run decides as the plan did.
        let takes_plain = |names: &[&str]| {
            approved.is_none() && self.delivery.is_some_and(|delivery| delivery.destination().takes_plain(names))
        };
        let phase = self.phase(start, previous, reader, takes_plain).await?;
        let guards = self.guard_set(phase.full, phase.started_at);
        let before = self.rows_before(&phase);
        detail.full = phase.full;
        detail.remarks.extend(self.remark_about_cursor(&phase));
        detail.remarks.extend(self.options.group.as_ref().and_then(|groups| groups.unknown(&phase.found)));
        let found = &phase.found;
        let [rows, candidates, unchanged] = [found.rows, found.candidates(), found.unchanged].map(thousands);
        self.log(LogLevel::Info, &format!("read {rows} rows: {candidates} to compare, {unchanged} unchanged"));
        detail.found = Some(phase.found.clone());
        detail.guards = guards.readings(&phase.found, before, None, None);
        self.check(&guards, detail)?;
        let mut impact = None;
        if guards.needs_impact(&phase.found) {
            let (of_all, mut position) = (impact.insert(Impact::default()), 0);
            while let Some(page) = self.decided_page(&phase.decider, position, false).await? {
                position += page.len() as u64;
                page.iter().for_each(|decision| of_all.add(decision));
            }
        }
        // The first page represents all: a mapping that does not fit does so everywhere.
        let mut first = Impact::default();
        self.decided(&phase.decider, 0).await?.iter().flatten().for_each(|decision| first.add(decision));
        detail.guards = guards.readings(&phase.found, before, impact.as_ref(), Some(&first));
        self.check(&guards, detail)?;
        for accepted in detail.guards.iter().filter(|reading| reading.trips) {
            let found = accepted.message.as_deref().unwrap_or_default();
            self.log(LogLevel::Warning, &format!("the guard `{}` is accepted for this run: {found}", accepted.guard));
        }
        *counts = Counts::of(&phase.found);
        self.send_all(&phase, approved.as_ref(), counts, detail).await
    }

    async fn adopt_rows(&self, start: RunStart, previous: PreviousRun, reader: &mut dyn Reader) -> Result<u64> {
        let phase = self.phase(start, previous, reader, |_| true).await?;
        let guards = GuardSet { full: false, ..self.guard_set(false, phase.started_at) };
        let readings = guards.readings(&phase.found, None, None, None);
        let keys: Vec<guard::Reading> = readings.into_iter().filter(|reading| reading.guard == "keys").collect();
        if let Some(reading) = guards.stopping(&keys) {
            return Err(reading.error());
        }
        let (mut position, mut adopted) = (0, phase.found.unchanged);
        let mut batch = self.adoptable(&phase.decider, &mut position).await?;
        while !batch.is_empty() {
            adopted += batch.len() as u64;
            let recorded = self.ledger.record(&self.mapping.name, &phase.run, phase.started_at, batch);
            let (recorded, following) = tokio::join!(recorded, self.adoptable(&phase.decider, &mut position));
            recorded?;
            batch = following?;
        }
        Ok(adopted)
    }
}
