//! Which change of a sync is worth a message? Pure: runs and views go in, messages come out.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::message::{Event, Message};
use crate::ledger::RunStatus;
use crate::service::views::words::{self, lasting, plural};
use crate::service::views::{RunDetail, RunView, State, SyncView};

/// Knows what was last told of each sync, and says nothing twice. A sync that is well leaves no trace.
///
/// A sync is in one state at a time; a state that explains another one covers it: runs that fail are not told to be late as
/// well, and how many groups are rejected is told only of runs that end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Watchman(BTreeMap<String, Trouble>);

/// What was last told of a sync that is not well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Trouble {
    state: Bad,
    since: DateTime<Utc>,
    failed_runs: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Bad {
    Failing { kind: String },
    Guarded { guard: String },
    Rejecting,
    Late,
}

/// A run that has ended, with what its record does not tell.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The run.
    pub detail: &'a RunDetail,
    /// The sync's destination.
    pub destination: &'a str,
    /// The error's own advice, where it is at hand; else the one of its kind is told.
    pub advice: Option<&'a str>,
    /// Whether it was asked to say everything: not one group only, and not only so many changes. Other runs say nothing
    /// about the sync, and whoever asked for them looks at what they did.
    pub whole: bool,
    /// Whether it read the whole model. An incremental run does not see the groups that were rejected earlier.
    pub full: bool,
    /// Groups whose last word is a rejection, as the ledger has it after the run.
    pub rejected_known: u64,
}

impl Ended<'_> {
    /// Rejected groups. What the run counted is exact if it read everything; else the ledger may know of more.
    fn rejected(&self) -> u64 {
        let counted = self.detail.run.counts.as_ref().map_or(0, |counts| counts.rejected());
        if self.full { counted } else { counted.max(self.rejected_known) }
    }

    /// The state this run shows the sync in: well (`Some(None)`), bad, or neither, for a run that says nothing about it.
    fn shows(&self, rejected_above: u64) -> Option<Option<Bad>> {
        let run = &self.detail.run;
        let kind = run.error_kind.as_deref();
        if !self.whole || kind == Some("interrupted") {
            return None;
        }
        match run.status {
            RunStatus::Running => None,
            RunStatus::Delivered | RunStatus::SomeRejected => {
                Some((self.rejected() > rejected_above).then_some(Bad::Rejecting))
            }
            RunStatus::Guarded => {
                let guard = words::guard_of(run).unwrap_or("unknown").to_owned();
                Some(Some(Bad::Guarded { guard }))
            }
            // Without an error it is a run that was only allowed to say so much.
            RunStatus::Incomplete if kind.is_none() => None,
            RunStatus::Incomplete | RunStatus::Failed => {
                Some(Some(Bad::Failing { kind: kind.unwrap_or("unknown").to_owned() }))
            }
            RunStatus::Died => Some(Some(Bad::Failing { kind: "died".to_owned() })),
        }
    }
}

impl Watchman {
    /// Takes note of a run that has ended. Runs of one sync come in the order in which they ended.
    pub fn ended(&mut self, ended: &Ended<'_>, rejected_above: u64) -> Option<Message> {
        let run = &ended.detail.run;
        let at = run.ended_at.unwrap_or(run.started_at);
        let before = self.0.get(&run.sync).cloned();
        match (before, ended.shows(rejected_above)?) {
            (None, None) => None,
            (Some(before), None) => {
                self.0.remove(&run.sync);
                let title = match before.state {
                    Bad::Rejecting => format!("rejected groups are down to {}", words::thousands(ended.rejected())),
                    _ => recovered(&before, at),
                };
                Some(ended.message(Event::Recovered, &before, at, title))
            }
            (Some(mut before), Some(bad)) if before.state == bad => {
                before.failed_runs += u32::from(bad != Bad::Rejecting);
                self.0.insert(run.sync.clone(), before);
                None
            }
            (before, Some(bad)) => {
                let now = Trouble::next(before.as_ref(), bad, run, at);
                let (event, title) = match &now.state {
                    Bad::Failing { kind } => (Event::Failed, format!("runs fail ({kind})")),
                    Bad::Guarded { guard } => (Event::GuardStopped, format!("stopped by the guard `{guard}`")),
                    Bad::Rejecting | Bad::Late => {
                        let rejected = plural(ended.rejected(), "rejected group");
                        let after = before.map(|before| format!("; {}", recovered(&before, at)));
                        (Event::Rejected, format!("{rejected}{}", after.unwrap_or_default()))
                    }
                };
                let message = ended.message(event, &now, at, title);
                self.0.insert(run.sync.clone(), now);
                Some(message)
            }
        }
    }

