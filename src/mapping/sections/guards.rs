//! `[guards]`: when a run stops itself before sending. The same section is in `[defaults]` of `groupcast.toml`.

use std::time::Duration;

use serde::Deserialize as _;

use crate::mapping::reader::{Report, Section};
use crate::mapping::units;
use crate::model::setting::{Setting, SettingType};

/// The settings of the section, and of `[defaults.guards]`.
pub const SETTINGS: &[Setting] = &[
    Setting::optional("empty", SettingType::Boolean),
    Setting::optional("rows_dropped_max", SettingType::Share),
    Setting::optional("keys_changed_max", SettingType::Share),
    Setting::optional("changed_max", SettingType::Share),
    Setting::optional("removed_max", SettingType::Share),
    Setting::optional("nulled_max", SettingType::Share),
    Setting::optional("unsendable_max", SettingType::Share),
    Setting::optional("groups_min", SettingType::Integer(0, i64::MAX)),
    Setting::optional("dbt", SettingType::Boolean),
    Setting::optional("dbt_age_max", SettingType::Duration(60)),
];

/// Thresholds that stop a run before the first byte. A share is of the groups known or read, from 0 to 1.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// Stop when the model yields no row at all although groups are known.
    pub empty: bool,
    /// Largest share of rows fewer than at the last run.
    pub rows_dropped_max: f64,
    /// Largest share of known groups that change.
    pub changed_max: f64,
    /// Largest share of known groups that may be gone while about as many new ones came: a key that is spelled otherwise.
    pub keys_changed_max: f64,
    /// Largest share of known groups that are unset or deleted because they left the model.
    pub removed_max: f64,
    /// Largest share of known groups for which one trait turns null.
    pub nulled_max: f64,
    /// Largest share of rows whose values cannot become what the mapping declares.
    pub unsendable_max: f64,
    /// Stop when dbt's last command did not build the model, or a test of it failed.
    pub dbt: bool,
    /// Stop when that was longer ago.
    #[serde(deserialize_with = "duration")]
    pub dbt_age_max: Option<Duration>,
    /// The share guards stay quiet while fewer groups than this are concerned: small numbers swing.
    pub groups_min: u64,
}

impl Default for Guards {
    fn default() -> Guards {
        Guards {
            empty: true,
            rows_dropped_max: 0.3,
            keys_changed_max: 0.5,
            changed_max: 0.5,
            removed_max: 0.1,
            nulled_max: 0.2,
            unsendable_max: 0.5,
            dbt: false,
            dbt_age_max: None,
            groups_min: 20,
        }
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    units::duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Reads the section; what it doesn't set stays as in `base`.
pub(crate) fn read(section: &Section<'_>, base: &Guards, report: &mut Report<'_>) -> Guards {
    section.expect_settings(SETTINGS, report);
    let empty = section.get("empty").and_then(|entry| entry.flag(report)).unwrap_or(base.empty);
    let dbt = section.get("dbt").and_then(|entry| entry.flag(report)).unwrap_or(base.dbt);
    let dbt_age_max = section.get("dbt_age_max").and_then(|entry| entry.duration(report)).or(base.dbt_age_max);
    let mut share = |key: &str, base: f64| section.get(key).and_then(|entry| entry.share(report)).unwrap_or(base);
    let rows_dropped_max = share("rows_dropped_max", base.rows_dropped_max);
    let keys_changed_max = share("keys_changed_max", base.keys_changed_max);
    let changed_max = share("changed_max", base.changed_max);
    let removed_max = share("removed_max", base.removed_max);
    let nulled_max = share("nulled_max", base.nulled_max);
    let unsendable_max = share("unsendable_max", base.unsendable_max);
    let groups_min = section
        .get("groups_min")
        .and_then(|entry| entry.count(0..=i64::MAX, report))
        .map_or(base.groups_min, i64::unsigned_abs);
    Guards {
        empty,
        rows_dropped_max,
        keys_changed_max,
        changed_max,
        removed_max,
        nulled_max,
        unsendable_max,
        dbt,
        dbt_age_max,
        groups_min,
    }
}
