//! Attachments: databases that DuckDB reaches through an extension, as `attach = "…"` names them: `postgres:…`, `mysql:…`,
//! `sqlite:…`, `ducklake:…`, `md:…` and others.
//!
//! An attachment is attached read-only, under the source's name, and no snapshot that lasts: what a model means is read
//! once, by one statement, into a temporary table. Its tables are not listed before, since a lake's catalog may have
//! thousands of them: names are resolved by the extension.

use std::path::{Path, PathBuf};

use duckdb::Connection;

use crate::duckdb::{first_line, quote_identifier, quote_literal};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::source::extensions::{self, literal};
use crate::source::remote_error;

/// What is attached, and how.
#[derive(Clone)]
pub(super) struct Attachment {
    /// As DuckDB takes it, with its scheme.
    address: Secret,
    options: toml::Table,
    /// The catalog's name.
    pub(super) alias: String,
    /// The file of this machine behind it, if it is one.
    pub(super) file: Option<PathBuf>,
}

/// Schemes whose address is the path of a file, if it looks like one.
const OF_FILES: [&str; 3] = ["sqlite", "ducklake", "duckdb"];
/// Options that are ours to set.
const OURS: [&str; 2] = ["read_only", "read_write"];

impl Attachment {
    /// An attachment of the source `name`; a relative path in it starts at `folder`.
    ///
    /// Errors: [`Kind::Config`], what must be corrected.
    pub(super) fn new(address: &Secret, options: &toml::Table, name: &str, folder: &Path) -> Result<Attachment> {
        let text = address.expose();
        let config = |what: String, advice: &str| Err(Error::new(Kind::Config, what).advise(advice));
        let Some((scheme, rest)) = scheme(text) else {
            return config(
                "`attach` does not begin with what it is".to_owned(),
                "write for example `attach = \"postgres:${WAREHOUSE}\"` or `\"ducklake:…\"`; for a DuckDB file write `path`",
            );
        };
        if let Some(ours) = options.keys().find(|key| OURS.contains(&key.to_lowercase().as_str())) {
            return config(format!("`attach_options` has `{ours}`, and sources are always read-only"), "remove it");
        }
        for (key, value) in options {
            if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return config(
                    format!("`attach_options` has `{key}`, which cannot be an option"),
                    "write options as the extension's documentation has them",
                );
            }
            if literal(value).is_none() {
                return config(format!("`attach_options.{key}` is a date"), "write it as text");
            }
        }
        let address = match OF_FILES.contains(&scheme) && is_file(rest) {
            true => Secret::new(format!("{scheme}:{}", folder.join(rest).to_string_lossy())),
            false => address.clone(),
        };
        // MotherDuck gives its databases their own names.
        let alias = match scheme {
            "md" | "motherduck" => rest.split(['?', '/']).next().unwrap_or_default().to_owned(),
            _ => name.to_owned(),
        };
        let file = file(address.expose());
        Ok(Attachment { address, options: options.clone(), alias, file })
    }

    /// The statement that attaches it.
    fn statement(&self) -> String {
        let named = match scheme(self.address.expose()) {
            Some(("md" | "motherduck", _)) => String::new(),
            _ => format!(" AS {}", quote_identifier(&self.alias)),
        };
        let options = self.options.iter().filter_map(|(key, value)| Some(format!(", {key} {}", literal(value)?)));
        let options: String = options.collect();
        format!("ATTACH {}{named} (READ_ONLY{options})", quote_literal(self.address.expose()))
    }

    /// Attaches it.
    pub(super) fn attach(&self, connection: &Connection) -> Result<()> {
        connection.execute_batch(&self.statement()).map_err(|error| {
            let text = error.to_string();
            let line = self.masked(&first_line(&text));
            let scheme = scheme(self.address.expose()).map_or("", |(scheme, _)| scheme);
            if let Some(needed) = extensions::needed(&text) {
                return Error::new(Kind::Source, format!("failed to attach `{scheme}:…`"))
                    .advise(extensions::with_extension(needed))
                    .because(format!("DuckDB needs its extension {needed}, which is not loaded: {line}"));
            }
            let (kind, advice) = match remote_error::advice(&text) {
                Some(_) => (Kind::SourceBusy, "check the host, the network and whether the server is up"),
                None => (
                    Kind::Source,
                    "check `attach`, `attach_options` and the credentials; the extension's documentation has their form",
                ),
            };
            Error::new(kind, format!("failed to attach `{scheme}:…`")).advise(advice).because(line)
        })
    }

    /// A text without the credentials that may be in the address.
    pub(super) fn masked(&self, text: &str) -> String {
        let address = self.address.expose();
        let (_, rest) = scheme(address).unwrap_or(("", address));
        if self.file.is_some() || rest.is_empty() {
            return text.to_owned();
        }
        let mut secrets = vec![Secret::new(rest)];
        // Extensions repeat parts of an address in their errors.
        let user = rest.split_once("://").map_or(rest, |(_, rest)| rest);
        if let Some((_, password)) = user.rsplit_once('@').and_then(|(before, _)| before.split_once(':')) {
            secrets.push(Secret::new(password));
        }
        for pair in rest.split([' ', '?', '&', ';', ',']) {
            if let Some((key, value)) = pair.split_once('=')
                && ["password", "passwd", "pwd", "token", "secret", "key"]
                    .iter()
                    .any(|word| key.to_lowercase().contains(word))
            {
                secrets.push(Secret::new(value.trim_matches(['\'', '"'])));
            }
        }
        crate::secret::mask(text, &secrets.iter().collect::<Vec<_>>())
    }
}

