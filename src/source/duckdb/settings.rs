//! The settings of a DuckDB source.

use std::path::PathBuf;

use super::textfile::{Encoding, Options};
use crate::error::Result;
use crate::model::setting::{Setting, SettingType};
use crate::secret::Secret;

/// What `[sources.NAME]` may hold.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::optional("path", SettingType::Path),
    Setting::optional("attach", SettingType::ConnectionString),
    Setting::optional("attach_options", SettingType::Table),
    Setting::optional("encoding", SettingType::OneOf(Encoding::NAMES)),
    Setting::optional("delimiter", SettingType::Text),
    Setting::optional("quote", SettingType::Text),
    Setting::optional("decimal", SettingType::OneOf(&[".", ","])),
    Setting::optional("stall_timeout_seconds", SettingType::Integer(1, 86_400)),
];

/// A DuckDB source, as written in `groupcast.toml`.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DuckDbSettings {
    /// The DuckDB file, opened read-only. Without it the source has no tables of its own: its models are queries over
    /// Parquet, CSV or JSON files.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// What an extension attaches, in DuckDB's notation: `postgres:…`, `sqlite:…`, `ducklake:…`. Instead of `path`.
    #[serde(default)]
    pub attach: Option<Secret>,
    /// Further options of `ATTACH`, passed on as they are.
    #[serde(default)]
    pub attach_options: Option<toml::Table>,
    /// Longest that a statement may make no progress, in seconds.
    #[serde(default)]
    pub stall_timeout_seconds: Option<u64>,
    /// How text files without a byte order mark are written; UTF-8 without it.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// What separates values: one character or `tab`; without it, inferred from the file.
    #[serde(default)]
    pub delimiter: Option<String>,
    /// What stands around values that hold a delimiter; `"` without it, `none` for nothing.
    #[serde(default)]
    pub quote: Option<String>,
    /// The mark before a number's fraction: `.` or `,`.
    #[serde(default)]
    pub decimal: Option<String>,
}

impl DuckDbSettings {
    /// How text files are read.
    pub(super) fn text(&self) -> Result<Options> {
        let (delimiter, quote, decimal) = (self.delimiter.as_deref(), self.quote.as_deref(), self.decimal.as_deref());
        Options::of_settings(self.encoding, delimiter, quote, decimal)
    }
}
