//! What only the destination can tell: `groupcast verify`, `groupcast group --remote`, and its share of `check --connect`.

use std::io::Write;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::args::Cli;
use super::plan::{shown_key, shown_value, written};
use super::print_json;
use super::screen::{self, ADD, BOLD, CHANGE, DIM, Progress, REMOVE, paint, plural, thousands};
use super::told::Teller;
use crate::config::Project;
use crate::delivery::{self, ReadBackClient, Signal};
use crate::destination::readback::{Activity, ReadBackQuery, Related, RemoteGroup};
use crate::destination::{MappingFinding, TraitShape};
use crate::error::{Error, Result};
use crate::io::http::HttpClient;
use crate::io::{Random, SystemClock};
use crate::mapping::MappingFile;
use crate::mapping::check;
use crate::mapping::diagnostic::Diagnostic;
use crate::model::Document;
use crate::model::cell::As;
use crate::service::open::job::Job;
use crate::service::open::{self, Failure};
use crate::sync::report::error_json;
use crate::sync::verify::{Difference, Drifted, Verified};
use crate::sync::{RunOptions, RunOrigin};

/// The exit code when the destination holds something else.
const DRIFT: u8 = 3;

pub(super) async fn verify(cli: &Cli, sync: &str, repair: bool, show: usize) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    let file = open::named(&project, sync)?;
    let mapping = &file.mapping;
    let teller = if repair { Teller::open_to_write(&project).await? } else { Teller::open(&project).await? };
    let mut shown = 0;
    let mut sink = |drifted: Drifted| {
        shown += 1;
        if cli.json {
            let mut line = serde_json::to_value(drifted).unwrap_or_default();
            line["type"] = "drift".into();
            line["sync"] = sync.into();
            print_json(&line);
            return Ok(());
        }
        if shown > show { Ok(()) } else { written(text(&drifted)) }
    };
    let found = match &teller {
        Teller::Daemon(client) => client.verify(sync, repair, &mut sink).await,
        Teller::Ledger(ledger) => {
            let progress = Progress::new(sync, cli.json);
            let (_sender, signal) = watch::channel(Signal::Go);
            let job = Job {
                project: &project,
                file,
                ledger: ledger.as_ref(),
                http_client: &HttpClient::new()?,
                clock: &SystemClock::start(),
                random: &Random::from_entropy(),
                monitor: &progress,
                options: &RunOptions::default(),
                origin: &RunOrigin::default(),
                signal,
            };
            let found = job.verify(repair, &mut sink).await;
            progress.finish();
            found
        }
    }?;
    if cli.json {
        let mut line = serde_json::to_value(&found).unwrap_or_default();
        line["type"] = "verified".into();
        line["sync"] = sync.into();
        print_json(&line);
    } else {
        summary(sync, &mapping.destination, &found, shown.saturating_sub(show) as u64)?;
    }
    Ok(if found.drifted > 0 { DRIFT } else { 0 })
}

fn text(drifted: &Drifted) -> std::io::Result<()> {
    let mut out = screen::stdout();
    let remark = if drifted.missing { "  the destination has no such group" } else { "" };
    writeln!(out, "{} {}{}", paint(CHANGE, "~"), paint(BOLD, shown_key(&drifted.key)), paint(DIM, remark))?;
    for drift in &drifted.traits {
        let value = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), shown_value);
        let (sign, style, words) = match drift.difference {
            Difference::Missing => ("-", REMOVE, format!("{} is missing", value(&drift.known))),
            Difference::Different => ("~", CHANGE, format!("{}, not {}", value(&drift.held), value(&drift.known))),
            Difference::Unexpected => ("+", ADD, format!("{} although it was removed", value(&drift.held))),
        };
        writeln!(out, "    {} {}  {words}", paint(style, sign), drift.name)?;
    }
    Ok(())
}

fn summary(sync: &str, destination: &str, found: &Verified, hidden: u64) -> Result<(), Failure> {
    let mut out = screen::stdout();
    if hidden > 0 {
        writeln!(out, "… and {}; `--show all` shows them", plural(hidden, "more group"))?;
    }
    let name = paint(BOLD, sync);
    if found.drifted == 0 {
        writeln!(
            out,
            "{name}: {destination} holds what it is known to hold: {} compared",
            plural(found.compared, "group")
        )?;
    } else {
        writeln!(
            out,
            "{name}: {} of {} differ at {destination}: {}, {} missing, {} with another value, {} not removed",
            paint(CHANGE, thousands(found.drifted)),
            plural(found.compared, "group"),
            plural(found.missing_groups, "missing group"),
            plural(found.missing, "trait"),
            thousands(found.different),
            thousands(found.unexpected),
        )?;
    }
    if found.unconfirmed > 0 {
        let whom = plural(found.unconfirmed, "unconfirmed group");
        writeln!(out, "  {whom} not compared: the next run says everything about them again")?;
    }
    if found.foreign > 0 {
        writeln!(out, "  {} there that this sync knows nothing about", plural(found.foreign, "group"))?;
    }
    if found.repaired > 0 {
        writeln!(out, "  {} said again in full by the next run", plural(found.repaired, "group"))?;
    } else if found.drifted > 0 {
        writeln!(out, "  `groupcast verify {sync} --repair` has the next run say them again")?;
    }
    Ok(())
}

