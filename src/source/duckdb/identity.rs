//! Files that were read before and are the same: what must be equal for a table's rows not to be read again.
//!
//! A file is taken for unchanged where everything is as it was: path, device, inode, size, and the times of its last change,
//! of its contents and of what the file system says of it. The second one no program can set. Two changes within one tick of
//! the file system's clock have the same time, and a page that a program mapped into its memory may change for half a minute
//! without any sign; so a file that changed less than [`SETTLED`] ago is never taken for unchanged. On file systems of other machines
//! clocks and times are theirs, and no file is.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// How long ago a file's last change must be.
const SETTLED: Duration = Duration::from_secs(60);

/// The state of these files at `now` in one text, if equal texts imply equal contents.
pub(super) fn of(files: &[PathBuf], now: SystemTime) -> Option<String> {
    let mut all = String::new();
    for file in files {
        writeln!(all, "{}", state(file, now)?).ok()?;
    }
    let digest = Sha256::digest(all);
    Some(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(target_os = "linux")]
fn state(file: &Path, now: SystemTime) -> Option<String> {
    use std::os::linux::fs::MetadataExt;

    // The files themselves count, whatever links lead to them.
    let whole = file.canonicalize().ok()?;
    let meta = std::fs::metadata(&whole).ok()?;
    if !meta.is_file() || !is_of_this_machine(&whole) {
        return None;
    }
    let changed = |seconds: i64, nanos: i64| {
        let seconds = Duration::from_secs(u64::try_from(seconds).ok()?);
        Some(SystemTime::UNIX_EPOCH + seconds + Duration::from_nanos(u64::try_from(nanos).ok()?))
    };
    let last = changed(meta.st_mtime(), meta.st_mtime_nsec())?.max(changed(meta.st_ctime(), meta.st_ctime_nsec())?);
    if now.duration_since(last).ok()? < SETTLED {
        return None;
    }
    Some(format!(
        "{whole:?} {} {} {} {} {} {} {}",
        meta.st_dev(),
        meta.st_ino(),
        meta.st_size(),
        meta.st_mtime(),
        meta.st_mtime_nsec(),
        meta.st_ctime(),
        meta.st_ctime_nsec()
    ))
}

#[cfg(not(target_os = "linux"))]
fn state(_file: &Path, _now: SystemTime) -> Option<String> {
    None
}

/// Whether the file system a file is on keeps its times by this machine's clock: ext4, XFS, Btrfs, F2FS, ZFS, those in
/// memory, and the layers of containers.
#[cfg(target_os = "linux")]
fn is_of_this_machine(file: &Path) -> bool {
    const KNOWN: [u64; 7] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0x0102_1994, 0x794c_7630];
    rustix::fs::statfs(file).is_ok_and(|found| KNOWN.contains(&(found.f_type as u64)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::io::{Clock, SystemClock};

    fn now() -> SystemTime {
        SystemClock::start().now().into()
    }

    #[test]
    fn a_file_is_known_again_only_while_nothing_of_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&first, "1").unwrap();
        std::fs::write(&second, "2").unwrap();
        let files = [first.clone(), second.clone()];
        let later = now() + SETTLED + Duration::from_secs(1);
        let before = of(&files, later).expect("a temporary folder is on this machine");
        assert_eq!(of(&files, later + SETTLED), Some(before.clone()));
        // Too young, also by a clock that was set back.
        assert_eq!(of(&files, now()), None);
        assert_eq!(of(&files, now() - SETTLED), None);
        // Beyond the tick of the file system's clock.
        std::thread::sleep(Duration::from_millis(50));
        // Another content of the same size, with the times set back as `cp --preserve` and rsync do.
        let modified = std::fs::metadata(&first).unwrap().modified().unwrap();
        std::fs::write(&first, "3").unwrap();
        std::fs::File::options().append(true).open(&first).unwrap().set_modified(modified).unwrap();
        let later = now() + SETTLED + Duration::from_secs(1);
        assert_ne!(of(&files, later), Some(before.clone()));
        // Another file under the same name, another number of files, none.
        let now = of(&files, later);
        std::fs::rename(&second, &first).unwrap();
        assert_ne!(of(&files[..1], later), now);
        assert_eq!(of(&files, later), None);
        assert_eq!(of(&[folder.path().to_path_buf()], later), None);
    }
}
