//! The process and the system: files that others cannot read, no core dump that contains keys, and a limit on a file's size
//! that is an error and not the end.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, Signal, setrlimit, umask};

/// Longest the process waits at its end for statements that were cancelled. DuckDB's own destructors run at the exit, and
/// a thread of it that still works then may crash the process, which would end by a signal instead of with its exit code.
pub const STATEMENTS_MAX: Duration = Duration::from_secs(5);

/// The umask this process was started with, where it took one of its own.
static STARTED_WITH: OnceLock<Mode> = OnceLock::new();

/// From here on, what this process and DuckDB create (the ledger, its log, copies, what is spilled) is for its owner alone.
/// Files that are meant for others are given back their usual mode ([`shared_file`], [`create_shared_folder`]).
pub fn keep_files_private() {
    let before = umask(Mode::RWXG | Mode::RWXO);
    STARTED_WITH.get_or_init(|| before);
}

/// No core dump: it would hold the destinations' keys and rows of the warehouse. A program that the kernel hands dumps to may
/// ignore the limit, so a release build also forbids to dump it or to attach to it as the same user; a debug
/// build may be. Neither is a reason not to go on.
pub fn dump_no_core() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(all(target_os = "linux", not(debug_assertions)))]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Writing beyond a limit on a file's size (`ulimit -f`) fails like writing to a full disk, instead of ending the process.
/// To be called within a runtime, whose handler of the signal takes the place of its default.
pub fn survive_file_size_limit() {
    let kind = tokio::signal::unix::SignalKind::from_raw(Signal::XFSZ.as_raw());
    // The handler stays without a listener.
    drop(tokio::signal::unix::signal(kind));
}

fn shared(mode: u32) -> Option<Permissions> {
    #[allow(clippy::useless_conversion, reason = "macOS has modes of 16 bits")]
    STARTED_WITH.get().map(|umask| Permissions::from_mode(mode & !u32::from(umask.bits())))
}

/// Gives a file that was just created for others the mode it would have had.
pub fn shared_file(file: &File) -> io::Result<()> {
    shared(0o666).map_or(Ok(()), |mode| file.set_permissions(mode))
}

/// Creates a folder and those above it, for others to look into.
pub fn create_shared_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|above| !above.as_os_str().is_empty()).collect();
    let missing: Vec<&Path> = missing.into_iter().take_while(|above| !above.exists()).collect();
    std::fs::create_dir_all(folder)?;
    let Some(mode) = shared(0o777) else { return Ok(()) };
    missing.into_iter().try_for_each(|folder| std::fs::set_permissions(folder, mode.clone()))
}
