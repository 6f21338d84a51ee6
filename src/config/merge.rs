//! Merging the layers (defaults, `groupcast.toml`, the environment) into one [`Settings`], by the `config` crate.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use config::{Config, Map, Source, Value, ValueKind};
use serde::Deserialize;

use super::location::{Location, TargetName};
use super::schema::DELIVERY;
use super::settings::{
    Daemon, Defaults, Delivery, DestinationSettings, Settings, SourceSettings, State, StateDatabase,
};
use crate::mapping::diagnostic::Diagnostic;
use crate::mapping::{At, Compare, units};
use crate::model::setting::SettingValues;
use crate::secret::Secret;
use crate::source::extensions::Extensions;
use crate::source::postgres::{PostgresSettings, Read, SslMode};

/// One layer for the `config` crate. Holds secrets.
#[derive(Clone)]
pub(super) struct Layer(Map<String, Value>);

impl fmt::Debug for Layer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Layer")
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layer {
    pub(super) fn new() -> Layer {
        Layer(Map::new())
    }

    /// Sets the value at this path.
    pub(super) fn set(&mut self, path: &[String], kind: ValueKind) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut map = &mut self.0;
        for parent in parents {
            let child = map.entry(parent.clone()).or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
            if !matches!(child.kind, ValueKind::Table(_)) {
                child.kind = ValueKind::Table(Map::new());
            }
            let ValueKind::Table(table) = &mut child.kind else { return };
            map = table;
        }
        map.insert(last.clone(), Value::new(None, kind));
    }
}

/// What the merged layers deserialise into.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    state: WrittenState,
    #[serde(default)]
    sources: BTreeMap<String, toml::Table>,
    #[serde(default)]
    destinations: BTreeMap<String, toml::Table>,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    daemon: Daemon,
    #[serde(default)]
    dbt: WrittenDbt,
    #[serde(default)]
    duckdb: Extensions,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDbt {
    target_folder: Option<std::path::PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenState {
    path: std::path::PathBuf,
    memory: Option<String>,
    threads: Option<usize>,
    temp_folder: Option<std::path::PathBuf>,
    #[serde(deserialize_with = "super::settings::duration")]
    journal_retention: Duration,
    #[serde(deserialize_with = "super::settings::duration")]
    runs_retention: Duration,
    #[serde(deserialize_with = "super::settings::duration")]
    requests_retention: Duration,
    url: Option<Secret>,
    password: Option<Secret>,
    sslmode: Option<SslMode>,
    ca_file: Option<std::path::PathBuf>,
    cert_file: Option<std::path::PathBuf>,
    key_file: Option<std::path::PathBuf>,
    connect_timeout_seconds: Option<u64>,
    schema: Option<String>,
    #[serde(deserialize_with = "super::settings::duration")]
    lease: Duration,
}

impl WrittenState {
    /// The database that the ledger is in, if it is in one.
    fn database(&self, target: Option<&TargetName>) -> Option<StateDatabase> {
        let server = PostgresSettings {
            url: self.url.clone()?,
            password: self.password.clone(),
            sslmode: self.sslmode,
            ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
            read: Read::default(),
            statement_timeout_seconds: None,
            connect_timeout_seconds: self.connect_timeout_seconds,
            stall_timeout_seconds: None,
            compare: Compare::Local,
            mirror_schema: None,
        };
        // What is synced to one target's destinations says nothing about another's.
        let of_target = || target.map_or_else(|| "groupcast".to_owned(), |target| format!("groupcast_{target}"));
        Some(StateDatabase { server, schema: self.schema.clone().unwrap_or_else(of_target), lease: self.lease })
    }
}

/// Defaults, then the file, then the environment.
pub(super) fn merge(
    file_layer: Layer,
    overrides: Layer,
    location: &Location,
    found: &mut Vec<Diagnostic>,
) -> Option<Settings> {
    let ledger = location.ledger_path().to_string_lossy().into_owned();
    let merged = Config::builder()
        .set_default("state.path", ledger)
        .and_then(|builder| builder.set_default("state.journal_retention", "90d"))
        .and_then(|builder| builder.set_default("state.runs_retention", "180d"))
        .and_then(|builder| builder.set_default("state.requests_retention", "30d"))
        .and_then(|builder| builder.set_default("state.lease", "30s"))
        .and_then(|builder| builder.add_source(file_layer).add_source(overrides).build())
        .and_then(Config::try_deserialize::<Written>);
    let settings = merged.map_err(|_| ()).and_then(|written| settings(written, location).ok_or(()));
    if settings.is_err() {
        // Every value was checked on its way in, so this is ours; the error's text could quote a secret.
        let at = At::default();
        found.push(
            Diagnostic::error(&location.settings_file(), &at, "the settings cannot be put together")
                .help("report this as a bug"),
        );
    }
    settings.ok()
}

fn settings(written: Written, location: &Location) -> Option<Settings> {
    let folder = location.folder.as_path();
    let database = written.state.database(location.target.as_ref());
    let path = match &database {
        // The file that represents the database must not be taken for a ledger.
        Some(_) if written.state.path == location.ledger_path() => written.state.path.with_extension("postgres"),
        _ => written.state.path,
    };
    let state = State {
        path,
        database,
        memory_bytes: match written.state.memory {
            Some(size) => Some(units::bytes(&size).ok()?),
            None => None,
        },
        threads: written.state.threads,
        temp_folder: written.state.temp_folder,
        journal_retention: written.state.journal_retention,
        runs_retention: written.state.runs_retention,
        requests_retention: written.state.requests_retention,
    };
    let mut sources = BTreeMap::new();
    for (name, mut table) in written.sources {
        let kind = take_type(&mut table)?;
        sources.insert(name.clone(), SourceSettings { name, kind, values: SettingValues::new(table) });
    }
    let mut destinations = BTreeMap::new();
    for (name, mut table) in written.destinations {
        let kind = take_type(&mut table)?;
        let mut generic = toml::Table::new();
        for key in DELIVERY {
            if let Some((key, value)) = table.remove_entry(key.name) {
                generic.insert(key, value);
            }
        }
        let delivery: Delivery = toml::Value::Table(generic).try_into().ok()?;
        destinations
            .insert(name.clone(), DestinationSettings { name, kind, delivery, values: SettingValues::new(table) });
    }
    Some(Settings {
        folder: folder.to_owned(),
        target: location.target.clone(),
        state,
        sources,
        destinations,
        defaults: written.defaults,
        daemon: written.daemon,
        duckdb: Extensions { extensions: extension_paths(written.duckdb.extensions, folder), ..written.duckdb },
        dbt_target: written.dbt.target_folder.unwrap_or_else(|| folder.join(crate::source::dbt::TARGET_FOLDER)),
    })
}

/// Names as they are, and paths from the config folder.
fn extension_paths(extensions: Vec<String>, folder: &Path) -> Vec<String> {
    let full = |name: String| if name.contains('/') { folder.join(name).to_string_lossy().into_owned() } else { name };
    extensions.into_iter().map(full).collect()
}

fn take_type(table: &mut toml::Table) -> Option<String> {
    match table.remove("type") {
        Some(toml::Value::String(kind)) => Some(kind),
        _ => None,
    }
}
