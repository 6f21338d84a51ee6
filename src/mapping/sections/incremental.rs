//! `[incremental]`: reading only what changed since the last checkpoint.

use std::time::Duration;

use crate::mapping::reader::{Report, Section};

/// The keys of the section.
pub(crate) const KEYS: [&str; 3] = ["cursor", "lookback", "full_every"];

/// Reading only what changed since the last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incremental {
    /// A timestamp, date or integer column that grows when a row changes.
    pub cursor: String,
    /// How far behind the checkpoint reading starts, for rows committed late.
    pub lookback: Duration,
    /// How often everything is read all the same, to find groups that left the model.
    pub full_every: Duration,
}

/// Reads the section.
pub(crate) fn read(section: &Section<'_>, report: &mut Report<'_>) -> Option<Incremental> {
    const HOUR: Duration = Duration::from_secs(3_600);
    section.expect_keys(&KEYS, report);
    let mut duration = |key: &str, base: Duration| section.get(key).map_or(Some(base), |entry| entry.duration(report));
    let lookback = duration("lookback", HOUR);
    let full_every = duration("full_every", 24 * HOUR);
    if full_every == Some(Duration::ZERO)
        && let Some(entry) = section.get("full_every")
    {
        let help = "to read everything every time remove `[incremental]`";
        report.push(report.error(&entry.at, "`full_every` must be more than nothing").help(help));
    }
    let Some(entry) = section.get("cursor") else {
        let missing = report.error(&section.at, "`[incremental]` has no `cursor`");
        report.push_missing(
            "incremental.cursor",
            missing.help("name a column that grows when a row changes: `cursor = \"updated_at\"`"),
        );
        return None;
    };
    Some(Incremental { cursor: entry.name(report)?, lookback: lookback?, full_every: full_every? })
}
