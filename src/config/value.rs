//! Values of settings: one as it is written becomes one as its type demands, or a problem that never repeats it.

use std::path::Path;

use crate::mapping::diagnostic::listed;
use crate::mapping::{cron, units};
use crate::model::setting::SettingType;

/// A value as it is written, before its setting's type is known.
#[derive(Clone, PartialEq)]
pub(crate) enum RawValue {
    /// Text; from an environment variable everything is.
    Text(String),
    /// A number.
    Integer(i64),
    /// A number with a point, as written.
    Float(String),
    /// True or false.
    Boolean(bool),
    /// A list of texts.
    List(Vec<String>),
    /// A table whose texts are resolved.
    Table(config::Map<String, config::Value>),
    /// Anything else, by what to call it.
    Other(&'static str),
}

/// The value as `config` holds it, or a fragment `message: help` that fits behind the key's name and never repeats the
/// value. `lenient` reads numbers and flags from text, as environment variables write them.
pub(crate) fn convert(
    raw: RawValue,
    of: SettingType,
    folder: &Path,
    lenient: bool,
) -> Result<config::ValueKind, String> {
    let raw = match (raw, of) {
        (RawValue::Text(text), SettingType::Boolean | SettingType::Integer(..) | SettingType::Rate) if lenient => {
            parse_plain(text)
        }
        (raw, _) => raw,
    };
    let text = |raw: RawValue, what: &str| match raw {
        RawValue::Text(text) if text.trim().is_empty() => Err("is empty".to_owned()),
        RawValue::Text(text) => Ok(text),
        other => Err(format!("must be {what}, not {}", other.type_name())),
    };
    Ok(match of {
        SettingType::Text | SettingType::Secret | SettingType::ConnectionString => text(raw, "a string")?.into(),
        SettingType::Url | SettingType::SecretUrl => {
            let url = text(raw, "a URL")?;
            let problem = match url::Url::parse(&url) {
                Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => return Ok(url.into()),
                _ if !url.contains("://") => "missing `http://` or `https://`",
                Ok(_) => "it must begin with `http://` or `https://` and a host",
                Err(_) => "write `https://host`, with special characters percent-encoded",
            };
            return Err(format!("is not a valid URL: {problem}"));
        }
        SettingType::Path | SettingType::PathOrDash => {
            let path = text(raw, "a path")?;
            if matches!(of, SettingType::PathOrDash) && path == "-" {
                return Ok(path.into());
            }
            if path.contains('\0') || path.starts_with(":memory:") || path.starts_with('~') {
                return Err(
                    "is not a path: write it from the root or from the config folder, `~` is not expanded".to_owned()
                );
            }
            // A folder's name that is not UTF-8 cannot travel through the settings; joining would lose it silently.
            let full = folder.join(&path);
            full.to_str().ok_or("is below a folder whose name is not UTF-8: move the config folder")?.into()
        }
        SettingType::Boolean => match raw {
            RawValue::Boolean(flag) => flag.into(),
            other => return Err(format!("must be true or false, not {}", other.type_name())),
        },
        SettingType::Integer(least, most) => match raw {
            RawValue::Integer(number) if (least..=most).contains(&number) => number.into(),
            RawValue::Integer(_) if most == i64::MAX => return Err(format!("must be at least {least}")),
            RawValue::Integer(_) => return Err(format!("must be from {least} to {most}")),
            other => return Err(format!("must be a whole number, not {}", other.type_name())),
        },
        SettingType::Rate => {
            let number = match raw {
                RawValue::Integer(number) => number as f64,
                RawValue::Float(ref text) => text.parse().unwrap_or(f64::NAN),
                other => return Err(format!("must be a number, not {}", other.type_name())),
            };
            if !(number.is_finite() && number > 0.0) {
                return Err("must be a number above 0: remove it for no limit".to_owned());
            }
            number.into()
        }
        SettingType::Duration(least) => {
            let written = text(raw, "a duration like \"30s\"")?;
            let duration = units::duration(&written)?;
            if duration.as_secs() < least {
                return Err(format!("must be at least {least}s"));
            }
            written.into()
        }
        SettingType::Size(least) => {
            let written = text(raw, "a size like \"512MB\"")?;
            let bytes = units::bytes(&written)?;
            if bytes < least {
                return Err(format!("must be at least {}MB", least / 1_000_000));
            }
            written.into()
        }
        SettingType::Share => match raw {
            RawValue::Text(text) | RawValue::Float(text) => units::share(text.trim()),
            RawValue::Integer(number) => units::share(&number.to_string()),
            other => return Err(format!("must be a share like 0.3 or \"30%\", not {}", other.type_name())),
        }?
        .into(),
        SettingType::OneOf(words) => {
            let word = text(raw, &listed(words.iter().copied()))?;
            if !words.contains(&word.as_str()) {
                return Err(format!("must be {}", listed(words.iter().copied())));
            }
            word.into()
        }
        SettingType::TimeZone => {
            let name = text(raw, "a time zone")?;
            cron::zone(&name)?.name().into()
        }
        SettingType::Names => {
            let names = match raw {
                RawValue::List(names) => names,
                RawValue::Text(text) if lenient => text.split(',').map(|name| name.trim().to_owned()).collect(),
                other => return Err(format!("must be a list like [\"name\"], not {}", other.type_name())),
            };
            if names.iter().any(|name| name.trim().is_empty()) {
                return Err("has an empty name".to_owned());
            }
            names.into()
        }
        SettingType::Table => match raw {
            RawValue::Table(table) => table.into(),
            RawValue::Text(_) if lenient => {
                return Err("must be a table, which only groupcast.toml can contain".to_owned());
            }
            other => return Err(format!("must be a table like {{ key = \"value\" }}, not {}", other.type_name())),
        },
    })
}

fn parse_plain(text: String) -> RawValue {
    let plain = text.trim();
    if let Ok(number) = plain.parse() {
        RawValue::Integer(number)
    } else if let Ok(flag) = plain.to_ascii_lowercase().parse() {
        RawValue::Boolean(flag)
    } else if plain.parse::<f64>().is_ok() {
        RawValue::Float(plain.to_owned())
    } else {
        RawValue::Text(text)
    }
}

impl RawValue {
    fn type_name(&self) -> &'static str {
        match self {
            RawValue::Text(_) => "a string",
            RawValue::Integer(_) => "an integer",
            RawValue::Float(_) => "a float",
            RawValue::Boolean(_) => "true or false",
            RawValue::List(_) => "a list",
            RawValue::Table(_) => "a table",
            RawValue::Other(name) => name,
        }
    }
}
