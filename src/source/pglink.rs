//! One connection to PostgreSQL: how is it made, what does its server take, and how does it end?

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::config::SslNegotiation;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::pgerror::Target;
use super::pgsettings::{Address, SslMode};
use super::pgtls;
use crate::error::{Result, Within};

/// One connection and the task that drives it.
pub(super) struct Link {
    pub(super) client: Client,
    driver: JoinHandle<()>,
    tls: MakeRustlsConnect,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No transaction is open.
    Idle,
    /// A transaction is open, or may be.
    InTransaction,
    /// A statement is running. A connection dropped in this state is of no further use.
    Reading,
}

impl Drop for Link {
    /// An idle connection says goodbye by itself. One that is reading would first drain everything the server still
    /// sends, so its socket is closed, and the server told to stop.
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
    pub(super) async fn open(address: &Address, target: &Target) -> Result<Link> {
        let direct = address.config.get_ssl_negotiation() == SslNegotiation::Direct;
        let tls = pgtls::connector(address.sslmode, address.ca_file.as_deref(), direct).within(|| target.place())?;
        let mut config = address.config.clone();
        config.ssl_mode(match address.sslmode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
        });
        let connecting = async {
            match config.connect(tls.clone()).await {
                // As in libpq, `prefer` also tries without encryption when the handshake fails or when the server's
                // rules refuse encrypted connections (28000).
                Err(error)
                    if address.sslmode == SslMode::Prefer
                        && error.as_db_error().is_none_or(|db| db.code().code() == "28000") =>
                {
                    config.ssl_mode(tokio_postgres::config::SslMode::Disable);
                    config.connect(tls.clone()).await
                }
                connected => connected,
            }
        };
        let (client, connection) = match tokio::time::timeout(address.connect_timeout, connecting).await {
            Ok(connected) => connected.map_err(|error| target.connect_error(&error))?,
            Err(_) => return Err(target.connect_timeout(address.connect_timeout.as_secs())),
        };
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer learns of the failure; nobody else needs to.
            let _ = connection.await;
        });
        Ok(Link { client, driver, tls, state: State::Idle })
    }
}

/// Transactions from the best on. Each statement has a snapshot of its own, on purpose: the statement that asks for the
/// types waits for whoever is reloading the tables, and keeps them locked; only then does the one that reads the rows take
/// its snapshot. With one snapshot for all, taken before that waiting, a table that was truncated and filled again in the
/// meantime is seen empty (`TRUNCATE` does not keep old rows for old snapshots).
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
