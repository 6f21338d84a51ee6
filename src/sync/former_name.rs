//! A sync's former name: what a mapping whose file was renamed has synced, which the ledger keeps under the older name.

use super::guard::FormerName;
use super::session::Session;
use super::start::target_of;
use crate::error::Result;
use crate::ledger::{Comparison, GroupCounts};

impl Session<'_> {
    /// The sync whose groups this one may be about to send again: it has no mapping any more, it sent to where this one sends,
    /// and this one has nothing in the ledger. Of several, the one with the most groups.
    ///
    /// Only a run that would send enough groups to trip a guard asks, and only before its sync has any: counting reads the keys
    /// of the whole ledger.
    pub(super) async fn former_name(&self, found: &Comparison) -> Result<Option<FormerName>> {
        let groups_min = self.mapping.guards.groups_min.max(1);
        let first_send = found.synced == 0 && found.new >= groups_min && self.options.group.is_none();
        let Some(syncs) = self.syncs.as_ref().filter(|_| first_send) else { return Ok(None) };
        let history = self.ledger.history();
        let counts = history.all_group_counts().await?;
        let name = &self.mapping.name;
        if counts.get(name).is_some_and(|own: &GroupCounts| !own.is_empty()) {
            return Ok(None);
        }
        let mut former: Option<FormerName> = None;
        for (sync, GroupCounts { synced, .. }) in counts {
            let most = former.as_ref().map_or(groups_min - 1, |former| former.synced);
            if synced <= most || syncs.contains(&sync.as_str()) {
                continue;
            }
            let last = history.runs(Some(&sync), None, 1).await?.pop();
            let sent_to = last.and_then(|run| target_of(&run.mapping));
            if sent_to.is_some_and(|(destination, group_type)| self.target() == [&destination, &group_type]) {
                former = Some(FormerName { sync, now: name.clone(), synced });
            }
        }
        Ok(former)
    }
}
