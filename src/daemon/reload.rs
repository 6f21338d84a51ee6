//! Did the config change? The files it hangs on are looked at every few seconds, and taken over once they have stood still, so that
//! an editor or a `git pull` half way through is never read. A folder with mistakes changes nothing: the last good config
//! stays in use, and the mistakes are told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::supervisor::Supervisor;
use crate::config::Project;
use crate::config::files::{Files, Mark};
use crate::delivery::Signal;
use crate::error::{Error, Kind};
use crate::service::open::{self, Failure};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(2);
/// Between two tries of files that could not be taken over although they did not change since: what they need may be
/// there by now, and it is nothing that is looked at.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// How deep below the config folder `.toml` and `.sql` files are looked for: `models/staging/accounts.sql` and one more.
const DEPTH_MAX: usize = 4;
/// Files looked at. A folder with more is not a config folder alone; SIGHUP reloads it all the same.
const FILES_MAX: usize = 10_000;

/// The files of a config, by what shows that they changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    marks: BTreeMap<PathBuf, Mark>,
    /// Files that the config hangs on, wherever they are and whether they exist.
    named: BTreeSet<PathBuf>,
}

impl Seen {
    /// Adds what a load noted just before it read: in a folder that was looked at before, the earlier look counts.
    pub(super) fn read(&mut self, noted: BTreeMap<PathBuf, Option<Mark>>) {
        for (path, mark) in noted {
            if let Some(mark) = mark.filter(|_| !self.named.contains(&path)) {
                self.marks.entry(path.clone()).or_insert(mark);
            }
            self.named.insert(path);
        }
    }
}

/// The `.toml` and `.sql` files below `folder`, and the files that the config is known to hang on: models elsewhere, and
/// those that hold secrets. What cannot be read counts as absent.
pub(super) fn look(folder: &Path, named: &BTreeSet<PathBuf>) -> Seen {
    let mut marks: BTreeMap<PathBuf, Mark> =
        named.iter().filter_map(|path| Some((path.clone(), Mark::at(path)?))).collect();
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
                && marks.len() < FILES_MAX
            {
                marks.insert(path, Mark::of(&meta));
            }
        }
    }
    Seen { marks, named: named.clone() }
}

/// The project of the config folder as the daemon uses it: `listen`, where the command line gives one, stands instead of
/// the file's.
pub(super) fn read(folder: &Path, listen: Option<&str>, files: &Files) -> Result<Project, Failure> {
    let mut project = open::project_noting(folder, files)?;
    if let Some(listen) = listen {
        listen.clone_into(&mut project.settings.daemon.listen);
    }
    Ok(project)
}

/// What is wrong with mappings of a project that is used without them.
pub(super) fn problems_of(project: &Project) -> Option<String> {
    (!project.broken.is_empty()).then(|| project.problems.render(false).trim().to_owned())
}

/// The same, for the log.
pub(super) fn log_mistakes(project: &Project) {
    for broken in &project.broken {
        let Some(mistakes) = project.mistakes(&broken.name) else { continue };
        let error = Failure::from(mistakes).as_error();
        let advice = error.advice().unwrap_or_default();
        tracing::error!(sync = broken.name, "{} has mistakes: {error}; {advice}", broken.file);
    }
}

/// A mapping that was changed and has mistakes now stays in use as it was, as long as both its ends are as they were.
fn keep_last_good(before: &Project, project: &mut Project) {
    for broken in &project.broken {
        let Some(good) = before.mappings.iter().find(|file| file.mapping.name == broken.name) else { continue };
        let (old, new) = (&before.settings, &project.settings);
        let (source, destination) = (&good.mapping.source, &good.mapping.destination);
        let same_ends = old.sources.get(source) == new.sources.get(source)
            && old.destinations.get(destination) == new.destinations.get(destination)
            && new.sources.contains_key(source)
            && new.destinations.contains_key(destination);
        if same_ends {
            tracing::warn!(sync = broken.name, "its last good mapping stays in use");
            project.mappings.push(good.clone());
        } else {
            tracing::warn!(sync = broken.name, "it does not run until its mapping is corrected");
        }
    }
    project.mappings.sort_by(|left, right| left.mapping.name.cmp(&right.mapping.name));
}

