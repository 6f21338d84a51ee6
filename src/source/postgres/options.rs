//! Options of connection strings as vendors, drivers and poolers publish them, and what becomes of each.
//!
//! libpq's own that the driver knows go to the driver; those about TLS are read by us. What only steers another driver or
//! its pool is left out with a warning. What would change who we are, whom we trust or what a name means, and cannot be
//! carried out, is refused with the way that can. An unknown option is refused without repeating its name: where
//! a password holds a `?`, a piece of it stands there.

use std::path::PathBuf;

use super::sslmode::SslMode;
use crate::error::{Error, Kind, Result};
use crate::mapping::diagnostic::did_you_mean;

/// What the options about TLS and the warnings come to.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) sslmode: Option<SslMode>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    /// Whether the system's authorities were asked for by name, which libpq takes for `verify-full`.
    pub(super) system_authorities: bool,
    /// What is left out: message and help.
    pub(super) warnings: Vec<(String, String)>,
}

/// What an option becomes for the driver.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// As it stands.
    AsIs,
    /// With this value.
    Instead(&'static str),
    /// Nothing.
    Dropped,
}

/// Options that the driver takes as they are.
const DRIVER: [&str; 17] = [
    "user",
    "password",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "options",
    "application_name",
    "sslnegotiation",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "channel_binding",
    "load_balance_hosts",
];
/// libpq options without a meaning here; dropping them changes nothing about whom we talk to.
const IGNORED: [&str; 11] = [
    "gssencmode",
    "gssdelegation",
    "krbsrvname",
    "gsslib",
    "sslcompression",
    "sslsni",
    "sslcertmode",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "fallback_application_name",
    "client_encoding",
];
/// libpq options that would change who we are or what we trust, and that the driver cannot carry out.
const REFUSED: [&str; 8] =
    ["sslpassword", "sslcrl", "sslcrldir", "service", "passfile", "requirepeer", "require_auth", "replication"];
/// What steers the pools, caches and logs of other drivers, in lower case.
const FOREIGN: [&str; 63] = [
    // Prisma
    "pgbouncer",
    "connection_limit",
    "pool_timeout",
    "statement_cache_size",
    "socket_timeout",
    "single_use_connections",
    "sslidentity",
    "sslaccept",
    "sslcapath",
    // Vercel, Supabase, Neon, DigitalOcean
    "supa",
    "workaround",
    "uselibpqcompat",
    "pool_mode",
    "connection_pool",
    // Rails, Django, Laravel, Doctrine
    "pool",
    "pool_size",
    "adapter",
    "encoding",
    "charset",
    "reconnect",
    "prepared_statements",
    "advisory_locks",
    "schema_search_path_disabled",
    "conn_max_age",
    "serverversion",
    "server_version",
    "timezone",
    // SQLAlchemy, asyncpg, psycopg
    "prepared_statement_cache_size",
    "prepare_threshold",
    "command_timeout",
    "max_cached_statement_lifetime",
    "async_fallback",
    // pgx, lib/pq, sqlx
    "pool_max_conns",
    "pool_min_conns",
    "pool_min_idle_conns",
    "pool_max_conn_lifetime",
    "pool_max_conn_lifetime_jitter",
    "pool_max_conn_idle_time",
    "pool_health_check_period",
    "default_query_exec_mode",
    "statement_cache_capacity",
    "statement_cache_mode",
    "description_cache_capacity",
    "prefer_simple_protocol",
    "binary_parameters",
    "statement-cache-capacity",
    // node-postgres and its kin
    "max",
    "min",
    "idle_timeout",
    "idletimeoutmillis",
    "max_lifetime",
    "prepare",
    // JDBC
    "preparethreshold",
    "preparedstatementcachequeries",
    "rewritebatchedinserts",
    "binarytransfer",
    "stringtype",
    "defaultrowfetchsize",
    "applicationname",
    "tcpkeepalive",
    "sslfactory",
    "readonly",
    "targetservertype",
];
/// Times that other drivers set by these names, with what does it here.
const TIMES: [(&str, &str); 8] = [
    ("statement_timeout", "statement_timeout_seconds"),
    ("statement-timeout", "statement_timeout_seconds"),
    ("query_timeout", "statement_timeout_seconds"),
    ("sockettimeout", "statement_timeout_seconds"),
    ("logintimeout", "connect_timeout_seconds"),
    ("connecttimeout", "connect_timeout_seconds"),
    ("connection_timeout", "connect_timeout_seconds"),
    ("connectiontimeoutmillis", "connect_timeout_seconds"),
];
/// Options by which other drivers say what an unqualified table name means.
const SCHEMAS: [&str; 4] = ["schema", "currentschema", "search_path", "schema_search_path"];

fn config_error(what: impl Into<String>) -> Error {
    Error::new(Kind::Config, what)
}

