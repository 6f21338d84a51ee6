//! `groupcast daemon drain`: has a daemon start no more runs, and end with those it has.

use std::io::Write;
use std::sync::Arc;

use super::args::Cli;
use super::print_json;
use super::screen::{self, plural};
use super::service::{self, Access};
use crate::service::open::Failure;

pub(super) async fn drain(cli: &Cli, name: Option<&str>) -> Result<u8, Failure> {
    let project = Arc::new(super::read_project(cli)?);
    let opened = service::open(cli, &project, Access::Read).await?;
    let daemon = opened.service.drain(name).await?;
    if cli.json {
        print_json(&serde_json::json!(daemon));
        return Ok(0);
    }
    let running = daemon.running.len() as u64;
    let rest = match running {
        0 => "no run is under way, so it ends now".to_owned(),
        _ => format!("it ends after {} ({})", plural(running, "run"), daemon.running.join(", ")),
    };
    writeln!(screen::stdout(), "daemon {} is draining: {rest}", daemon.name)?;
    Ok(0)
}
