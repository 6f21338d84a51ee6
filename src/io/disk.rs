//! The disk that a path is on: its free space and the type of its file system.

use std::path::{Path, PathBuf};

/// Bytes that this user may still write at the path; none where the system does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(existing(path)?).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The type of the file system at the path, as the kernel calls it (`ext4`, `overlay`, `nfs4`); none where it does not say.
pub fn file_system(path: &Path) -> Option<String> {
    let path = existing(path)?.canonicalize().ok()?;
    // Only Linux has it.
    of_mounts(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, &path)
}

/// The path, or the nearest folder above it that exists.
fn existing(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find(|path| path.exists()).map(Path::to_path_buf)
}

/// The type of the last mount with the longest path above `path`: a later one hides an earlier.
fn of_mounts(mounts: &str, path: &Path) -> Option<String> {
    let mount = |line: &str| {
        // 36 35 98:0 /root /mount/point options shared:1 - ext4 /dev/sda1 rw
        let (before, after) = line.split_once(" - ")?;
        // Blanks are written as their octal code.
        let at = before.split(' ').nth(4)?.replace("\\040", " ");
        let kind = after.split(' ').next()?.to_owned();
        path.starts_with(&at).then_some((at.len(), kind))
    };
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "1 0 8:1 / / rw shared:1 - ext4 /dev/sda rw\n2 1 0:5 / /srv/a\\040b rw - nfs4 host:/x rw\n\
                      3 1 0:6 / /srv rw - xfs /dev/sdb rw\n";
        for (path, expected) in [("/home", "ext4"), ("/srv/a b/c", "nfs4"), ("/srv/a", "xfs"), ("/srvx", "ext4")] {
            assert_eq!(of_mounts(mounts, Path::new(path)).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_yet_has_the_disk_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(&folder.path().join("state/ledger.duckdb")).is_some());
        if cfg!(target_os = "linux") {
            assert!(file_system(&folder.path().join("state/ledger.duckdb")).is_some());
        }
    }
}
