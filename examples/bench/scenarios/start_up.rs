//! What every command takes before it does anything.

use super::{Bench, Measurement, Result};

pub(super) fn start_up(bench: &mut Bench) -> Result<Vec<Measurement>> {
    let project = bench.one_account()?;
    let status = bench.many(|bench| bench.groupcast(&project, &["status"]))?;
    let help = bench.many(|bench| bench.groupcast(&project, &["--help"]))?.median;
    let run = bench.start_up()?;
    let (status_seconds, run_seconds) = (status.median.seconds, run.median.seconds);
    Ok(vec![
        Measurement::new("status", "`status`", 1).took(status).floor("`--help`", help.clone()).at_most(
            "time",
            Some(status_seconds),
            0.04,
            "s",
        ),
        Measurement::new("one-account", "a run of one account, not changed", 1)
            .took(run)
            .floor("`--help`", help)
            .at_most("time", Some(run_seconds), 0.08, "s"),
    ])
}
