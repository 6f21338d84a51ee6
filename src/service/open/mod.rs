//! From a config folder to the things a command or the daemon works with: project, sources, destinations, ledger.

pub mod address;
mod output;
pub mod sample;
pub mod selection;
pub mod socket;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::files::Files;
use crate::config::{self, DestinationSettings, Diagnostics, Location, Project, SourceSettings, StateDatabase, Unset};
use crate::delivery;
use crate::destination::{self, Destination, DestinationType};
use crate::error::{Error, Kind, Result, Within};
use crate::io::http::LATE_MAX;
use crate::ledger::{self, Ledger, Retention};
use crate::mapping::check::{self, Described};
use crate::mapping::compile::{self, Projection};
use crate::mapping::diagnostic::{Diagnostic, Problem, Severity, did_you_mean, listed_all};
use crate::mapping::sections::model::table_name;
use crate::mapping::{At, Expr, MappingFile, Model};
use crate::source::{Column, Inspection, OpenContext, Source, SourceType, registry};

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// Something failed.
    Error(Error),
    /// The files have problems.
    Problems(Diagnostics),
}

impl Failure {
    /// As one error of one line: of several problems in files the first, and how many more there are.
    pub fn as_error(&self) -> Error {
        let problems = match self {
            Failure::Error(error) => return error.again(),
            Failure::Problems(problems) => problems.shown(),
        };
        let mut errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        let Some(first) = errors.next() else { return Error::new(Kind::Bug, "a problem without an error") };
        let more = match errors.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let line = first.line.map_or_else(String::new, |line| format!(":{line}"));
        let help = first.help.iter().map(|help| format!("{help}; ")).collect::<String>();
        let error = Error::new(Kind::Config, format!("{}{more}", first.message))
            .advise(format!("{help}`groupcast check --connect` shows every problem at its place"))
            .at(format!("{}{line}", first.file));
        if self.is_missing() { error.missing() } else { error }
    }

