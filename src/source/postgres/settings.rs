//! The settings of a PostgreSQL source: its server, and how careful the connection is.
//!
//! Connection strings are libpq's, URLs and `key=value` alike, with what other tools add to them (`options`). The driver
//! does not know every option, and refuses `sslmode=verify-full`, so those it does not know are taken out of the string.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::options::{self, Kept, Options};
use super::sslmode::SslMode;
use crate::error::{Error, Kind, Result};
use crate::mapping::Compare;
use crate::model::setting::{Setting, SettingType};
use crate::secret::Secret;
use crate::source::mirror::{MirrorSettings, SCHEMA};

/// What `sslmode` may be.
pub const SSL_MODES: &[&str] = &["disable", "prefer", "require", "verify-ca", "verify-full"];

/// What `[sources.NAME]` may hold.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::required("url", SettingType::ConnectionString),
    Setting::optional("password", SettingType::Secret),
    Setting::optional("sslmode", SettingType::OneOf(SSL_MODES)),
    Setting::optional("ca_file", SettingType::Path),
    Setting::optional("cert_file", SettingType::Path),
    Setting::optional("key_file", SettingType::Path),
    Setting::optional("read", SettingType::OneOf(&["auto", "copy", "cursor"])),
    Setting::optional("connect_timeout_seconds", SettingType::Integer(1, 3_600)),
    Setting::optional("statement_timeout_seconds", SettingType::Integer(1, 86_400)),
    Setting::optional("stall_timeout_seconds", SettingType::Integer(1, 86_400)),
    Setting::optional("compare", Compare::SETTING),
    Setting::optional("mirror_schema", SettingType::Text),
];

/// A PostgreSQL (or PostgreSQL-speaking) warehouse.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:5432/database`, or libpq's `host=… user=… dbname=…`.
    pub url: Secret,
    /// The password, when it is not part of `url`; wins over it.
    pub password: Option<Secret>,
    /// How the server's identity is checked; wins over the `sslmode` in `url`. Without either, `verify-full` for
    /// servers on other machines and `prefer` for this one.
    pub sslmode: Option<SslMode>,
    /// A PEM file with the authorities that may have signed the server's certificate, instead of the system's; wins
    /// over the `sslrootcert` in `url`.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the certificate to show to a server that asks for one; wins over the `sslcert` in `url`.
    pub cert_file: Option<PathBuf>,
    /// The PEM file with that certificate's private key; wins over the `sslkey` in `url`.
    pub key_file: Option<PathBuf>,
    /// How rows are read.
    #[serde(default)]
    pub read: Read,
    /// Longest a single statement may take at the server, in seconds; the server's own setting when absent.
    pub statement_timeout_seconds: Option<u64>,
    /// Longest that connecting may take, in seconds; 15 when absent.
    pub connect_timeout_seconds: Option<u64>,
    /// Longest that the server may send nothing while it is read, in seconds; 1,800 when absent.
    pub stall_timeout_seconds: Option<u64>,
    /// Where rows are compared, if a mapping does not say.
    #[serde(default)]
    pub compare: Compare,
    /// The schema of the tables that comparing in the warehouse needs; `groupcast_mirror` when absent.
    pub mirror_schema: Option<String>,
}

/// How rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Read {
    /// By one statement whose rows come as the server finds them.
    #[default]
    Auto,
    /// By COPY. The driver needs a named statement for it, which a pooler in transaction mode may not bear.
    Copy,
    /// By a cursor, some rows at a time.
    Cursor,
}

/// PostgresSettings taken apart.
pub(crate) struct Address {
    /// What the driver takes, password included, without anything about TLS.
    pub(crate) config: Config,
    /// How careful to be.
    pub(super) sslmode: SslMode,
    /// Whose signature counts.
    pub(super) ca_file: Option<PathBuf>,
    /// The files with the certificate that we show and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    /// `host:port`, for messages.
    pub(crate) shown: String,
    /// What must be masked in the server's words.
    pub(super) password: Option<Secret>,
    /// Longest that connecting may take.
    pub(super) connect_timeout: Duration,
    /// What of the connection string is ignored: message and help.
    pub(super) warnings: Vec<(String, String)>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longer than most models take before their first row; a server that was stopped or hangs still answers keepalives.
const STALL_TIMEOUT: Duration = Duration::from_secs(1_800);
/// A peer that vanished is noticed after 30 s + 4 × 10 s, not after the driver's default of two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 4;

fn config_error(what: impl Into<String>) -> Error {
    Error::new(Kind::Config, what)
}

impl PostgresSettings {
    /// Longest that the server may send nothing.
    pub(super) fn stall_timeout(&self) -> Duration {
        self.stall_timeout_seconds.map_or(STALL_TIMEOUT, |seconds| Duration::from_secs(seconds.max(1)))
    }

