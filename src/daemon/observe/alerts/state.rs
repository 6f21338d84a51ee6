//! The alert state: what was last reported of each sync, and which change is worth a message. Pure: runs and views go in,
//! messages come out.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::message::{Event, Message, Mistaken};
use crate::ledger::RunStatus;
use crate::service::views::words::{self, lasting, plural};
use crate::service::views::{ActivityState, RunDetail, RunView, SyncView};

/// What was last reported of each sync, so that nothing is reported twice. A healthy sync leaves no trace.
///
/// A sync has one problem at a time; a problem that explains another one covers it: failing runs are not reported as late too,
/// and how many groups are rejected is reported only of runs that succeed. Mistakes in its mapping are reported apart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertState {
    /// Syncs with a problem.
    #[serde(rename = "told")]
    problems: BTreeMap<String, SyncProblem>,
    /// Syncs whose mapping has mistakes, and since when.
    mistaken: BTreeMap<String, DateTime<Utc>>,
}

/// What was last reported of a sync.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SyncProblem {
    #[serde(rename = "state")]
    kind: ProblemKind,
    since: DateTime<Utc>,
    failed_runs: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProblemKind {
    Failing { kind: String },
    Guarded { guard: String },
    Rejecting,
    Late,
}

/// A run that ended, with what its record does not contain.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The run.
    pub detail: &'a RunDetail,
    /// The sync's destination.
    pub destination: &'a str,
    /// The error's own advice, where it is at hand; else that of its kind is used.
    pub advice: Option<&'a str>,
    /// Whether it covered the whole sync: not one group, and not a limit of changes. A partial run shows nothing about the
    /// sync, and its result is read by the person who requested it.
    pub whole: bool,
    /// Whether it read the whole model. An incremental run does not see the groups that were rejected earlier.
    pub full: bool,
    /// Rejected groups after the run, by the ledger.
    pub rejected_groups: u64,
}

impl Ended<'_> {
    /// Rejected groups. The run's count is exact if it read everything; else the ledger may have more.
    fn rejected(&self) -> u64 {
        let counted = self.detail.run.counts.as_ref().map_or(0, |counts| counts.rejected());
        if self.full { counted } else { counted.max(self.rejected_groups) }
    }

    /// What this run shows about the sync: a problem, none (`Some(None)`), or nothing at all.
    fn shows(&self, rejected_above: u64) -> Option<Option<ProblemKind>> {
        let run = &self.detail.run;
        let kind = run.error_kind.as_deref();
        if !self.whole || kind == Some("interrupted") {
            return None;
        }
        match run.status {
            RunStatus::Queued | RunStatus::Running | RunStatus::Cancelled => None,
            RunStatus::Succeeded | RunStatus::SucceededWithRejections => {
                Some((self.rejected() > rejected_above).then_some(ProblemKind::Rejecting))
            }
            RunStatus::StoppedByGuard => {
                let guard = run.guard.clone().unwrap_or_default();
                Some(Some(ProblemKind::Guarded { guard }))
            }
            // Without an error it was limited.
            RunStatus::Incomplete if kind.is_none() => None,
            RunStatus::Incomplete | RunStatus::Failed => {
                Some(Some(ProblemKind::Failing { kind: kind.unwrap_or("unknown").to_owned() }))
            }
            RunStatus::Crashed => Some(Some(ProblemKind::Failing { kind: "crashed".to_owned() })),
        }
    }
}

impl AlertState {
    /// Takes note of a run that ended. Runs of one sync come in the order in which they ended.
    pub fn run_ended(&mut self, ended: &Ended<'_>, rejected_above: u64) -> Option<Message> {
        let run = &ended.detail.run;
        let at = run.ended_at.unwrap_or(run.started_at);
        let before = self.problems.get(&run.sync).cloned();
        match (before, ended.shows(rejected_above)?) {
            (None, None) => None,
            (Some(before), None) => {
                self.problems.remove(&run.sync);
                let title = match before.kind {
                    ProblemKind::Rejecting => {
                        format!("rejected groups are down to {}", words::thousands(ended.rejected()))
                    }
                    _ => recovered(&before, at),
                };
                Some(ended.message(Event::Recovered, &before, at, title))
            }
            (Some(mut before), Some(bad)) if before.kind == bad => {
                before.failed_runs += u32::from(bad != ProblemKind::Rejecting);
                self.problems.insert(run.sync.clone(), before);
                None
            }
            (before, Some(bad)) => {
                let now = SyncProblem::next(before.as_ref(), bad, run, at);
                let (event, title) = match &now.kind {
                    ProblemKind::Failing { kind } => (Event::Failed, format!("runs fail ({kind})")),
                    ProblemKind::Guarded { guard } => (Event::GuardStopped, format!("stopped by the guard `{guard}`")),
                    ProblemKind::Rejecting | ProblemKind::Late => {
                        let rejected = plural(ended.rejected(), "rejected group");
                        let after = before.map(|before| format!("; {}", recovered(&before, at)));
                        (Event::Rejected, format!("{rejected}{}", after.unwrap_or_default()))
                    }
                };
                let message = ended.message(event, &now, at, title);
                self.problems.insert(run.sync.clone(), now);
                Some(message)
            }
        }
    }

