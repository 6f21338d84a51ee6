//! The settings of a destination of type `journy`.

use crate::secret::Secret;
use serde::Deserialize;

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
