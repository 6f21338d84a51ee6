//! The settings of a destination of type `segment`, and the headers, key placement and context that follow from them.

use crate::model::setting::{Setting, SettingType};
use std::collections::BTreeSet;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::preset::Auth;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// Its settings in `groupcast.toml`, besides `type` and those of delivery.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::optional("preset", SettingType::OneOf(&super::preset::NAMES)),
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
];

/// Whether messages travel together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentWire {
    /// An array of messages per request.
    Batch,
    /// One message per request.
    Single,
}

/// How the key is shown to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPlacement {
    /// `Authorization: Basic` with the base64 of the key and a colon.
    Basic,
    /// `Authorization: Basic` with the key as it is.
    BasicRaw,
    /// `Authorization: Bearer` with the key.
    Bearer,
    /// `auth_header` with the key as it is.
    Header,
    /// No header; `key_in_body` then.
    None,
}

/// Whether messages must name a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserSetting {
    /// A mapping must have a `[user]`.
    Required,
    /// It may.
    Optional,
}

/// The `[destinations.<name>]` table of `type = "segment"`. What is absent is the preset's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentSettings {
    /// Which vendor; Segment (US) when absent.
    #[serde(default)]
    pub preset: Option<String>,
    /// The source's write key.
    pub write_key: Secret,
    /// The server's address, up to what its paths follow.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Whether messages travel together.
    #[serde(default)]
    pub wire: Option<SegmentWire>,
    /// The path of the endpoint that takes batches.
    #[serde(default)]
    pub batch_path: Option<String>,
    /// The path of the endpoint that takes one message.
    #[serde(default)]
    pub group_path: Option<String>,
    /// How the key is shown.
    #[serde(default)]
    pub auth: Option<KeyPlacement>,
    /// The header of `auth = "header"`.
    #[serde(default)]
    pub auth_header: Option<String>,
    /// Whether the key is in the body as `writeKey`.
    #[serde(default)]
    pub key_in_body: Option<bool>,
    /// Bytes of one message.
    #[serde(default)]
    pub event_bytes_max: Option<usize>,
    /// Bytes of a request.
    #[serde(default)]
    pub batch_bytes_max: Option<usize>,
    /// Messages in a request.
    #[serde(default)]
    pub batch_count_max: Option<usize>,
    /// The one status that means "taken".
    #[serde(default)]
    pub success_status: Option<u16>,
    /// Whether bodies travel compressed.
    #[serde(default)]
    pub gzip: Option<bool>,
    /// Whether messages carry a `messageId`.
    #[serde(default)]
    pub message_id: Option<bool>,
    /// Whether messages must name a user.
    #[serde(default)]
    pub user: Option<UserSetting>,
    /// Whether one bad message fails its batch.
    #[serde(default)]
    pub whole_batch_fails: Option<bool>,
    /// Further headers. They may hold secrets.
    #[serde(default)]
    pub headers: Option<toml::Table>,
    /// Every message's `context`, beside the library that we add.
    #[serde(default)]
    pub context: Option<toml::Table>,
    /// Every message's `integrations`.
    #[serde(default)]
    pub integrations: Option<toml::Table>,
    /// The tools behind the vendor, with commas between them (`none`: there are none), so that it can be checked what they
    /// need in every message.
    #[serde(default)]
    pub downstream: Option<String>,
}

/// How the key is shown, by the settings or else by the preset.
pub(super) fn auth(settings: &SegmentSettings, preset: Auth) -> Result<Auth> {
    let header = settings.auth_header.as_deref().map(header_name).transpose()?;
    Ok(match (settings.auth, header) {
        (None, None) => preset,
        (Some(KeyPlacement::Basic), None) => Auth::Basic,
        (Some(KeyPlacement::BasicRaw), None) => Auth::BasicRaw,
        (Some(KeyPlacement::Bearer), None) => Auth::Bearer,
        (Some(KeyPlacement::None), None) => Auth::None,
        (None | Some(KeyPlacement::Header), Some(name)) => Auth::Header(name),
        (Some(KeyPlacement::Header), None) => match preset {
            Auth::Header(name) => Auth::Header(name),
            _ => {
                return Err(Error::new(Kind::Config, "`auth = \"header\"` needs `auth_header`")
                    .advise("name it: `auth_header = \"X-Write-Key\"`"));
            }
        },
        (Some(_), Some(_)) => {
            return Err(Error::new(Kind::Config, "`auth_header` has no effect with this `auth`")
                .advise("set `auth = \"header\"`, or remove `auth_header`"));
        }
    })
}

/// A header's name in lower case, kept for as long as the program runs: requests name headers by static text.
fn header_name(name: &str) -> Result<&'static str> {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 256 || !name.bytes().all(sound) {
        return Err(Error::new(Kind::Config, "a header's name is not valid").advise("write it like `X-Strict-Mode`"));
    }
    let lower = name.to_ascii_lowercase();
    if ["content-type", "content-length", "content-encoding", "transfer-encoding", "host"].contains(&lower.as_str()) {
        return Err(Error::new(Kind::Config, format!("the header `{lower}` cannot be set")).advise("remove it"));
    }
    let mut names = NAMES.lock();
    if let Some(known) = names.get(lower.as_str()) {
        return Ok(known);
    }
    // One leak per distinct name in the configuration, however often destinations are made from it.
    let lasting: &'static str = lower.leak();
    names.insert(lasting);
    Ok(lasting)
}

/// Whether a text can is in a header.
pub(super) fn is_header_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

/// The configured headers, names in lower case.
pub(super) fn headers(configured: Option<&toml::Table>) -> Result<Vec<(&'static str, String)>> {
    let one = |(name, value): (&String, &toml::Value)| {
        let lasting = header_name(name)?;
        match value.as_str() {
            Some(text) if is_header_value(text) => Ok((lasting, text.to_owned())),
            _ => Err(Error::new(Kind::Config, format!("the header `{lasting}` has no text as its value"))
                .advise("write one line of plain characters in quotes")),
        }
    };
    configured.into_iter().flatten().map(one).collect()
}

/// A configured table as JSON.
pub(super) fn json(table: &toml::Table, key: &str) -> Result<Value> {
    serde_json::to_value(table).map_err(|_| {
        Error::new(Kind::Config, format!("`{key}` cannot be written as JSON")).advise("use text, numbers and tables")
    })
}

/// Every message's context: the library, and what the configuration adds or replaces.
pub(super) fn context(configured: Option<&toml::Table>) -> Result<Value> {
    let mut context = Map::new();
    let library = serde_json::json!({"name": "groupcast", "version": env!("CARGO_PKG_VERSION")});
    context.insert("library".to_owned(), library);
    if let Some(table) = configured
        && let Value::Object(more) = json(table, "context")?
    {
        context.extend(more);
    }
    Ok(Value::Object(context))
}