impl Options {
    /// Takes an option; what is left of it for the driver. The errors and warnings hold known names alone.
    pub(super) fn take(&mut self, written: &str, value: &str) -> Result<Kept> {
        let lower = written.to_ascii_lowercase();
        match lower.as_str() {
            "sslmode" => self.sslmode = Some(sslmode(value)?),
            "ssl" => {
                self.sslmode = Some(match value.to_ascii_lowercase().as_str() {
                    "true" | "1" | "on" | "yes" | "" => SslMode::VerifyFull,
                    "false" | "0" | "off" | "no" => SslMode::Disable,
                    word => sslmode(word)?,
                });
            }
            "sslrootcert" if value == "system" => self.system_authorities = true,
            "sslrootcert" => self.ca_file = Some(PathBuf::from(value)),
            "sslcert" => self.cert_file = Some(PathBuf::from(value)),
            "sslkey" => self.key_file = Some(PathBuf::from(value)),
            "target_session_attrs" => {
                return Ok(match value {
                    "any" | "read-write" | "read-only" => Kept::AsIs,
                    "primary" => Kept::Instead("read-write"),
                    "standby" => Kept::Instead("read-only"),
                    "prefer-standby" => {
                        self.warn(
                            "`url` prefers a standby (`target_session_attrs`), which is not supported: \
                             the first server that answers is used",
                            "name the standby first, or write `target_session_attrs=read-only` where there is always one",
                        );
                        Kept::Instead("any")
                    }
                    _ => {
                        return Err(config_error("the `target_session_attrs` in `url` is unknown")
                            .advise("use one of any, read-write, read-only, primary, standby"));
                    }
                });
            }
            name if SCHEMAS.contains(&name) && value == "public" => self.foreign(name),
            name if SCHEMAS.contains(&name) => {
                return Err(config_error(format!("`url` sets `{name}`, which only other drivers understand")).advise(
                    "remove it and write the schema in the mapping (`table = \"analytics.accounts\"`), or write \
                     `options=-c%20search_path%3Danalytics` instead where there is no pooler in between",
                ));
            }
            name if DRIVER.contains(&name) => return Ok(Kept::AsIs),
            name if IGNORED.contains(&name) => {}
            name if FOREIGN.contains(&name) => self.foreign(name),
            name if REFUSED.contains(&name) => {
                return Err(config_error(format!("`url` sets `{name}`, which is not supported"))
                    .advise("remove it; sign in with a user and password, or with `cert_file` and `key_file`"));
            }
            name => {
                if let Some((name, ours)) = TIMES.iter().find(|(known, _)| *known == name) {
                    self.warn(
                        &format!("`url` sets `{name}`, which only other drivers understand: it is ignored"),
                        &format!("remove it, and set `{ours}` for this source instead"),
                    );
                } else {
                    let known = DRIVER.iter().chain(&IGNORED).chain(&[
                        "sslmode",
                        "sslrootcert",
                        "sslcert",
                        "sslkey",
                        "target_session_attrs",
                    ]);
                    let advice = match did_you_mean(name, known.copied()) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => "remove what is not PostgreSQL's; where the password holds `?`, `&`, `#` or `@`, \
                                 percent-encode them or keep it in `password`"
                            .to_owned(),
                    };
                    return Err(config_error("`url` contains an unknown option").advise(advice));
                }
            }
        }
        Ok(Kept::Dropped)
    }

    fn foreign(&mut self, name: &str) {
        self.warn(
            &format!("`url` sets `{name}`, which only other drivers understand: it is ignored"),
            "remove it from the connection string, or leave it",
        );
    }

    fn warn(&mut self, message: &str, help: &str) {
        self.warnings.push((message.to_owned(), help.to_owned()));
    }
}

fn sslmode(value: &str) -> Result<SslMode> {
    Ok(match value {
        "disable" => SslMode::Disable,
        "allow" | "prefer" => SslMode::Prefer,
        // node-postgres' word for what libpq calls `require`.
        "require" | "no-verify" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => {
            return Err(config_error("the `sslmode` in `url` is unknown")
                .advise("use one of disable, prefer, require, verify-ca, verify-full"));
        }
    })
}

