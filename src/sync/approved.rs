//! The changes that a run with a plan may send, and what it leaves out.

use std::collections::HashSet;

use super::decide::Decision;
use super::options::PlanFile;
use super::plan_file::{PlanItem, PlannedSync, hash, outdated, read_again};
use super::planned::PlannedChange;
use crate::destination::Destination;
use crate::error::Result;
use crate::ledger::CandidateKind;
use crate::mapping::{Mapping, fingerprint};

/// The changes of a plan's sync, by their hashes.
#[derive(Debug)]
pub(super) struct ApprovedChanges(HashSet<u128>);

impl ApprovedChanges {
    /// Reads the changes of a sync from a plan.
    ///
    /// Errors ([`Kind::PlanOutdated`](crate::error::Kind::PlanOutdated)): the file or the mapping is another since, or the plan has
    /// no such sync.
    pub(super) fn read(file: &PlanFile, mapping: &Mapping) -> Result<(ApprovedChanges, PlannedSync)> {
        let (mut changes, mut found) = (HashSet::new(), None);
        read_again(file, |item| match item {
            PlanItem::Change(hash) if found.is_none() => drop(changes.insert(hash)),
            PlanItem::Sync(sync) if found.is_none() && sync.sync == mapping.name => found = Some(sync),
            PlanItem::Sync(_) if found.is_none() => changes.clear(),
            PlanItem::Change(_) | PlanItem::Sync(_) => {}
        })?;
        let outdated = |what: String| Err(outdated(what).at(file.path.display().to_string()));
        let Some(planned) = found else { return outdated(format!("the plan has no sync `{}`", mapping.name)) };
        if planned.mapping != fingerprint(mapping) {
            return outdated(format!("{} changed after the plan was made", mapping.file));
        }
        if (&planned.source, &planned.destination) != (&mapping.source, &mapping.destination) {
            let now = format!("{} → {}", mapping.source, mapping.destination);
            return outdated(format!("the plan is for {} → {}, not for {now}", planned.source, planned.destination));
        }
        Ok((ApprovedChanges(changes), *planned))
    }

    /// Takes the decisions out of a page that would send what the plan does not have. What the destination cannot carry
    /// stays: it is rejected without a request, as the plan shows.
    pub(super) fn withhold(&self, page: &mut Vec<Decision>, destination: &dyn Destination) -> WithheldChanges {
        let mut withheld = WithheldChanges::default();
        page.retain(|decision| {
            let Some(addressed) = decision.addressed() else { return true };
            let planned = PlannedChange::of(decision, None).and_then(|planned| serde_json::to_string(&planned).ok());
            let is_approved = planned.is_some_and(|planned| self.0.contains(&hash(&planned)));
            if is_approved || destination.parts(&addressed).is_err() {
                return true;
            }
            match decision.kind {
                CandidateKind::Missing => withheld.missing += 1,
                CandidateKind::New | CandidateKind::Changed => withheld.rows += 1,
            }
            false
        });
        withheld
    }
}

/// Changes that a run leaves out because its plan does not have them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WithheldChanges {
    /// Those of rows.
    pub(super) rows: u64,
    /// Those of groups that left the model.
    pub(super) missing: u64,
}
