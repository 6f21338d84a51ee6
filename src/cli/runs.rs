//! `groupcast runs`: the runs on record, and one with all details.

use std::io::Write;
use std::sync::Arc;

use serde_json::json;

use super::args::Cli;
use super::print_json;
use super::screen::{self, BOLD, CHANGE, REMOVE, paint, plural, status_text, thousands, when};
use super::service::{self, Access};
use super::table::Table;
use super::text::shown_key;
use crate::delivery::{LogLevel, LogLines};
use crate::mapping::Compare;
use crate::service::open::{self, Failure};
use crate::service::views::RunDetail;
use crate::service::views::words::one_line;
use crate::sync::mirror::MirrorReport;

pub(super) async fn runs(cli: &Cli, sync: Option<&str>, number: u64) -> Result<u8, Failure> {
    let project = Arc::new(super::read_project(cli)?);
    if let Some(sync) = sync {
        open::exists(&project, sync)?;
    }
    let runs = service::open(cli, &project, Access::Read).await?.service.runs(sync, None, number).await?;
    if cli.json {
        print_json(&json!({ "runs": runs }));
        return Ok(0);
    }
    let header = ["run", "sync", "started by", "status", "rows", "delivered", "rejected", "pending", "took", "error"];
    let mut table = Table::new(&header)
        .spare(&["took", "error", "started by", "rows", "pending", "rejected", "delivered"])
        .elsewhere("`groupcast runs show RUN` shows all of a run");
    for run in &runs {
        let counts = run.counts.clone().unwrap_or_default();
        table.add_row([
            run.run.clone(),
            run.sync.clone(),
            run.started_by.clone(),
            status_text(run.status),
            thousands(counts.rows),
            thousands(counts.changes.delivered + counts.removed.delivered),
            thousands(counts.changes.rejected + counts.removed.rejected),
            thousands(counts.unfinished()),
            run.seconds().map_or_else(String::new, |took| format!("{took:.1} s")),
            run.error.clone().unwrap_or_default(),
        ]);
    }
    let mut out = screen::stdout();
    if runs.is_empty() {
        writeln!(out, "no runs yet; start one with `groupcast run`")?;
    } else {
        table.write(&mut out, screen::width())?;
    }
    Ok(0)
}

