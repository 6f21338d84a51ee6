//! DuckDB's extensions and secrets: what `[duckdb]` in groupcast.toml adds to the instances that DuckDB sources are read in.
//!
//! Nothing is loaded unless it is named, and nothing downloaded unless `install = true`: then only what DuckDB itself signed.
//! Secrets are temporary ones of the instance; those that other programs keep on this machine are not used. Such an
//! instance serves one reading and is closed after it.
//!
//! An extension that cannot be loaded hurts only the reading that needs it: what failed is kept, and explains the error of
//! a statement that fails because of it. DuckDB's configuration is not locked after this, as it is sometimes advised: a
//! model is one `SELECT`, which changes no setting, and reading itself sets some.

use std::collections::BTreeMap;
use std::path::PathBuf;

use duckdb::Connection;
use serde::Deserialize;

use crate::duckdb::{first_line, quote_identifier, quote_literal};
use crate::error::{Error, Kind};
use crate::model::setting::{Setting, SettingType};
use crate::secret::Secret;

/// What `[duckdb]` may hold.
pub const SETTINGS: &[Setting] = &[
    Setting::optional("extensions", SettingType::Names),
    Setting::optional("extension_folder", SettingType::Path),
    Setting::optional("install", SettingType::Boolean),
    Setting::optional("allow_unsigned_extensions", SettingType::Boolean),
    Setting::optional("secrets", SettingType::Table),
];

/// A folder that cannot exist, in place of the one where other programs keep secrets. To forbid such secrets altogether would
/// take away the storage in which the extensions for PostgreSQL and MySQL look for one, and they could attach nothing.
const NO_FOLDER: &str = "/dev/null/secrets";

/// `[duckdb]`: extensions to load, and secrets to make.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Extensions {
    /// Names of DuckDB's own extensions, or paths of other ones.
    pub extensions: Vec<String>,
    /// Where they are, instead of DuckDB's folder in the user's home.
    pub extension_folder: Option<PathBuf>,
    /// Whether those that are missing are downloaded from DuckDB's repository.
    pub install: bool,
    /// Whether extensions that DuckDB did not sign are loaded.
    pub allow_unsigned_extensions: bool,
    /// Secrets by name, with the parameters that their type has.
    pub secrets: BTreeMap<String, toml::Table>,
}

impl std::fmt::Debug for Extensions {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Extensions({:?}, secrets {:?})", self.extensions, self.secrets.keys())
    }
}

/// An extension or a secret that an instance is without.
#[derive(Debug)]
pub struct Problem {
    /// The extension's name, or `secret NAME`.
    pub of: String,
    /// Why.
    pub error: Error,
}

impl Extensions {
    /// Whether an instance needs nothing of it.
    pub fn is_empty(&self) -> bool {
        self.extensions.is_empty() && self.secrets.is_empty()
    }

