//! Comparing in the warehouse against comparing here, as `tests/warehouses/mirrors.py` measured it: the lines of a plot.

use serde::Deserialize;

use crate::plot::Line;

/// A row of the measurement.
#[derive(Deserialize)]
pub(crate) struct MirrorCost {
    engine: String,
    rows: u64,
    /// Where rows were compared.
    compare: String,
    /// What the runs found.
    what: String,
    /// How many accounts had changed.
    changed: u64,
    seconds: f64,
}

/// One account in so many changed in the runs that are drawn.
const OF: u64 = 1_000;

const LINES: [(&str, &str, &str, &str, bool); 4] = [
    ("here, 0.1 % changed", "local", "changed", "#bc4c00", false),
    ("here, nothing changed", "local", "nothing", "#bc4c00", true),
    ("warehouse, 0.1 % changed", "warehouse", "changed", "#0969da", false),
    ("warehouse, nothing changed", "warehouse", "nothing", "#0969da", true),
];

/// The lines of one engine.
pub(crate) fn lines(costs: &[MirrorCost], engine: &str) -> Vec<Line> {
    let line = |(name, compare, what, colour, is_dashed)| {
        let is_its = |cost: &&MirrorCost| {
            let changed = if what == "changed" { cost.rows / OF } else { 0 };
            cost.engine == engine && cost.compare == compare && cost.what == what && cost.changed == changed
        };
        let mut points: Vec<(u64, f64)> = costs.iter().filter(is_its).map(|cost| (cost.rows, cost.seconds)).collect();
        points.sort_by_key(|(rows, _)| *rows);
        Line { name, colour, is_dashed, points }
    };
    LINES.map(line).into()
}
