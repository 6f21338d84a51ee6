//! Syncs that the ledger knows and the folder has no mapping for: shown, and where a mapping was renamed, with the command that
//! keeps its state.

use super::screen::{self, plural};
use crate::error::Result;
use crate::service::api::Service;
use crate::service::views::OrphanedSync;

/// The syncs without a mapping. Warns about each that may have got one of these names, because its groups would be sent again.
pub(super) async fn warn_of_renamed(service: &dyn Service, syncs: &[&str], quiet: bool) -> Result<Vec<OrphanedSync>> {
    // What the ledger cannot tell must not keep a command from its work, which will meet the same error.
    let orphaned = service.orphaned_syncs().await.unwrap_or_default();
    for orphan in orphaned.iter().filter(|_| !quiet) {
        if let Some((what, advice)) = syncs.iter().find_map(|sync| renamed_to(orphan, sync)) {
            screen::print_warning(&what, &advice);
        }
    }
    Ok(orphaned)
}

/// What to know, and to do, where the mapping of an orphaned sync may be called `sync` now.
pub(super) fn renamed_to(orphan: &OrphanedSync, sync: &str) -> Option<(String, String)> {
    let OrphanedSync { sync: from, groups, renamed_to, .. } = orphan;
    renamed_to.iter().find(|to| *to == sync)?;
    let known = plural(groups.synced, "synced group");
    let what = format!(
        "`{sync}` has nothing synced, and the ledger has {known} of `{from}`, which has no mapping, at the same destination"
    );
    let advice = format!(
        "if the file was renamed, `groupcast ledger rename {from} {sync}` keeps what is synced; otherwise `groupcast ledger drop {from}`"
    );
    Some((what, advice))
}
