//! The one place of `config` that reads files: a folder becomes a [`Project`], or all of its problems.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostics;
use super::dotenv::{Dotenv, DotenvMistake};
use super::environment::Environment;
use super::files::Files;
use super::location::{Location, MAPPINGS_FOLDER, TargetName};
use super::project::{BrokenMapping, Project};
use super::secrets::References;
use super::settings::{Defaults, Settings};
use super::{ReferenceStatus, layers, references, secrets, strays};
use crate::io::files;
use crate::mapping::diagnostic::{Diagnostic, Severity, did_you_mean, listed, listed_all};
use crate::mapping::file::{Context, Names, parse};
use crate::mapping::sections::model::Lookup;
use crate::mapping::{At, MappingFile, ReadableParts, check, test_file};
use crate::source::dbt;

/// Largest file read. A mapping of ten thousand traits is a megabyte; more is not one a person wrote.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The process's environment; a variable that is not UTF-8 is as good as unset, since no setting could use it.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// What a reference to a variable or file that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// An error.
    Error,
    /// A stand-in: nothing is read or sent with it.
    StandIn,
}

/// Reads the settings of `location` and every `mappings/*.toml` of its folder, with `environment` ([`environment`]) on top, and what that
/// does not have from `.env`.
///
/// Errors: every problem of every file. Without errors, warnings are in the project. A folder without mappings is a
/// warning; the command decides whether it can do without.
pub fn load(
    location: impl Into<Location>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Project, Diagnostics> {
    let project = load_noting(&location.into(), environment, &Files::default(), Unset::Error)?;
    if project.broken.is_empty() { Ok(project) } else { Err(project.problems) }
}

/// The same, noting every file that was looked for, also where it fails. Mappings with mistakes stand beside the others.
///
/// Errors: every problem of every file, where one of them is not about a mapping alone.
pub fn load_noting(
    location: &Location,
    environment: impl IntoIterator<Item = (String, String)>,
    files: &Files,
    unset: Unset,
) -> Result<Project, Diagnostics> {
    let mut all = Diagnostics::new();
    let environment = environment_at(location, environment, files, &mut all);
    let folder = location.folder.as_path();
    let (settings_path, settings_file) = (location.settings_path(), location.settings_file());
    let read = match read_text(&settings_path, files) {
        Ok(text) => {
            all.add_text(&settings_file, &secrets::blank(&text));
            let stand_ins = unset == Unset::StandIn;
            let references = References { variables: &environment.values, folder, files, stand_ins };
            layers::read(location, &text, &environment, references)
        }
        Err(problem) => {
            let mut error = Diagnostic::error(&settings_file, &At::default(), problem.what);
            if problem.missing {
                error = error.help(without_settings(location));
            }
            layers::Read { settings: None, names: None, found: vec![error.maybe_help(problem.help)] }
        }
    };
    all.extend(read.found);
    let names = read.names.map(|(sources, destinations)| Names { sources, destinations });
    let defaults = read.settings.as_ref().map_or_else(Defaults::default, |settings| settings.defaults.clone());
    let target =
        read.settings.as_ref().map_or_else(|| folder.join(dbt::TARGET_FOLDER), |settings| settings.dbt_target.clone());
    let note = |path: &Path| files.note(path);
    let reading =
        Reading { location, names: names.as_ref(), defaults: &defaults, files, dbt: dbt::Target::new(target, &note) };
    let (mappings, broken) = mappings(&reading, &mut all);
    let alone = {
        let errors = all.files_with_errors();
        errors.iter().all(|file| broken.iter().any(|broken| broken.file == *file))
    };
    let texts = Diagnostics::about(&mappings, Vec::new());
    let mut project = match read.settings {
        Some(settings) if alone => Project { settings, mappings, broken, problems: all },
        _ => {
            all.extend(check::check_together(&mappings));
            if !all.has_errors() {
                all.extend(check::check_after(&mappings, &BTreeSet::new()));
            }
            return Err(all);
        }
    };
    let mut together = texts.clone();
    together.extend(check::check_together(&project.mappings));
    project.take_in(together);
    // A mapping that has mistakes exists all the same.
    let others = project.broken.iter().map(|broken| broken.name.clone()).collect();
    let mut after = texts;
    after.extend(check::check_after(&project.mappings, &others));
    project.take_in(after);
    Ok(project)
}

/// The variables of the process, and below them those of the folder's files.
fn environment_at(
    location: &Location,
    process: impl IntoIterator<Item = (String, String)>,
    files: &Files,
    all: &mut Diagnostics,
) -> Environment {
    let mut environment = Environment::of_process(process.into_iter().collect());
    for name in location.environment_files() {
        add_dotenv(location, &name, &mut environment, files, all);
    }
    environment
}

/// Adds the variables of a `.env` file of the folder, if there is one. A folder of that name belongs to
/// another tool: Python's virtual environments are called so.
fn add_dotenv(location: &Location, name: &str, environment: &mut Environment, files: &Files, all: &mut Diagnostics) {
    let (path, shown) = (location.folder.join(name), location.shown(name));
    let text = match read_text(&path, files) {
        Ok(text) => text,
        Err(problem) if problem.missing || path.is_dir() => return,
        Err(problem) => {
            all.push(Diagnostic::error(&shown, &At::default(), problem.what).maybe_help(problem.help));
            return;
        }
    };
    let mut read = Dotenv::parse(&text);
    all.add_text(&shown, &read.blank(&text));
    all.extend(read.mistakes.drain(..).map(|DotenvMistake { span, message, help }| {
        Diagnostic::error(&shown, &At { span, path: String::new() }, message).help(help)
    }));
    let mode = std::fs::metadata(&path).map_or(0, |meta| meta.permissions().mode() & 0o777);
    if mode & 0o044 != 0 && !read.entries.is_empty() {
        let what = format!("other users of this machine can read this file (mode {mode:04o})");
        all.push(Diagnostic::warning(&shown, &At::default(), what).help(format!("`chmod 600 {shown}`")));
    }
    environment.add(&shown, read);
}

/// The settings that a text would give at `location`, before it is written there; `variables` are those that would be added to
/// its `.env`.
pub fn draft(
    location: &Location,
    text: &str,
    variables: impl IntoIterator<Item = (String, String)>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, Diagnostics> {
    let (files, mut all) = (Files::default(), Diagnostics::new());
    let mut environment = environment_at(location, environment, &files, &mut all);
    for (name, value) in variables {
        environment.values.entry(name).or_insert(value);
    }
    all.add_text(&location.settings_file(), &secrets::blank(text));
    let folder = location.folder.as_path();
    let references = References { variables: &environment.values, folder, files: &files, stand_ins: false };
    let read = layers::read(location, text, &environment, references);
    all.extend(read.found);
    read.settings.filter(|_| !all.has_errors()).ok_or(all)
}

/// The variables that the folder's settings can use, by name.
pub fn variable_names(
    location: &Location,
    environment: impl IntoIterator<Item = (String, String)>,
) -> BTreeSet<String> {
    let (files, mut all) = (Files::default(), Diagnostics::new());
    let values = environment_at(location, environment, &files, &mut all).values;
    values.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name).collect()
}

/// The secrets that the settings refer to, by name; none where the settings cannot be read.
pub fn references(
    location: &Location,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Vec<ReferenceStatus> {
    let (files, mut all) = (Files::default(), Diagnostics::new());
    let environment = environment_at(location, environment, &files, &mut all);
    let text = read_text(&location.settings_path(), &files).unwrap_or_default();
    references::of_text(&text, location, &environment)
}

/// What to do where the settings' file does not exist.
fn without_settings(location: &Location) -> String {
    let others = location.others();
    let names = || others.iter().filter_map(|other| other.target.as_ref()).map(TargetName::as_str);
    let Some(target) = &location.target else {
        return match names().next() {
            None => strays::elsewhere(location)
                .unwrap_or_else(|| "run `groupcast init` to write one, or name its folder with `--folder`".to_owned()),
            Some(_) => format!("choose a target with `--target`: {}", listed(names())),
        };
    };
    match did_you_mean(target.as_str(), names()) {
        Some(meant) => format!("did you mean `--target {meant}`?"),
        None if names().next().is_none() => {
            "a target is a settings file of its own: copy groupcast.toml to this name, and change what differs"
                .to_owned()
        }
        None => format!("the targets of this folder are {}", listed_all(names())),
    }
}

/// What mappings are read with.
struct Reading<'a> {
    location: &'a Location,
    names: Option<&'a Names>,
    defaults: &'a Defaults,
    files: &'a Files,
    dbt: dbt::Target<'a>,
}

fn mappings(reading: &Reading<'_>, all: &mut Diagnostics) -> (Vec<MappingFile>, Vec<BrokenMapping>) {
    let folder = reading.location.folder.as_path();
    let shown = reading.location.shown(MAPPINGS_FOLDER);
    let mut paths: Vec<PathBuf> = Vec::new();
    match std::fs::read_dir(folder.join(MAPPINGS_FOLDER)) {
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) if is_mapping(&entry.path()) => paths.push(entry.path()),
                    Ok(_) => {}
                    Err(error) => {
                        let what = format!("the folder cannot be read: {error}");
                        all.push(Diagnostic::error(&shown, &At::default(), what));
                    }
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            all.push(Diagnostic::error(&shown, &At::default(), format!("the folder cannot be read: {error}")));
            return (Vec::new(), Vec::new());
        }
    }
    paths.sort();
    // Without settings, this is hardly the folder that was meant.
    let is_meant = reading.location.settings_path().exists();
    if is_meant {
        all.extend(strays::warnings(reading.location));
    }
    if paths.is_empty() && is_meant {
        all.push(
            Diagnostic::warning(&shown, &At::default(), "there are no mappings")
                .help("write one file per sync, like mappings/accounts.toml, or run `groupcast init` for an example"),
        );
    }
    let (mut sound, mut broken) = (Vec::new(), Vec::new());
    for path in paths {
        match mapping(reading, &path, all) {
            Some(file) => sound.push(file),
            None => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let below = Path::new(MAPPINGS_FOLDER).join(path.file_name().unwrap_or_default());
                let readable = read_text(&path, reading.files).map(|text| ReadableParts::of(&text)).unwrap_or_default();
                broken.push(BrokenMapping { name, file: reading.location.shown(below), readable });
            }
        }
    }
    (sound, broken)
}

