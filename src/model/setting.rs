//! Settings of `groupcast.toml` as sources and destinations declare them: name, type, whether required; and the values
//! that were given for them.

use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};

/// What a setting's value is.
#[derive(Debug, Clone, Copy)]
pub enum SettingType {
    /// Text.
    Text,
    /// Text that must not be in the file: only references.
    Secret,
    /// A connection string: secret, unless it contains no password.
    ConnectionString,
    /// An http(s) URL that is a secret as a whole: only references.
    SecretUrl,
    /// An http(s) URL.
    Url,
    /// A path; a relative one starts at the config folder.
    Path,
    /// A path, or `-` for standard output.
    PathOrDash,
    /// True or false.
    Boolean,
    /// A whole number within these bounds.
    Integer(i64, i64),
    /// A number above zero.
    Rate,
    /// A duration of at least so many seconds.
    Duration(u64),
    /// A size in bytes of at least so many.
    Size(u64),
    /// A share from 0 to 1.
    Share,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An IANA time zone.
    TimeZone,
    /// A list of names; in a variable, with commas between them.
    Names,
    /// A table of anything, for what a vendor passes on; only in the file.
    Table,
}

impl SettingType {
    /// Whether the value must not be shown, not even when it is wrong.
    pub fn is_secret(self) -> bool {
        matches!(self, SettingType::Secret | SettingType::ConnectionString | SettingType::SecretUrl)
    }
}

/// A setting that a section of `groupcast.toml` may have.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key.
    pub name: &'static str,
    /// What its value is.
    pub of: SettingType,
    /// Whether it must be set.
    pub required: bool,
}

impl Setting {
    /// A setting that may be left out.
    pub const fn optional(name: &'static str, of: SettingType) -> Setting {
        Setting { name, of, required: false }
    }

    /// A setting that must be set.
    pub const fn required(name: &'static str, of: SettingType) -> Setting {
        Setting { name, of, required: true }
    }
}

/// The checked values of a source's or destination's own settings. They may be secrets, so none of them is ever printed.
#[derive(Clone, PartialEq)]
pub struct SettingValues(toml::Table);

impl SettingValues {
    /// These values.
    pub fn new(table: toml::Table) -> SettingValues {
        SettingValues(table)
    }

    /// Each value as text, by its name: for comparing, never for showing.
    pub fn texts(&self) -> impl Iterator<Item = (&str, String)> {
        // A checked value has a form in JSON.
        self.0.iter().map(|(name, value)| (name.as_str(), serde_json::to_string(value).unwrap_or_default()))
    }

    /// The values as the type's own struct. An error means that the struct and the declared settings disagree.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        // Deserialising could quote a value in its error, and the value could be a secret: only the keys are named.
        toml::Value::Table(self.0.clone()).try_into().map_err(|_| {
            let keys: Vec<&str> = self.0.keys().map(String::as_str).collect();
            Error::new(Kind::Bug, format!("failed to read the settings {}", keys.join(", ")))
                .advise("report this with groupcast.toml's key names, without its values")
        })
    }
}
