//! `groupcast check`: every problem of the config, and with `--connect` what sources and destinations report.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::Cli;
use super::orphans::renamed_to;
use super::service::{self, Access};
use super::{print_json, screen, show_problems};
use crate::config::{Diagnostics, Project};
use crate::delivery::{self, ReadBackClient};
use crate::destination::readback::ReadBackQuery;
use crate::destination::{MappingFinding, TraitShape};
use crate::error::{Error, Kind, Result};
use crate::io::http::{CallLimits, HttpClient, Transport};
use crate::io::{Random, SystemClock};
use crate::mapping::diagnostic::{Diagnostic, Severity};
use crate::mapping::{At, MappingFile, check};
use crate::model::cell::As;
use crate::service::api::ServiceError;
use crate::service::open::{self, Failure};

/// Longest a destination may take to respond to a check. Any response will do.
pub(super) const PROBE_LIMITS: CallLimits = CallLimits { timeout: Duration::from_secs(15), body_bytes_max: 0 };

pub(super) async fn check(cli: &Cli, connect: bool) -> Result<u8, Failure> {
    check_project(cli, Arc::new(super::read_project(cli)?), connect).await
}

/// The check of a project that was read.
pub(super) async fn check_project(cli: &Cli, project: Arc<Project>, connect: bool) -> Result<u8, Failure> {
    let mut problems = project.problems.clone();
    problems.append(super::test::test_files_of(&project).1);
    let mut found = renamed(cli, &project, connect).await?;
    if connect {
        let http_client = HttpClient::new()?;
        for file in &project.mappings {
            match unavailable(&project, file, &http_client).await? {
                Some(silent) => found.push(silent),
                None => found.extend(remarks(&project, file, &http_client).await?),
            }
            match open::source_of(&project, file).await {
                Ok(mut source) => match open::connected_check(file, source.as_mut()).await {
                    Ok(problems) => {
                        let sound = problems.iter().all(|problem| problem.severity != Severity::Error);
                        found.extend(problems);
                        match open::sample::of_source(file, source.as_mut(), sound).await {
                            Ok(remarks) => found.extend(remarks),
                            Err(error) => found.push(unreachable(file, &error)),
                        }
                        match open::sample::of_mirror(file, source.as_mut()).await {
                            Ok(mirror) => found.extend(mirror),
                            Err(error) => found.push(unreachable(file, &error)),
                        }
                        if sound {
                            match open::sample::remarks(file, source.as_mut()).await {
                                Ok(remarks) => found.extend(remarks),
                                Err(error) => found.push(unreachable(file, &error)),
                            }
                        }
                    }
                    Err(error) => found.push(unreachable(file, &error)),
                },
                Err(error) => found.push(unreachable(file, &error)),
            }
        }
    }
    problems.append(Diagnostics::about(&project.mappings, found));
    let code = if problems.has_errors() { 2 } else { 0 };
    if cli.json {
        print_json(&json!({ "problems": problems.shown() }));
        return Ok(code);
    }
    show_problems(cli, &problems);
    if code == 0 {
        let checked = if connect {
            "; source schema matches; destinations reachable (credentials not verified)"
        } else {
            "; `--connect` also checks sources and destinations"
        };
        writeln!(
            screen::stdout(),
            "{} {} valid{checked}",
            screen::paint(screen::ADD, "ok:"),
            screen::plural(project.mappings.len() as u64, "mapping"),
        )?;
    }
    Ok(code)
}

/// Mappings that may have been renamed, as far as the ledger shows it. Without a ledger there is nothing to lose, and one in a
/// database is read only where `connect` allows it. A ledger that is in use is no mistake in these files, nor is one that
/// cannot be read, where files alone are checked: what it would have shown is missing, with a warning.
async fn renamed(cli: &Cli, project: &Arc<Project>, connect: bool) -> Result<Vec<Diagnostic>, Failure> {
    let state = &project.settings.state;
    let is_there = if state.database.is_some() { connect } else { state.path.exists() };
    if !is_there {
        return Ok(Vec::new());
    }
    let read = async {
        let opened = service::open(cli, project, Access::Read).await?;
        opened.service.orphaned_syncs().await.map_err(ServiceError::into_error)
    };
    let orphaned = match read.await {
        Ok(orphaned) => orphaned,
        Err(error) if connect && error.kind() != Kind::LedgerBusy => return Err(error.into()),
        Err(error) => {
            if !cli.json {
                let what = format!("renamed mappings are not looked for: {error}");
                screen::print_warning(&what, error.advice().unwrap_or("`groupcast doctor` looks at the ledger"));
            }
            return Ok(Vec::new());
        }
    };
    let found = project.mappings.iter().filter_map(|file| {
        let (what, advice) = orphaned.iter().find_map(|orphan| renamed_to(orphan, &file.mapping.name))?;
        Some(Diagnostic::warning(&file.mapping.file, &At::default(), what).help(&advice))
    });
    Ok(found.collect())
}

