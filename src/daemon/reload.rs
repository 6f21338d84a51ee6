//! Did the config folder change? Files are looked at every few seconds, and taken over once they have stood still, so that
//! an editor or a `git pull` half way through is never read. A folder with mistakes changes nothing: the last good config
//! stays in use, and the mistakes are told.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};

use super::supervisor::Supervisor;
use crate::config::Project;
use crate::delivery::Signal;
use crate::error::{Error, Kind};
use crate::open::{self, Failure};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(2);
/// How deep below the config folder `.toml` and `.sql` files are looked for: `models/staging/accounts.sql` and one more.
const DEPTH_MAX: usize = 4;
/// Largest file of settings that is looked through for references.
const SETTINGS_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Files looked at. A folder with more is not a config folder alone; SIGHUP reloads it all the same.
const FILES_MAX: usize = 10_000;

/// The files of a config folder, by what shows that they changed.
pub(super) type Seen = BTreeMap<PathBuf, Mark>;

/// What differs when a file was changed or replaced: its size, when it was written, which file it is, and when that was
/// last changed. The last two tell apart what archives and reproducible builds date alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    bytes: u64,
    written: Option<SystemTime>,
    file: (u64, u64),
    changed: (i64, i64),
}

impl Mark {
    fn of(meta: &Metadata) -> Mark {
        Mark {
            bytes: meta.len(),
            written: meta.modified().ok(),
            file: (meta.dev(), meta.ino()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// The files that a text's `${file:…}` references name.
fn referred<'a>(folder: &'a Path, text: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    let paths = text.split("${file:").skip(1).filter_map(|rest| rest.split_once('}'));
    paths.map(|(path, _)| folder.join(path.trim()))
}

/// The `.toml` and `.sql` files below `folder`, and the files that hold the settings' secrets. What cannot be read counts
/// as absent.
pub(super) fn look(folder: &Path) -> Seen {
    let mut seen = Seen::new();
    let settings = crate::regular_file::read(&folder.join("groupcast.toml"), SETTINGS_BYTES_MAX).unwrap_or_default();
    let settings = String::from_utf8(settings).unwrap_or_default();
    for path in referred(folder, &settings) {
        if let Ok(meta) = std::fs::metadata(&path) {
            seen.insert(path, Mark::of(&meta));
        }
    }
    let mut folders = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            // Through links: config maps and secrets are mounted as links to a folder that is swapped.
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            if meta.is_dir() && !hidden && depth + 1 < DEPTH_MAX {
                folders.push((path, depth + 1));
            } else if meta.is_file()
                && !hidden
                && path.extension().is_some_and(|extension| extension == "toml" || extension == "sql")
                && seen.len() < FILES_MAX
            {
                seen.insert(path, Mark::of(&meta));
            }
        }
    }
    seen
}

impl Supervisor {
    /// Takes changes of the config folder over until the daemon stops; `hup` asks for it at once. `taken` is how the files
    /// looked when they were read.
    pub(super) async fn follow_files(
        self: Arc<Self>,
        mut taken: Seen,
        mut hup: mpsc::UnboundedReceiver<()>,
        mut stop: watch::Receiver<Signal>,
    ) {
        let looked = || {
            let folder = self.folder.clone();
            async move { tokio::task::spawn_blocking(move || look(&folder)).await.unwrap_or_default() }
        };
        let mut before = taken.clone();
        while *stop.borrow_and_update() == Signal::Go {
            let asked = tokio::select! {
                asked = hup.recv() => asked.is_some(),
                () = self.clock.sleep(LOOK) => false,
                _ = stop.changed() => continue,
            };
            let now = looked().await;
            let stands_still = now == before;
            before.clone_from(&now);
            if asked || (now != taken && stands_still) {
                taken = now;
                self.herald.notifier.reloading();
                let sound = self.reload().await;
                self.herald.metrics.reloaded(sound);
                self.herald.notifier.ready(&self.status_line());
            }
        }
    }

    /// Reads the config folder and takes it over if it is sound. Returns whether it is.
    pub(super) async fn reload(&self) -> bool {
        let folder = self.folder.clone();
        let read = tokio::task::spawn_blocking(move || open::project(&folder)).await;
        let taken = match read {
            Ok(Ok(project)) => self.take_over(project).await.map_err(Failure::Error),
            Ok(Err(failure)) => Err(failure),
            Err(panic) => Err(Error::new(Kind::Bug, "failed to read the files").because(panic).into()),
        };
        let problems = taken.err().map(|failure| {
            let error = failure.as_error();
            let advice = error.advice().unwrap_or("the log and the console show what is wrong");
            tracing::error!("the changed config is not taken over, the last good one stays in use: {error}; {advice}");
            match failure {
                Failure::Problems(problems) => problems.render(false).trim().to_owned(),
                Failure::Error(error) => error.to_string(),
            }
        });
        let sound = problems.is_none();
        self.config.write().unwrap_or_else(PoisonError::into_inner).problems = problems;
        sound
    }

