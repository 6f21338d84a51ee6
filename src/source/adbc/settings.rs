//! The settings of a source that is read through an ADBC driver.

use std::path::PathBuf;
use std::time::Duration;

use super::dialects::{self, Warehouse};
use crate::error::{Error, Kind, Result};
use crate::mapping::Compare;
use crate::model::setting::{Setting, SettingType};
use crate::secret::Secret;
use crate::source::mirror::{MirrorSettings, SCHEMA};

/// What `[sources.NAME]` may hold.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::required("driver", SettingType::Text),
    Setting::optional("sha256", SettingType::Text),
    Setting::optional("entrypoint", SettingType::Text),
    Setting::optional("reader", SettingType::Path),
    Setting::optional("dialect", SettingType::OneOf(dialects::NAMES)),
    Setting::optional("uri", SettingType::ConnectionString),
    Setting::optional("username", SettingType::Text),
    Setting::optional("password", SettingType::Secret),
    Setting::optional("options", SettingType::Table),
    Setting::optional("stall_timeout_seconds", SettingType::Integer(1, 86_400)),
    Setting::optional("compare", Compare::SETTING),
    Setting::optional("mirror_schema", SettingType::Text),
];

/// Longest that a driver may send nothing, where the settings set nothing.
const STALL_TIMEOUT: Duration = Duration::from_secs(1_800);

/// An ADBC source, as written in `groupcast.toml`.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdbcSettings {
    /// The driver: its name, as a manifest on this machine has it, or the path of its library.
    pub driver: String,
    /// What the library's SHA-256 must be, in hexadecimal digits. Only with a path.
    #[serde(default)]
    pub sha256: Option<String>,
    /// The library's function that begins it, where it has an unusual name.
    #[serde(default)]
    pub entrypoint: Option<String>,
    /// The program in which the driver is loaded, where it does not bear this one.
    #[serde(default)]
    pub reader: Option<PathBuf>,
    /// The warehouse's SQL, where the driver's name does not tell.
    #[serde(default)]
    pub dialect: Option<String>,
    /// Where to connect to, in the driver's notation.
    #[serde(default)]
    pub uri: Option<Secret>,
    /// The user.
    #[serde(default)]
    pub username: Option<String>,
    /// Their password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Further options, passed to the driver as they are.
    #[serde(default)]
    pub options: toml::Table,
    /// Longest that the driver may send nothing, in seconds.
    #[serde(default)]
    pub stall_timeout_seconds: Option<u64>,
    /// Where rows are compared, if a mapping does not say.
    #[serde(default)]
    pub compare: Compare,
    /// The schema of the tables that comparing in the warehouse needs; `groupcast_mirror` when absent.
    #[serde(default)]
    pub mirror_schema: Option<String>,
}

impl AdbcSettings {
    /// The dialect, and that all settings make sense together.
    ///
    /// Errors: [`Kind::Config`], what must be corrected.
    pub(super) fn check(&self) -> Result<&'static Warehouse> {
        let config = |what: &str, advice: String| Err(Error::new(Kind::Config, what).advise(advice));
        if self.driver.trim().is_empty() {
            return config(
                "`driver` is empty",
                "name a driver, like `snowflake`, or the path of its library".to_owned(),
            );
        }
        if let Some(digits) = &self.sha256 {
            if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return config("`sha256` is not 64 hexadecimal digits", "write what `sha256sum` prints".to_owned());
            }
            if !self.is_path() {
                return config("`sha256` is of a file, and `driver` is a name", "write the library's path".to_owned());
            }
        }
        self.options()?;
        match self.dialect.as_deref().and_then(dialects::named).or_else(|| dialects::of_driver(&self.driver)) {
            Some(dialect) if dialect.mirror.is_none() && self.compare == Compare::Warehouse => config(
                &format!("rows cannot be compared in a warehouse of the dialect `{}`", dialect.name),
                format!("remove `compare`; it can be `warehouse` for {}", dialects::with_mirrors()),
            ),
            Some(dialect) => Ok(dialect),
            None => config(
                "the driver's name does not tell which SQL the warehouse speaks",
                format!("add `dialect` with one of {}", dialects::NAMES.join(", ")),
            ),
        }
    }

    /// The mirrors that it can keep, if the dialect has their statements.
    pub(super) fn mirror(&self, dialect: &Warehouse) -> Option<MirrorSettings> {
        let schema = self.mirror_schema.clone().unwrap_or_else(|| SCHEMA.to_owned());
        dialect.mirror.as_ref().map(|_| MirrorSettings { compare: self.compare, schema })
    }

    /// Whether the driver is given by its file.
    pub(super) fn is_path(&self) -> bool {
        self.driver.contains('/') || PathBuf::from(&self.driver).extension().is_some()
    }

    /// The driver's options, by name.
    pub(super) fn options(&self) -> Result<Vec<(String, OptionText)>> {
        let mut all = Vec::new();
        for (name, text) in [
            ("uri", self.uri.as_ref().map(Secret::expose)),
            ("username", self.username.as_deref()),
            ("password", self.password.as_ref().map(Secret::expose)),
        ] {
            all.extend(text.map(|text| (name.to_owned(), OptionText::Text(text.to_owned()))));
        }
        for (name, value) in &self.options {
            flattened(name, value, &mut all)?;
        }
        if let Some((twice, _)) =
            all.iter().enumerate().find_map(|(at, one)| all[..at].iter().any(|(name, _)| *name == one.0).then_some(one))
        {
            return Err(
                Error::new(Kind::Config, format!("the option `{twice}` is given twice")).advise("keep one of them")
            );
        }
        Ok(all)
    }

    /// The texts that must not be shown: what can be a credential.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        const WORDS: [&str; 7] = ["password", "secret", "token", "key", "credential", "auth", "uri"];
        let of_options = self.options().unwrap_or_default().into_iter().filter_map(|(name, value)| {
            let lower = name.to_ascii_lowercase();
            let OptionText::Text(text) = value else { return None };
            WORDS.iter().any(|word| lower.contains(word)).then(|| Secret::new(text))
        });
        let mut all: Vec<Secret> = of_options.collect();
        let uri = self.uri.as_ref().map(Secret::expose).unwrap_or_default();
        // Drivers repeat parts of an address in their errors.
        let credentials = uri.split_once("://").map_or(uri, |(_, rest)| rest);
        if let Some((_, password)) = credentials.rsplit_once('@').and_then(|(before, _)| before.split_once(':')) {
            all.push(Secret::new(password));
        }
        all
    }

    /// Longest that the driver may send nothing.
    pub(super) fn stall_timeout(&self) -> Duration {
        self.stall_timeout_seconds.map_or(STALL_TIMEOUT, Duration::from_secs)
    }
}