/// Files that end in `.toml`; hidden ones (an editor's locks), folders and tests of mappings are not ours.
fn is_mapping(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    toml && !name.starts_with('.') && !name.ends_with(test_file::SUFFIX) && !path.is_dir()
}

fn mapping(reading: &Reading<'_>, path: &Path, all: &mut Diagnostics) -> Option<MappingFile> {
    let Reading { location, names, defaults, files, dbt } = reading;
    let folder = location.folder.as_path();
    let stem = path.file_stem()?.to_string_lossy().into_owned();
    let file = location.shown(Path::new(MAPPINGS_FOLDER).join(path.file_name()?));
    let sound = stem.chars().all(|letter| letter.is_alphanumeric() || "-_.".contains(letter));
    if !sound {
        let error = Diagnostic::error(
            &file,
            &At::default(),
            "a sync is named after its file, and this file's name cannot be a sync's",
        );
        all.push(error.help("rename the file: letters, digits, `-`, `_` and `.`"));
    }
    let text = match read_text(path, files) {
        Ok(text) => text,
        Err(problem) => {
            all.push(Diagnostic::error(&file, &At::default(), problem.what).maybe_help(problem.help));
            return None;
        }
    };
    all.add_text(&file, &text);
    let lookup =
        Lookup { sql_file: &|written| sql_file(folder, path, written, files), dbt: &|written| dbt.resolve(written) };
    let context = Context { names: *names, policy: &defaults.policy, guards: &defaults.guards, lookup: &lookup };
    let (mapping, found) = parse(&stem, &file, &text, &context);
    debug_assert_eq!(mapping.is_none(), found.iter().any(|diagnostic| diagnostic.severity == Severity::Error));
    all.extend(found);
    mapping.filter(|_| sound)
}