    /// What is wrong with the settings themselves: the key, what, and what to do.
    pub fn mistakes(&self) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        for name in &self.extensions {
            if !is_path(name) && !is_name(name) {
                found.push((
                    "extensions".to_owned(),
                    "has what is neither an extension's name nor the path of one".to_owned(),
                    "write names as DuckDB's documentation has them, like `httpfs`, or a path that ends in `.duckdb_extension`"
                        .to_owned(),
                ));
            } else if is_path(name) && !self.allow_unsigned_extensions {
                found.push((
                    "extensions".to_owned(),
                    format!("has the path of an extension, which DuckDB has not signed: `{name}`"),
                    "add `allow_unsigned_extensions = true` if you trust its makers".to_owned(),
                ));
            }
        }
        for (name, parameters) in &self.secrets {
            let key = format!("secrets.{name}");
            if !matches!(parameters.get("type"), Some(toml::Value::String(_))) {
                found.push((
                    key.clone(),
                    "has no `type`".to_owned(),
                    "write the type, like `type = \"s3\"`".to_owned(),
                ));
            }
            if let Some(odd) = parameters.keys().find(|name| !is_name(name)) {
                let what = format!("has the parameter `{odd}`, which cannot be one");
                found.push((key.clone(), what, "write it as DuckDB's documentation has it".to_owned()));
            }
            if parameters.values().any(|value| literal(value).is_none()) {
                let what =
                    "has a value that is neither text, number, true or false nor a list or table of them".to_owned();
                found.push((key, what, "write it as text".to_owned()));
            }
        }
        found
    }

    /// Loads and makes everything. Returns what could not be.
    pub fn set_up(&self, connection: &Connection) -> Vec<Problem> {
        let mut problems = Vec::new();
        for statement in self.settings() {
            // The first statements of a new instance, which cannot be refused.
            if let Err(error) = connection.execute_batch(&statement) {
                let error = Error::new(Kind::Bug, "failed to set up an instance of DuckDB").because(error.to_string());
                return vec![Problem { of: "extensions".to_owned(), error }];
            }
        }
        for name in &self.extensions {
            let load = format!("LOAD {}", quote_literal(name));
            let mut loaded = connection.execute_batch(&load);
            if self.install && !is_path(name) && loaded.as_ref().is_err_and(|error| is_absent(&error.to_string())) {
                loaded = connection
                    .execute_batch(&format!("INSTALL {}", quote_literal(name)))
                    .and_then(|()| connection.execute_batch(&load));
            }
            if let Err(error) = loaded {
                let error = self.not_loaded(connection, name, &first_line(&error.to_string()));
                problems.push(Problem { of: name.clone(), error });
            }
        }
        for (name, parameters) in &self.secrets {
            if let Err(error) = connection.execute_batch(&secret_statement(name, parameters)) {
                let error = self.no_secret(name, &error.to_string());
                problems.push(Problem { of: format!("secret {name}"), error });
            }
        }
        problems
    }

    fn settings(&self) -> Vec<String> {
        let folder = self.extension_folder.iter();
        folder
            .map(|folder| format!("SET extension_directory = {}", quote_literal(&folder.to_string_lossy())))
            .chain([format!("SET secret_directory = {}", quote_literal(NO_FOLDER))])
            .collect()
    }

    fn not_loaded(&self, connection: &Connection, name: &str, line: &str) -> Error {
        let (version, platform) = engine(connection);
        let what = format!("the DuckDB extension `{name}` cannot be loaded into DuckDB {version} ({platform})");
        let folder = match &self.extension_folder {
            Some(folder) => format!("SET extension_directory = '{}'; ", folder.display()),
            None => String::new(),
        };
        let advice = if line.contains("during initialization") {
            "the file was found and its code gave up: correct what it complains of, or take another version of it"
                .to_owned()
        } else if is_path(name) {
            format!("check the path, and that the file was built for DuckDB {version} ({platform})")
        } else if line.contains("The file was built") {
            format!("run `{folder}FORCE INSTALL {name}` in the shell of DuckDB {version}, as this user")
        } else if self.install {
            format!(
                "let this machine reach DuckDB's repository, or install it where DuckDB {version} does: `{folder}INSTALL {name}` \
                 in its shell, and copy the folder here"
            )
        } else {
            format!(
                "run `{folder}INSTALL {name}` in the shell of DuckDB {version}, as this user, or write `install = true` below \
                 `[duckdb]`"
            )
        };
        Error::new(Kind::Config, what).advise(advice).because(line.to_owned())
    }

    fn no_secret(&self, name: &str, text: &str) -> Error {
        let error = Error::new(Kind::Config, format!("the secret `{name}` of `[duckdb.secrets]` cannot be made"));
        let error = match needed(text) {
            Some(extension) => error.advise(with_extension(extension)),
            None => error.advise("correct its parameters; DuckDB's documentation lists those of each type"),
        };
        error.because(self.masked(&first_line(text)))
    }

    /// A text without the values of secrets.
    pub fn masked(&self, text: &str) -> String {
        let secrets = self.secret_values();
        crate::secret::mask(text, &secrets.iter().collect::<Vec<_>>())
    }

    fn secret_values(&self) -> Vec<Secret> {
        // What a person must read in an error to find the mistake.
        const OPEN: [&str; 12] = [
            "type",
            "provider",
            "scope",
            "region",
            "endpoint",
            "url_style",
            "host",
            "port",
            "user",
            "database",
            "catalog",
            "account_name",
        ];
        let hidden = self.secrets.values().flatten().filter(|(name, _)| !OPEN.contains(&name.to_lowercase().as_str()));
        hidden
            .filter_map(|(_, value)| match value {
                toml::Value::String(text) => Some(Secret::new(text.as_str())),
                _ => None,
            })
            .collect()
    }

    /// What an instance has loaded, for people.
    pub fn loaded(connection: &Connection) -> Vec<String> {
        let sql = "SELECT extension_name || coalesce(' ' || nullif(extension_version, ''), '') FROM duckdb_extensions() \
            WHERE loaded AND install_mode <> 'STATICALLY_LINKED' ORDER BY 1";
        let read =
            || -> duckdb::Result<Vec<String>> { connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect() };
        read().unwrap_or_default()
    }
}

