//! Which sources, destinations and mappings does this folder describe?
//!
//! A folder holds `groupcast.toml` and one file per mapping in `mappings/`. [`load::load`] reads all of it and reports
//! all problems at once. Settings come in layers: defaults, then `groupcast.toml`, then environment variables
//! (`GROUPCAST__SOURCES__WAREHOUSE__URL`). Each file is read alone first, so that a problem has a line; then the layers
//! are merged by the `config` crate and deserialised.

pub mod diagnostic;
#[cfg(test)]
mod golden;
mod known;
mod layers;
pub mod load;
mod merge;
mod secrets;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::duck;
use crate::error::{Error, Kind, Result};
use crate::mapping::diagnostic::Diagnostic;
use crate::mapping::{Guards, MappingFile, Policy};

pub use diagnostic::Diagnostics;
pub use load::load;

/// A config folder: settings and mappings.
#[derive(Debug, Clone)]
pub struct Project {
    /// What `groupcast.toml` and the environment say.
    pub settings: Settings,
    /// The mappings, by name.
    pub mappings: Vec<MappingFile>,
    /// What a person should look at.
    pub warnings: Diagnostics,
}

/// What `groupcast.toml` and the environment say. Paths are resolved against `folder`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The config folder.
    pub folder: PathBuf,
    /// Where the ledger lives and what it may use.
    pub state: State,
    /// Warehouses by name.
    pub sources: BTreeMap<String, SourceSettings>,
    /// Destinations by name.
    pub destinations: BTreeMap<String, DestinationSettings>,
    /// What mappings start from.
    pub defaults: Defaults,
    /// The daemon's own settings.
    pub daemon: Daemon,
}

/// `[state]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The ledger's file.
    pub path: PathBuf,
    /// Memory DuckDB may use, in bytes.
    pub memory_bytes: Option<u64>,
    /// Threads DuckDB may use.
    pub threads: Option<usize>,
    /// Where DuckDB spills to.
    pub temp_folder: Option<PathBuf>,
    /// How long the history of what was sent is kept.
    pub journal_retention: Duration,
}

impl State {
    /// The limits for DuckDB: what is set here, else [`duck::Limits::standard`].
    pub fn limits(&self) -> duck::Limits {
        let standard = duck::Limits::standard();
        duck::Limits {
            memory_bytes: self.memory_bytes.unwrap_or(standard.memory_bytes),
            threads: self.threads.unwrap_or(standard.threads),
            temp_folder: self.temp_folder.clone().unwrap_or(standard.temp_folder),
        }
    }
}

/// `[sources.NAME]`. The keys of its type are kept as they are, checked, until [`SourceSettings::parse`].
#[derive(Clone, PartialEq)]
pub struct SourceSettings {
    /// Its name.
    pub name: String,
    /// Its type: `duckdb`, `postgres`.
    pub kind: String,
    table: toml::Table,
}

/// `[destinations.NAME]`, likewise.
#[derive(Clone, PartialEq)]
pub struct DestinationSettings {
    /// Its name.
    pub name: String,
    /// Its type: `amplitude`, `file`.
    pub kind: String,
    /// How it is spoken to.
    pub delivery: Delivery,
    table: toml::Table,
}

impl fmt::Debug for SourceSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "source {} ({})", self.name, self.kind)
    }
}

impl fmt::Debug for DestinationSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "destination {} ({}, {:?})", self.name, self.kind, self.delivery)
    }
}

impl SourceSettings {
    /// The settings of its type. An error means that the type's struct and `config::known` disagree.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        parse(&self.table).map_err(|error| error.at(format!("source {}", self.name)))
    }
}

impl DestinationSettings {
    /// The settings of its type. An error means that the type's struct and `config::known` disagree.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        parse(&self.table).map_err(|error| error.at(format!("destination {}", self.name)))
    }
}

fn parse<T: DeserializeOwned>(table: &toml::Table) -> Result<T> {
    // Deserialising could quote a value in its error, and the value could be a secret: only the keys are named.
    toml::Value::Table(table.clone()).try_into().map_err(|_| {
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        Error::new(Kind::Bug, format!("failed to read the settings {}", keys.join(", ")))
            .advise("report this with groupcast.toml's key names, without its values")
    })
}

/// How a destination is spoken to, whatever its type.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Delivery {
    /// Requests in flight at once.
    pub concurrency: usize,
    /// Most requests per second, repeats included; none means no limit of our own.
    pub requests_per_second: Option<f64>,
    /// How long one request may take.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// How long a request is retried in all.
    #[serde(deserialize_with = "duration")]
    pub retry_for: Duration,
    /// How often a request is tried in all.
    pub attempts_max: u32,
}

impl Default for Delivery {
    fn default() -> Delivery {
        Delivery {
            concurrency: 4,
            requests_per_second: None,
            timeout: Duration::from_secs(30),
            retry_for: Duration::from_secs(600),
            attempts_max: 8,
        }
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    crate::mapping::units::duration(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// `[defaults.policy]` and `[defaults.guards]`: what a mapping's own sections start from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Defaults {
    /// The policy.
    pub policy: Policy,
    /// The guards.
    pub guards: Guards,
}

/// `[daemon]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Daemon {
    /// Address and port of the HTTP API.
    pub listen: Option<String>,
    /// The bearer token its callers must show.
    pub token: Option<crate::secret::Secret>,
    /// The zone of schedules that name none.
    pub timezone: Option<String>,
}

/// A problem with an environment variable rather than a file.
fn about_variable(name: &str, path: &str, message: String) -> Diagnostic {
    let at = crate::mapping::At { span: 0..0, path: path.to_owned() };
    Diagnostic::error(&format!("environment variable {name}"), &at, message)
}

#[cfg(test)]
mod tests {
    use super::load;
    use crate::destination::{amplitude, file};
    use crate::source::{duckdb, postgres};

    /// `known` lists the keys of each type for messages with a place; the types' own structs read them. Every key at
    /// once must pass both.
    #[test]
    fn the_known_keys_are_the_ones_the_types_read() {
        let folder = tempfile::tempdir().unwrap();
        let settings = r#"
            [sources.files]
            type = "duckdb"
            path = "warehouse.duckdb"
            [sources.warehouse]
            type = "postgres"
            url = "postgres://reader@localhost/warehouse"
            password = "${PASSWORD}"
            sslmode = "verify-full"
            ca_file = "ca.pem"
            read = "cursor"
            connect_timeout_seconds = 5
            statement_timeout_seconds = 60
            [destinations.amplitude]
            type = "amplitude"
            api_key = "${KEY}"
            api = "http_v2"
            gzip = true
            region = "eu"
            base_url = "http://127.0.0.1:1"
            long_strings = "truncate"
            concurrency = 2
            requests_per_second = 1.5
            timeout = "5s"
            retry_for = "1m"
            attempts_max = 3
            [destinations.changes]
            type = "file"
            path = "-"
        "#;
        std::fs::write(folder.path().join("groupcast.toml"), settings).unwrap();
        let environment =
            [("PASSWORD", "swordfish"), ("KEY", "a-key")].map(|(name, value)| (name.into(), value.into()));
        let project = load(folder.path(), environment).unwrap();
        let settings = project.settings;
        settings.sources["files"].parse::<duckdb::Settings>().unwrap();
        settings.sources["warehouse"].parse::<postgres::Settings>().unwrap();
        settings.destinations["amplitude"].parse::<amplitude::Settings>().unwrap();
        settings.destinations["changes"].parse::<file::Settings>().unwrap();
    }
}
