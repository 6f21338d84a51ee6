//! The folders that instances spill to.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the names of folders begin with that DuckDB spills to.
const SPILL: &str = "groupcast-spill-";

/// A folder that no other instance spills to: their files have the same names. DuckDB makes it when it first spills, and
/// removes it. What processes left that were killed is removed once.
pub(super) fn spill_folder(above: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    static TIDIED: Once = Once::new();
    let own = std::process::id();
    TIDIED.call_once(|| {
        if !Path::new("/proc/self").exists() {
            return;
        }
        for left in std::fs::read_dir(above).into_iter().flatten().flatten() {
            let name = left.file_name();
            let process =
                name.to_str().and_then(|name| name.strip_prefix(SPILL)?.split('-').next()?.parse::<u32>().ok());
            if process.is_some_and(|process| process != own && !Path::new(&format!("/proc/{process}")).exists()) {
                drop(std::fs::remove_dir_all(left.path()));
            }
        }
    });
    loop {
        let folder = above.join(format!("{SPILL}{own}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        if !folder.exists() {
            return folder;
        }
    }
}