    /// The problems in files, for who does not have these.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Failure::Error(_) => Vec::new(),
            Failure::Problems(problems) => problems.problems(),
        }
    }

    /// Whether all that is wrong is that something was not found at the source.
    pub fn is_missing(&self) -> bool {
        match self {
            Failure::Error(error) => error.is_missing(),
            Failure::Problems(problems) => problems.all_missing(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

impl From<Diagnostics> for Failure {
    fn from(problems: Diagnostics) -> Failure {
        Failure::Problems(problems)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Error(
            Error::new(Kind::Config, "failed to write the output")
                .advise("look at where the output goes: a full disk, perhaps")
                .because(error),
        )
    }
}

/// The project of the config folder. What its destinations cannot carry out counts among its problems. A mapping with
/// mistakes is a sync that cannot run, and hurts no other.
pub fn project(location: impl Into<Location>) -> Result<Project, Failure> {
    project_noting(&location.into(), &Files::default())
}

/// The same, noting every file that the config hangs on, also where it fails.
pub fn project_noting(location: &Location, files: &Files) -> Result<Project, Failure> {
    project_with(location, files, Unset::Error)
}

/// The same where nothing is read from sources or sent to destinations: secrets that are not there are no problem.
pub fn project_without_secrets(location: impl Into<Location>) -> Result<Project, Failure> {
    project_with(&location.into(), &Files::default(), Unset::StandIn)
}

fn project_with(location: &Location, files: &Files, unset: Unset) -> Result<Project, Failure> {
    let mut project = config::load::load_noting(location, config::load::environment(), files, unset)?;
    let inspected = inspect_sources(&project)?;
    output::check(&project, &inspected)?;
    let mut found = source_warnings(&project, &inspected);
    for file in &project.mappings {
        let source = inspected.iter().find(|(name, _)| *name == file.mapping.source);
        if let Some((_, inspection)) = source {
            found.extend(check::check_sql(file, inspection.quoting));
            found.extend(check::check_compare(file, inspection.mirror.as_ref().map(|mirror| mirror.compare)));
        }
        let Some(settings) = project.settings.destinations.get(&file.mapping.destination) else { continue };
        let destination = destination(settings, &file.mapping.group_type)
            .map_err(|error| error.at(format!("destination {}", settings.name)))?;
        let remarks = destination.findings(&check::shapes(file));
        found.extend(check::check_destination(file, &destination.features(), remarks, &settings.kind));
        if let Some(most) = destination.group_types_max() {
            found.extend(check::check_group_types(file, &project.mappings, most));
        }
    }
    let found = Diagnostics::about(&project.mappings, found);
    project.take_in(found);
    Ok(project)
}

/// What the sources' settings alone say, by their names: warnings, and the files of this machine that they read.
///
/// Errors: [`Kind::Config`], settings that cannot be used, or a source that is the ledger's own file. Its locks belong to
/// the process: a second handle, closed, would let other processes write to the ledger while this one does.
fn inspect_sources(project: &Project) -> Result<Vec<(String, Inspection)>> {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let state = whole(&project.settings.state.path);
    if let Some(database) = &project.settings.state.database {
        database.server.check().within(|| "state".to_owned())?;
    }
    let mut all = Vec::new();
    for settings in project.settings.sources.values() {
        let found = source_type(settings)?.inspect(&settings.values).within(|| format!("source {}", settings.name))?;
        if let Some(mirror) = &found.mirror {
            table_name(&mirror.schema).map_err(|_| {
                Error::new(Kind::Config, format!("`mirror_schema` is not a schema's name: `{}`", mirror.schema))
                    .advise("write it like a table's name: `groupcast_mirror`, or `database.groupcast_mirror`")
                    .at(format!("source {}", settings.name))
            })?;
        }
        if found.files.iter().any(|(path, _)| whole(path) == state) {
            return Err(Error::new(Kind::Config, "its file is Groupcast's own ledger")
                .advise(
                    "point `path` at the warehouse's file, or move the ledger to a file of its own with `state.path`",
                )
                .at(format!("{}", state.display()))
                .at(format!("source {}", settings.name)));
        }
        all.push((settings.name.clone(), found));
    }
    Ok(all)
}

/// The warnings about settings of sources that have no effect.
fn source_warnings(project: &Project, inspected: &[(String, Inspection)]) -> Vec<Diagnostic> {
    let file = project.settings.location().settings_file();
    let of_source = |(name, inspection): &(String, Inspection)| {
        let at = At { path: format!("sources.{name}.url"), ..At::default() };
        let warning = |(what, help): &(String, String)| Diagnostic::warning(&file, &at, what).help(help);
        inspection.warnings.iter().map(warning).collect::<Vec<_>>()
    };
    inspected.iter().flat_map(of_source).collect()
}

fn source_type(settings: &SourceSettings) -> Result<&'static dyn SourceType> {
    let unknown = || Error::new(Kind::Bug, format!("no source of type `{}` is built in", settings.kind));
    registry::find(&settings.kind).ok_or_else(unknown)
}

/// Connects to a source.
pub async fn source(settings: &SourceSettings, project: &config::Settings) -> Result<Box<dyn Source>> {
    let limits = project.state.input_limits();
    let context =
        OpenContext { name: &settings.name, folder: &project.folder, limits: &limits, extensions: &project.duckdb };
    source_type(settings)?.open(&settings.values, &context).await
}

/// The destination that `[destinations.NAME]` describes, for groups of one type, as every command builds it.
///
/// Errors: [`Kind::Config`], its settings or the group type cannot be used.
pub fn destination(settings: &DestinationSettings, group_type: &str) -> Result<Box<dyn Destination>> {
    destination_type(settings)?.open(&settings.values, group_type)
}

/// The type of a destination.
pub fn destination_type(settings: &DestinationSettings) -> Result<&'static dyn DestinationType> {
    let unknown = || Error::new(Kind::Bug, format!("no destination of type `{}` is built in", settings.kind));
    destination::registry::find(&settings.kind).ok_or_else(unknown)
}

/// How a destination is spoken to.
pub fn delivery_settings(settings: &DestinationSettings) -> delivery::DeliverySettings {
    let config::Delivery { concurrency, requests_per_second, timeout, retry_for, attempts_max } =
        settings.delivery.clone();
    let standard = delivery::DeliverySettings::default();
    let destination = settings.name.clone();
    delivery::DeliverySettings {
        destination,
        concurrency,
        requests_per_second,
        timeout,
        retry_for,
        attempts_max,
        ..standard
    }
}

/// How long after the beginning of an attempt its request may still arrive: another process that takes the sync over waits
/// for so long.
///
/// Errors: the mapping's destination is not configured.
pub fn attempt_longest(project: &Project, file: &MappingFile) -> Result<Duration> {
    Ok(delivery_settings(destination_of(project, file)?).timeout + LATE_MAX)
}

/// The source a mapping names.
pub async fn source_of(project: &Project, file: &MappingFile) -> Result<Box<dyn Source>> {
    let settings = project.settings.sources.get(&file.mapping.source);
    let settings = settings.ok_or_else(|| Error::new(Kind::Bug, "a mapping with an unknown source was let through"))?;
    source(settings, &project.settings).await
}

/// The source a mapping names, once it was asked whether the mapping fits it.
pub async fn fitting_source(project: &Project, file: &MappingFile) -> Result<Box<dyn Source>, Failure> {
    let place = || format!("sync {}", file.mapping.name);
    let mut source = source_of(project, file).await.within(place)?;
    let found = connected_check(file, source.as_mut()).await.within(place)?;
    if found.iter().all(|problem| problem.severity != Severity::Error) {
        Ok(source)
    } else {
        Err(Diagnostics::about(std::slice::from_ref(file), found).into())
    }
}

/// The settings of the destination a mapping names.
pub fn destination_of<'a>(project: &'a Project, file: &MappingFile) -> Result<&'a DestinationSettings> {
    let settings = project.settings.destinations.get(&file.mapping.destination);
    settings.ok_or_else(|| Error::new(Kind::Bug, "a mapping with an unknown destination was let through"))
}

