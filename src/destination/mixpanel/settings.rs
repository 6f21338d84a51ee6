//! The settings of a destination of type `mixpanel`.

use crate::destination::shared::settings::LongStrings;
use crate::model::setting::{Setting, SettingType};
use crate::secret::Secret;
use serde::Deserialize;

/// Its settings in `groupcast.toml`, besides `type` and those of delivery.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::required("token", SettingType::Secret),
    Setting::optional("region", SettingType::OneOf(&["us", "eu", "in"])),
    Setting::optional("base_url", SettingType::Url),
    Setting::optional("long_strings", SettingType::OneOf(&["reject", "truncate"])),
];

/// Where the project's data lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MixpanelRegion {
    /// `api.mixpanel.com`.
    #[default]
    Us,
    /// `api-eu.mixpanel.com`.
    Eu,
    /// `api-in.mixpanel.com`.
    In,
}

/// The `[destinations.<name>]` table of `type = "mixpanel"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixpanelSettings {
    /// The project's token.
    pub token: Secret,
    /// The project's region; US when absent.
    #[serde(default)]
    pub region: Option<MixpanelRegion>,
    /// Replaces the region's address, for proxies and tests.
    #[serde(default)]
    pub base_url: Option<String>,
    /// What happens to long strings.
    #[serde(default)]
    pub long_strings: LongStrings,
}