impl Supervisor {
    /// Takes changes of the config over until the daemon stops; `hup` asks for it at once. `taken` is how the files looked
    /// when they were read.
    pub(super) async fn follow_files(
        self: Arc<Self>,
        mut taken: Seen,
        mut hup: mpsc::UnboundedReceiver<()>,
        mut stop: watch::Receiver<Signal>,
    ) {
        let mut before = taken.clone();
        // When files that could not be taken over were last tried.
        let mut failed_at: Option<Duration> = None;
        while *stop.borrow_and_update() == Signal::Go {
            let asked = tokio::select! {
                asked = hup.recv() => asked.is_some(),
                () = self.clock.sleep(LOOK) => false,
                _ = stop.changed() => continue,
            };
            let (folder, named) = (self.folder.clone(), taken.named.clone());
            let looked = tokio::task::spawn_blocking(move || look(&folder, &named)).await;
            let Ok(now) = looked else { continue };
            let stands_still = now == before;
            before.clone_from(&now);
            let changed = asked || (now != taken && stands_still);
            let since = |at: Duration| self.clock.elapsed().saturating_sub(at);
            if changed || failed_at.is_some_and(|at| since(at) >= TRY_AGAIN) {
                // What is tried again without a change is nobody's news unless something comes of it.
                if changed {
                    self.herald.notifier.reloading();
                }
                let (sound, noted) = self.reload(!changed).await;
                failed_at = (!sound).then(|| self.clock.elapsed());
                taken = now;
                taken.read(noted);
                before.clone_from(&taken);
                if changed {
                    self.herald.notifier.ready(&self.status_line());
                }
            }
        }
    }

