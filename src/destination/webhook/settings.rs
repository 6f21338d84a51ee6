//! The settings of a destination of type `webhook`.

use crate::error::{Error, Kind, Result};
use crate::model::setting::{Setting, SettingType};
use crate::secret::Secret;
use serde::Deserialize;

/// Its settings in `groupcast.toml`, besides `type` and those of delivery.
pub(super) const SETTINGS: &[Setting] = &[
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
];

/// The request's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WebhookMethod {
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
}

/// How many changes a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookBody {
    /// One, as the body itself.
    Single,
    /// Several, as `{"changes":[…]}`.
    #[default]
    Batch,
}

/// The `[destinations.<name>]` table of `type = "webhook"`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// The receiver's address, without secrets.
    pub url: String,
    /// What follows the address and is secret: `/hooks/catch/123/abc`, `?token=…`.
    #[serde(default)]
    pub secret_path: Option<Secret>,
    /// The method.
    #[serde(default)]
    pub method: WebhookMethod,
    /// Headers that hold no secret.
    #[serde(default)]
    pub headers: Option<toml::Table>,
    /// Those that do: `Name: value`, one per line.
    #[serde(default)]
    pub auth_header: Option<Secret>,
    /// One change per request, or several.
    #[serde(default)]
    pub body: WebhookBody,
    /// Changes in a batch.
    #[serde(default)]
    pub batch_max: Option<usize>,
    /// Bytes of a body.
    #[serde(default)]
    pub bytes_max: Option<usize>,
    /// The statuses that mean success: `2xx`, or a list like `200, 202`.
    #[serde(default)]
    pub success: Option<String>,
    /// A JSON pointer into the response's body …
    #[serde(default)]
    pub success_pointer: Option<String>,
    /// … and the value that must be there.
    #[serde(default)]
    pub success_equals: Option<String>,
    /// The key of the signature; unsigned when absent.
    #[serde(default)]
    pub signing_secret: Option<Secret>,
    /// The header of the signature.
    #[serde(default)]
    pub signature_header: Option<String>,
    /// The header of the time that is signed with the body.
    #[serde(default)]
    pub timestamp_header: Option<String>,
    /// Whether the receiver ignores an `id` it has seen before.
    #[serde(default)]
    pub dedup: bool,
}

/// The configured address. Addresses are shown, so what could be a secret is not taken.
pub(super) fn address(text: &str) -> Result<String> {
    let wrong = |what: &str| {
        Error::new(Kind::Config, format!("`url` {what}"))
            .advise("write it like `https://example.com/hooks/groups`, and put what is secret in `secret_path`")
    };
    let url = url::Url::parse(text).map_err(|_| wrong("is not a valid URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("is not an http or https URL"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("contains more than a host and a path"));
    }
    Ok(url.as_str().to_owned())
}

/// The address with its secret rest; between the two there is one slash, or the question mark of a query.
pub(super) fn whole_address(shown: &str, secret: &Secret) -> Result<String> {
    let rest = secret.expose();
    let whole = match rest.strip_prefix('/') {
        Some(path) => format!("{}/{path}", shown.trim_end_matches('/')),
        None if rest.starts_with('?') => format!("{shown}{rest}"),
        None => format!("{}/{rest}", shown.trim_end_matches('/')),
    };
    let same_host = |url: &url::Url| url::Url::parse(shown).is_ok_and(|shown| shown.origin() == url.origin());
    match url::Url::parse(&whole) {
        Ok(url) if same_host(&url) && url.fragment().is_none() && !rest.chars().any(char::is_whitespace) => Ok(whole),
        _ => Err(Error::new(Kind::Config, "`secret_path` is not a path or a query")
            .advise("let it hold what follows the host, like `/hooks/catch/…` or `?token=…`")),
    }
}