/// The ledger, for a command that writes.
pub async fn ledger(project: &Project) -> Result<Arc<dyn Ledger>> {
    if let Some(database) = &project.settings.state.database {
        refuse_to_begin_anew(project, database).await?;
    }
    ledger_to_fill(project).await
}

/// The same where it may be empty although there is another one: it is about to be filled from that.
pub async fn ledger_to_fill(project: &Project) -> Result<Arc<dyn Ledger>> {
    let state = &project.settings.state;
    let limits = state.limits();
    let retention =
        Retention { journal: state.journal_retention, runs: state.runs_retention, requests: state.requests_retention };
    match &state.database {
        Some(StateDatabase { server, schema, lease }) => {
            ledger::open_in_postgres(server, schema, *lease, &state.path, &limits, retention).await
        }
        None => ledger::open(&state.path, &limits, retention).await.map_err(|error| who_has_it(error, &state.path)),
    }
}

/// Fails where the ledger was moved to a database by its address only: the next run would send everything again.
async fn refuse_to_begin_anew(project: &Project, database: &StateDatabase) -> Result<()> {
    let file = project.settings.location().ledger_path();
    if !file.exists() {
        return Ok(());
    }
    let StateDatabase { server, schema, .. } = database;
    if ledger::open_in_postgres_read_only(
        server,
        schema,
        &project.settings.state.path,
        &project.settings.state.limits(),
    )
    .await?
    .is_some()
    {
        return Ok(());
    }
    let what = "there is no ledger in PostgreSQL yet, but one in a file: a run would send everything again";
    Err(Error::new(Kind::Config, what)
        .advise(
            "move it: without `state.url`, `groupcast ledger export SYNC > SYNC.jsonl`; with it, `groupcast ledger import \
             SYNC.jsonl`. To begin with nothing, remove or rename the file",
        )
        .at(file.display().to_string()))
}

/// Copies the whole ledger to a new file, unless another process has it open.
pub async fn backup(project: &Project, to: &Path) -> Result<ledger::BackupSummary> {
    let state = &project.settings.state;
    if let Some(database) = &state.database {
        return Err(ledger::postgres_backup_error(&database.schema));
    }
    ledger::backup(&state.path, to, &state.limits()).await
}

/// A ledger that another process has open, with what to do when that is a daemon.
fn who_has_it(error: Error, path: &Path) -> Error {
    match address::of_holder(path, &error) {
        None => error,
        Some(daemon) => error.advise(format!(
            "{daemon} has it open and cannot be reached over the socket beside the ledger: look at its log, use its API or \
             console, or stop it"
        )),
    }
}

/// The ledger, for a command that only looks; an empty one where none exists yet.
pub async fn ledger_to_read(project: &Project) -> Result<Arc<dyn Ledger>> {
    let state = &project.settings.state;
    if let Some(StateDatabase { server, schema, .. }) = &state.database {
        return match ledger::open_in_postgres_read_only(server, schema, &state.path, &state.limits()).await? {
            Some(ledger) => Ok(ledger),
            None => ledger::in_memory(&state.limits()).await,
        };
    }
    ledger::open_read_only(&state.path, &state.limits()).await.map_err(|error| who_has_it(error, &state.path))
}

