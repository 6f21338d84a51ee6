//! The settings of a destination of type `posthog`.

use crate::model::setting::{Setting, SettingType};
use crate::secret::Secret;
use serde::Deserialize;

/// Its settings in `groupcast.toml`, besides `type` and those of delivery.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::required("api_key", SettingType::Secret),
    Setting::optional("personal_api_key", SettingType::Secret),
    Setting::optional("project_id", SettingType::Text),
    Setting::optional("region", SettingType::OneOf(&["us", "eu"])),
    Setting::optional("base_url", SettingType::Url),
    Setting::optional("app_url", SettingType::Url),
    Setting::optional("write_via", SettingType::OneOf(&["capture", "rest"])),
    Setting::optional("capture", SettingType::OneOf(&["v0", "v1", "auto"])),
    Setting::optional("gzip", SettingType::Boolean),
];

/// Which of PostHog's two clouds holds the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PostHogRegion {
    /// `us.i.posthog.com` and `us.posthog.com`.
    #[default]
    Us,
    /// `eu.i.posthog.com` and `eu.posthog.com`.
    Eu,
}

/// How traits are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteVia {
    /// By events, as PostHog recommends.
    #[default]
    Capture,
    /// By REST calls, one or more per group.
    Rest,
}

/// By which protocol events travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureProtocol {
    /// `/batch/`, as PostHog's libraries do by default.
    #[default]
    V0,
    /// `/i/v1/analytics/events`, which has a result for each event; a server without it is an error.
    V1,
    /// The latter where the server has it.
    Auto,
}

/// The `[destinations.<name>]` table of `type = "posthog"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostHogSettings {
    /// The project API key (`phc_…`).
    pub api_key: Secret,
    /// A personal API key (`phx_…`) with the scopes `group:read`, `group:write` and `activity_log:read`.
    #[serde(default)]
    pub personal_api_key: Option<Secret>,
    /// The project's id, as in its address in PostHog.
    #[serde(default)]
    pub project_id: Option<String>,
    /// The project's region; US when absent.
    #[serde(default)]
    pub region: Option<PostHogRegion>,
    /// Replaces the region's address for events: a self-hosted PostHog, a proxy.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Replaces the region's address for the REST API.
    #[serde(default)]
    pub app_url: Option<String>,
    /// How traits are set.
    #[serde(default)]
    pub write_via: WriteVia,
    /// Whether events travel compressed; yes when absent.
    #[serde(default)]
    pub gzip: Option<bool>,
    /// By which protocol events travel.
    #[serde(default)]
    pub capture: CaptureProtocol,
}
