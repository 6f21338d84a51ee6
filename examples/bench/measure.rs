//! One run of a program, as the operating system saw it; and several of them as a median with a spread.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Kernel ticks per second in `/proc`; the same on every Linux.
const TICKS: f64 = 100.0;

/// What one run of a program took.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// From its start to its end.
    pub(crate) seconds: f64,
    /// User and system time of all its threads, in steps of 10 ms; absent where there is no `/proc`.
    pub(crate) cpu_seconds: Option<f64>,
    /// The largest resident set; absent where there is no `/proc`.
    pub(crate) peak_mb: Option<f64>,
}

/// Runs a command to its end. Its standard output is returned; its standard error too, if it fails.
pub(crate) fn run(command: &mut Command) -> Result<(Cost, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let arguments: Vec<String> = command.get_args().map(|one| one.to_string_lossy().into_owned()).collect();
    // Files rather than pipes: a full pipe would hold the program up.
    let (mut output, mut errors) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors.try_clone()?);
    let started = Instant::now();
    let child = command.spawn().map_err(|error| format!("failed to start {name}: {error}"))?;
    let (cost, success) = watch(child, started)?;
    if !success {
        let text = read_all(&mut errors)?;
        return Err(format!("{name} {} failed: {text}", arguments.join(" ")).into());
    }
    Ok((cost, read_all(&mut output)?))
}

fn read_all(file: &mut std::fs::File) -> Result<String> {
    use std::io::{Read, Seek};
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Waits for the end of a process without collecting it, so that the kernel still has its times.
fn watch(mut child: Child, started: Instant) -> Result<(Cost, bool)> {
    let id = child.id();
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or("the process has no id")?;
    let (ended, peak_kb) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut cost = std::thread::scope(|scope| -> Result<Cost> {
        scope.spawn(|| {
            // The peak goes with the process, so it is read until then; what is missed is the last few milliseconds.
            while !ended.load(Ordering::Relaxed) {
                peak_kb.fetch_max(peak_of(id).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(4));
            }
        });
        let waited = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let seconds = started.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        waited?;
        Ok(Cost { seconds, cpu_seconds: cpu_of(&format!("/proc/{id}/stat")), peak_mb: None })
    })?;
    let peak = peak_kb.load(Ordering::Relaxed);
    cost.peak_mb = (peak > 0).then(|| peak as f64 / 1024.0);
    Ok((cost, child.wait()?.success()))
}

/// The peak of a process's resident set, in kilobytes.
pub(crate) fn peak_of(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}

/// User and system time of a process, also of one that has ended and was not collected.
fn cpu_of(stat: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(stat).ok()?;
    // The name in parentheses may contain blanks; the times are the 14th and 15th fields of the line.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

/// What a piece of work inside this process takes.
pub(crate) fn inside<T>(work: impl FnOnce() -> Result<T>) -> Result<(Cost, T)> {
    let before = cpu_of("/proc/self/stat");
    let started = Instant::now();
    let done = work()?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = before.zip(cpu_of("/proc/self/stat")).map(|(before, after)| after - before);
    Ok((Cost { seconds, cpu_seconds, peak_mb: None }, done))
}

/// Several runs of the same work.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) runs: usize,
    /// The run in the middle by its time; the faster of the two in the middle of an even number.
    pub(crate) median: Cost,
    pub(crate) fastest_seconds: f64,
    pub(crate) slowest_seconds: f64,
    /// The largest of all runs.
    pub(crate) peak_mb: Option<f64>,
}

impl Spread {
    pub(crate) fn of(mut costs: Vec<Cost>) -> Spread {
        costs.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        let peak = costs.iter().filter_map(|cost| cost.peak_mb).fold(0.0, f64::max);
        let at = |index: usize| costs.get(index).map_or(0.0, |cost| cost.seconds);
        Spread {
            runs: costs.len(),
            fastest_seconds: at(0),
            slowest_seconds: at(costs.len().saturating_sub(1)),
            peak_mb: (peak > 0.0).then_some(peak),
            median: costs.get(costs.len().saturating_sub(1) / 2).cloned().unwrap_or_default(),
        }
    }
}

/// How often a row is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeat {
    pub(crate) runs: usize,
    /// No further run begins after so long.
    pub(crate) budget: Duration,
}

impl Repeat {
    /// Measures `work` as often as there is time for, at least once.
    pub(crate) fn measure(self, mut work: impl FnMut() -> Result<Cost>) -> Result<Spread> {
        let started = Instant::now();
        let mut costs = vec![work()?];
        while costs.len() < self.runs && started.elapsed() < self.budget {
            costs.push(work()?);
        }
        Ok(Spread::of(costs))
    }
}

/// The bytes of a file, or of all files below a folder.
pub(crate) fn bytes_of(path: &Path) -> Result<u64> {
    if !path.is_dir() {
        return Ok(std::fs::metadata(path)?.len());
    }
    std::fs::read_dir(path)?.map(|entry| bytes_of(&entry?.path())).sum()
}
