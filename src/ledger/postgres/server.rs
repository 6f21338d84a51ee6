//! The ledger's server, and the schema in it.

use std::time::Duration;

use crate::duckdb::quote_identifier;
use crate::error::{Error, Kind, Result};
use crate::source::postgres::{Address, Link, PostgresSettings, Target};

/// After so long the driver looks whether an idle connection is still there.
const KEEPALIVES_IDLE_STANDARD: Duration = Duration::from_secs(2 * 60 * 60);
/// PostgreSQL cuts longer names off.
const SCHEMA_BYTES_MAX: usize = 63;

/// The server, and the schema in it.
pub(super) struct Server {
    address: Address,
    target: Target,
    /// The schema, quoted.
    pub(super) schema: String,
    /// Its name.
    pub(super) schema_name: String,
}

/// Has a connection that was cut off fail within half a minute, unless the connection string says otherwise: a lease expires
/// meanwhile.
fn notice_cuts(config: &mut tokio_postgres::Config) {
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(20));
    }
    if config.get_keepalives_idle() == KEEPALIVES_IDLE_STANDARD {
        config.keepalives_idle(Duration::from_secs(10));
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(Duration::from_secs(5));
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(3);
    }
}

impl Server {
    pub(super) fn of(settings: &PostgresSettings, schema: &str) -> Result<Server> {
        if schema.is_empty() || schema.len() > SCHEMA_BYTES_MAX || schema.contains('\0') {
            return Err(Error::new(Kind::Config, format!("`schema` is not a name of 1 to {SCHEMA_BYTES_MAX} bytes"))
                .advise("name the schema in which the ledger's tables are to be: `schema = \"groupcast\"`")
                .at("state"));
        }
        let mut address = settings.address().map_err(|error| error.at("state"))?;
        notice_cuts(&mut address.config);
        let place = format!("ledger in PostgreSQL at {}", address.shown);
        let target = Target::new(place, &address, &settings.url);
        Ok(Server { address, target, schema: quote_identifier(schema), schema_name: schema.to_owned() })
    }

    /// Where it is, for messages.
    pub(super) fn place(&self) -> String {
        self.target.place()
    }

    /// The user we sign in as.
    pub(super) fn user(&self) -> &str {
        self.target.user()
    }

    /// The database.
    pub(super) fn database(&self) -> &str {
        self.address.config.get_dbname().unwrap_or(self.target.user())
    }

    /// A text of the server without secrets.
    pub(super) fn masked(&self, text: &str) -> String {
        self.target.masked(text)
    }

    /// SQL with the schema for every `@.`.
    pub(super) fn sql(&self, text: &str) -> String {
        text.replace("@.", &format!("{}.", self.schema))
    }

    pub(super) async fn connect(&self) -> Result<Link> {
        Link::open(&self.address, &self.target).await.map_err(|error| {
            let kind = if error.kind() == Kind::Config { Kind::Config } else { Kind::Ledger };
            error.of_kind(kind).reworded(|text| text.replace("for this source", "in `[state]`"))
        })
    }
}
