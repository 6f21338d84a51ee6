//! A run from its start to its record: read and compare, guard, send, and what of it is kept.

use super::approved::ApprovedChanges;
use super::guard::{GuardSet, Impact};
use super::mirror::{MirrorReport, SettledKeys};
use super::read::ComparisonPhase;
use super::reader::Reader;
use super::report::{Counts, Detail, Report};
use super::request_log::RequestLog;
use super::send::SendResult;
use super::session::{Event, Session};
use crate::delivery::{Delivery, LogLevel};
use crate::error::{Error, Kind, Result};
use crate::format::thousands;
use crate::ledger::{Cursor, PreviousRun, RunCheckpoint, RunStart, RunStatus};
use crate::mapping::diagnostic::Problem;
use crate::mapping::{Compare, OnMissing};

/// Mistakes of a mapping in a run's record: a person corrects some of the first hundred before the next run. With their lines
/// that is some hundred kilobytes.
const PROBLEMS_MAX: usize = 1_000;

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
pub(super) fn detail_of(error: &Error, problems: Vec<Problem>) -> String {
    let detail = Detail { advice: error.advice().map(str::to_owned), problems, ..Detail::default() };
    serde_json::to_string(&detail).unwrap_or_default()
}

impl Session<'_> {
    /// The changes that the run may send, where it has a plan, once its target is known to be the same.
    async fn permitted(&self) -> Result<Option<ApprovedChanges>> {
        self.check_target().await?;
        let Some(plan) = &self.options.plan else { return Ok(None) };
        let (file, mapping) = (plan.clone(), self.mapping.clone());
        let read = tokio::task::spawn_blocking(move || ApprovedChanges::read(&file, &mapping)).await;
        let (approved, planned) =
            read.map_err(|panic| Error::new(Kind::Bug, "failed to read the plan").because(panic))??;
        if let Some(destination) = self.destination {
            planned.check_settings(destination).map_err(|error| error.at(plan.path.display().to_string()))?;
        }
        Ok(Some(approved))
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

    /// Stops the run if a guard does, and notes which.
    fn check(&self, guards: &GuardSet<'_>, detail: &mut Detail) -> Result<()> {
        let Some(reading) = guards.stopping(&detail.guards) else { return Ok(()) };
        let error = reading.error();
        detail.stopped_by = Some(reading.guard.clone());
        Err(error)
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
        let mut phase = self.phase(start, previous, reader, takes_plain).await?;
        let mut mirror = phase.mirror.take();
        detail.mirror = phase.without_mirror.take();
        detail.remarks.extend(detail.mirror.as_ref().and_then(MirrorReport::remark));
        detail.remarks.extend(mirror.as_ref().and_then(|mirror| mirror.report.remark()));
        let former = self.former_name(&phase.found).await?;
        let guards = GuardSet { former, ..self.guard_set(phase.full, phase.started_at) };
        let before = self.rows_before(&phase);
        detail.full = phase.full;
        detail.remarks.extend(self.remark_about_cursor(&phase));
        detail.remarks.extend(self.options.group.as_ref().and_then(|groups| groups.unknown(&phase.found)));
        let found = &phase.found;
        let [rows, candidates, unchanged] = [found.rows, found.candidates(), found.unchanged].map(thousands);
        let how = match &mirror {
            Some(mirror) if mirror.report.compared == Compare::Warehouse => "compared in the warehouse",
            _ => "read",
        };
        self.log(LogLevel::Info, &format!("{how} {rows} rows: {candidates} to compare, {unchanged} unchanged"));
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
        let acts = self.mapping.policy.on_missing != OnMissing::Keep;
        if let Some(mirror) = &mut mirror {
            self.reserve_mirror(mirror, &phase.found, acts).await?;
        }
        let log = RequestLog::new(self, &phase.run);
        let mut settled = SettledKeys::of(mirror.as_ref());
        let sent = self.send_all(&phase, approved.as_ref(), counts, detail, (&log, &mut settled)).await;
        detail.remarks.extend(log.finish(self.clock.now()).await);
        if let (Some(mirror), Ok(_)) = (mirror, &sent) {
            let (report, behind) = self.settle_mirror(mirror, settled, (&phase.found, acts), reader).await?;
            detail.remarks.extend(behind);
            detail.mirror = Some(report);
        }
        sent
    }
}