    /// Reads the config folder and takes it over if it is sound. Returns whether it is, and the files it hangs on. `again`:
    /// nothing is told if it fails as it failed before.
    pub(super) async fn reload(&self, again: bool) -> (bool, BTreeMap<PathBuf, Option<Mark>>) {
        let (folder, listen) = (self.folder.clone(), self.listen.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let files = Files::default();
            let read = read(&folder, listen.as_deref(), &files);
            (read, files.noted())
        });
        let (read, noted) = reading.await.unwrap_or_else(|panic| {
            let error = Error::new(Kind::Bug, "failed to read the files").because(panic);
            (Err(error.into()), BTreeMap::new())
        });
        let taken = match read {
            Ok(project) => {
                let problems = problems_of(&project);
                if again && problems.is_some() && self.config_problems() == problems {
                    return (false, noted);
                }
                log_mistakes(&project);
                self.take_over(project).await.map(|()| problems).map_err(Failure::Error)
            }
            Err(failure) => Err(failure),
        };
        let failed = match taken {
            Ok(None) => None,
            Ok(Some(problems)) => {
                self.herald.metrics.reloaded(false);
                self.config.write().problems = Some(problems);
                return (false, noted);
            }
            Err(failure) => {
                let problems = match &failure {
                    Failure::Problems(problems) => problems.render(false).trim().to_owned(),
                    Failure::Error(error) => error.to_string(),
                };
                Some((failure, problems))
            }
        };
        let sound = failed.is_none();
        if let Some((failure, problems)) = &failed {
            if again && self.config_problems().as_ref() == Some(problems) {
                return (false, noted);
            }
            let error = failure.as_error();
            let advice = error.advice().unwrap_or("the log and the console show what is wrong");
            tracing::error!("the changed config is not taken over, the last good one stays in use: {error}; {advice}");
        }
        self.herald.metrics.reloaded(sound);
        let problems = failed.map(|(_, problems)| problems);
        self.config.write().problems = problems;
        (sound, noted)
    }

    async fn take_over(&self, mut project: Project) -> crate::error::Result<()> {
        let before = self.project();
        keep_last_good(&before, &mut project);
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
            if !same || zone_changed || !self.queue().contains(&mapping.name) {
                changed.push((mapping.name.clone(), self.restored(&project, mapping).await?));
            }
        }
        self.herald.alerts.configure(new.daemon.alerts.as_ref())?;
        // From here on nothing fails, and nothing starts before all of it is taken over: a run must find its mapping.
        let count = project.mappings.len();
        let mut left = Vec::new();
        {
            let mut queue = self.queue();
            for (name, init) in changed {
                if queue.contains(&name) {
                    queue.reschedule(&name, init.timetable, init.enabled, now);
                } else {
                    queue.add(&name, init);
                }
            }
            for name in queue.names() {
                if !project.mappings.iter().any(|file| file.mapping.name == name) {
                    left.extend(queue.queued().remove(&name).map(|asked| (name.clone(), asked.run)));
                    queue.remove(&name);
                }
            }
            queue.set_parallel(parallel);
            self.plans.set_places(parallel);
            queue.clear_backoff();
            let mut config = self.config.write();
            (config.project, config.read_at) = (Arc::new(project), now);
        }
        for (sync, run) in left {
            tracing::warn!(sync, run, "a run that waited is taken back: its mapping is gone");
            self.forget_queued(&sync, &run).await;
        }
        tracing::info!(syncs = count, "took the changed config over");
        self.wake();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

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
        let first = look(folder.path(), &BTreeSet::new());
        assert_eq!(first.marks.len(), 3);
        write("state/ledger.duckdb", "d");
        write("mappings/.accounts.toml.swp", "e");
        write(".git/config.toml", "f");
        assert_eq!(look(folder.path(), &BTreeSet::new()), first);
        write("models/staging/accounts.sql", "longer");
        assert_ne!(look(folder.path(), &BTreeSet::new()), first);
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
        let first = look(folder.path(), &BTreeSet::new());
        dated("cron = '0 3 * * *'");
        assert_ne!(look(folder.path(), &BTreeSet::new()), first);
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
        let first = look(folder.path(), &BTreeSet::new());
        assert_eq!(first.marks.len(), 1);
        swap("..2");
        assert_ne!(look(folder.path(), &BTreeSet::new()), first);
    }

    #[test]
    fn files_that_the_config_hangs_on_are_seen_wherever_they_are() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |path: PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let model = elsewhere.path().join("model.txt");
        let mapping = format!(
            "source = \"w\"\ndestination = \"f\"\n[model]\nfile = \"{}\"\n[group]\ntype = \"company\"\nkey = \"id\"\n\
             [traits]\nn = \"n\"\n",
            model.display()
        );
        let settings = "[sources.w]\ntype = \"duckdb\"\n[destinations.f]\ntype = \"webhook\"\n\
                        url = \"${file:key}\"\n";
        write(folder.path().join("groupcast.toml"), settings);
        write(folder.path().join("mappings/accounts.toml"), &mapping);
        let taken = || {
            let mut seen = look(folder.path(), &BTreeSet::new());
            let files = Files::default();
            let sound = read(folder.path(), None, &files).is_ok_and(|project| project.broken.is_empty());
            seen.read(files.noted());
            assert_eq!(look(folder.path(), &seen.named), seen, "nothing has changed since");
            (seen, sound)
        };
        // GIVEN a key and a model that do not exist yet THEN their coming is seen
        let (first, sound) = taken();
        assert!(!sound);
        write(folder.path().join("key"), "http://127.0.0.1:9/one");
        assert_ne!(look(folder.path(), &first.named), first, "the secret came");
        let (second, sound) = taken();
        assert!(!sound);
        write(model.clone(), "SELECT 1 AS id, 2 AS n");
        assert_ne!(look(folder.path(), &second.named), second, "the model came");
        let (third, sound) = taken();
        assert!(sound, "{:?}", read(folder.path(), None, &Files::default()).map_err(|failure| failure.as_error()));
        // and their changes
        write(model, "SELECT 1 AS id, 22 AS n");
        assert_ne!(look(folder.path(), &third.named), third, "the model changed");
        let (fourth, _) = taken();
        write(folder.path().join("key"), "http://127.0.0.1:9/other");
        assert_ne!(look(folder.path(), &fourth.named), fourth, "the secret changed");
    }

    #[test]
    fn the_command_line_keeps_its_word_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("groupcast.toml"), "[daemon]\nlisten = \"127.0.0.1:4781\"\n").unwrap();
        let listen = |given| read(folder.path(), given, &Files::default()).unwrap().settings.daemon.listen;
        assert_eq!(listen(None), "127.0.0.1:4781");
        assert_eq!(listen(Some("127.0.0.1:0")), "127.0.0.1:0");
    }
}
