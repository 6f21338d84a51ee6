//! Memory and time at the edges: large groups, many columns, slow destinations.

use std::time::Duration;

use super::{Bench, Measurement, Result};
use crate::data::{self, Project, Shape, Source};
use crate::receiver::{Manner, Receiver};

/// A slow destination's time per request.
const SLOW: Duration = Duration::from_millis(50);

/// Groups of 200 KB that are all new, then all changed.
pub(super) fn large_groups(bench: &mut Bench) -> Result<Vec<Measurement>> {
    let rows = (bench.rows / 200).max(10);
    let shape = Shape::Text(200_000);
    let warehouse = bench.path("pages.duckdb");
    data::warehouse(&warehouse, shape, rows)?;
    let mut receiver = bench.receiver()?;
    let source = Source::DuckDb(&warehouse);
    let project = Project::create(bench.path("pages"), &source, shape, "webhook", &receiver.url())?;
    project.reset()?;
    let first = bench.groupcast(&project, &["run"])?;
    receiver.received()?;
    data::execute(&warehouse, "UPDATE accounts SET note = 'y' || substr(note, 2)")?;
    let spread = crate::measure::Spread::of(vec![bench.groupcast(&project, &["run", "--accept", "changed"])?]);
    let received = receiver.received()?;
    if received.groups != rows {
        return Err(format!("pages: {} changes arrived, not {rows}", received.groups).into());
    }
    project.reset()?;
    std::fs::remove_file(&warehouse)?;
    let peak = spread.peak_mb;
    let row = Measurement::new("pages", "changed groups of 200 KB, webhook", rows).took(spread).received(received);
    let first = first.peak_mb.map_or_else(String::new, |peak| format!(", peak {peak:.0} MB"));
    Ok(vec![row.at_most("peak", peak, 700.0, "MB").remark(format!("new{first}"))])
}

/// A destination so slow that reading must wait for it.
pub(super) fn slow(bench: &mut Bench) -> Result<Vec<Measurement>> {
    let rows = bench.rows / 5;
    let manner = Manner { answer_after: SLOW, ..Manner::default() };
    let mut receiver = Receiver::start(&bench.programs, &manner)?;
    let warehouse = bench.accounts(rows)?;
    let source = Source::DuckDb(&warehouse);
    let project = Project::create(bench.path("slow"), &source, Shape::Usual, "webhook", &receiver.url())?;
    project.reset()?;
    let spread = crate::measure::Spread::of(vec![bench.groupcast(&project, &["run"])?]);
    let received = receiver.received()?;
    project.reset()?;
    let peak = spread.peak_mb;
    let row = Measurement::new("slow", "first send × 20 columns, webhook that takes 50 ms a request", rows);
    Ok(vec![row.took(spread).received(received).at_most("peak", peak, 500.0, "MB")])
}

/// A first send to a file of a table with an unusual shape, and the run after it.
pub(super) fn extreme(bench: &Bench, name: &str, shape: Shape, rows: u64) -> Result<Vec<Measurement>> {
    let rows = rows.max(1);
    let warehouse = bench.path(&format!("{name}.duckdb"));
    data::warehouse(&warehouse, shape, rows)?;
    let source = Source::DuckDb(&warehouse);
    let project = Project::create(bench.path(name), &source, shape, "file", "")?;
    let spread = bench.first_sends(&project)?;
    let quiet = bench.groupcast(&project, &["run"])?;
    project.reset()?;
    std::fs::remove_file(&warehouse)?;
    let columns = shape.columns().len() as u64 + 1;
    let values = (rows * columns) as f64 / spread.median.seconds / 1e6;
    let work = match shape {
        Shape::Texts(count, bytes) => {
            format!("first send of {} MB in {count} traits, to a file", count * bytes / 1_000_000)
        }
        // The key is one of the columns, except where there is but one trait.
        _ if columns == 2 => "first send × 1 column beside the key, to a file".to_owned(),
        _ => format!("first send × {} columns, to a file", groupcast::format::thousands(columns)),
    };
    let row = Measurement::new(name, work, rows).took(spread);
    let peak = quiet.peak_mb.map_or_else(String::new, |peak| format!(", peak {peak:.0} MB"));
    let row = row.remark(format!("{values:.2} million values/s; no change {:.2} s{peak}", quiet.seconds));
    Ok(vec![row])
}