/// A destination that does not respond, as a problem at the line that names it.
async fn unavailable(
    project: &Project,
    file: &MappingFile,
    http_client: &HttpClient,
) -> Result<Option<Diagnostic>, Error> {
    let settings = open::destination_of(project, file)?;
    let Some(request) = open::destination(settings, &file.mapping.group_type)?.probe() else { return Ok(None) };
    let Err(no_response) = http_client.send(&request, PROBE_LIMITS).await else { return Ok(None) };
    let what = format!("destination `{}` ({}) is unavailable: {}", settings.name, settings.kind, no_response.what);
    let address: Vec<String> =
        open::destination_type(settings)?.address_settings().iter().map(|name| format!("`{name}`")).collect();
    let problem = Diagnostic::error(&file.mapping.file, &file.at("destination"), what);
    Ok(Some(problem.help(format!(
        "check {} of the destination, and this machine's network and proxy settings",
        address.join(" and ")
    ))))
}

/// A source that could not be reached, as a problem at the line that names it.
fn unreachable(file: &MappingFile, error: &Error) -> Diagnostic {
    let at = file.at("source");
    Diagnostic::error(&file.mapping.file, &at, error.to_string()).maybe_help(error.advice().map(str::to_owned))
}

/// Findings of a destination that can be read about a mapping, before anything is sent: whether its keys are good for
/// it, whether it has room for the group type, and whether traits it holds already are of another kind.
async fn remarks(project: &Project, file: &MappingFile, http_client: &HttpClient) -> Result<Vec<Diagnostic>> {
    let settings = open::destination_of(project, file)?;
    let mut destination = open::destination(settings, &file.mapping.group_type)?;
    let (clock, random) = (SystemClock::start(), Random::from_entropy());
    if let Err(error) = delivery::prepare(destination.as_mut(), http_client, &clock, &random).await {
        return Ok(vec![unanswered(file, &settings.name, &error)]);
    }
    if destination.readback().is_none() {
        return Ok(Vec::new());
    }
    let reader = ReadBackClient::new(destination.as_ref(), http_client, &clock, &random)?;
    match clashes(&reader, &check::shapes(file)).await {
        Ok(found) => Ok(found.into_iter().map(|remark| check::remarked(file, remark)).collect()),
        Err(error) => Ok(vec![unanswered(file, &settings.name, &error)]),
    }
}

fn unanswered(file: &MappingFile, name: &str, error: &Error) -> Diagnostic {
    let what = format!("destination {name}: {error}");
    Diagnostic::error(&file.mapping.file, &file.at("destination"), what).maybe_help(error.advice().map(str::to_owned))
}

/// Traits whose declared type does not fit values that the destination holds already.
async fn clashes(reader: &ReadBackClient<'_>, shapes: &[TraitShape<'_>]) -> Result<Vec<MappingFinding>> {
    let mut found = Vec::new();
    let Some(response) = reader.query(ReadBackQuery::Names).await? else { return Ok(found) };
    let names = reader.readback.names(&response);
    for shape in shapes {
        let Some(wanted) = kind(shape) else { continue };
        if names.as_ref().is_some_and(|names| !names.iter().any(|name| name == shape.name)) {
            continue;
        }
        let Some(response) = reader.query(ReadBackQuery::Values(shape.name)).await? else { break };
        // A server that does not know the values of one trait knows those of none.
        let Some(values) = reader.readback.values(&response) else { break };
        if values.iter().any(|value| !fits(wanted, value)) {
            let what = format!(
                "`{}` is declared as {wanted}, but groups at the destination have other values of it",
                shape.name
            );
            let help = "another tool may write it, or wrote it before: filters treat the two types as different";
            found.push(MappingFinding {
                about: Some(shape.name.to_owned()),
                error: false,
                what,
                help: help.to_owned(),
            });
        }
    }
    Ok(found)
}

/// The kind of value a trait is declared to have, where other kinds can be distinguished from it.
fn kind(shape: &TraitShape<'_>) -> Option<&'static str> {
    match (shape.declared, shape.constant) {
        (Some(As::Number | As::Integer), _) | (None, Some(Value::Number(_))) => Some("a number"),
        (Some(As::Boolean), _) | (None, Some(Value::Bool(_))) => Some("true or false"),
        _ => None,
    }
}

/// Whether a value, which the destination may show as text, is of this kind.
fn fits(wanted: &str, value: &Value) -> bool {
    let text = match value {
        Value::Null => return true,
        Value::String(text) => text.trim().to_ascii_lowercase(),
        other => other.to_string(),
    };
    match wanted {
        "a number" => text.is_empty() || text.parse::<f64>().is_ok_and(f64::is_finite),
        _ => matches!(text.as_str(), "" | "true" | "false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_another_kind_are_told_apart() {
        for (wanted, value, expected) in [
            ("a number", json!("12.5"), true),
            ("a number", json!(7), true),
            ("a number", json!("1e3"), true),
            ("a number", json!("twelve"), false),
            ("a number", json!("true"), false),
            ("a number", json!("NaN"), false),
            ("a number", json!(null), true),
            ("true or false", json!("True"), true),
            ("true or false", json!(false), true),
            ("true or false", json!("yes"), false),
            ("true or false", json!("1"), false),
        ] {
            assert_eq!(fits(wanted, &value), expected, "{wanted}: {value}");
        }
    }
}
