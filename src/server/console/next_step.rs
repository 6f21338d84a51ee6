//! The next step after a failure, by its kind, where the error itself has no advice.

/// What to do about a failure of this kind.
pub(super) fn next_step(kind: Option<&str>) -> &'static str {
    match kind {
        Some("config") => "Edit the file that the message names, then run `groupcast check`.",
        Some("source") => {
            "Check the source: credentials, permissions, the model's SQL. `groupcast check --connect` tests them."
        }
        Some("source_busy") => "None unless it persists: the source was busy or unreachable, and the run is retried.",
        Some("destination") => {
            "Check the destination's settings: key, region, project. `groupcast check --connect` tests them."
        }
        Some("ledger") => "Check the disk that holds the ledger: free space and permissions.",
        Some("ledger_busy") => "Stop the other process that has the ledger open.",
        Some("guard") => "Compare the figures: accept the guard once if they are right, else correct the model.",
        Some("interrupted") => "None: the next run sends what is pending.",
        Some("bug") => "Report it with this page, then run the sync again.",
        _ => "Read the daemon's log around that time, then run the sync again.",
    }
}
