//! `groupcast daemon`: runs the syncs on their schedules, and serves the API, the console and the commands beside the ledger.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};

use super::args::Cli;
use crate::config::Location;
use crate::daemon::observe::log;
use crate::daemon::{OpenedDaemon, PreparedDaemon, Serving};
use crate::error::{Error, Kind, Result};
use crate::server::{console, http};
use crate::service::open::Failure;
use crate::service::open::address::{self, Address, Written};
use crate::service::open::socket::Bound;
use crate::service::wire::Hello;

pub(super) async fn daemon(cli: &Cli, listen: Option<&str>, name: Option<&str>) -> Result<u8, Failure> {
    let ended = run(cli, listen, name).await;
    let written = log::flush();
    match ended {
        // A standard error that is not read must not keep the process from ending.
        Err(failure) if !written => Ok(failure.as_error().kind().exit_code()),
        ended => ended,
    }
}

async fn run(cli: &Cli, listen: Option<&str>, name: Option<&str>) -> Result<u8, Failure> {
    if cli.json {
        let advice = "for log lines as JSON set `log = \"json\"` under [daemon], or GROUPCAST__DAEMON__LOG=json";
        return Err(Error::new(Kind::Config, "`groupcast daemon` takes no `--json`").advise(advice).into());
    }
    let prepared = PreparedDaemon::read(cli.location(), listen, name)?;
    if let Some(target) = &cli.target {
        tracing::info!("target: {target} ({})", cli.location().settings_file());
    }
    // Before anything is opened: an address that may not be served is a mistake in the config.
    let address = http::check_listen(prepared.settings())?;
    // Before the port: the error of a second daemon names the first one, not its port.
    let opened = prepared.open(cli.lock_timeout).await?;
    let listener = bind(address).await?;
    let address = Address { url: reached_at(&listener)?, pid: std::process::id() };
    let url = address.url.clone();
    let local = Local::bind(&opened, &address, &cli.location());
    let _written = Written::write(address::path(opened.ledger_path()), address)
        .inspect_err(|error| tracing::warn!("{error}; the daemon does not need it"));
    let token = opened.settings().token.clone();
    let serve = |Serving { service, clock, closing }| async move {
        let pages = console::router(Arc::clone(&service), Arc::clone(&clock));
        let settings = http::ServerSettings::new(token).with_pages(pages).with_error_page(console::error_page);
        let commands = async {
            let Some(Local { _bound, listener, hello }) = local else { return };
            let (service, clock, limits) = (Arc::clone(&service), Arc::clone(&clock), http::HttpLimits::default());
            if let Err(error) = http::serve_local(listener, service, hello, limits, clock, closing.clone()).await {
                tracing::error!("commands cannot reach this daemon any more: {error}");
            }
        };
        let served = http::serve(listener, Arc::clone(&service), &settings, Arc::clone(&clock), closing.clone());
        tokio::join!(served, commands).0
    };
    Ok(opened.run(&url, serve).await?)
}

/// The socket beside the ledger, and how the daemon introduces itself there.
struct Local {
    _bound: Bound,
    listener: UnixListener,
    hello: Hello,
}

impl Local {
    /// Listens beside the ledger for commands. Where that is impossible, the daemon runs without them.
    fn bind(opened: &OpenedDaemon, address: &Address, location: &Location) -> Option<Local> {
        let hello = Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: address.pid,
            url: address.url.clone(),
            ledger: opened.ledger_file(),
            folder: std::path::absolute(&location.folder).unwrap_or_else(|_| location.folder.clone()),
            target: location.target.as_ref().map(ToString::to_string),
            folder_id: None,
            command: None,
        };
        let bound = Bound::bind(opened.ledger_path()).and_then(|(bound, listener)| {
            let failed =
                |error| Error::new(Kind::Bug, "failed to listen on the socket beside the ledger").because(error);
            Ok(Local { _bound: bound, listener: UnixListener::from_std(listener).map_err(failed)?, hello })
        });
        bound
            .inspect_err(|error| {
                let advice = error.advice().unwrap_or_default();
                tracing::warn!("commands cannot reach this daemon, use its API or console: {error}; {advice}");
            })
            .ok()
    }
}

/// Listens on the config's address.
async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::new(Kind::Config, format!("failed to listen on {address}"))
            .advise("stop the process that uses this port, or choose another port with `daemon.listen` or `--listen`")
            .because(error)
    })
}

/// The URL as this machine reaches it: an address for all interfaces is reached through loopback.
fn reached_at(listener: &TcpListener) -> Result<String> {
    let failed = |error| Error::new(Kind::Bug, "failed to read the address that is listened on").because(error);
    let mut address = listener.local_addr().map_err(failed)?;
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    Ok(format!("http://{address}"))
}
