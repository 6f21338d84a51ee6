//! Which sources, destinations and mappings does this folder describe?
//!
//! A folder holds `groupcast.toml` and one file per mapping in `mappings/`. [`load::load`] reads all of it and reports
//! all problems at once. Settings come in layers: defaults, then `groupcast.toml`, then environment variables
//! (`GROUPCAST__SOURCES__WAREHOUSE__URL`). Each file is read alone first, so that a problem has a line; then the layers
//! are merged by the `config` crate and deserialised.

pub mod diagnostic;
pub mod files;
#[cfg(test)]
mod golden;
mod layers;
pub mod load;
mod merge;
mod oddity;
mod schema;
mod secrets;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::duckdb;
use crate::error::Result;
use crate::mapping::diagnostic::Diagnostic;
use crate::mapping::{Guards, MappingFile, Policy};
use crate::model::setting::SettingValues;
use crate::time_zone::Zone;

pub use diagnostic::Diagnostics;
pub use load::load;

/// A config folder: settings and mappings.
#[derive(Debug, Clone)]
pub struct Project {
    /// What `groupcast.toml` and the environment say.
    pub settings: Settings,
    /// The mappings, by name, without those that have mistakes.
    pub mappings: Vec<MappingFile>,
    /// The mappings that have mistakes: a sync each that cannot run, beside those that can.
    pub broken: Vec<BrokenMapping>,
    /// What a person should look at: warnings, and the mistakes of these mappings.
    pub problems: Diagnostics,
}

/// A mapping that has mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenMapping {
    /// The name of its sync.
    pub name: String,
    /// Its file, as it is called in messages.
    pub file: String,
}

impl Project {
    /// Takes in problems; mappings with a mistake among them are broken from then on.
    pub fn take_in(&mut self, found: Diagnostics) {
        let files = found.files_with_errors();
        let (broken, sound) = std::mem::take(&mut self.mappings)
            .into_iter()
            .partition(|file: &MappingFile| files.contains(file.mapping.file.as_str()));
        self.mappings = sound;
        let name = |file: MappingFile| BrokenMapping { name: file.mapping.name, file: file.mapping.file };
        self.broken.extend(Vec::into_iter(broken).map(name));
        self.broken.sort_by(|left, right| left.name.cmp(&right.name));
        self.problems.append(found);
    }

    /// The mistakes of a mapping of this name, if it has any.
    pub fn mistakes(&self, name: &str) -> Option<Diagnostics> {
        let broken = self.broken.iter().find(|broken| broken.name == name)?;
        Some(self.problems.of_file(&broken.file))
    }
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
}

impl State {
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

/// `[sources.NAME]`. The keys of its type are kept as they are, checked, until [`SourceSettings::parse`].
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
    values: SettingValues,
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

/// `[daemon.alerts]`: who is told when a sync changes for the worse or the better.
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

/// A problem with an environment variable rather than a file.
fn about_variable(name: &str, path: &str, message: String) -> Diagnostic {
    let at = crate::mapping::At { span: 0..0, path: path.to_owned() };
    Diagnostic::error(&format!("environment variable {name}"), &at, message)
}

#[cfg(test)]
mod tests {
    use super::{load, schema};
    use crate::destination::{amplitude, file, journy, mixpanel, posthog, segment, thrivestack, webhook};
    use crate::model::setting::SettingType;
    use crate::source::{duckdb, postgres};