/// `groupcast runs show ID`.
pub(super) async fn show_run(cli: &Cli, run: &str) -> Result<u8, Failure> {
    let project = Arc::new(super::read_project(cli)?);
    let found = service::open(cli, &project, Access::Read).await?.service.run(run).await?;
    if cli.json {
        print_json(&serde_json::to_value(&found).unwrap_or_default());
        return Ok(0);
    }
    let RunDetail { run, detail, progress, rejected } = &found;
    let mut out = screen::stdout();
    writeln!(out, "{} of {}: {}", paint(BOLD, &run.run), run.sync, status_text(run.status))?;
    let by = if run.started_by.is_empty() { String::new() } else { format!(", started by {}", run.started_by) };
    let took = run.seconds().map_or_else(String::new, |took| format!(", took {took:.1} s"));
    writeln!(out, "  {}{took}{by}", when(run.started_at))?;
    if let Some(error) = &run.error {
        writeln!(out, "  {} {error}", paint(REMOVE, "error:"))?;
        if let Some(advice) = &detail.advice {
            writeln!(out, "  {} {advice}", paint(BOLD, "help:"))?;
        }
    }
    if let Some(progress) = progress {
        let of = progress.candidates.map_or_else(String::new, |candidates| format!(" of {}", thousands(candidates)));
        writeln!(
            out,
            "  {}: {} rows read, {}{of} groups done",
            progress.phase,
            thousands(progress.rows_read),
            thousands(progress.done)
        )?;
    }
    if let Some(mirror) = &detail.mirror {
        writeln!(out, "  {}", compared(mirror))?;
    }
    if let Some(counts) = &run.counts {
        let changes = &counts.changes;
        writeln!(
            out,
            "\n{} = {} unchanged + {} delivered + {} rejected + {} pending + {} unconfirmed",
            plural(counts.rows, "row"),
            thousands(counts.unchanged),
            thousands(changes.delivered),
            thousands(changes.rejected),
            thousands(changes.pending),
            thousands(changes.unconfirmed),
        )?;
        if counts.removed.total() > 0 {
            let removed = &counts.removed;
            writeln!(
                out,
                "of {} that left the model: {} removed, {} rejected, {} pending, {} unconfirmed",
                plural(removed.total(), "group"),
                thousands(removed.delivered),
                thousands(removed.rejected),
                thousands(removed.pending),
                thousands(removed.unconfirmed),
            )?;
        }
        writeln!(
            out,
            "{} set, {} unset; {}, {} of them retries",
            plural(counts.traits_set, "trait"),
            thousands(counts.traits_unset),
            plural(counts.requests, "request"),
            thousands(counts.retries),
        )?;
    }
    if !detail.guards.is_empty() {
        let mut table = Table::new(&["guard", "measured", "of", "share", "limit", ""]).spare(&["of"]).wraps("measured");
        for reading in &detail.guards {
            let percent = |share: f64| format!("{:.1} %", share * 100.0);
            let share = if reading.whole == 0 { 0.0 } else { reading.part as f64 / reading.whole as f64 };
            let at_most = if reading.exact { "" } else { "at most " };
            table.add_row([
                reading.guard.clone(),
                format!("{at_most}{} {}", thousands(reading.part), reading.what),
                thousands(reading.whole),
                reading.share_max.map_or_else(String::new, |_| percent(share)),
                reading.share_max.map_or_else(String::new, percent),
                if reading.trips { "stops".to_owned() } else { String::new() },
            ]);
        }
        writeln!(out)?;
        table.write(&mut out, screen::width())?;
    }
    if detail.timeline.requests.iter().any(|slot| *slot > 0) {
        let slot = detail.timeline.slot_ms as f64 / 1000.0;
        writeln!(out, "\nrequests  {}  {slot} s each", bars(&detail.timeline.requests))?;
        if detail.timeline.retries.iter().any(|slot| *slot > 0) {
            writeln!(out, "retries   {}", bars(&detail.timeline.retries))?;
        }
        let statuses = detail.by_status.iter().map(|(status, count)| match status {
            0 => format!("{} without a response", thousands(*count)),
            status => format!("{} × {status}", thousands(*count)),
        });
        writeln!(out, "responses {}", statuses.collect::<Vec<_>>().join(", "))?;
    }
    let latency = &detail.latency;
    if let (Some(median), Some(p95), Some(max)) = (latency.median_ms(), latency.p95_ms(), latency.max_ms()) {
        let [median, p95, max] = [median, p95, max].map(thousands);
        writeln!(out, "latency   median {median} ms, 95 % within {p95} ms, slowest {max} ms")?;
    }
    if !detail.traits.is_empty() {
        let mut table = Table::new(&["trait", "added", "changed", "unset"]);
        for (name, of) in &detail.traits {
            table.add_row([shown_key(name), thousands(of.added), thousands(of.changed), thousands(of.unset)]);
        }
        writeln!(out)?;
        table.write(&mut out, screen::width())?;
    }
    write_log(&mut out, &detail.log)?;
    for remark in &detail.remarks {
        writeln!(out, "{} {remark}", paint(CHANGE, "warning:"))?;
    }
    for (warning, count) in &detail.warnings {
        writeln!(out, "{} {warning} ({} times)", paint(CHANGE, "destination warning:"), thousands(*count))?;
    }
    if !rejected.is_empty() {
        let mut table = Table::new(&["rejected group", "reason"]).wraps("reason");
        for group in rejected {
            table.add_row([shown_key(&group.key), one_line(group.reason.as_deref().unwrap_or_default()).into_owned()]);
        }
        writeln!(out)?;
        table.write(&mut out, screen::width())?;
    }
    Ok(0)
}

/// What a run did with its mirror.
fn compared(mirror: &MirrorReport) -> String {
    let read = plural(mirror.rows_read, "row");
    let how = match (mirror.compared, mirror.rebuilt) {
        (Compare::Warehouse, _) => format!("compared in the warehouse: {read} left it"),
        (Compare::Local, true) => "compared locally, and the mirror was made anew".to_owned(),
        (Compare::Local, false) => "compared locally, without a mirror".to_owned(),
    };
    let waiting = match mirror.unmirrored {
        0 => String::new(),
        keys => format!("; {} of the mirror waiting", plural(keys, "key")),
    };
    let reason = mirror.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", one_line(reason)));
    format!("{how}{waiting}{reason}")
}

/// The lines of the run's log.
fn write_log(out: &mut impl Write, log: &LogLines) -> std::io::Result<()> {
    if !log.is_empty() {
        writeln!(out, "\nlog")?;
    }
    for (at, line) in log.lines.iter().enumerate() {
        if log.dropped > 0 && at as u64 == log.before_dropped {
            writeln!(out, "  … {} not kept …", plural(log.dropped, "line"))?;
        }
        let level = match line.level {
            LogLevel::Info => "",
            LogLevel::Warning => "warning: ",
            LogLevel::Error => "error: ",
        };
        let times = line.times.map_or_else(String::new, |times| format!(" ({} times in a row)", thousands(times)));
        writeln!(out, "  {} {level}{}{times}", line.at.format("%H:%M:%S"), one_line(&line.text))?;
    }
    Ok(())
}

/// Requests over time, one line of bars.
fn bars(slots: &[u64]) -> String {
    let most = slots.iter().copied().max().unwrap_or(0).max(1);
    let bar = |slot: &u64| match *slot {
        0 => ' ',
        some => ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][((some * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
    };
    slots.iter().map(bar).collect()
}