/// What the destination tells of one group.
pub(super) struct Remote {
    destination: String,
    group: Option<RemoteGroup>,
    related: Result<Vec<Related>>,
    activity: Result<Vec<Activity>>,
}

/// Asks the destination about one group. What a key's scopes do not allow is missing, not an error.
pub(super) async fn look(project: &Project, file: &MappingFile, key: &str) -> Result<Remote> {
    let mapping = &file.mapping;
    let settings = open::destination_of(project, file)?;
    let mut destination = open::destination(settings, &mapping.group_type)?;
    let (http_client, clock, random) = (HttpClient::new()?, SystemClock::start(), Random::from_entropy());
    ReadBackClient::new(destination.as_ref(), &http_client, &clock, &random)?;
    delivery::prepare(destination.as_mut(), &http_client, &clock, &random).await?;
    let reader = ReadBackClient::new(destination.as_ref(), &http_client, &clock, &random)?;
    let mut remote = Remote {
        destination: mapping.destination.clone(),
        group: None,
        related: Ok(Vec::new()),
        activity: Ok(Vec::new()),
    };
    if let Some(response) = reader.query(ReadBackQuery::Find(key)).await? {
        remote.group = reader.readback.found(&response)?;
    }
    if remote.group.is_some() {
        let related = reader.query(ReadBackQuery::Related(key)).await;
        remote.related =
            related.and_then(|response| response.map_or(Ok(Vec::new()), |response| reader.readback.related(&response)));
        let activity = reader.query(ReadBackQuery::Activity(key)).await;
        remote.activity = activity
            .and_then(|response| response.map_or(Ok(Vec::new()), |response| reader.readback.activity(&response)));
    }
    Ok(remote)
}

impl Remote {
    /// Whether the destination has the group.
    pub(super) fn exists(&self) -> bool {
        self.group.is_some()
    }

    pub(super) fn json(&self) -> Value {
        fn told<T: serde::Serialize>(told: &Result<Vec<T>>) -> Value {
            told.as_ref().map_or_else(|error| json!({"error": error_json(error)}), |told| json!(told))
        }
        json!({"exists": self.exists(), "traits": self.group.as_ref().map(|group| &group.traits),
            "related": told(&self.related), "activity": told(&self.activity)})
    }

    /// Prints it; `known` is what the ledger knows, for the differences.
    pub(super) fn show(&self, known: &Document) -> Result<(), Failure> {
        let mut out = screen::stdout();
        let Some(group) = &self.group else {
            writeln!(out, "\n{} has no such group", self.destination)?;
            return Ok(());
        };
        writeln!(out, "\n{}", paint(BOLD, format!("At {}", self.destination)))?;
        let mut table = screen::table(&["trait", "value", "sent by this sync"]);
        for (name, value) in &group.traits {
            let sent = match known.0.get(name) {
                None => "no".to_owned(),
                Some(known) if crate::model::document::canonicalize(value.clone()).ok().as_ref() == Some(known) => {
                    "yes".to_owned()
                }
                Some(known) => format!("as {}", shown_value(known)),
            };
            table.add_row([shown_key(name), shown_value(value), sent]);
        }
        writeln!(out, "{table}")?;
        match &self.related {
            Err(error) => writeln!(out, "\nrelated: {error}")?,
            Ok(related) if related.is_empty() => writeln!(out, "\nnothing is related to it")?,
            Ok(related) => {
                writeln!(out, "\n{}", paint(BOLD, "Related"))?;
                for Related { kind, id, name } in related {
                    let name = name.as_deref().map(|name| format!("  {}", shown_key(name))).unwrap_or_default();
                    writeln!(out, "    {} {}{name}", shown_key(kind), shown_key(id))?;
                }
            }
        }
        match &self.activity {
            Err(error) => writeln!(out, "\nactivity: {error}")?,
            Ok(activity) if activity.is_empty() => writeln!(out, "\nnobody has changed it by hand or by REST")?,
            Ok(activity) => {
                writeln!(out, "\n{}", paint(BOLD, "Activity"))?;
                for Activity { at, what, about, by } in activity {
                    let more = [about.as_deref(), by.as_deref()].into_iter().flatten().map(shown_key);
                    let more: Vec<String> = more.collect();
                    writeln!(out, "    {}  {}  {}", shown_key(at), shown_key(what), more.join("  "))?;
                }
            }
        }
        Ok(())
    }
}

/// What a destination that can be asked has to say about a mapping, before anything is sent: whether its keys are good for
/// it, whether it has room for the group type, and whether traits it holds already are of another kind.
pub(super) async fn remarks(
    project: &Project,
    file: &MappingFile,
    http_client: &HttpClient,
) -> Result<Vec<Diagnostic>> {
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
        // A server that cannot tell about one trait cannot tell about any.
        let Some(values) = reader.readback.values(&response) else { break };
        if values.iter().any(|value| !fits(wanted, value)) {
            let what = format!(
                "`{}` is declared as {wanted}, and groups at the destination hold values of it that are none",
                shape.name
            );
            let help = "somebody else may write it, or wrote it before: filters treat the two kinds as different";
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

/// The kind of value a trait is declared to have, where other kinds can be told apart from it.
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
