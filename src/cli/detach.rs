//! `groupcast run --detach`: runs that are requested and not waited for.

use std::io::Write;

use serde_json::json;

use super::args::Cli;
use super::exit::{with_sync, worse};
use super::print_json;
use super::screen::{self, DIM, paint};
use super::text::written;
use crate::service::api::EnqueuedRun;
use crate::service::follow::RunHost;
use crate::service::open::Failure;
use crate::sync::{BY_COMMAND_LINE, RunOptions};

/// Requests runs, and does not wait for them.
pub(super) async fn detach<Host: RunHost + ?Sized>(
    cli: &Cli,
    host: &Host,
    runs: Vec<(String, RunOptions)>,
    page: impl Fn(&str) -> Option<String>,
) -> Result<u8, Failure> {
    let (mut code, mut submitted) = (0, Vec::new());
    for (sync, options) in runs {
        match host.trigger(&sync, options, BY_COMMAND_LINE).await {
            Ok(EnqueuedRun { run, joined, .. }) => {
                let page = page(&run);
                if cli.json {
                    submitted.push(json!({"sync": sync, "run": run, "joined": joined, "url": page}));
                } else {
                    let what = if joined { "an equal run is queued already" } else { "submitted" };
                    let at = page.map(|page| format!("  {page}")).unwrap_or_default();
                    written(writeln!(screen::stdout(), "{sync}: {what} (run {run}){}", paint(DIM, at)))?;
                }
            }
            Err(error) => code = worse(code, super::show_failure(cli, &with_sync(error.into(), &sync))),
        }
    }
    if cli.json {
        print_json(&json!({"runs": submitted, "exit_code": code}));
    }
    Ok(code)
}
