//! The schema of `groupcast.toml`: which settings each section has. Those of a source's type are in its own folder.

use crate::mapping::sections::{guards, policy};
use crate::model::setting::{Setting, SettingType};
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
pub(crate) const DESTINATIONS: &[SettingsType] = &[
    SettingsType {
        name: "amplitude",
        settings: &[
            Setting::required("api_key", SettingType::Secret),
            Setting::optional("api", SettingType::OneOf(&["groupidentify", "http_v2"])),
            Setting::optional("region", SettingType::OneOf(&["us", "eu"])),
            Setting::optional("base_url", SettingType::Url),
            Setting::optional("long_strings", SettingType::OneOf(&["reject", "truncate"])),
            Setting::optional("gzip", SettingType::Boolean),
            Setting::optional("batch_max", SettingType::Integer(1, 2_000)),
        ],
    },
    SettingsType { name: "file", settings: &[Setting::optional("path", SettingType::PathOrDash)] },
    SettingsType {
        name: "journy",
        settings: &[Setting::required("api_key", SettingType::Secret), Setting::optional("base_url", SettingType::Url)],
    },
    SettingsType {
        name: "mixpanel",
        settings: &[
            Setting::required("token", SettingType::Secret),
            Setting::optional("region", SettingType::OneOf(&["us", "eu", "in"])),
            Setting::optional("base_url", SettingType::Url),
            Setting::optional("long_strings", SettingType::OneOf(&["reject", "truncate"])),
        ],
    },
    SettingsType {
        name: "webhook",
        settings: &[
            Setting::required("url", SettingType::Url),
            Setting::optional("secret_path", SettingType::Secret),
            Setting::optional("method", SettingType::OneOf(&["POST", "PUT", "PATCH"])),
            Setting::optional("headers", SettingType::Table),
            Setting::optional("auth_header", SettingType::Secret),
            Setting::optional("body", SettingType::OneOf(&["single", "batch"])),
            Setting::optional("batch_max", SettingType::Integer(1, 10_000)),
            // Below a thousand bytes hardly a change fits.
            Setting::optional("bytes_max", SettingType::Integer(1_000, 100_000_000)),
            Setting::optional("success", SettingType::Text),
            Setting::optional("success_pointer", SettingType::Text),
            Setting::optional("success_equals", SettingType::Text),
            Setting::optional("signing_secret", SettingType::Secret),
            Setting::optional("signature_header", SettingType::Text),
            Setting::optional("timestamp_header", SettingType::Text),
            Setting::optional("dedup", SettingType::Boolean),
        ],
    },
    SettingsType {
        name: "segment",
        settings: &[
            Setting::optional(
                "preset",
                SettingType::OneOf(&[
                    "segment",
                    "segment-eu",
                    "rudderstack",
                    "customerio",
                    "customerio-eu",
                    "dittofeed",
                    "journy",
                    "jitsu",
                    "hightouch",
                    "accoil",
                    "custom",
                ]),
            ),
            Setting::required("write_key", SettingType::Secret),
            Setting::optional("base_url", SettingType::Url),
            Setting::optional("wire", SettingType::OneOf(&["batch", "single"])),
            Setting::optional("batch_path", SettingType::Text),
            Setting::optional("group_path", SettingType::Text),
            Setting::optional("auth", SettingType::OneOf(&["basic", "basic_raw", "bearer", "header", "none"])),
            Setting::optional("auth_header", SettingType::Text),
            Setting::optional("key_in_body", SettingType::Boolean),
            // Below a kilobyte not even a message without traits is sure to fit.
            Setting::optional("event_bytes_max", SettingType::Integer(1_024, 100_000_000)),
            Setting::optional("batch_bytes_max", SettingType::Integer(1_024, 100_000_000)),
            Setting::optional("batch_count_max", SettingType::Integer(1, 100_000)),
            Setting::optional("success_status", SettingType::Integer(200, 299)),
            Setting::optional("gzip", SettingType::Boolean),
            Setting::optional("message_id", SettingType::Boolean),
            Setting::optional("user", SettingType::OneOf(&["required", "optional"])),
            Setting::optional("whole_batch_fails", SettingType::Boolean),
            Setting::optional("headers", SettingType::Table),
            Setting::optional("context", SettingType::Table),
            Setting::optional("integrations", SettingType::Table),
            Setting::optional("downstream", SettingType::Text),
        ],
    },
    SettingsType {
        name: "thrivestack",
        settings: &[
            Setting::required("api_key", SettingType::Secret),
            Setting::optional("base_url", SettingType::Url),
            Setting::optional("wire", SettingType::OneOf(&["array", "single"])),
            Setting::optional("legacy_fields", SettingType::Boolean),
            Setting::optional("context", SettingType::Table),
        ],
    },
    SettingsType {
        name: "posthog",
        settings: &[
            Setting::required("api_key", SettingType::Secret),
            Setting::optional("personal_api_key", SettingType::Secret),
            Setting::optional("project_id", SettingType::Text),
            Setting::optional("region", SettingType::OneOf(&["us", "eu"])),
            Setting::optional("base_url", SettingType::Url),
            Setting::optional("app_url", SettingType::Url),
            Setting::optional("write_via", SettingType::OneOf(&["capture", "rest"])),
            Setting::optional("capture", SettingType::OneOf(&["v0", "v1", "auto"])),
            Setting::optional("gzip", SettingType::Boolean),
        ],
    },
];

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
    ("defaults.policy", policy::SETTINGS),
    ("defaults.guards", guards::SETTINGS),
];
