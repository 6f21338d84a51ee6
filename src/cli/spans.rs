//! The export of spans to OpenTelemetry, of the commands that run syncs.

use super::args::Command;
use super::screen;
use crate::otlp::{self, Flush};

/// Starts it, if the command runs syncs here and the environment names a collector. What is left is sent when this is dropped.
pub(super) fn start(command: &Command) -> Option<Flush> {
    let joins = match command {
        Command::Run(options) if options.url.is_none() => true,
        Command::Daemon { .. } => false,
        _ => return None,
    };
    otlp::start(joins).unwrap_or_else(|problem| {
        screen::print_warning(&format!("no spans are exported: {problem}"), "correct the variable, or unset it");
        None
    })
}
