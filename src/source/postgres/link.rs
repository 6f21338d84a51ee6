//! One connection to PostgreSQL: making it, the transactions its server supports, and closing it.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslNegotiation};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::Target;
use super::settings::Address;
use super::sslmode::SslMode;
use super::tls;
use crate::error::{Result, Within};

/// One connection and the task that drives it.
pub(crate) struct Link {
    pub(crate) client: Client,
    driver: JoinHandle<()>,
    tls: MakeRustlsConnect,
    pub(crate) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No transaction is open.
    Idle,
    /// A transaction is open, or may be.
    InTransaction,
    /// A statement is running. A connection dropped in this state is of no further use.
    Reading,
}

impl Drop for Link {
    /// An idle connection says goodbye by itself. One that is reading would first drain everything the server still
    /// sends, so its socket is closed, and the server is asked to stop.
    fn drop(&mut self) {
        if self.state != State::Reading {
            return;
        }
        self.driver.abort();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (token, tls) = (self.client.cancel_token(), self.tls.clone());
            runtime.spawn(async move {
                // Best effort: without it the server notices the closed socket at its next row.
                let _ = tokio::time::timeout(Duration::from_secs(5), token.cancel_query(tls)).await;
            });
        }
    }
}

impl Link {
    /// Connects within the address's time limit, encrypted and checked as it says.
    pub(crate) async fn open(address: &Address, target: &Target) -> Result<Link> {
        let direct = address.config.get_ssl_negotiation() == SslNegotiation::Direct;
        let tls = tls::connector(address, direct).within(|| target.place())?;
        let mut config = address.config.clone();
        config.ssl_mode(match address.sslmode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
        });
        let (client, connection) = connect(&config, address, &tls, target).await?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer learns of the failure; nobody else needs to.
            let _ = connection.await;
        });
        Ok(Link { client, driver, tls, state: State::Idle })
    }
}

type Connected = (Client, Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>);

/// The first server that takes us. As in libpq, each server and each of its addresses has the whole time limit: one that is
/// gone without a word, or hangs, must not use up the time of the others.
async fn connect(config: &Config, address: &Address, tls: &MakeRustlsConnect, target: &Target) -> Result<Connected> {
    let attempt = async |config: &Config| match config.connect(tls.clone()).await {
        // As in libpq, `prefer` also tries without encryption when the handshake fails or when the server's rules refuse
        // encrypted connections (28000).
        Err(error)
            if address.sslmode == SslMode::Prefer
                && error.as_db_error().is_none_or(|db| db.code().code() == "28000") =>
        {
            let mut plain = config.clone();
            plain.ssl_mode(tokio_postgres::config::SslMode::Disable);
            plain.connect(tls.clone()).await
        }
        connected => connected,
    };
    let limit = address.connect_timeout;
    let mut refused = None;
    let mut silent = None;
    for server in servers(config) {
        for config in reached(server, limit).await {
            match tokio::time::timeout(limit, attempt(&config)).await {
                Ok(Ok(connected)) => return Ok(connected),
                // What a server itself said tells more than that another one was not there.
                Ok(Err(error))
                    if refused.as_ref().is_none_or(|error: &tokio_postgres::Error| error.as_db_error().is_none()) =>
                {
                    refused = Some(error);
                }
                Ok(Err(_)) => {}
                Err(_) => silent = Some(target.connect_timeout(limit.as_secs())),
            }
        }
    }
    Err(match (refused, silent) {
        (Some(error), None) => target.connect_error(&error),
        (Some(error), Some(_)) if error.as_db_error().is_some() => target.connect_error(&error),
        (_, silent) => silent.unwrap_or_else(|| target.connect_timeout(limit.as_secs())),
    })
}

/// The servers that a connection string names, each alone. Where they shall be tried in a random order, the driver does it.
fn servers(config: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let unequal = |length: usize| length > 1 && length != count;
    // The driver refuses lists that do not fit together.
    let odd = unequal(ports.len()) || (!hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len());
    if count == 1 || odd || config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        return vec![config.clone()];
    }
    let server = |at: usize| {
        let mut one = without_host(config);
        match hosts.get(at) {
            Some(Host::Tcp(name)) => _ = one.host(name),
            #[cfg(unix)]
            Some(Host::Unix(path)) => _ = one.host_path(path),
            None => {}
        }
        if let Some(address) = addresses.get(at) {
            one.hostaddr(*address);
        }
        if let Some(port) = ports.get(at).or(ports.first()) {
            one.port(*port);
        }
        one
    };
    (0..count).map(server).collect()
}