/// The mapping of this name.
pub fn named<'a>(project: &'a Project, name: &str) -> Result<&'a MappingFile, Failure> {
    if let Some(file) = project.mappings.iter().find(|file| file.mapping.name == name) {
        return Ok(file);
    }
    match project.mistakes(name) {
        Some(mistakes) => Err(mistakes.into()),
        None => Err(unknown(project, name).into()),
    }
}

/// Whether there is a mapping of this name, with or without mistakes.
pub fn exists(project: &Project, name: &str) -> Result<()> {
    if project.names().contains(&name) { Ok(()) } else { Err(unknown(project, name)) }
}

/// There is no sync of this name.
fn unknown(project: &Project, name: &str) -> Error {
    let names = project.names();
    let what = format!("sync `{name}` not found");
    match did_you_mean(name, names.iter().copied()) {
        Some(meant) => Error::new(Kind::Config, format!("{what}; did you mean `{meant}`?"))
            .advise("`groupcast status` lists the syncs"),
        None if names.is_empty() => {
            Error::new(Kind::Config, what).advise("write a mapping first: `groupcast init --source NAME --table TABLE`")
        }
        None => Error::new(Kind::Config, what).advise(format!("the syncs are {}", listed_all(names))),
    }
}

/// What only the source can tell about a mapping. Errors about the connection itself are errors; what is wrong with the
/// mapping are problems with a place.
pub async fn connected_check(file: &MappingFile, source: &mut dyn Source) -> Result<Vec<Diagnostic>> {
    fn described(columns: &[Column]) -> Vec<Described<'_>> {
        let described = columns.iter().map(|Column { name, kind, declared, denied, .. }| {
            let denied = denied.as_deref();
            Described { name, kind, declared, denied }
        });
        described.collect()
    }
    let columns = match source.describe(&file.mapping.model).await {
        Ok(columns) => columns,
        Err(error) if error.kind() == Kind::Source => {
            // Without its condition the model can be read: then that is what is wrong.
            let condition = match file.mapping.model.filter {
                Some(_) => source.describe(&Model { filter: None, ..file.mapping.model.clone() }).await.is_ok(),
                None => false,
            };
            return Ok(vec![refused(file, &check::at_model(file, condition), &error)]);
        }
        Err(error) => return Err(error),
    };
    let mut found = check::check_columns(file, &described(&columns), source.dialect());
    let projection = compile::projection(&file.mapping, None);
    if found.iter().any(|problem| problem.severity == Severity::Error) {
        // A file that could be read only in part lacks columns for that reason.
        if let Err(error) = source.findings(&projection).await
            && error.kind() == Kind::Source
        {
            return Ok(vec![refused(file, &check::at_model(file, false), &error)]);
        }
        found.extend(
            sample::of_source(file, source, false).await?.into_iter().filter(|one| one.severity != Severity::Note),
        );
    }
    if found.iter().all(|problem| problem.severity != Severity::Error) {
        match source.describe_projection(&projection).await {
            Ok(columns) => found.extend(check::check_expressions(
                file,
                &projection.columns,
                &described(&columns),
                source.dialect(),
            )),
            Err(error) if error.kind() == Kind::Source => {
                found.extend(refused_expressions(file, source, &projection, &error).await?);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// What a source refused about a mapping, at its place.
fn refused(file: &MappingFile, at: &At, error: &Error) -> Diagnostic {
    let advice = error.advice().map(str::to_owned);
    let found = Diagnostic::error(&file.mapping.file, at, error.to_string()).maybe_help(advice);
    if error.is_missing() { found.missing() } else { found }
}

/// The expressions that a source refuses, each at its line, where it refuses all of them together. One cause is reported
/// once: the same refusal of another expression is left out.
async fn refused_expressions(
    file: &MappingFile,
    source: &mut dyn Source,
    projection: &Projection,
    error: &Error,
) -> Result<Vec<Diagnostic>> {
    let mut found: Vec<Diagnostic> = Vec::new();
    for expr in projection.columns.iter().filter(|expr| matches!(expr, Expr::Sql(_))) {
        let alone = Projection { columns: vec![expr.clone()], cursor: None, ..projection.clone() };
        match source.describe_projection(&alone).await {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::Source => {
                let refusal = refused(file, &check::first_use_of_sql(file, expr), &error);
                if found.iter().all(|other| other.message != refusal.message) {
                    found.push(refusal);
                }
            }
            Err(error) => return Err(error),
        }
    }
    if found.is_empty() {
        found.push(refused(file, &file.at("traits"), error));
    }
    Ok(found)
}
