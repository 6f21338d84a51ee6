//! Adopting: the ledger is filled without a request.

use super::{Bench, Measurement, Result, times};

/// Ten million accounts should be adopted within a minute: the target for fewer is in proportion.
const SECONDS_PER_MILLION: f64 = 6.0;

pub(super) fn adopt(bench: &mut Bench) -> Result<Vec<Measurement>> {
    let rows = bench.rows;
    let (project, spread) = bench.adopted()?;
    let source = bench.accounts(rows)?;
    let size = times(&project.state(), &source)?;
    let (seconds, peak) = (spread.median.seconds, spread.peak_mb);
    Ok(vec![
        Measurement::new("adopt", "`ledger adopt` × 20 columns", rows)
            .took(spread)
            .at_most("time", Some(seconds), SECONDS_PER_MILLION * rows as f64 / 1e6, "s")
            .at_most("peak", peak, 1_000.0, "MB"),
        Measurement::new("ledger-after-adopt", "the ledger after `ledger adopt`", rows).at_most(
            "size / source",
            Some(size),
            3.0,
            "×",
        ),
    ])
}