    /// The mirrors that it can keep.
    pub(super) fn mirror(&self) -> MirrorSettings {
        let schema = self.mirror_schema.clone().unwrap_or_else(|| SCHEMA.to_owned());
        MirrorSettings { compare: self.compare, schema }
    }

    /// Where the server is, for people: `host:port`.
    pub fn shown(&self) -> String {
        self.address().map(|address| address.shown).unwrap_or_else(|_| "an unknown host".to_owned())
    }

    /// Whether the connection string can be used, without using it. Yields what of it is ignored: message and help.
    ///
    /// Errors: [`Kind::Config`], without any part of the string but option names.
    pub fn check(&self) -> Result<Vec<(String, String)>> {
        self.address().map(|address| address.warnings)
    }

    /// Reads the connection string. Errors are [`Kind::Config`] and hold no part of it but option names.
    pub(crate) fn address(&self) -> Result<Address> {
        let mut split = split(&options::libpq(self.url.expose())?)?;
        let mut config: Config = split.rest.parse().map_err(|_| {
            // The driver's own words may quote a piece of the string, and so of the password.
            config_error("`url` is not a connection string").advise(
                "write it as `postgres://user@host:5432/database`, with special characters percent-encoded, and keep \
                 the password in `password`",
            )
        })?;
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        let hosts = config.get_hosts();
        if hosts.is_empty() && config.get_hostaddrs().is_empty() {
            return Err(config_error("`url` names no host").advise("write it as `postgres://user@host:5432/database`"));
        }
        if hosts.iter().any(|host| matches!(host, Host::Tcp(name) if name.contains(['@', '#', ' ']))) {
            return Err(config_error("the host in `url` is not a host name")
                .advise("percent-encode special characters of the password (`@` is `%40`), or keep it in `password`"));
        }
        let sockets_only = config.get_hostaddrs().is_empty() && !hosts.iter().any(|host| matches!(host, Host::Tcp(_)));
        let local = hosts.iter().all(is_local) && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
        let sslmode = match self.sslmode.or(split.options.sslmode) {
            // As in libpq: a socket on this machine is not encrypted, whatever the mode.
            _ if sockets_only => SslMode::Disable,
            // Whoever names the system's authorities wants them to count.
            Some(_) | None if self.sslmode.is_none() && split.options.system_authorities => SslMode::VerifyFull,
            Some(mode) => mode,
            None if local => SslMode::Prefer,
            None => SslMode::VerifyFull,
        };
        let ca_file = self.ca_file.clone().or(split.options.ca_file.take());
        if sslmode == SslMode::VerifyCa && ca_file.is_none() {
            return Err(config_error("`sslmode = \"verify-ca\"` needs to know the authority")
                .advise("set `ca_file`, or use `sslmode = \"verify-full\"` with the system's authorities"));
        }
        let cert_file = self.cert_file.clone().or(split.options.cert_file.take());
        let identity = match (cert_file, self.key_file.clone().or(split.options.key_file.take())) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(config_error("a client certificate without its key")
                    .advise("set `key_file` to the PEM file with the certificate's private key"));
            }
            (None, Some(_)) => {
                return Err(config_error("a client certificate's key without the certificate")
                    .advise("set `cert_file` to the PEM file with the certificate"));
            }
        };
        if identity.is_some() && sslmode == SslMode::Disable && !sockets_only {
            return Err(config_error("a client certificate, and `sslmode = \"disable\"`")
                .advise("a certificate is shown over TLS only: use `sslmode = \"verify-ca\"` or `verify-full`"));
        }
        let connect_timeout = match (self.connect_timeout_seconds, config.get_connect_timeout()) {
            (Some(seconds), _) => Duration::from_secs(seconds.max(1)),
            (None, Some(timeout)) => *timeout,
            (None, None) => CONNECT_TIMEOUT,
        };
        let shown = shown(&config);
        let password = config.get_password().map(|password| Secret::new(String::from_utf8_lossy(password)));
        config.connect_timeout(connect_timeout);
        config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL);
        config.keepalives_retries(KEEPALIVE_RETRIES);
        if config.get_application_name().is_none() {
            config.application_name("groupcast");
        }
        let warnings = split.options.warnings;
        Ok(Address { config, sslmode, ca_file, identity, shown, password, connect_timeout, warnings })
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// `host:port` of every server, comma-separated.
fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let mut shown: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]:{}", port(index)),
            Host::Tcp(name) => format!("{name}:{}", port(index)),
            #[cfg(unix)]
            Host::Unix(folder) => folder.join(format!(".s.PGSQL.{}", port(index))).display().to_string(),
        })
        .collect();
    if shown.is_empty() {
        shown = config.get_hostaddrs().iter().enumerate().map(|(at, host)| format!("{host}:{}", port(at))).collect();
    }
    shown.join(", ")
}

