//! A plan: what a run would do, decided by the same code, with nothing written or sent.

use super::decide::Decision;
use super::guard::{self, GuardSet, Impact};
use super::reader::Reader;
use super::record::count;
use super::report::Counts;
use super::session::Session;
use crate::destination::AddressedChange;
use crate::error::{Error, Kind, Result};
use crate::ledger::{ChangeOutcome, Comparison};

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
    let former = session.former_name(&phase.found).await?;
    let guards = GuardSet { former, ..session.guard_set(phase.full, phase.started_at) };
    let readings = guards.readings(&phase.found, session.rows_before(&phase), Some(&impact), first.as_ref());
    let guarded = guards.stopping(&readings).cloned();
    let (sync, mapping) = (session.mapping.name.clone(), session.fingerprint.to_owned());
    Ok(Plan { sync, found: phase.found, counts, guarded, full: phase.full, mapping })
}
