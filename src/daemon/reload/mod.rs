//! The reload of the config: its files are checked every few seconds, and reloaded once they have stopped changing, so that
//! an editor or a `git pull` half way through is never read. A folder with mistakes changes nothing: the last good config
//! stays in use, and the mistakes are logged.

mod files;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub(super) use self::files::{FileSnapshot, snapshot};
use super::project;
use super::supervisor::Supervisor;
use crate::config::Project;
use crate::config::files::{Files, Mark};
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result};
use crate::service::open::Failure;

/// Between two checks of the files.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// Between two attempts at files that could not be loaded and did not change since: what they lack may be there by now, and
/// it is nothing that is checked.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// What came of a reload.
enum Reloaded {
    /// Everything is in use.
    Fully,
    /// What has no mistakes is in use.
    WithMistakes(String),
    /// Nothing changed.
    Failed(Failure),
}

impl Supervisor {
    /// Reloads the config when its files change, until the daemon shuts down. Each `hup` reloads it immediately. `loaded` is
    /// the snapshot of the files when they were loaded.
    pub(super) async fn follow_files(
        self: Arc<Self>,
        mut loaded: FileSnapshot,
        mut hup: mpsc::UnboundedReceiver<()>,
        mut stop: watch::Receiver<Signal>,
    ) {
        let mut before = loaded.clone();
        // When files that could not be loaded were last tried.
        let mut failed_at: Option<Duration> = None;
        while *stop.borrow_and_update() == Signal::Go {
            let requested = tokio::select! {
                requested = hup.recv() => requested.is_some(),
                () = self.clock.sleep(CHECK_EVERY) => false,
                _ = stop.changed() => continue,
            };
            let (folder, named) = (self.location.folder.clone(), loaded.named.clone());
            let Ok(now) = tokio::task::spawn_blocking(move || snapshot(&folder, &named)).await else { continue };
            let unchanged_since = now == before;
            before.clone_from(&now);
            let changed = requested || (now != loaded && unchanged_since);
            let since = |at: Duration| self.clock.elapsed().saturating_sub(at);
            if changed || failed_at.is_some_and(|at| since(at) >= RETRY_EVERY) {
                // A retry without a change is worth no message unless something comes of it.
                if changed {
                    self.notifier.service_manager.reloading();
                }
                let (complete, noted) = self.reload(!changed).await;
                failed_at = (!complete).then(|| self.clock.elapsed());
                loaded = now;
                loaded.add(noted);
                before.clone_from(&loaded);
                if changed {
                    self.notifier.service_manager.ready(&self.status_line());
                }
            }
        }
    }

    /// Reloads the config. Returns whether it has no mistakes, and the files it consists of. `retry`: nothing is logged if it
    /// fails as it failed before.
    pub(super) async fn reload(&self, retry: bool) -> (bool, BTreeMap<PathBuf, Option<Mark>>) {
        let (location, listen) = (self.location.clone(), self.listen.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let files = Files::default();
            let read = project::read(&location, listen.as_deref(), &files);
            (read, files.noted())
        });
        let (read, noted) = reading.await.unwrap_or_else(|panic| {
            let error = Error::new(Kind::Bug, "failed to read the files").because(panic);
            (Err(error.into()), BTreeMap::new())
        });
        let mistakes = match &read {
            Ok(project) => project::mistakes_of(project),
            Err(Failure::Problems(problems)) => Some(problems.render(false).trim().to_owned()),
            Err(Failure::Error(error)) => Some(error.to_string()),
        };
        if retry && mistakes.is_some() && self.config_problems() == mistakes {
            return (false, noted);
        }
        let reloaded = match read {
            Ok(project) => {
                project::log_mistakes(&project);
                match (self.apply(project).await, mistakes) {
                    (Ok(()), None) => Reloaded::Fully,
                    (Ok(()), Some(mistakes)) => Reloaded::WithMistakes(mistakes),
                    (Err(error), _) => Reloaded::Failed(error.into()),
                }
            }
            Err(failure) => Reloaded::Failed(failure),
        };
        let problems = match reloaded {
            Reloaded::Fully => None,
            Reloaded::WithMistakes(mistakes) => Some(mistakes),
            Reloaded::Failed(failure) => {
                let error = failure.as_error();
                let advice = error.advice().unwrap_or("the log and the console show the mistakes");
                tracing::error!(
                    "failed to reload the configuration, the last good one stays in use: {error}; {advice}"
                );
                Some(match failure {
                    Failure::Problems(problems) => problems.render(false).trim().to_owned(),
                    Failure::Error(error) => error.to_string(),
                })
            }
        };
        let complete = problems.is_none();
        self.notifier.metrics.reloaded(complete);
        self.config.write().problems = problems;
        self.changed();
        (complete, noted)
    }

    /// Puts a project to use.
    async fn apply(&self, mut project: Project) -> Result<()> {
        let before = self.project();
        project::keep_last_good(&before, &mut project);
        let (old, new) = (&before.settings, &project.settings);
        let restart = [
            ("state", old.state != new.state),
            ("daemon.listen", old.daemon.listen != new.daemon.listen),
            ("daemon.token", old.daemon.token != new.daemon.token),
            ("daemon.log", old.daemon.log != new.daemon.log),
        ];
        for (name, _) in restart.iter().filter(|(_, changed)| *changed) {
            tracing::warn!("`{name}` changed: restart the daemon for it to take effect");
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
        self.notifier.alerts.configure(new.daemon.alerts.as_ref())?;
        // No request comes between what is stored and what is in use. A queued run is forgotten before its sync is gone for
        // all to see: a daemon that is killed after that must not start it again.
        let _turn = self.orders.lock().await;
        let remains = |name: &str| project.mappings.iter().any(|file| file.mapping.name == name);
        let waiting = self.queue().queued();
        for (sync, queued) in waiting.iter().filter(|(sync, _)| !remains(sync)) {
            self.forget_queued(sync, &queued.run).await;
        }
        // From here on nothing fails, and nothing starts before all of it is in use: a run must find its mapping.
        let count = project.mappings.len();
        let mut cancelled = Vec::new();
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
                if !remains(&name) {
                    cancelled.extend(queue.queued().remove(&name).map(|queued| (name.clone(), queued.run)));
                    queue.remove(&name);
                }
            }
            queue.set_parallel(parallel);
            self.plans.set_places(parallel);
            queue.clear_backoff();
            let mut config = self.config.write();
            (config.project, config.read_at) = (Arc::new(project), now);
        }
        for (sync, run) in cancelled {
            tracing::warn!(sync, run, "queued run cancelled: its mapping was removed");
        }
        tracing::info!(syncs = count, "configuration reloaded");
        self.config_read.notify_one();
        self.wake();
        Ok(())
    }
}