/// The connection string as libpq writes it, whatever stands before the address by the habit of another tool.
///
/// Errors: [`Kind::Config`], it is another kind of address.
pub(super) fn libpq(text: &str) -> Result<String> {
    let text = text.trim();
    let text = text.strip_prefix("jdbc:").unwrap_or(text);
    let refused = |what: &str, advice: &str| Err(config_error(what).advise(advice));
    let as_url = "write it as `postgres://user@host:5432/database`";
    if text.starts_with("psql ") {
        return refused("`url` is a shell command", "leave out `psql` and the quotation marks: the address alone");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        if text.contains(';') && text.to_ascii_lowercase().contains("host=") {
            return refused("`url` is a connection string of .NET, with semicolons", as_url);
        }
        if !text.is_empty() && !text.contains('=') {
            return refused("`url` is not a valid URL: missing `postgres://`", as_url);
        }
        return Ok(text.to_owned());
    };
    // A password may hold `://` in a string of keys and values.
    if !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte)) {
        return Ok(text.to_owned());
    }
    let scheme = scheme.to_ascii_lowercase();
    // SQLAlchemy names its driver behind a plus sign.
    match scheme.split('+').next().unwrap_or_default() {
        "postgres" | "postgresql" | "redshift" | "cockroachdb" | "postgis" | "timescaledb" | "yugabytedb" => {
            Ok(format!("postgres://{rest}"))
        }
        "http" | "https" => refused("`url` is the address of a web page", as_url),
        _ => refused("`url` is not PostgreSQL's kind of address", as_url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_option_has_one_fate() {
        let all: Vec<&str> = DRIVER
            .iter()
            .chain(&IGNORED)
            .chain(&REFUSED)
            .chain(&FOREIGN)
            .chain(&SCHEMAS)
            .chain(TIMES.iter().map(|(name, _)| name))
            .copied()
            .collect();
        let unique: std::collections::BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), unique.len(), "an option stands in two lists");
        assert!(all.iter().all(|name| *name == name.to_ascii_lowercase()));
    }

    #[test]
    fn foreign_options_are_named_or_carried_out() {
        for (name, value, kept, warned) in [
            ("pgbouncer", "true", Kept::Dropped, true),
            ("connection_limit", "1", Kept::Dropped, true),
            ("prepareThreshold", "0", Kept::Dropped, true),
            ("uselibpqcompat", "true", Kept::Dropped, true),
            ("schema", "public", Kept::Dropped, true),
            ("socketTimeout", "30", Kept::Dropped, true),
            ("target_session_attrs", "primary", Kept::Instead("read-write"), false),
            ("target_session_attrs", "standby", Kept::Instead("read-only"), false),
            ("target_session_attrs", "prefer-standby", Kept::Instead("any"), true),
            ("target_session_attrs", "read-only", Kept::AsIs, false),
            ("channel_binding", "require", Kept::AsIs, false),
            ("options", "endpoint=ep-cool-darkness-123456", Kept::AsIs, false),
            ("sslsni", "1", Kept::Dropped, false),
        ] {
            let mut options = Options::default();
            assert_eq!(options.take(name, value).unwrap(), kept, "{name}={value}");
            assert_eq!(!options.warnings.is_empty(), warned, "{name}={value}");
            if warned && kept == Kept::Dropped {
                assert!(options.warnings[0].0.to_ascii_lowercase().contains(&name.to_ascii_lowercase()));
            }
        }
        for (name, value, word) in [
            ("schema", "analytics", "schema"),
            ("currentSchema", "analytics", "currentschema"),
            ("sslpassword", "x", "sslpassword"),
            ("target_session_attrs", "best", "target_session_attrs"),
            ("sslmode", "strict", "sslmode"),
            ("ssl", "maybe", "sslmode"),
        ] {
            let error = Options::default().take(name, value).unwrap_err();
            assert!(error.to_string().contains(word) && !error.to_string().contains(value), "{error}");
        }
        let error = Options::default().take("sslmod", "require").unwrap_err();
        assert_eq!(error.advice(), Some("did you mean `sslmode`?"));
        assert!(!error.to_string().contains("sslmod"));
    }

    #[test]
    fn addresses_of_other_tools_are_read_or_named() {
        for (text, expected) in [
            (" postgres://u@h/db\n", "postgres://u@h/db"),
            ("jdbc:postgresql://h/db?user=u", "postgres://h/db?user=u"),
            ("postgresql+psycopg2://u@h/db", "postgres://u@h/db"),
            ("POSTGRES://u@h/db", "postgres://u@h/db"),
            ("redshift+redshift_connector://u@h/db", "postgres://u@h/db"),
            ("host=h user=u password='a://b'", "host=h user=u password='a://b'"),
        ] {
            assert_eq!(libpq(text).unwrap(), expected);
        }
        for (text, words) in [
            ("psql 'postgresql://u:hunter2@h/db'", "shell command"),
            ("mysql://u:hunter2@h/db", "not PostgreSQL's"),
            ("u:hunter2@h:5432/db", "missing `postgres://`"),
            ("https://app.example.com/hunter2", "web page"),
            ("Host=h;Username=u;Password=hunter2;Database=d", ".NET"),
        ] {
            let error = libpq(text).unwrap_err();
            assert!(error.to_string().contains(words) && !error.to_string().contains("hunter2"), "{error}");
            assert!(error.advice().is_some());
        }
    }
}