/// A connection string for the driver, and the options that are not for it.
struct Split {
    rest: String,
    options: Options,
}

fn split(text: &str) -> Result<Split> {
    let mut split = Split { rest: String::new(), options: Options::default() };
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        // Credentials end at the first `@`, as the driver reads them; a `?` before it belongs to the password.
        let after_credentials = text.find('@').map_or(0, |at| at + 1);
        let query = text[after_credentials..].find('?').map(|at| after_credentials + at);
        let address = &text[..query.unwrap_or(text.len())];
        // A second one shows that the first was part of the password; what follows it is no host, and is not looked up.
        let no_pair = |pair: &str| !pair.contains('=') && pair.contains('@');
        if address[after_credentials..].contains('@')
            || query.is_some_and(|query| text[query + 1..].split('&').any(no_pair))
        {
            return Err(config_error("the user or password in `url` contains an unescaped `@`")
                .advise("write it as `%40` (and `%` as `%25`), or keep the password in `password`"));
        }
        let Some(query) = query else {
            split.rest = text.to_owned();
            return Ok(split);
        };
        let mut kept = Vec::new();
        for pair in text[query + 1..].split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = form_urlencoded::parse(pair.as_bytes()).next().unwrap_or_default();
            match split.options.take(&key, &value)? {
                Kept::AsIs => kept.push(pair.to_owned()),
                Kept::Instead(value) => kept.push(format!("{key}={value}")),
                Kept::Dropped => {}
            }
        }
        split.rest = text[..query].to_owned();
        if !kept.is_empty() {
            split.rest = format!("{}?{}", split.rest, kept.join("&"));
        }
    } else {
        let mut kept = Vec::new();
        for (raw, key, value) in words(text) {
            match split.options.take(&key, &value)? {
                Kept::AsIs => kept.push(raw.to_owned()),
                Kept::Instead(value) => kept.push(format!("{key}={value}")),
                Kept::Dropped => {}
            }
        }
        split.rest = kept.join(" ");
    }
    Ok(split)
}

