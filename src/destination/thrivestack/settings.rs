//! The settings of a destination of type `thrivestack`.

use crate::model::setting::{Setting, SettingType};
use crate::secret::Secret;
use serde::Deserialize;

/// Its settings in `groupcast.toml`, besides `type` and those of delivery.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::required("api_key", SettingType::Secret),
    Setting::optional("base_url", SettingType::Url),
    Setting::optional("wire", SettingType::OneOf(&["array", "single"])),
    Setting::optional("legacy_fields", SettingType::Boolean),
    Setting::optional("context", SettingType::Table),
];

/// How groups are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThriveStackWire {
    /// An array of groups: the API since 2025.
    #[default]
    Array,
    /// One object per request: the API's first documentation.
    Single,
}

pub(super) fn yes() -> bool {
    true
}

/// The `[destinations.<name>]` table of `type = "thrivestack"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThriveStackSettings {
    /// The environment's API key.
    pub api_key: Secret,
    /// Replaces ThriveStack's address.
    #[serde(default)]
    pub base_url: Option<String>,
    /// How groups are written.
    #[serde(default)]
    pub wire: ThriveStackWire,
    /// Whether `context.group_id` and `traits.group_type` are sent.
    #[serde(default = "yes")]
    pub legacy_fields: bool,
    /// What else is in every group's `context`: `source`, `device_id`, `session_id`.
    #[serde(default)]
    pub context: Option<toml::Table>,
}