/// The value of a driver's option.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub(in crate::source::adbc) enum OptionText {
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A text; true and false are texts to drivers.
    Text(String),
}

/// A nested table is part of the names: TOML splits `adbc.snowflake.sql.db` at its dots where it is not quoted.
fn flattened(name: &str, value: &toml::Value, all: &mut Vec<(String, OptionText)>) -> Result<()> {
    let text = match value {
        toml::Value::String(text) => OptionText::Text(text.clone()),
        toml::Value::Integer(number) => OptionText::Integer(*number),
        toml::Value::Float(number) => OptionText::Number(*number),
        toml::Value::Boolean(flag) => OptionText::Text(flag.to_string()),
        toml::Value::Table(inner) => {
            return inner.iter().try_for_each(|(part, value)| flattened(&format!("{name}.{part}"), value, all));
        }
        toml::Value::Datetime(_) | toml::Value::Array(_) => {
            return Err(Error::new(Kind::Config, format!("the option `{name}` is no text, number, true or false"))
                .advise("write it as a text between quotes"));
        }
    };
    all.push((name.to_owned(), text));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> AdbcSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_dialect_comes_from_the_driver_or_is_written() {
        let name = |text: &str| settings(text).check().map(|dialect| dialect.name).map_err(|error| error.to_string());
        assert_eq!(name("driver = 'snowflake'"), Ok("snowflake"));
        assert_eq!(name("driver = '/opt/libadbc_driver_postgresql.so'"), Ok("postgres"));
        assert_eq!(name("driver = 'flightsql'\ndialect = 'databricks'"), Ok("databricks"));
        assert_eq!(name("driver = 'redshift'"), Ok("redshift"));
        assert!(name("driver = 'flightsql'").unwrap_err().contains("does not tell"));
        assert!(name("driver = 'snowflake'\nsha256 = 'ab'").unwrap_err().contains("64"));
        let digits = "0".repeat(64);
        assert!(name(&format!("driver = 'snowflake'\nsha256 = '{digits}'")).unwrap_err().contains("is a name"));
    }

    #[test]
    fn options_keep_their_dotted_names_quoted_or_not() {
        let settings = settings(
            "driver = 'snowflake'\nusername = 'reader'\n[options]\nadbc.snowflake.sql.db = 'DB'\n'adbc.telemetry' = false\nretries = 3",
        );
        let all = settings.options().unwrap();
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["username", "adbc.snowflake.sql.db", "adbc.telemetry", "retries"]);
        assert!(matches!(&all[2].1, OptionText::Text(text) if text == "false"));
        assert!(matches!(all[3].1, OptionText::Integer(3)));
    }

    #[test]
    fn what_is_given_twice_is_refused() {
        let settings = settings("driver = 'x'\ndialect = 'trino'\nusername = 'a'\n[options]\nusername = 'b'");
        assert!(settings.check().unwrap_err().to_string().contains("given twice"));
    }

    #[test]
    fn credentials_are_known_wherever_they_stand() {
        let settings = settings(
            "driver = 'x'\nuri = 'user:hunter2@account/db'\n[options]\n'adbc.auth.jwt_token' = 'eyJhbGciOi'\nport = 'abcdef'",
        );
        let masked = crate::secret::mask(
            "login with hunter2 and eyJhbGciOi failed at abcdef",
            &settings.secrets().iter().collect::<Vec<_>>(),
        );
        assert_eq!(masked, "login with *** and *** failed at abcdef");
    }
}
