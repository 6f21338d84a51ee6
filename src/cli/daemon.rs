//! `groupcast daemon`: keep the schedules until told to stop.

use super::args::Cli;
use crate::daemon;
use crate::service::open::Failure;

pub(super) async fn daemon(cli: &Cli, listen: Option<&str>) -> Result<u8, Failure> {
    daemon::serve(&cli.folder, listen).await
}
