//! The config folder: settings, secrets, mappings.

use std::sync::Arc;

use super::{Examined, Health};
use crate::cli::args::Cli;
use crate::cli::screen::plural;
use crate::config::files::Files;
use crate::config::{self, Project, load};
use crate::mapping::diagnostic::Severity;
use crate::service::open::{self, Failure};

/// What was found, and the project if its settings can be used.
pub(super) fn examine(cli: &Cli) -> (Vec<Examined>, Option<Arc<Project>>) {
    let location = cli.location();
    let folder = std::path::absolute(&location.folder).unwrap_or_else(|_| location.folder.clone());
    let target = location.target.as_ref().map_or_else(String::new, |target| format!(", target {target}"));
    let mut found = vec![Examined::ok("config folder", format!("{}{target}", folder.display()))];
    let read = open::project_noting(&location, &Files::default());
    let file = location.settings_file();
    let project = match read {
        Ok(project) => Some(Arc::new(project)),
        Err(failure) => {
            found.push(Examined::error("settings", &failure.as_error()));
            None
        }
    };
    if let Some(project) = &project {
        let settings = &project.settings;
        let what = format!(
            "{file}: {}, {}",
            plural(settings.sources.len() as u64, "source"),
            plural(settings.destinations.len() as u64, "destination")
        );
        found.push(Examined::ok("settings", what));
    }
    found.extend(secrets(&location, project.is_some()));
    if let Some(project) = &project {
        found.extend(mappings(project));
    }
    (found, project)
}

/// The references, by name alone.
fn secrets(location: &config::Location, is_sound: bool) -> Option<Examined> {
    let references = load::references(location, load::environment());
    if references.is_empty() {
        return None;
    }
    let (found, lost): (Vec<_>, Vec<_>) = references.iter().partition(|reference| reference.found_in.is_some());
    let shown = |all: &[&config::ReferenceStatus]| {
        let one = |reference: &&config::ReferenceStatus| match reference.found_in.as_deref() {
            Some(place) if place != "file" => format!("{} ({place})", reference.name),
            _ => reference.name.clone(),
        };
        all.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    // What a variable replaces is not looked up, so that a sound config may lack some.
    if lost.is_empty() || is_sound {
        return Some(Examined::ok("secrets", format!("found: {}", shown(&found))));
    }
    let what = format!("not found or empty: {}", shown(&lost));
    let help = Some("set it where Groupcast runs, or in `.env` beside groupcast.toml".to_owned());
    Some(Examined { help, ..Examined::new("secrets", Health::Error, what) })
}

fn mappings(project: &Project) -> Vec<Examined> {
    let sound = plural(project.mappings.len() as u64, "mapping");
    let mut found = vec![match (project.mappings.len() + project.broken.len(), project.problems.warnings()) {
        (0, _) => {
            Examined::warning("mappings", "there are none", "`groupcast init --source NAME --table TABLE` writes one")
        }
        (_, warnings) if !warnings.is_empty() => {
            let count = plural(warnings.count(Severity::Warning) as u64, "warning");
            Examined::warning("mappings", format!("{sound} valid, {count}"), "`groupcast check` shows them")
        }
        _ => Examined::ok("mappings", format!("{sound} valid")),
    }];
    for broken in &project.broken {
        let mistakes = project.mistakes(&broken.name).unwrap_or_default();
        found.push(Examined::error(&format!("sync {}", broken.name), &Failure::from(mistakes).as_error()));
    }
    found
}
