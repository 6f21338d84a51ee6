//! Memory and handles stay flat: what the system reports of the process, in the course of many runs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// What is measured, in the order in which it is printed.
pub(super) const GAUGES: [&str; 7] = ["rss_kb", "anon_kb", "fds", "threads", "ledger_kb", "wal_kb", "cpu_ms"];

/// One look at the process.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) runs: usize,
    pub(super) seconds: u64,
    pub(super) values: BTreeMap<&'static str, u64>,
}

fn entries(path: String) -> u64 {
    std::fs::read_dir(path).unwrap().count() as u64
}

fn file_kb(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len() / 1024)
}

/// Looks at the process and its ledger now.
pub(super) fn sample(pid: u32, ledger: &Path, runs: usize, seconds: u64) -> Sample {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kb = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The fields after the name, which may hold anything: user and system time are the 14th and 15th of all, in
    // hundredths of a second.
    let after: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = [11, 12].iter().map(|at| after[*at].parse::<u64>().unwrap()).sum();
    let values = [
        kb("VmRSS"),
        kb("RssAnon"),
        entries(format!("/proc/{pid}/fd")),
        entries(format!("/proc/{pid}/task")),
        file_kb(ledger),
        file_kb(&ledger.with_extension("duckdb.wal")),
        ticks * 10,
    ];
    Sample { runs, seconds, values: GAUGES.into_iter().zip(values).collect() }
}

/// The series as a table.
pub(super) fn table(samples: &[Sample]) -> String {
    let mut text = format!("{:>6} {:>6}", "runs", "s");
    for name in GAUGES {
        write!(text, " {name:>10}").unwrap();
    }
    for sample in samples {
        write!(text, "\n{:>6} {:>6}", sample.runs, sample.seconds).unwrap();
        for name in GAUGES {
            write!(text, " {:>10}", sample.values[name]).unwrap();
        }
    }
    text
}

fn median(samples: &[Sample], name: &str) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(|sample| sample.values[name]).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// Fails unless the process stayed as it was: the median of each gauge's last quarter against that of its second. The
/// first quarter warms up: caches fill, and pools of threads and memory reach the size that the busiest time needs.
///
/// Memory may differ by `memory_share` and sixteen megabytes: allocators keep what they were given, and what they keep
/// depends on which threads were busy together. Handles and threads may differ by a handful: a run under way has a few
/// files and connections open, and idle threads live on for seconds.
pub(super) fn are_flat(samples: &[Sample], memory_share: f64) {
    let quarter = samples.len() / 4;
    assert!(quarter >= 5, "too few samples to show anything: {}", samples.len());
    for name in ["rss_kb", "anon_kb", "fds", "threads"] {
        let before = median(&samples[quarter..2 * quarter], name);
        let after = median(&samples[samples.len() - quarter..], name);
        let allowed = if name.ends_with("_kb") { (before as f64 * memory_share) as u64 + 16 * 1024 } else { 6 };
        assert!(after <= before + allowed, "{name} grew from {before} to {after}:\n{}", table(samples));
    }
}

/// Fails if one sample of a gauge is above this.
pub(super) fn stay_below(samples: &[Sample], name: &str, most: u64) {
    let highest = samples.iter().map(|sample| sample.values[name]).max();
    assert!(highest <= Some(most), "{name} reached {highest:?}, and {most} is the most:\n{}", table(samples));
}

/// The figures for a note: at a tenth, a quarter, half, three quarters and the end.
pub(super) fn figures(samples: &[Sample]) -> String {
    let all: Vec<Sample> =
        [10, 25, 50, 75, 100].map(|percent| samples[(samples.len() * percent / 100).max(1) - 1].clone()).into();
    let last = &all[4];
    format!("{}\n{} ms of CPU per run, questions included", table(&all), last.values["cpu_ms"] / last.runs as u64)
}
