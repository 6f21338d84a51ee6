//! The commands that every service carries out in its own process, once: plan, export, adopt, verify, reset.

use tokio::sync::mpsc;

use super::api::ServiceResult;
use super::job::Job;
use super::stream::send;
use super::tracker::Tracker;
use super::views::{ExportedGroup, PlanPart, PlanRequest, PlanView, PlannedChange, build};
use crate::error::Result;
use crate::io::Clock;
use crate::ledger::kv::{PAUSED, note_of};
use crate::ledger::{History, ImportedGroups, Ledger};
use crate::sync::planned::TraitTotals;
use crate::sync::requests;
use crate::sync::verify::{Drifted, Verified};

/// Groups that an export reads at a time.
const EXPORT_PAGE: u64 = 10_000;

/// Makes a plan. The first changes, and the requests if they are wanted, go to `parts`; the plan itself has none.
pub async fn plan(
    job: &Job<'_>,
    request: &PlanRequest,
    tracker: &Tracker,
    parts: &mpsc::Sender<PlanPart>,
) -> ServiceResult<PlanView> {
    let now = job.context.clock.now();
    let filter = &request.filter;
    let label = job.mapping().label.as_deref();
    let (mut room, mut hidden) = (request.show.unwrap_or(usize::MAX), 0);
    let mut traits = TraitTotals::default();
    send(parts, [PlanPart::Destination(job.destination_seal()?)])?;
    let planned = job
        .plan(&mut |destination, page| {
            let planned = page.iter().filter_map(|decision| PlannedChange::of(decision, label));
            let mut found: Vec<PlannedChange> = planned.filter(|change| filter.admits(change)).collect();
            found.iter().for_each(|change| traits.add(change, filter));
            let shown = found.len().min(room);
            hidden += (found.len() - shown) as u64;
            room -= shown;
            found.truncate(shown);
            let mut found: Vec<PlanPart> = found.into_iter().map(|change| PlanPart::Change(Box::new(change))).collect();
            if request.requests {
                found.extend(requests::of_page(destination, page, now).into_iter().map(PlanPart::Request));
            }
            found.extend(tracker.take_notes().into_iter().map(PlanPart::Warning));
            send(parts, found)
        })
        .await?;
    Ok(build::plan(planned, hidden, traits.finish()))
}

/// Every group of a sync in the ledger, in key order.
pub async fn export(history: &dyn History, sync: &str, items: &mpsc::Sender<ExportedGroup>) -> ServiceResult<()> {
    let mut after: Option<String> = None;
    loop {
        let page = history.groups(sync, after.as_deref(), EXPORT_PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        send(items, page.into_iter().map(|group| build::exported(sync, group)))?;
    }
}

/// Compares the destination's groups with the synced state.
pub async fn verify(job: &Job<'_>, repair: bool, items: &mpsc::Sender<Drifted>) -> ServiceResult<Verified> {
    Ok(job.verify(repair, &mut |drifted| send(items, [drifted])).await?)
}

/// Gives what the ledger has of the sync `from` to `to`, its pause included. Returns how many groups.
pub async fn rename(ledger: &dyn Ledger, from: &str, to: &str) -> Result<u64> {
    // A pause is kept. It is noted first: a crash in between leaves the new name paused, rather than running unwatched.
    let paused_since = ledger.kv().get(&note_of(PAUSED, from)).await?;
    if let Some(since) = &paused_since {
        ledger.kv().put(&note_of(PAUSED, to), since).await?;
    }
    let renamed = ledger.rename(from, to).await;
    if renamed.is_err() && paused_since.is_some() {
        ledger.kv().delete(&note_of(PAUSED, to)).await?;
    }
    let groups = renamed?;
    // What else is remembered beside the groups is of runs under the old name; the next run makes it again.
    forget_notes(ledger, from).await?;
    Ok(groups)
}

/// Takes the groups of a sync over from another ledger. Returns how many.
pub async fn import(ledger: &dyn Ledger, sync: &str, groups: ImportedGroups, replace: bool) -> Result<u64> {
    let count = ledger.import(sync, groups, replace).await?;
    // What is remembered beside the groups is about others.
    forget_notes(ledger, sync).await?;
    Ok(count)
}

/// Drops everything that the ledger has of a sync. Returns how many groups.
pub async fn drop_sync(ledger: &dyn Ledger, sync: &str) -> Result<u64> {
    let groups = ledger.drop_sync(sync).await?;
    forget_notes(ledger, sync).await?;
    Ok(groups)
}

/// Deletes the notes about a sync: their names end with its own.
async fn forget_notes(ledger: &dyn Ledger, sync: &str) -> Result<()> {
    let notes = ledger.kv().all().await?;
    for name in notes.keys().filter(|name| name.split_once('/').is_some_and(|(_, of)| of == sync)) {
        ledger.kv().delete(name).await?;
    }
    Ok(())
}

/// Has a group, or all of a sync, sent in full by the next run, or forgets their synced state. Returns how many groups.
pub async fn reset(
    ledger: &dyn Ledger,
    clock: &dyn Clock,
    sync: &str,
    group: Option<&str>,
    forget: bool,
) -> ServiceResult<u64> {
    let mark = format!("reset-{}", clock.now().format("%Y%m%dT%H%M%SZ"));
    let keys = group.map(|group| vec![group.to_owned()]);
    Ok(ledger.reset(sync, keys.as_deref(), &mark, forget).await?)
}