/// The `key = value` pairs of a libpq connection string: as written, key, value. What makes no sense is left to the
/// driver to refuse.
fn words(text: &str) -> Vec<(&str, String, String)> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some(equals) = rest.find('=') else {
            words.push((rest, String::new(), String::new()));
            break;
        };
        let key = rest[..equals].trim().to_owned();
        let value_at = rest.len() - rest[equals + 1..].trim_start().len();
        let quoted = rest[value_at..].starts_with('\'');
        let (mut value, mut escaped, mut end) = (String::new(), false, rest.len());
        for (at, char) in rest[value_at..].char_indices().skip(usize::from(quoted)) {
            if escaped {
                value.push(char);
                escaped = false;
            } else if char == '\\' {
                escaped = true;
            } else if if quoted { char == '\'' } else { char.is_whitespace() } {
                end = value_at + at + usize::from(quoted);
                break;
            } else {
                value.push(char);
            }
        }
        words.push((&rest[..end], key, value));
        rest = rest[end..].trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address> {
        let settings: PostgresSettings = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
        settings.address()
    }

    #[test]
    fn hosts_decide_the_default_of_sslmode() {
        for (url, expected) in [
            ("postgres://u@localhost/db", SslMode::Prefer),
            ("postgres://u@127.8.9.1:5433/db", SslMode::Prefer),
            ("postgres://u@[::1]/db", SslMode::Prefer),
            ("host=/tmp user=u", SslMode::Disable),
            ("postgres://u@%2Ftmp/db?sslmode=require", SslMode::Disable),
            ("postgres://u@db.example.com/db", SslMode::VerifyFull),
            ("postgres://u@10.0.0.1/db", SslMode::VerifyFull),
            ("postgres://u@localhost,db.example.com/db", SslMode::VerifyFull),
            ("host=localhost hostaddr=10.1.2.3 user=u", SslMode::VerifyFull),
            ("postgres://u@db.example.com/db?sslmode=require&application_name=x", SslMode::Require),
            ("postgres://u@db.example.com/db?application_name=x&sslmode=verify-full", SslMode::VerifyFull),
            ("host=db.example.com sslmode=disable user=u", SslMode::Disable),
            (r"host=db.example.com password='a\' sslmode=b' sslmode = 'prefer' user=u", SslMode::Prefer),
        ] {
            assert_eq!(address(url).unwrap().sslmode, expected, "{url}");
        }
        let address = address(r"host=h password='a\' sslmode=b' sslmode=require user=u").unwrap();
        assert_eq!(address.config.get_password(), Some(b"a' sslmode=b".as_slice()));
    }

    #[test]
    fn options_about_tls_do_not_reach_the_driver() {
        let read = address("postgres://u:p%40?x@h/db?sslrootcert=%2Fetc%2Fca.pem&sslmode=verify-ca&gssencmode=disable");
        let read = read.unwrap();
        assert_eq!((read.sslmode, read.ca_file), (SslMode::VerifyCa, Some("/etc/ca.pem".into())));
        assert_eq!(read.config.get_password(), Some(b"p@?x".as_slice()));
        assert_eq!(read.config.get_dbname(), Some("db"));
        let system = address("postgres://u@h/db?sslrootcert=system&sslmode=verify-full").unwrap();
        assert_eq!(system.ca_file, None);
        let error = address("postgres://u@h/db?sslmode=verify-ca").err().unwrap();
        assert!(error.advice().unwrap().contains("ca_file"));
        let error = address("postgres://u@h/db?sslcert=me.pem").err().unwrap();
        assert!(error.advice().unwrap().contains("key_file"), "{error}");
    }

    #[test]
    fn connection_strings_of_vendors_are_read() {
        for (url, mode, warnings) in [
            // Neon
            (
                "postgresql://u:p@ep-cool-123-pooler.eu-central-1.aws.neon.tech/db?sslmode=require&channel_binding=require",
                SslMode::Require,
                0,
            ),
            ("postgres://u:p@h/db?sslmode=require&options=endpoint%3Dep-cool-123", SslMode::Require, 0),
            // Supabase, for Prisma
            ("postgresql://postgres.ref:p@h:6543/postgres?pgbouncer=true&connection_limit=1", SslMode::VerifyFull, 2),
            // Vercel
            ("postgres://u:p@h:6543/postgres?sslmode=require&supa=base-pooler.x", SslMode::Require, 1),
            // DigitalOcean, Aiven, Heroku, Render, Railway
            ("postgresql://doadmin:p@h:25060/defaultdb?sslmode=require", SslMode::Require, 0),
            ("postgres://avnadmin:p@h:12691/defaultdb?sslmode=verify-ca&sslrootcert=ca.pem", SslMode::VerifyCa, 0),
            ("postgres://u:p@h:5432/db?sslmode=no-verify", SslMode::Require, 0),
            ("postgres://u:p@h:5432/db?ssl=true", SslMode::VerifyFull, 0),
            // node-postgres 8.16, CockroachDB, Crunchy
            ("postgres://u:p@h/db?sslmode=require&uselibpqcompat=true", SslMode::Require, 1),
            ("cockroachdb://u:p@h:26257/db?sslmode=verify-full&sslrootcert=system", SslMode::VerifyFull, 0),
            ("postgres://u:p@localhost/db?sslrootcert=system", SslMode::VerifyFull, 0),
            ("postgres://u:p@h1:5432,h2:5433/db?target_session_attrs=primary", SslMode::VerifyFull, 0),
            ("postgres://u:p@h1,h2/db?target_session_attrs=prefer-standby", SslMode::VerifyFull, 1),
            // JDBC, SQLAlchemy
            ("jdbc:postgresql://h:5432/db?user=u&password=p&ssl=true&prepareThreshold=0", SslMode::VerifyFull, 1),
            ("postgresql+asyncpg://u:p@h/db?ssl=require&prepared_statement_cache_size=0", SslMode::Require, 1),
            ("host=h user=u password=p target_session_attrs=standby sslmode=allow", SslMode::Prefer, 0),
        ] {
            let read = address(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!((read.sslmode, read.warnings.len()), (mode, warnings), "{url}: {:?}", read.warnings);
            assert_eq!(read.config.get_password(), Some(b"p".as_slice()), "{url}");
        }
        // Characters that are none of an address's own do no harm to a password.
        for (url, password) in [
            ("postgres://u:p/w#r:d?x&y@h/db", "p/w#r:d?x&y"),
            ("postgres://u:p%w@h/db", "p%w"),
            ("postgres://u:[p]$!'*@h/db", "[p]$!'*"),
        ] {
            let read = address(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(read.config.get_password(), Some(password.as_bytes()), "{url}");
            assert_eq!(read.shown, "h:5432");
        }
        let primary = address("postgres://u@h/db?target_session_attrs=primary&application_name=a@b").unwrap();
        let wanted = tokio_postgres::config::TargetSessionAttrs::ReadWrite;
        assert_eq!(primary.config.get_target_session_attrs(), wanted);
        assert_eq!(primary.config.get_application_name(), Some("a@b"));
    }

    #[test]
    fn explicit_settings_win_over_the_url() {
        let settings: PostgresSettings = serde_json::from_value(serde_json::json!({
            "url": "postgres://u:old@h:6543/db?sslmode=disable&connect_timeout=3", "password": "new-secret",
            "sslmode": "require", "ca_file": "/ca.pem", "read": "cursor", "connect_timeout_seconds": 4,
        }))
        .unwrap();
        assert!(!format!("{settings:?}").contains("old") && !format!("{settings:?}").contains("new-secret"));
        let address = settings.address().unwrap();
        assert_eq!(address.config.get_password(), Some(b"new-secret".as_slice()));
        assert_eq!(address.sslmode, SslMode::Require);
        assert_eq!(address.connect_timeout, Duration::from_secs(4));
        assert_eq!(address.shown, "h:6543");
    }

    #[test]
    fn a_broken_url_shows_no_part_of_itself() {
        for url in [
            "postgres://reader:hunter2@part@db.example.com/db",
            "postgres://reader:hunter2",
            "postgres://reader:hunter2@db.example.com:hunter2/db",
            "hunter2",
            "password=hunter2",
            "host=h password=hunter2 hunter2",
            "host=h password=a hunter2=hunter2",
            "postgres://u@h/db?hunter2=x",
            "postgres://u@h/db?sslmode=hunter2",
            "",
            "postgres://reader:hunter2@part/word@db.example.com/db",
            "postgres://reader:hunter2@part?word@db.example.com/db",
            "postgres://reader:hunter2@part#word@db.example.com/db",
            "jdbc:mysql://reader:hunter2@db.example.com/db",
            "psql postgres://reader:hunter2@db.example.com/db",
        ] {
            let error = address(url).err().unwrap_or_else(|| panic!("{url} is refused"));
            assert_eq!(error.kind(), Kind::Config);
            assert!(!error.to_string().contains("hunter2") && !error.to_string().contains("part"), "{error}");
            assert!(error.advice().is_some());
        }
    }
}
