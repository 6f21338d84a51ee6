//! Settings: what `groupcast.toml` and the environment say.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::location::{Location, TargetName};
use crate::duckdb;
use crate::error::Result;
use crate::mapping::{Guards, Policy};
use crate::model::setting::SettingValues;
use crate::source::extensions::Extensions;
use crate::source::postgres::PostgresSettings;
use crate::time_zone::Zone;

/// What `groupcast.toml` and the environment say. Paths are resolved against `folder`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The config folder.
    pub folder: PathBuf,
    /// The target, unless the file is `groupcast.toml`.
    pub target: Option<TargetName>,
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
    /// What DuckDB loads to read with.
    pub duckdb: Extensions,
    /// Where dbt leaves its artifacts.
    pub dbt_target: PathBuf,
}

impl Settings {
    /// Where they were read.
    pub fn location(&self) -> Location {
        Location { folder: self.folder.clone(), target: self.target.clone() }
    }
}

/// Where in PostgreSQL the ledger is, if `[state]` has a `url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDatabase {
    /// The server.
    pub server: PostgresSettings,
    /// The schema.
    pub schema: String,
    /// How long a lease lasts that its process does not extend.
    pub lease: Duration,
}

/// `[state]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The ledger's file. With a database: the file that represents it on this machine, beside which the socket is.
    pub path: PathBuf,
    /// The ledger's database, if it is in one.
    pub database: Option<StateDatabase>,
    /// Memory DuckDB may use, in bytes: half for the ledger, half for reading.
    pub memory_bytes: Option<u64>,
    /// Threads DuckDB may use.
    pub threads: Option<usize>,
    /// Where DuckDB spills to.
    pub temp_folder: Option<PathBuf>,
    /// How long the history of what was sent is kept.
    pub journal_retention: Duration,
    /// How long the records of runs are kept.
    pub runs_retention: Duration,
    /// How long the last requests of groups that were not delivered are kept.
    pub requests_retention: Duration,
}

impl State {
    /// Where the ledger is, for people.
    pub fn place(&self) -> String {
        match &self.database {
            Some(database) => format!("PostgreSQL at {}, schema {}", database.server.shown(), database.schema),
            None => self.path.display().to_string(),
        }
    }

    /// The limits of the ledger's DuckDB: half of the memory, since reading gets the other half.
    pub fn limits(&self) -> duckdb::Limits {
        let both = self.shared_limits();
        duckdb::Limits { memory_bytes: both.memory_bytes / 2, ..both }
    }

    /// The limits of the DuckDB instances in which input is read: half of the memory for all of them.
    pub fn input_limits(&self) -> duckdb::Limits {
        self.limits()
    }

    fn shared_limits(&self) -> duckdb::Limits {
        let standard = duckdb::Limits::standard();
        duckdb::Limits {
            memory_bytes: self.memory_bytes.unwrap_or(standard.memory_bytes),
            threads: self.threads.unwrap_or(standard.threads),
            temp_folder: self.temp_folder.clone().unwrap_or(standard.temp_folder),
        }
    }
}

/// `[sources.NAME]`. The keys of its type are kept as they are, checked, until it is opened.
#[derive(Clone, PartialEq)]
pub struct SourceSettings {
    /// Its name.
    pub name: String,
    /// Its type: `duckdb`, `postgres`.
    pub kind: String,
    /// Its own settings.
    pub values: SettingValues,
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
    /// Its own settings.
    pub values: SettingValues,
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

impl DestinationSettings {
    /// The settings of its type. An error means that the type's struct and its declared settings disagree.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        self.values.parse().map_err(|error| error.at(format!("destination {}", self.name)))
    }
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

pub(super) fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    crate::mapping::units::duration(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// `[defaults.policy]` and `[defaults.guards]`: what a mapping's own sections start from.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// The policy.
    pub policy: Policy,
    /// The guards.
    pub guards: Guards,
}

/// `[daemon]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Daemon {
    /// Address and port of the HTTP API.
    pub listen: String,
    /// The bearer token its callers must show.
    pub token: Option<crate::secret::Secret>,
    /// The zone of schedules that name none.
    pub timezone: Option<String>,
    /// Runs of different syncs at a time.
    pub parallel_runs: usize,
    /// How long runs may take to stop when the daemon is asked to.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
    /// How log lines are written: `human`, `json`.
    pub log: String,
    /// `[daemon.alerts]`.
    pub alerts: Option<Alerts>,
}

/// `[daemon.alerts]`: who is notified when a sync changes for the worse or the better.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// Where messages are posted to. Its path is a secret at most vendors.
    pub url: Option<crate::secret::Secret>,
    /// The body: `slack` (an object with `text`) or `json`.
    pub format: String,
    /// Tell when a run leaves more rejected groups than this.
    pub rejected_above: u64,
    /// Tell when a scheduled run is so much overdue.
    #[serde(deserialize_with = "duration")]
    pub late_after: Duration,
}

impl Default for Alerts {
    fn default() -> Alerts {
        Alerts { url: None, format: "slack".to_owned(), rejected_above: 0, late_after: Duration::from_secs(3_600) }
    }
}

impl Default for Daemon {
    fn default() -> Daemon {
        Daemon {
            listen: "127.0.0.1:4780".to_owned(),
            token: None,
            timezone: None,
            parallel_runs: 4,
            drain: Duration::from_secs(30),
            log: "human".to_owned(),
            alerts: None,
        }
    }
}

impl Daemon {
    /// The zone of schedules that name none: UTC when the config names none either.
    pub fn zone(&self) -> Zone {
        self.timezone.as_deref().and_then(Zone::named).unwrap_or_else(Zone::utc)
    }
}
