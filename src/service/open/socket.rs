//! The Unix socket beside a ledger, over which commands reach the daemon that has it open.
//!
//! Who may connect is what the file system says: the socket has the mode 0600, so no token travels. A daemon binds it only
//! while it holds the ledger's lock, and removes it when it ends; what a killed one leaves behind refuses connections and
//! is replaced by the next. Only a process that can write into the ledger's folder can be behind it.
//!
//! A socket's path may have about 100 bytes. On Linux a longer one is reached through the open folder (`/proc/self/fd`);
//! elsewhere the daemon logs it, and the errors of commands advise a shorter `state.path`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::io::file_id::FileId;
use crate::ledger::file_error::write_error;

/// Bytes of a socket's path that every system takes: macOS has room for 104, Linux for 108, with a zero at the end.
const PATH_BYTES_MAX: usize = 100;

/// The socket's path for a ledger, however the ledger's path is written.
pub fn path(ledger: &Path) -> PathBuf {
    let ledger = ledger.canonicalize().unwrap_or_else(|_| ledger.to_path_buf());
    let mut name = ledger.file_name().unwrap_or_default().to_os_string();
    name.push(".sock");
    ledger.with_file_name(name)
}

/// A path that a socket call takes, for as long as this lives.
#[derive(Debug)]
pub struct Reachable {
    path: PathBuf,
    /// The folder that a path through `/proc/self/fd` goes through.
    _folder: Option<File>,
}

impl Reachable {
    /// The way to the socket at `path`.
    pub fn of(path: PathBuf) -> io::Result<Reachable> {
        if path.as_os_str().len() <= PATH_BYTES_MAX || !cfg!(target_os = "linux") {
            return Ok(Reachable { path, _folder: None });
        }
        use std::os::fd::AsRawFd;
        let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
        let through = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
        Ok(Reachable { path: through.join(path.file_name().unwrap_or_default()), _folder: Some(folder) })
    }

    /// As a path for `bind` and `connect`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The socket of the daemon that has `ledger` open, if there is one that only the ledger's owner, or root, can have made.
pub fn find(ledger: &Path) -> Option<Reachable> {
    let path = path(ledger);
    let about = std::fs::symlink_metadata(&path).ok().filter(|about| about.file_type().is_socket())?;
    let owner = std::fs::metadata(ledger).ok()?.uid();
    if about.uid() != owner && about.uid() != 0 {
        return None;
    }
    Reachable::of(path).ok()
}

/// A socket that is listened on, removed when this is dropped.
#[derive(Debug)]
pub struct Bound {
    path: PathBuf,
    id: FileId,
}

impl Bound {
    /// Listens beside the ledger. Call it only while holding the ledger's lock: a socket that is there already is taken for
    /// one that a killed daemon left, and replaced.
    pub fn bind(ledger: &Path) -> Result<(Bound, UnixListener)> {
        let path = path(ledger);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidInput => {
                Error::new(Kind::Ledger, "the path of the socket beside the ledger is too long")
                    .advise("set `state.path` in groupcast.toml to a path of at most 80 bytes")
                    .because(error)
            }
            io::ErrorKind::Unsupported => Error::new(Kind::Ledger, "the ledger's file system has no Unix sockets")
                .advise("set `state.path` in groupcast.toml to a local disk")
                .because(error),
            _ => write_error("failed to make the socket beside the ledger", error),
        };
        let bound = bind(&path).map_err(|error| failed(error).at(path.display().to_string()))?;
        Ok(bound)
    }
}

/// Binds in a folder that no other user can enter, so that the socket is never reachable with wider rights than its
/// own, and then moves it into place, over whatever is there.
fn bind(path: &Path) -> io::Result<(Bound, UnixListener)> {
    if std::fs::symlink_metadata(path).is_ok_and(|about| !about.file_type().is_socket()) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file of this name that is no socket"));
    }
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}", std::process::id()));
    let private = path.with_file_name(name);
    // Of an earlier process with this id, which was killed in between.
    drop(std::fs::remove_dir_all(&private));
    std::fs::DirBuilder::new().mode(0o700).create(&private)?;
    let bound = bind_in(&private, path);
    drop(std::fs::remove_dir_all(&private));
    bound
}

fn bind_in(private: &Path, path: &Path) -> io::Result<(Bound, UnixListener)> {
    let made = private.join("s");
    let listener = UnixListener::bind(Reachable::of(made.clone())?.path())?;
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    std::fs::rename(&made, path)?;
    let id = FileId::of(path)?;
    Ok((Bound { path: path.to_path_buf(), id }, listener))
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Another daemon may have its own here, when the ledger was moved away from this one.
        if FileId::of(&self.path).is_ok_and(|id| id == self.id) {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn connects(ledger: &Path) -> bool {
        find(ledger).is_some_and(|found| UnixStream::connect(found.path()).is_ok())
    }

    #[test]
    fn a_socket_is_private_and_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger.duckdb");
        std::fs::write(&ledger, "").unwrap();
        assert!(!connects(&ledger));
        let (bound, listener) = Bound::bind(&ledger).unwrap();
        let mode = std::fs::metadata(path(&ledger)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(connects(&ledger));
        // By another name for the same ledger.
        let alias = folder.path().join("alias");
        std::os::unix::fs::symlink(&ledger, &alias).unwrap();
        assert!(connects(&alias));
        drop((bound, listener));
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn what_a_killed_daemon_left_is_replaced_and_what_is_no_socket_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger.duckdb");
        std::fs::write(&ledger, "").unwrap();
        let (left, listener) = Bound::bind(&ledger).unwrap();
        drop(listener);
        assert!(!connects(&ledger), "nobody listens");
        let (bound, _listener) = Bound::bind(&ledger).unwrap();
        assert!(connects(&ledger));
        drop(left);
        assert!(connects(&ledger), "the earlier one removes only its own");
        drop(bound);
        std::fs::write(path(&ledger), "mine").unwrap();
        let refused = Bound::bind(&ledger).unwrap_err();
        assert!(refused.to_string().contains("no socket"), "{refused}");
        assert_eq!(std::fs::read_to_string(path(&ledger)).unwrap(), "mine");
        assert!(find(&ledger).is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_path_longer_than_a_socket_may_have_is_reached_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let ledger = deep.join("ledger.duckdb");
        std::fs::write(&ledger, "").unwrap();
        let (_bound, _listener) = Bound::bind(&ledger).unwrap();
        assert!(connects(&ledger));
    }
}