/// A server by each of its addresses. What has no name, and a name that is not found, is left to the driver.
async fn reached(server: Config, limit: Duration) -> Vec<Config> {
    let ([Host::Tcp(name)], []) = (server.get_hosts(), server.get_hostaddrs()) else { return vec![server] };
    if server.get_load_balance_hosts() == LoadBalanceHosts::Random {
        return vec![server];
    }
    let port = server.get_ports().first().copied().unwrap_or(5432);
    let found = tokio::time::timeout(limit, tokio::net::lookup_host((name.as_str(), port))).await;
    let found: Vec<_> = found.ok().and_then(Result::ok).into_iter().flatten().collect();
    if found.len() < 2 {
        return vec![server];
    }
    let by = |address: std::net::SocketAddr| {
        let mut one = server.clone();
        one.hostaddr(address.ip());
        one
    };
    found.into_iter().map(by).collect()
}

/// The same settings without any server.
fn without_host(config: &Config) -> Config {
    let mut one = Config::new();
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(database) = config.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        one.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    one
}

/// Transactions from the best on. Each statement has a snapshot of its own, on purpose: the statement that asks for the
/// types waits for a session that is reloading the tables, and keeps them locked; only then does the one that reads the
/// rows take its snapshot. With one snapshot for all, taken before that waiting, a table that was truncated and filled
/// again in the meantime is seen empty (`TRUNCATE` does not keep old rows for old snapshots).
const OPENINGS: [&str; 3] = ["BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY", "BEGIN READ ONLY", "BEGIN"];

/// The best transaction this server takes, with the settings it takes.
pub(super) async fn probe_opening(client: &Client, settings: &[String]) -> Result<String, tokio_postgres::Error> {
    let accepted = async |sql: String| match client.batch_execute(&format!("{sql}; ROLLBACK")).await {
        Ok(()) => Ok(true),
        Err(error) if error.as_db_error().is_some() && !client.is_closed() => {
            client.batch_execute("ROLLBACK").await.map(|()| false)
        }
        Err(error) => Err(error),
    };
    let all = format!("{}; {}", OPENINGS[0], settings.join("; "));
    if accepted(all.clone()).await? {
        return Ok(all);
    }
    let mut opening = "BEGIN".to_owned();
    for candidate in OPENINGS {
        if accepted(candidate.to_owned()).await? {
            opening = candidate.to_owned();
            break;
        }
    }
    let mut whole = opening.clone();
    for setting in settings {
        if accepted(format!("{opening}; {setting}")).await? {
            whole = format!("{whole}; {setting}");
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_tried_alone_with_all_settings() {
        let text = "postgres://u:p@h1,h2:5433/db?application_name=a&connect_timeout=3&target_session_attrs=read-write\
                    &channel_binding=require&options=-c%20a%3Db&keepalives_idle=7&tcp_user_timeout=9&sslnegotiation=direct";
        let config: Config = text.parse().unwrap();
        let alone = servers(&config);
        assert_eq!(alone.len(), 2);
        for (one, name, port) in [(&alone[0], "h1", 5432), (&alone[1], "h2", 5433)] {
            let mut expected: Config = text.replace("h1,h2:5433", name).parse().unwrap();
            expected.ssl_mode(config.get_ssl_mode());
            assert_eq!(
                (one.get_hosts(), one.get_ports()),
                ([Host::Tcp(name.to_owned())].as_slice(), [port].as_slice())
            );
            // The driver shows everything but the password.
            let shown = |config: &Config| format!("{config:?}").replace(&format!("port: {:?}", config.get_ports()), "");
            assert_eq!((shown(one), one.get_password()), (shown(&expected), expected.get_password()));
        }
        let random: Config = "postgres://u@h1,h2/db?load_balance_hosts=random".parse().unwrap();
        assert_eq!(servers(&random).len(), 1);
    }
}
