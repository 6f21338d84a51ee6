//! The settings of a destination of type `amplitude`.

use super::CHARS_MAX;
use crate::destination::shared::settings::LongStrings;
use crate::destination::shared::settings::base_url;
use crate::error::{Error, Kind, Result};
use crate::model::setting::{Setting, SettingType};
use crate::secret::Secret;
use serde::Deserialize;

/// Its settings in `groupcast.toml`, besides `type` and those of delivery.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::required("api_key", SettingType::Secret),
    Setting::optional("api", SettingType::OneOf(&["groupidentify", "http_v2"])),
    Setting::optional("region", SettingType::OneOf(&["us", "eu"])),
    Setting::optional("base_url", SettingType::Url),
    Setting::optional("long_strings", SettingType::OneOf(&["reject", "truncate"])),
    Setting::optional("gzip", SettingType::Boolean),
    Setting::optional("batch_max", SettingType::Integer(1, 2_000)),
];

/// Which API takes the properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AmplitudeApi {
    /// `POST /groupidentify`.
    #[default]
    #[serde(rename = "groupidentify")]
    GroupIdentify,
    /// `POST /2/httpapi`: recognises retries, and says which groups it rejects.
    HttpV2,
}

/// Which of Amplitude's two data centres holds the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AmplitudeRegion {
    /// `api2.amplitude.com`.
    #[default]
    Us,
    /// `api.eu.amplitude.com`.
    Eu,
}

/// The `[destinations.<name>]` table of `type = "amplitude"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AmplitudeSettings {
    /// The project's API key.
    pub api_key: Secret,
    /// Which API takes the properties.
    #[serde(default)]
    pub api: AmplitudeApi,
    /// The project's region; US when absent.
    #[serde(default)]
    pub region: Option<AmplitudeRegion>,
    /// Replaces the region's address, for proxies and tests: `http://127.0.0.1:8321`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// What happens to long strings.
    #[serde(default)]
    pub long_strings: LongStrings,
    /// Whether bodies travel compressed; [`AmplitudeApi::HttpV2`] only.
    #[serde(default)]
    pub gzip: bool,
    /// Groups in a request; the API's own limit when absent.
    #[serde(default)]
    pub batch_max: Option<usize>,
}

impl AmplitudeSettings {
    /// Settings with nothing but a key.
    pub fn new(api_key: Secret) -> AmplitudeSettings {
        AmplitudeSettings {
            api_key,
            api: AmplitudeApi::default(),
            region: None,
            base_url: None,
            long_strings: LongStrings::Reject,
            gzip: false,
            batch_max: None,
        }
    }

    /// The address before the API's path, once key and group type were found to be usable.
    pub(super) fn base(&self, group_type: &str) -> Result<String> {
        if self.api_key.expose().trim().is_empty() {
            return Err(
                Error::new(Kind::Config, "`api_key` is empty").advise("set it to the Amplitude project's API key")
            );
        }
        if group_type.is_empty() || group_type.chars().count() > CHARS_MAX {
            return Err(Error::new(Kind::Config, "the group type must have 1 to 1,024 characters")
                .advise("set `type` under `[group]` to the group type's name in Amplitude"));
        }
        match (&self.base_url, self.region.unwrap_or_default()) {
            (Some(base), _) => base_url(base),
            (None, AmplitudeRegion::Us) => Ok("https://api2.amplitude.com".to_owned()),
            (None, AmplitudeRegion::Eu) => Ok("https://api.eu.amplitude.com".to_owned()),
        }
    }
}