    /// Takes note of the mappings with mistakes, which are all there are now.
    pub fn check_mappings(&mut self, now: DateTime<Utc>, mistaken: &[Mistaken]) -> Vec<Message> {
        let mut messages = Vec::new();
        self.mistaken.retain(|sync, since| {
            let stays = mistaken.iter().any(|mistaken| mistaken.sync == *sync);
            if !stays {
                messages.push(Message::mapping_valid(sync, *since, now));
            }
            stays
        });
        for mistaken in mistaken {
            if !self.mistaken.contains_key(&mistaken.sync) {
                self.mistaken.insert(mistaken.sync.clone(), now);
                messages.push(Message::mapping_invalid(mistaken, now));
            }
        }
        messages
    }

    /// Takes note of what is late. `syncs` are all syncs of the config: others are forgotten.
    ///
    /// A sync is late when the oldest scheduled time that no success has served passed longer than `late_after` ago, a run
    /// under way or not; one that is paused or disabled is not. It stays late until a run succeeds.
    pub fn check(&mut self, now: DateTime<Utc>, syncs: &[SyncView], late_after: Duration) -> Vec<Message> {
        self.problems.retain(|name, _| syncs.iter().any(|view| view.sync == *name));
        let mut messages = Vec::new();
        for view in syncs {
            let covered = self.problems.get(&view.sync).is_some_and(|problem| problem.kind != ProblemKind::Rejecting);
            let Some(since) = missed(view).filter(|_| !covered) else { continue };
            let late = (now - since).to_std().unwrap_or_default();
            if late < late_after {
                continue;
            }
            let problem = SyncProblem { kind: ProblemKind::Late, since, failed_runs: 0 };
            messages.push(late_message(view, &problem, now, late));
            self.problems.insert(view.sync.clone(), problem);
        }
        messages
    }
}

impl SyncProblem {
    /// A problem that follows another one continues it, unless runs succeed again and only some groups are rejected.
    fn next(before: Option<&SyncProblem>, kind: ProblemKind, run: &RunView, at: DateTime<Utc>) -> SyncProblem {
        match before.filter(|before| before.kind != ProblemKind::Rejecting) {
            _ if kind == ProblemKind::Rejecting => SyncProblem { kind, since: at, failed_runs: 0 },
            Some(before) => SyncProblem { kind, since: before.since, failed_runs: before.failed_runs + 1 },
            None => SyncProblem { kind, since: run.started_at, failed_runs: 1 },
        }
    }
}

/// "recovered after 2 h 5 min and 3 failed runs".
fn recovered(before: &SyncProblem, at: DateTime<Utc>) -> String {
    let bad = lasting((at - before.since).to_std().unwrap_or_default());
    match before.failed_runs {
        0 => format!("recovered after {bad}"),
        runs => format!("recovered after {bad} and {}", plural(u64::from(runs), "failed run")),
    }
}

/// The scheduled time since which a success is missing, unless the sync is paused or disabled.
fn missed(view: &SyncView) -> Option<DateTime<Utc>> {
    let activity = view.activity.as_ref();
    let paused =
        activity.is_some_and(|activity| activity.paused_since.is_some() || activity.state == ActivityState::Paused);
    let disabled = !view.enabled || activity.is_some_and(|activity| activity.state == ActivityState::Disabled);
    view.schedule.as_ref()?.overdue_since.filter(|_| !(paused || disabled))
}

impl Ended<'_> {
    fn message(&self, event: Event, problem: &SyncProblem, at: DateTime<Utc>, title: String) -> Message {
        let run = &self.detail.run;
        let healthy = event == Event::Recovered;
        let advice = match event {
            Event::Recovered | Event::Late | Event::LedgerUnusable | Event::MappingInvalid => None,
            Event::Rejected => Some(format!("`groupcast rejected {}` shows why", run.sync)),
            Event::Failed | Event::GuardStopped => self.advice.map(str::to_owned).or_else(|| words::advice(run)),
        };
        Message {
            event,
            sync: run.sync.clone(),
            destination: self.destination.to_owned(),
            run: Some(run.run.clone()),
            status: Some(run.status),
            error: run.error.clone().filter(|_| !healthy),
            error_kind: run.error_kind.clone().filter(|_| !healthy),
            guard: run.guard.clone(),
            advice,
            counts: run.counts.clone(),
            rejected: run.counts.is_some().then(|| self.rejected()),
            bad_since: problem.since,
            failed_runs: problem.failed_runs,
            at,
            title: String::new(),
            text: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
        .with_title(titled(&run.sync, self.destination, &title))
    }
}

fn late_message(view: &SyncView, problem: &SyncProblem, now: DateTime<Utc>, late: Duration) -> Message {
    let state = view.activity.as_ref().map(|activity| activity.state);
    let advice = if state == Some(ActivityState::Running) {
        format!("a run is still under way: see `groupcast status {0}`, and what its source is doing", view.sync)
    } else if state == Some(ActivityState::Queued) {
        "other runs take all the room; see `groupcast status`, or raise `parallel_runs` under [daemon]".to_owned()
    } else {
        format!("see `groupcast status` and the log; `groupcast run {}` runs it now", view.sync)
    };
    Message {
        destination: view.destination.clone(),
        advice: Some(advice),
        bad_since: problem.since,
        ..Message::without_run(Event::Late, &view.sync, None, now)
    }
    .with_title(titled(&view.sync, &view.destination, &format!("late by {}", lasting(late))))
}

fn titled(sync: &str, destination: &str, what: &str) -> String {
    words::one_line(&format!("{sync} → {destination}: {what}")).into_owned()
}
