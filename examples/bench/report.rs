//! What was measured: rows with their floors and targets, as one table, as JSON, and as a block in the docs.

use std::path::Path;

use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::measure::{Cost, Spread};
use crate::receiver::Received;

/// What was measured on one machine in one go.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) version: String,
    pub(crate) date: String,
    pub(crate) machine: String,
    /// `ROWS`.
    pub(crate) rows: u64,
    pub(crate) measurements: Vec<Measurement>,
}

/// A row of the table.
#[derive(Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// What `--only` takes.
    pub(crate) name: String,
    pub(crate) work: String,
    pub(crate) groups: u64,
    /// Absent for a row about sizes.
    pub(crate) spread: Option<Spread>,
    pub(crate) floor: Option<Floor>,
    pub(crate) requests: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) targets: Vec<Target>,
    pub(crate) remarks: Vec<String>,
}

/// The least that the same result costs.
#[derive(Serialize, Deserialize)]
pub(crate) struct Floor {
    pub(crate) work: String,
    pub(crate) cost: Cost,
}

/// A figure, and what it should be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) figure: f64,
    pub(crate) limit: f64,
    /// Whether the figure should be at least the limit; at most otherwise.
    pub(crate) at_least: bool,
    pub(crate) unit: String,
}

impl Target {
    pub(crate) fn is_met(&self) -> bool {
        if self.at_least { self.figure >= self.limit } else { self.figure <= self.limit }
    }

    fn text(&self) -> String {
        let sign = if self.at_least { '≥' } else { '≤' };
        let verdict = if self.is_met() { "met" } else { "MISSED" };
        let figure = number(self.figure);
        format!("{} {figure} {sign} {} {}: {verdict}", self.what, number(self.limit), self.unit)
    }
}

impl Measurement {
    pub(crate) fn new(name: &str, work: impl Into<String>, groups: u64) -> Measurement {
        Measurement {
            name: name.to_owned(),
            work: work.into(),
            groups,
            spread: None,
            floor: None,
            requests: None,
            bytes: None,
            targets: Vec::new(),
            remarks: Vec::new(),
        }
    }

    pub(crate) fn took(self, spread: Spread) -> Measurement {
        Measurement { spread: Some(spread), ..self }
    }

    pub(crate) fn floor(self, work: &str, cost: Cost) -> Measurement {
        Measurement { floor: Some(Floor { work: work.to_owned(), cost }), ..self }
    }

    pub(crate) fn received(self, received: Received) -> Measurement {
        Measurement { requests: Some(received.requests), bytes: Some(received.bytes), ..self }
    }

    pub(crate) fn at_most(mut self, what: &str, figure: Option<f64>, limit: f64, unit: &str) -> Measurement {
        self.target(what, figure, limit, unit, false);
        self
    }

    pub(crate) fn at_least(mut self, what: &str, figure: Option<f64>, limit: f64, unit: &str) -> Measurement {
        self.target(what, figure, limit, unit, true);
        self
    }

    /// A figure that cannot be had on this system has no target.
    fn target(&mut self, what: &str, figure: Option<f64>, limit: f64, unit: &str, at_least: bool) {
        if let Some(figure) = figure.filter(|figure| figure.is_finite()) {
            self.targets.push(Target { what: what.to_owned(), figure, limit, at_least, unit: unit.to_owned() });
        }
    }

    pub(crate) fn remark(mut self, remark: impl Into<String>) -> Measurement {
        self.remarks.push(remark.into());
        self
    }

    pub(crate) fn seconds(&self) -> Option<f64> {
        self.spread.as_ref().map(|spread| spread.median.seconds)
    }

    pub(crate) fn peak_mb(&self) -> Option<f64> {
        self.spread.as_ref().and_then(|spread| spread.peak_mb)
    }

    /// The median's time as a multiple of the floor's.
    pub(crate) fn times_the_floor(&self) -> Option<f64> {
        Some(self.seconds()? / self.floor.as_ref()?.cost.seconds)
    }

    /// The same for the processor's time.
    pub(crate) fn times_the_floor_in_cpu(&self) -> Option<f64> {
        Some(self.spread.as_ref()?.median.cpu_seconds? / self.floor.as_ref()?.cost.cpu_seconds?)
    }
}

/// A figure with as many digits as can be trusted.
fn number(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        large if large >= 1_000.0 => groupcast::format::thousands(figure.round() as u64),
        large if large >= 100.0 => format!("{figure:.0}"),
        large if large >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

fn cell(figure: Option<f64>) -> String {
    figure.map_or_else(|| "–".to_owned(), number)
}

/// The table, in Markdown, which is also readable on a terminal.
pub(crate) fn table(measurements: &[Measurement]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "work",
        "groups",
        "median s",
        "spread (runs)",
        "CPU s",
        "floor",
        "floor s",
        "floor CPU s",
        "× floor",
        "× CPU",
        "peak MB",
        "requests",
        "MB sent",
        "target",
    ]);
    for row in measurements {
        let spread = row.spread.as_ref();
        let floor = row.floor.as_ref();
        let range = spread.filter(|spread| spread.runs > 1).map(|spread| {
            format!("{}–{} ({})", number(spread.fastest_seconds), number(spread.slowest_seconds), spread.runs)
        });
        let mut targets: Vec<String> = row.targets.iter().map(Target::text).collect();
        targets.extend(row.remarks.iter().cloned());
        table.add_row([
            row.work.clone(),
            groupcast::format::thousands(row.groups),
            cell(row.seconds()),
            range.unwrap_or_else(|| spread.map_or_else(|| "–".to_owned(), |spread| format!("({})", spread.runs))),
            cell(spread.and_then(|spread| spread.median.cpu_seconds)),
            floor.map_or_else(|| "–".to_owned(), |floor| floor.work.clone()),
            cell(floor.map(|floor| floor.cost.seconds)),
            cell(floor.and_then(|floor| floor.cost.cpu_seconds)),
            cell(row.times_the_floor()),
            cell(row.times_the_floor_in_cpu()),
            cell(row.peak_mb()),
            row.requests.map_or_else(|| "–".to_owned(), groupcast::format::thousands),
            cell(row.bytes.map(|bytes| bytes as f64 / 1e6)),
            targets.join("; "),
        ]);
    }
    // Trailing blanks mean nothing, and version control complains about them.
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let targets = || self.measurements.iter().flat_map(|row| &row.targets);
        format!(
            "{}, {}, {}, ROWS={}\n\n{}\n\n{} of {} targets met.\n",
            self.version,
            self.date,
            self.machine,
            self.rows,
            table(&self.measurements),
            targets().filter(|target| target.is_met()).count(),
            targets().count(),
        )
    }

    /// Writes the table into a page, between the two comments that mark its place.
    pub(crate) fn write_into(&self, page: &Path) -> Result<()> {
        let text = std::fs::read_to_string(page)?;
        let missing = || format!("{} has no place for the table: `{BEGIN}` and `{END}`", page.display());
        let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
        let (_, after) = rest.split_once(END).ok_or_else(missing)?;
        std::fs::write(page, format!("{before}{BEGIN}\n{}{END}{after}", self.text()))?;
        Ok(())
    }
}

const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";

/// The processor, its cores and the memory.
pub(crate) fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let kilobytes =
        field("/proc/meminfo", "MemTotal").and_then(|text| text.trim_end_matches(" kB").parse::<f64>().ok());
    let memory = kilobytes.map(|kilobytes| format!(", {:.0} GB", kilobytes / 1e6)).unwrap_or_default();
    format!("{cores} × {processor}{memory}")
}
