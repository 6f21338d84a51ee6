//! The settings of a destination of type `journy`.

use crate::model::setting::{Setting, SettingType};
use crate::secret::Secret;
use serde::Deserialize;

/// Its settings in `groupcast.toml`, besides `type` and those of delivery.
pub(super) const SETTINGS: &[Setting] =
    &[Setting::required("api_key", SettingType::Secret), Setting::optional("base_url", SettingType::Url)];

/// The `[destinations.<name>]` table of `type = "journy"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournySettings {
    /// An API key with the permission `TrackData`.
    pub api_key: Secret,
    /// Replaces `https://api.journy.io`, for proxies and tests.
    #[serde(default)]
    pub base_url: Option<String>,
}