    /// Takes note of what is late. `syncs` are all syncs of the config: what was told of others is forgotten.
    ///
    /// A sync is late when the oldest scheduled time that no success has served passed longer than `late_after` ago, a run
    /// under way or not; one that is paused or disabled is not. It stays late until a run ends well.
    pub fn look(&mut self, now: DateTime<Utc>, syncs: &[SyncView], late_after: Duration) -> Vec<Message> {
        self.0.retain(|name, _| syncs.iter().any(|view| view.sync == *name));
        let mut messages = Vec::new();
        for view in syncs {
            let covered = self.0.get(&view.sync).is_some_and(|trouble| trouble.state != Bad::Rejecting);
            let Some(since) = missed(view).filter(|_| !covered) else { continue };
            let late = (now - since).to_std().unwrap_or_default();
            if late < late_after {
                continue;
            }
            let trouble = Trouble { state: Bad::Late, since, failed_runs: 0 };
            messages.push(lateness(view, &trouble, now, late));
            self.0.insert(view.sync.clone(), trouble);
        }
        messages
    }
}

impl Trouble {
    /// A trouble that follows another one goes on from it, unless runs end again and only some groups are rejected.
    fn next(before: Option<&Trouble>, state: Bad, run: &RunView, at: DateTime<Utc>) -> Trouble {
        match before.filter(|before| before.state != Bad::Rejecting) {
            _ if state == Bad::Rejecting => Trouble { state, since: at, failed_runs: 0 },
            Some(before) => Trouble { state, since: before.since, failed_runs: before.failed_runs + 1 },
            None => Trouble { state, since: run.started_at, failed_runs: 1 },
        }
    }
}

/// "recovered after 2 h 5 min and 3 failed runs".
fn recovered(before: &Trouble, at: DateTime<Utc>) -> String {
    let bad = lasting((at - before.since).to_std().unwrap_or_default());
    match before.failed_runs {
        0 => format!("recovered after {bad}"),
        runs => format!("recovered after {bad} and {}", plural(u64::from(runs), "failed run")),
    }
}

/// The scheduled time since which a success is missing, where somebody waits for one.
fn missed(view: &SyncView) -> Option<DateTime<Utc>> {
    let activity = view.activity.as_ref();
    let paused = activity.is_some_and(|activity| activity.paused_since.is_some() || activity.state == State::Paused);
    let disabled = !view.enabled || activity.is_some_and(|activity| activity.state == State::Disabled);
    view.schedule.as_ref()?.overdue_since.filter(|_| !(paused || disabled))
}

impl Ended<'_> {
    fn message(&self, event: Event, trouble: &Trouble, at: DateTime<Utc>, title: String) -> Message {
        let run = &self.detail.run;
        let well = event == Event::Recovered;
        let advice = match event {
            Event::Recovered | Event::Late | Event::LedgerUnusable => None,
            Event::Rejected => Some(format!("`groupcast rejected {}` shows why", run.sync)),
            Event::Failed | Event::GuardStopped => self.advice.map(str::to_owned).or_else(|| words::advice(run)),
        };
        Message {
            event,
            sync: run.sync.clone(),
            destination: self.destination.to_owned(),
            run: Some(run.run.clone()),
            status: Some(run.status),
            error: run.error.clone().filter(|_| !well),
            error_kind: run.error_kind.clone().filter(|_| !well),
            guard: words::guard_of(run).map(str::to_owned),
            advice,
            counts: run.counts.clone(),
            rejected: run.counts.is_some().then(|| self.rejected()),
            bad_since: trouble.since,
            failed_runs: trouble.failed_runs,
            at,
            title: String::new(),
            text: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
        .worded(titled(&run.sync, self.destination, &title))
    }
}

fn lateness(view: &SyncView, trouble: &Trouble, now: DateTime<Utc>, late: Duration) -> Message {
    let state = view.activity.as_ref().map(|activity| activity.state);
    let advice = if state == Some(State::Running) {
        format!("a run is still under way; look at `groupcast status {0}` and at what its source is doing", view.sync)
    } else if state == Some(State::Waiting) {
        "runs of other syncs take all the room; look at what runs, or raise `parallel_runs` under [daemon]".to_owned()
    } else {
        format!("look at `groupcast status` and the log; `groupcast run {}` runs it now", view.sync)
    };
    Message {
        event: Event::Late,
        sync: view.sync.clone(),
        destination: view.destination.clone(),
        run: None,
        status: None,
        error: None,
        error_kind: None,
        guard: None,
        advice: Some(advice),
        counts: None,
        rejected: None,
        bad_since: trouble.since,
        failed_runs: trouble.failed_runs,
        at: now,
        title: String::new(),
        text: String::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
    .worded(titled(&view.sync, &view.destination, &format!("late by {}", lasting(late))))
}

fn titled(sync: &str, destination: &str, what: &str) -> String {
    words::one_line(&format!("{sync} → {destination}: {what}")).into_owned()
}
