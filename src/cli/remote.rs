//! `groupcast group --remote`: one group as the destination has it.

use std::io::Write;

use serde_json::{Value, json};

use super::screen::{self, BOLD, paint};
use super::table::Table;
use super::text::{shown_key, shown_value};
use crate::config::Project;
use crate::delivery::{self, ReadBackClient};
use crate::destination::readback::{Activity, ReadBackQuery, Related, RemoteGroup};
use crate::error::Result;
use crate::io::http::HttpClient;
use crate::io::{Random, SystemClock};
use crate::mapping::MappingFile;
use crate::model::Document;
use crate::service::open::{self, Failure};
use crate::sync::report::error_json;

/// One group as the destination has it.
pub(super) struct Remote {
    destination: String,
    group: Option<RemoteGroup>,
    related: Result<Vec<Related>>,
    activity: Result<Vec<Activity>>,
}

/// Reads one group from the destination. What a key's scopes do not allow is missing, not an error.
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
        fn list<T: serde::Serialize>(read: &Result<Vec<T>>) -> Value {
            read.as_ref().map_or_else(|error| json!({"error": error_json(error)}), |read| json!(read))
        }
        json!({"exists": self.exists(), "traits": self.group.as_ref().map(|group| &group.traits),
            "related": list(&self.related), "activity": list(&self.activity)})
    }

    /// Prints it; `known` is what the ledger knows, for the differences.
    pub(super) fn show(&self, known: &Document) -> Result<(), Failure> {
        let mut out = screen::stdout();
        let Some(group) = &self.group else {
            writeln!(out, "\n{} has no such group", self.destination)?;
            return Ok(());
        };
        writeln!(out, "\n{}", paint(BOLD, format!("At {}", self.destination)))?;
        let mut table = Table::new(&["trait", "value", "sent by this sync"]).wraps("value");
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
        table.write(&mut out, screen::width())?;
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
            Ok(activity) if activity.is_empty() => writeln!(out, "\nno changes by people or by REST")?,
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
