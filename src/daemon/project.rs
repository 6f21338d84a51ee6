//! The project that the daemon uses: read from the config folder, with the last good version of a mapping that has mistakes
//! now.

use crate::config::files::Files;
use crate::config::{Location, Project};
use crate::service::open::{self, Failure};

/// Reads the project of the config folder. `listen` is the command line's, which takes precedence over the file's.
pub(super) fn read(location: &Location, listen: Option<&str>, files: &Files) -> Result<Project, Failure> {
    let mut project = open::project_noting(location, files)?;
    if let Some(listen) = listen {
        listen.clone_into(&mut project.settings.daemon.listen);
    }
    Ok(project)
}

/// The mistakes in mappings of a project that is used without them.
pub(super) fn mistakes_of(project: &Project) -> Option<String> {
    (!project.broken.is_empty()).then(|| project.problems.render(false).trim().to_owned())
}

/// Logs them.
pub(super) fn log_mistakes(project: &Project) {
    for broken in &project.broken {
        let Some(mistakes) = project.mistakes(&broken.name) else { continue };
        let error = Failure::from(mistakes).as_error();
        let advice = error.advice().unwrap_or_default();
        tracing::error!(sync = broken.name, "mapping {} has mistakes: {error}; {advice}", broken.file);
    }
}

/// Keeps the last good version of a mapping that has mistakes now, unless its source or destination changed.
pub(super) fn keep_last_good(before: &Project, project: &mut Project) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_takes_precedence_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("groupcast.toml"), "[daemon]\nlisten = \"127.0.0.1:4781\"\n").unwrap();
        let listen = |given| read(&folder.path().into(), given, &Files::default()).unwrap().settings.daemon.listen;
        assert_eq!(listen(None), "127.0.0.1:4781");
        assert_eq!(listen(Some("127.0.0.1:0")), "127.0.0.1:0");
    }
}
