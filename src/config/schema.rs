//! The schema of `groupcast.toml`: which settings each section has. Those of a source's or
//! destination's type are in its own folder.

use crate::destination::registry::DESTINATION_TYPES;
use crate::mapping::sections::{guards, policy};
use crate::model::setting::{Setting, SettingType};
use crate::source::postgres::SSL_MODES;
use crate::source::registry::SOURCE_TYPES;

/// A type of source or destination with the settings that are its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SettingsType {
    pub(crate) name: &'static str,
    pub(crate) settings: &'static [Setting],
}

/// The types `[sources.NAME]` may have.
pub(crate) fn sources() -> Vec<SettingsType> {
    SOURCE_TYPES.iter().map(|of| SettingsType { name: of.name(), settings: of.settings() }).collect()
}

/// The types `[destinations.NAME]` may have.
pub(crate) fn destinations() -> Vec<SettingsType> {
    DESTINATION_TYPES.iter().map(|of| SettingsType { name: of.name(), settings: of.settings() }).collect()
}

/// What every destination may say about how it is spoken to. A hundred requests at once or a thousand attempts are a
/// slip of the finger, and would look like an attack to the vendor.
pub(crate) const DELIVERY: &[Setting] = &[
    Setting::optional("concurrency", SettingType::Integer(1, 100)),
    Setting::optional("requests_per_second", SettingType::Rate),
    Setting::optional("timeout", SettingType::Duration(1)),
    Setting::optional("retry_for", SettingType::Duration(0)),
    Setting::optional("attempts_max", SettingType::Integer(1, 1_000)),
];

/// The keys of the sections that are not named by a person, by dotted path.
pub(crate) const SECTIONS: &[(&str, &[Setting])] = &[
    (
        "state",
        &[
            Setting::optional("path", SettingType::Path),
            // Below this DuckDB fails where it should spill.
            Setting::optional("memory", SettingType::Size(64_000_000)),
            Setting::optional("threads", SettingType::Integer(1, 1_024)),
            Setting::optional("temp_folder", SettingType::Path),
            Setting::optional("journal_retention", SettingType::Duration(0)),
            Setting::optional("runs_retention", SettingType::Duration(0)),
            Setting::optional("requests_retention", SettingType::Duration(0)),
            Setting::optional("url", SettingType::ConnectionString),
            Setting::optional("password", SettingType::Secret),
            Setting::optional("sslmode", SettingType::OneOf(SSL_MODES)),
            Setting::optional("ca_file", SettingType::Path),
            Setting::optional("cert_file", SettingType::Path),
            Setting::optional("key_file", SettingType::Path),
            Setting::optional("connect_timeout_seconds", SettingType::Integer(1, 3_600)),
            Setting::optional("schema", SettingType::Text),
            // A daemon looks for changes every two seconds.
            Setting::optional("lease", SettingType::Duration(4)),
        ],
    ),
    (
        "daemon",
        &[
            Setting::optional("listen", SettingType::Text),
            Setting::optional("token", SettingType::Secret),
            Setting::optional("timezone", SettingType::TimeZone),
            // Each run has a connection of its own and up to two pages of documents in memory.
            Setting::optional("parallel_runs", SettingType::Integer(1, 64)),
            Setting::optional("drain", SettingType::Duration(0)),
            Setting::optional("log", SettingType::OneOf(&["human", "json"])),
        ],
    ),
    (
        "daemon.alerts",
        &[
            Setting::optional("url", SettingType::SecretUrl),
            Setting::optional("format", SettingType::OneOf(&["slack", "json"])),
            Setting::optional("rejected_above", SettingType::Integer(0, i64::MAX)),
            Setting::optional("late_after", SettingType::Duration(60)),
        ],
    ),
    ("dbt", &[Setting::optional("target_folder", SettingType::Path)]),
    ("duckdb", crate::source::extensions::SETTINGS),
    ("defaults.policy", policy::SETTINGS),
    ("defaults.guards", guards::SETTINGS),
];