/// A model's SQL file: below the config folder, else beside the mapping.
fn sql_file(folder: &Path, mapping: &Path, written: &str, files: &Files) -> Result<String, String> {
    let beside = mapping.parent().unwrap_or(folder).join(written);
    let below = folder.join(written);
    // Either of them may come or go, and change which one is meant.
    files.note(&beside);
    files.note(&below);
    let path = if below.exists() || !beside.exists() { below } else { beside };
    read_text(&path, files).map_err(|problem| {
        if problem.missing {
            "no such file, neither below the config folder nor beside the mapping".to_owned()
        } else {
            format!("the SQL file cannot be used: {}", problem.what)
        }
    })
}

pub(super) struct Problem {
    pub(super) what: String,
    missing: bool,
    pub(super) help: Option<String>,
}

/// A file's text without a byte order mark.
pub(super) fn read_text(path: &Path, files: &Files) -> Result<String, Problem> {
    files.note(path);
    let problem = |what: String, help: Option<&str>| Problem { what, missing: false, help: help.map(str::to_owned) };
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound if path.is_symlink() => {
            problem("a link to a file that does not exist".to_owned(), Some("repair or remove the link"))
        }
        ErrorKind::NotFound => Problem { what: "no such file".to_owned(), missing: true, help: None },
        ErrorKind::PermissionDenied => {
            problem("this user may not read the file".to_owned(), Some("change its owner or mode"))
        }
        // Also what waits when it is read: a pipe, a device.
        ErrorKind::InvalidInput => problem("not a regular file".to_owned(), Some("put a file in its place")),
        ErrorKind::FileTooLarge => problem("larger than 8 MB".to_owned(), Some("this is hardly the file you mean")),
        _ => problem(format!("the file cannot be read: {error}"), None),
    };
    let bytes = files::read(path, FILE_BYTES_MAX).map_err(failed)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(problem(format!("not UTF-8 text: line {line} has other bytes"), Some("save the file as UTF-8")))
        }
    }
}