/// The file of this machine that an address means, if it is one.
pub(super) fn file(address: &str) -> Option<PathBuf> {
    let (scheme, rest) = scheme(address)?;
    (OF_FILES.contains(&scheme) && is_file(rest)).then(|| PathBuf::from(rest))
}

/// The scheme of an address, and what follows it.
fn scheme(address: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = address.split_once(':')?;
    let sound = scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    (sound && !rest.starts_with("//")).then_some((scheme, rest))
}

/// Whether an address is a path: no connection string, and no address of another kind.
fn is_file(rest: &str) -> bool {
    !rest.is_empty() && !rest.contains([':', '=']) && !rest.contains("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(address: &str, options: &str) -> Result<Attachment> {
        Attachment::new(&Secret::new(address), &toml::from_str(options).unwrap(), "crm", Path::new("/etc/groupcast"))
    }

    #[test]
    fn statements_are_read_only_and_quoted() {
        for (address, options, expected) in [
            (
                "postgres:host=db password='it''s' dbname=w",
                "schema = 'public'\nsecret = 'pg'",
                "ATTACH 'postgres:host=db password=''it''''s'' dbname=w' AS \"crm\" (READ_ONLY, schema 'public', secret 'pg')",
            ),
            ("sqlite:crm.db", "", "ATTACH 'sqlite:/etc/groupcast/crm.db' AS \"crm\" (READ_ONLY)"),
            ("sqlite:/srv/crm.db", "", "ATTACH 'sqlite:/srv/crm.db' AS \"crm\" (READ_ONLY)"),
            (
                "ducklake:postgres:dbname=lake",
                "data_path = 's3://lake/'",
                "ATTACH 'ducklake:postgres:dbname=lake' AS \"crm\" (READ_ONLY, data_path 's3://lake/')",
            ),
            ("md:analytics?motherduck_token=abc", "", "ATTACH 'md:analytics?motherduck_token=abc' (READ_ONLY)"),
        ] {
            assert_eq!(attachment(address, options).unwrap().statement(), expected);
        }
        assert_eq!(attachment("md:analytics?motherduck_token=abc", "").unwrap().alias, "analytics");
        assert_eq!(file("sqlite:/srv/crm.db"), Some(PathBuf::from("/srv/crm.db")));
        assert_eq!(file("postgres:dbname=x"), None);
    }

    #[test]
    fn what_cannot_be_attached_says_what_to_write() {
        for (address, options, expected) in [
            ("warehouse.duckdb", "", "does not begin with"),
            ("postgres://user@host/db", "", "does not begin with"),
            ("C:\\crm.db", "", "does not begin with"),
            ("sqlite:crm.db", "read_only = false", "always read-only"),
            ("sqlite:crm.db", "'a b' = 1", "cannot be an option"),
        ] {
            let error = attachment(address, options).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{address}: {error}");
        }
    }

    #[test]
    fn credentials_of_an_address_are_not_shown() {
        for address in [
            "postgres:host=db password=hunter2hunter2",
            "postgres:postgresql://reader:hunter2hunter2@db/w",
            "md:w?motherduck_token=hunter2hunter2",
        ] {
            let attachment = attachment(address, "").unwrap();
            for words in ["FATAL: hunter2hunter2", address, "connect to hunter2hunter2@db failed"] {
                let masked = attachment.masked(words);
                assert!(!masked.contains("hunter2"), "{masked}");
            }
        }
    }
}