/// The engine's version and platform: extensions are built for exactly these.
pub fn engine(connection: &Connection) -> (String, String) {
    let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap_or_default();
    (text("SELECT library_version FROM pragma_version()"), text("SELECT platform FROM pragma_platform()"))
}

/// The extension that DuckDB misses, by its error.
pub fn needed(text: &str) -> Option<&str> {
    let word = |rest: &'_ str| {
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(rest.len());
        (end > 0).then_some(end)
    };
    for before in ["needs its extension ", "requires the extension ", "exists in the ", "required extension '"] {
        if let Some((_, rest)) = text.split_once(before)
            && let Some(end) = word(rest)
        {
            return Some(plain(&rest[..end]));
        }
    }
    let (before, _) = text.split_once(".duckdb_extension\" not found")?;
    before.rsplit(['/', '"']).next().map(plain)
}

/// What to do where an extension is needed that is not loaded.
pub fn with_extension(name: &str) -> String {
    format!("name it in groupcast.toml: `[duckdb]` with `extensions = [\"{name}\"]`")
}

/// The extension's name, where its path may be given.
fn named(of: &str) -> &str {
    of.strip_suffix(".duckdb_extension").map_or(of, |path| path.rsplit('/').next().unwrap_or(path))
}

/// The name that DuckDB's documentation gives an extension.
fn plain(name: &str) -> &str {
    name.strip_suffix("_scanner").unwrap_or(name)
}

fn is_absent(text: &str) -> bool {
    text.contains(".duckdb_extension\" not found")
}

fn is_path(name: &str) -> bool {
    name.ends_with(".duckdb_extension")
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The statement that makes a secret. Values cannot be bound in it.
fn secret_statement(name: &str, parameters: &toml::Table) -> String {
    let list: Vec<String> =
        parameters.iter().filter_map(|(name, value)| Some(format!("{name} {}", literal(value)?))).collect();
    format!("CREATE TEMPORARY SECRET {} ({})", quote_identifier(name), list.join(", "))
}

/// A value of a setting as DuckDB's SQL writes it.
pub fn literal(value: &toml::Value) -> Option<String> {
    Some(match value {
        toml::Value::String(text) => quote_literal(text),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(literal).collect();
            format!("[{}]", items?.join(", "))
        }
        toml::Value::Table(table) => {
            let entries: Option<Vec<String>> =
                table.iter().map(|(key, value)| Some(format!("{}: {}", quote_literal(key), literal(value)?))).collect();
            format!("MAP {{{}}}", entries?.join(", "))
        }
        toml::Value::Datetime(_) => return None,
    })
}