    #[test]
    fn the_known_presets_are_the_ones_segment_has() {
        let segment = schema::DESTINATIONS.iter().find(|kind| kind.name == "segment").unwrap();
        let preset = segment.settings.iter().find(|key| key.name == "preset").unwrap();
        let SettingType::OneOf(words) = preset.of else { panic!("a preset is a word") };
        assert_eq!(words, segment::preset_names());
    }

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
            batch_max = 10
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
            [destinations.journy]
            type = "journy"
            api_key = "${KEY}"
            base_url = "http://127.0.0.1:1"
            [destinations.mixpanel]
            type = "mixpanel"
            token = "${KEY}"
            region = "in"
            base_url = "http://127.0.0.1:1"
            long_strings = "truncate"
            [destinations.hook]
            type = "webhook"
            url = "http://127.0.0.1:1/hook"
            secret_path = "/${KEY}"
            method = "PUT"
            headers = { X-Team = "data" }
            auth_header = "Authorization: Bearer ${KEY}"
            body = "single"
            batch_max = 10
            bytes_max = 100_000
            success = "200, 202"
            success_pointer = "/ok"
            success_equals = "true"
            signing_secret = "${LONG_KEY}"
            signature_header = "x-signature"
            timestamp_header = "x-timestamp"
            dedup = true
            [destinations.segment]
            type = "segment"
            preset = "custom"
            write_key = "${KEY}"
            base_url = "http://127.0.0.1:1"
            wire = "single"
            batch_path = "/v1/batch"
            group_path = "/v1/group"
            auth = "header"
            auth_header = "X-Key"
            key_in_body = true
            event_bytes_max = 32768
            batch_bytes_max = 500000
            batch_count_max = 100
            success_status = 202
            gzip = true
            message_id = false
            user = "optional"
            whole_batch_fails = true
            headers = { "X-Strict.Mode" = "${KEY}" }
            context = { app = { name = "dwh", version = 1.5, since = 2026-01-02 }, tags = ["a", 2, true] }
            integrations = { All = false, "Customer.io Actions" = true }
            downstream = "hubspot, customerio"
            [destinations.thrive]
            type = "thrivestack"
            api_key = "${KEY}"
            base_url = "http://127.0.0.1:1"
            wire = "single"
            legacy_fields = false
            context = { source = "warehouse" }
            [destinations.posthog]
            type = "posthog"
            api_key = "${KEY}"
            personal_api_key = "${KEY}"
            project_id = "12345"
            capture = "auto"
            region = "us"
            base_url = "http://127.0.0.1:1"
            app_url = "http://127.0.0.1:1"
            write_via = "rest"
            gzip = false
        "#;
        std::fs::write(folder.path().join("groupcast.toml"), settings).unwrap();
        let environment = [("PASSWORD", "swordfish"), ("KEY", "a-key"), ("LONG_KEY", "a-key-of-some-length")]
            .map(|(name, value)| (name.into(), value.into()));
        let project = load(folder.path(), environment).unwrap();
        let settings = project.settings;
        settings.sources["files"].values.parse::<duckdb::Settings>().unwrap();
        settings.sources["warehouse"].values.parse::<postgres::Settings>().unwrap();
        settings.destinations["amplitude"].parse::<amplitude::Settings>().unwrap();
        settings.destinations["changes"].parse::<file::Settings>().unwrap();
        settings.destinations["journy"].parse::<journy::Settings>().unwrap();
        settings.destinations["mixpanel"].parse::<mixpanel::Settings>().unwrap();
        let hook = settings.destinations["hook"].parse::<webhook::Settings>().unwrap();
        webhook::Webhook::new(&hook, "company").unwrap();
        settings.destinations["thrive"].parse::<thrivestack::Settings>().unwrap();
        let segment = settings.destinations["segment"].parse::<segment::Settings>().unwrap();
        let json = |table: Option<toml::Table>| serde_json::to_value(table.unwrap()).unwrap();
        assert_eq!(json(segment.headers), serde_json::json!({"X-Strict.Mode": "a-key"}), "names keep case and dots");
        assert_eq!(json(segment.integrations), serde_json::json!({"All": false, "Customer.io Actions": true}));
        let context = serde_json::json!({
            "app": {"name": "dwh", "version": 1.5, "since": "2026-01-02"}, "tags": ["a", 2, true]
        });
        assert_eq!(json(segment.context), context);
        settings.destinations["posthog"].parse::<posthog::Settings>().unwrap();
    }
}
