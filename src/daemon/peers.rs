//! What a daemon knows of its peers: other daemons, and commands elsewhere, that use the same ledger in a database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::ledger::shared::{Claim, LeaseRecord};
use crate::service::peers::{self, RunLease};

/// What is known of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SeenRun {
    /// This daemon has it, or had it.
    Own,
    /// It goes on elsewhere.
    Running,
    Ended,
}

/// What this daemon knows of the others.
pub(super) struct Peers {
    /// This daemon's name.
    pub(super) name: String,
    known: Mutex<Known>,
    /// What others did is taken in by one task at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) name_taken: AtomicBool,
    /// A run ended elsewhere.
    pub(super) run_ended: Notify,
}

#[derive(Default)]
pub(super) struct Known {
    /// The lease of this daemon's name.
    pub(super) own: Option<Claim>,
    pub(super) leases: Vec<LeaseRecord>,
    pub(super) runs: BTreeMap<String, SeenRun>,
    /// Runs that ended elsewhere and were not observed yet.
    pub(super) ended: Vec<String>,
    /// Requests and interrupted runs that were seen to.
    pub(super) heeded: BTreeSet<String>,
    pub(super) described: String,
    was_first: bool,
}

impl Peers {
    pub(super) fn new(name: &str, own: Option<Claim>) -> Peers {
        let known = Known { own, ..Known::default() };
        Peers {
            name: name.to_owned(),
            known: Mutex::new(known),
            turn: tokio::sync::Mutex::default(),
            name_taken: AtomicBool::new(false),
            run_ended: Notify::new(),
        }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    /// The leases as they were seen last.
    pub(super) fn leases(&self) -> Vec<LeaseRecord> {
        self.known().leases.clone()
    }

    /// The lease of a sync that another process has.
    pub(super) fn elsewhere(&self, sync: &str) -> Option<LeaseRecord> {
        peers::lease_of(&self.known().leases, sync).filter(|lease| !lease.is_own).cloned()
    }

    /// This daemon starts a run.
    pub(super) fn begins(&self, run: &str) {
        self.known().runs.insert(run.to_owned(), SeenRun::Own);
    }

    /// Whether a run has begun, here or elsewhere.
    pub(super) fn has_begun(&self, run: &str) -> bool {
        let known = self.known();
        known.runs.contains_key(run) || known.leases.iter().any(|lease| RunLease::begun(lease).as_deref() == Some(run))
    }

    /// The runs that ended elsewhere since the last call.
    pub(super) fn take_ended(&self) -> Vec<String> {
        std::mem::take(&mut self.known().ended)
    }

    /// Whether another daemon has this one's name now: it was frozen or cut off for longer than its lease.
    pub(super) fn is_name_taken(&self) -> bool {
        self.name_taken.load(Ordering::SeqCst)
    }

    /// Whether this daemon sends the alerts of all: the first by name.
    pub(super) fn is_first(&self) -> bool {
        let daemons = peers::daemons(&self.known().leases);
        daemons.iter().find(|daemon| !daemon.draining).is_none_or(|first| first.name == self.name)
    }

    /// Whether it does now, and did when this was called last.
    pub(super) fn note_first(&self) -> (bool, bool) {
        let is_first = self.is_first();
        (is_first, std::mem::replace(&mut self.known().was_first, is_first))
    }
}