/// An error with what explains it, where one of these problems does.
pub fn explain(error: Error, problems: &[Problem]) -> Error {
    let text = error.to_string();
    let about = problems.iter().find(|problem| {
        let name = named(&problem.of);
        needed(&text).is_some_and(|needed| needed == plain(name))
            || text.contains(&format!("{name}.duckdb_extension"))
            || ["load", "extension"].iter().any(|before| text.contains(&format!("{before} '{name}'")))
    });
    if let Some(problem) = about {
        return problem.error.again();
    }
    // A file that may not be read, say, because the secret for it was not made.
    match problems.first() {
        Some(problem) if error.kind() == Kind::Source => {
            let advice = error.advice().map_or_else(String::new, |advice| format!("{advice}; "));
            error.advise(format!("{advice}besides, {}", problem.error))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Extensions {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn secrets_become_statements_whose_values_cannot_leave_their_quotes() {
        let settings = settings(
            "[secrets.\"a\\\"b\"]\ntype = 's3'\nkey_id = \"o'k\"\nscope = ['s3://a', 's3://b']\nuse_ssl = true\n\
             [secrets.pg]\ntype = 'postgres'\nport = 5432\nextra = { a = 'b' }",
        );
        let statements: Vec<String> =
            settings.secrets.iter().map(|(name, parameters)| secret_statement(name, parameters)).collect();
        assert_eq!(
            statements,
            [
                "CREATE TEMPORARY SECRET \"a\"\"b\" (key_id 'o''k', scope ['s3://a', 's3://b'], type 's3', use_ssl true)",
                "CREATE TEMPORARY SECRET \"pg\" (extra MAP {'a': 'b'}, port 5432, type 'postgres')",
            ]
        );
    }

    #[test]
    fn mistakes_are_found_without_loading_anything() {
        let found = |text: &str| settings(text).mistakes().into_iter().map(|(key, ..)| key).collect::<Vec<_>>();
        assert_eq!(found("extensions = ['httpfs', 'a b']"), ["extensions"]);
        assert_eq!(found("extensions = ['/opt/x.duckdb_extension']"), ["extensions"]);
        assert!(found("extensions = ['/opt/x.duckdb_extension']\nallow_unsigned_extensions = true").is_empty());
        assert_eq!(found("[secrets.lake]\nkey_id = 'a'"), ["secrets.lake"]);
        assert_eq!(found("[secrets.lake]\ntype = 's3'\n'key) --' = 'a'"), ["secrets.lake"]);
        assert_eq!(found("[secrets.lake]\ntype = 's3'\nkey_id = 2026-01-01"), ["secrets.lake"]);
    }

    #[test]
    fn the_extension_that_a_statement_needs_is_known_by_its_error() {
        for (text, expected) in [
            ("Error File s3://b/x.parquet requires the extension httpfs to be loaded", Some("httpfs")),
            (
                "Table Function with name \"read_xlsx\" is not in the catalog, but it exists in the excel extension.",
                Some("excel"),
            ),
            (
                "IO Error: Extension \"/h/.duckdb/extensions/v2.0.1/linux_amd64/sqlite_scanner.duckdb_extension\" not found.",
                Some("sqlite"),
            ),
            (
                "An error occurred while trying to automatically install the required extension 'iceberg:",
                Some("iceberg"),
            ),
            ("failed to read the model: DuckDB needs its extension httpfs, which is not loaded", Some("httpfs")),
            ("Catalog Error: Table with name x does not exist", None),
        ] {
            assert_eq!(needed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_missing_explains_the_error_that_follows_from_it() {
        let connection = Connection::open_in_memory().unwrap();
        let settings = settings(
            "extensions = ['sqlite', 'httpfs']\nextension_folder = '/nonexistent'\n\
             [secrets.lake]\ntype = 's3'\nkey_id = 'AKIAGEHEIM'\nsecret = 'wJalrGEHEIM'",
        );
        let problems = settings.set_up(&connection);
        let of: Vec<&str> = problems.iter().map(|problem| problem.of.as_str()).collect();
        assert_eq!(of, ["sqlite", "httpfs", "secret lake"]);
        for problem in &problems {
            let text = format!("{} {}", problem.error, problem.error.advice().unwrap_or_default());
            assert!(!text.contains("GEHEIM"), "{text}");
        }
        let failed = connection.execute_batch("FROM 's3://bucket/x.parquet'").unwrap_err().to_string();
        let explained = explain(Error::new(Kind::Source, "failed to read the model").because(failed), &problems);
        assert!(explained.to_string().contains("`httpfs` cannot be loaded into DuckDB v"), "{explained}");
        assert!(explained.advice().unwrap().contains("INSTALL httpfs"), "{explained:?}");
        let other = explain(Error::new(Kind::Source, "403").advise("look"), &problems[2..]);
        assert!(other.advice().unwrap().starts_with("look; besides, the secret `lake`"), "{other:?}");
    }
}