    async fn take_over(&self, project: Project) -> crate::error::Result<()> {
        let before = self.project();
        let (old, new) = (&before.settings, &project.settings);
        let restart = [
            ("state", old.state != new.state),
            ("daemon.listen", old.daemon.listen != new.daemon.listen),
            ("daemon.token", old.daemon.token != new.daemon.token),
            ("daemon.log", old.daemon.log != new.daemon.log),
        ];
        for (name, _) in restart.iter().filter(|(_, changed)| *changed) {
            tracing::warn!("`{name}` changed: it takes effect when the daemon is started again");
        }
        let now = self.clock.now();
        let parallel = new.daemon.parallel_runs;
        let zone_changed = old.daemon.zone() != new.daemon.zone();
        let mut changed = Vec::new();
        for file in &project.mappings {
            let mapping = &file.mapping;
            let earlier = before.mappings.iter().find(|file| file.mapping.name == mapping.name);
            let same = earlier.is_some_and(|earlier| {
                earlier.mapping.schedule == mapping.schedule && earlier.mapping.enabled == mapping.enabled
            });
            if !same || zone_changed || !self.roster().knows(&mapping.name) {
                changed.push((mapping.name.clone(), self.remembered(&project, mapping).await?));
            }
        }
        self.herald.alerts.configure(new.daemon.alerts.as_ref())?;
        // From here on nothing fails, and nothing starts before all of it is taken over: a run must find its mapping.
        let count = project.mappings.len();
        let mut left = Vec::new();
        {
            let mut roster = self.roster();
            for (name, joining) in changed {
                if roster.knows(&name) {
                    roster.reschedule(&name, joining.timetable, joining.enabled, now);
                } else {
                    roster.join(&name, joining);
                }
            }
            for name in roster.names() {
                if !project.mappings.iter().any(|file| file.mapping.name == name) {
                    left.extend(roster.waiting().remove(&name).map(|asked| (name.clone(), asked.run)));
                    roster.leave(&name);
                }
            }
            roster.set_parallel(parallel);
            roster.another_chance();
            let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
            (config.project, config.read_at) = (Arc::new(project), now);
        }
        for (sync, run) in left {
            tracing::warn!(sync, run, "a run that waited is taken back: its mapping is gone");
            self.forget_waiting(&sync, &run).await;
        }
        tracing::info!(syncs = count, "took the changed config over");
        self.wake();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_seen_to_change_and_others_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let write = |below: &str, text: &str| {
            let path = folder.path().join(below);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("groupcast.toml", "a");
        write("mappings/accounts.toml", "b");
        write("models/staging/accounts.sql", "c");
        let first = look(folder.path());
        assert_eq!(first.len(), 3);
        write("state/ledger.duckdb", "d");
        write("mappings/.accounts.toml.swp", "e");
        write(".git/config.toml", "f");
        assert_eq!(look(folder.path()), first);
        write("models/staging/accounts.sql", "longer");
        assert_ne!(look(folder.path()), first);
    }

    #[test]
    fn a_file_replaced_by_one_of_the_same_size_and_date_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("groupcast.toml");
        let dated = |text: &str| {
            let beside = folder.path().join("new");
            std::fs::write(&beside, text).unwrap();
            std::fs::File::options().write(true).open(&beside).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            std::fs::rename(&beside, &path).unwrap();
        };
        dated("cron = '0 2 * * *'");
        let first = look(folder.path());
        dated("cron = '0 3 * * *'");
        assert_ne!(look(folder.path()), first);
    }

    #[test]
    fn a_folder_that_is_swapped_by_a_link_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        for (version, text) in [("..1", "a"), ("..2", "b")] {
            std::fs::create_dir(folder.path().join(version)).unwrap();
            std::fs::write(folder.path().join(version).join("groupcast.toml"), text).unwrap();
        }
        let swap = |to: &str| {
            std::os::unix::fs::symlink(to, folder.path().join("..data_tmp")).unwrap();
            std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
        };
        swap("..1");
        std::os::unix::fs::symlink("..data/groupcast.toml", folder.path().join("groupcast.toml")).unwrap();
        let first = look(folder.path());
        assert_eq!(first.len(), 1);
        swap("..2");
        assert_ne!(look(folder.path()), first);
    }

    #[test]
    fn a_secret_in_a_file_is_seen_to_change() {
        let folder = tempfile::tempdir().unwrap();
        let write = |below: &str, text: &str| std::fs::write(folder.path().join(below), text).unwrap();
        write("groupcast.toml", "[destinations.a]\napi_key = \"${file:key}\"\n");
        write("key", "first");
        let first = look(folder.path());
        write("key", "second");
        assert_ne!(look(folder.path()), first);
    }
}
