//! `groupcast plan`: what a run would say, group by group, old → new; and the requests it would send.

use std::io::Write;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::args::{Cli, Select};
use super::print_json;
use super::screen::{self, ADD, BOLD, CHANGE, DIM, Progress, REMOVE, paint, plural, thousands};
use crate::delivery::{Outside, Signal};
use crate::destination::pack::{self, Size};
use crate::destination::{Addressed, Attempt, Destination, Element, Part};
use crate::env::{Clock, Random, SystemClock};
use crate::error::{Error, Result};
use crate::ledger::SuspectKind;
use crate::mapping::MappingFile;
use crate::model::{Document, Op, document};
use crate::open::job::Job;
use crate::open::{self, Failure};
use crate::sync::Plan;
use crate::sync::decide::{Decision, Judgement};
use crate::sync::report::error_json;

pub(super) async fn plan(cli: &Cli, select: &Select, show: usize, requests: bool) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    super::show_warnings(cli, &project);
    let files = open::chosen(&project, &select.syncs)?;
    let options = select.options(None)?;
    let ledger = open::ledger_to_read(&project).await?;
    let (outside, clock, random) = (Outside::new()?, SystemClock::start(), Random::from_entropy());
    let (_sender, signal) = watch::channel(Signal::Go);
    let mut code = 0;
    for file in files {
        let now = clock.now();
        let mut printer = Printer { cli, file, room: show, hidden: 0, requests, now };
        printer.head()?;
        let progress = Progress::new(&file.mapping.name, true);
        let job = Job {
            project: &project,
            file,
            ledger: &ledger,
            outside: &outside,
            clock: &clock,
            random: &random,
            monitor: &progress,
            options: &options,
            signal: signal.clone(),
        };
        let planned = job.plan(&mut |destination, page| printer.page(destination, page)).await?;
        printer.foot(&planned)?;
        if let Some(guard) = &planned.guarded {
            code = guard.kind().exit_code();
        }
    }
    Ok(code)
}

/// Shows the decisions of one sync.
struct Printer<'a> {
    cli: &'a Cli,
    file: &'a MappingFile,
    room: usize,
    hidden: u64,
    requests: bool,
    now: DateTime<Utc>,
}

impl Printer<'_> {
    fn head(&self) -> std::io::Result<()> {
        if self.cli.json {
            return Ok(());
        }
        let mapping = &self.file.mapping;
        writeln!(
            anstream::stdout().lock(),
            "{}  {} → {} ({})",
            paint(BOLD, &mapping.name),
            mapping.source,
            mapping.destination,
            mapping.group_type
        )
    }

    fn page(&mut self, destination: &dyn Destination, page: &[Decision]) -> Result<()> {
        for decision in page {
            if matches!(decision.verdict, Judgement::Same { .. }) {
                continue;
            }
            if self.cli.json {
                print_json(&self.json(decision));
            } else if self.room == 0 {
                self.hidden += 1;
            } else {
                self.room -= 1;
                written(self.text(decision))?;
            }
        }
        if self.requests {
            written(self.show_requests(destination, page))?;
        }
        Ok(())
    }

    fn json(&self, decision: &Decision) -> Value {
        let sync = &self.file.mapping.name;
        let kind = kind_name(decision);
        match &decision.verdict {
            Judgement::Say { change, .. } => {
                let before = |name: &String| decision.before.0.get(name).cloned().unwrap_or(Value::Null);
                let before: serde_json::Map<String, Value> =
                    change.names().map(|name| (name.clone(), before(name))).collect();
                json!({"type": "change", "sync": sync, "key": decision.key, "kind": kind, "certain": decision.certain,
                    "before": before, "change": change.as_ref()})
            }
            Judgement::Refused { reason, .. } => {
                json!({"type": "rejected", "sync": sync, "key": decision.key, "reason": reason})
            }
            Judgement::Same { .. } => json!({"type": "same", "sync": sync, "key": decision.key}),
        }
    }

    fn text(&self, decision: &Decision) -> std::io::Result<()> {
        let mut out = anstream::stdout().lock();
        let (sign, style, remark) = match (&decision.verdict, decision.kind) {
            (Judgement::Refused { .. }, _) => ("!", REMOVE, "  cannot be sent"),
            (_, SuspectKind::New) => ("+", ADD, ""),
            (_, SuspectKind::Missing) => ("-", REMOVE, "  left the model"),
            _ if !decision.certain => ("~", CHANGE, "  uncertain: everything is said again"),
            _ => ("~", CHANGE, ""),
        };
        writeln!(
            out,
            "\n{} {}{}",
            paint(style.bold(), sign),
            paint(BOLD, shown_key(&decision.key)),
            paint(DIM, remark)
        )?;
        let change = match &decision.verdict {
            Judgement::Say { change, .. } => change,
            Judgement::Refused { reason, .. } => return writeln!(out, "    {reason}"),
            Judgement::Same { .. } => return Ok(()),
        };
        if change.delete {
            writeln!(out, "    {}", paint(REMOVE, "the group is deleted"))?;
        }
        let width = change.names().map(|name| name.chars().count()).max().unwrap_or(0).min(40);
        for (name, value) in &change.set {
            let (sign, style, old) = match held(&decision.before, name) {
                Some(old) => ("~", CHANGE, format!("{old} → ")),
                None => ("+", ADD, String::new()),
            };
            writeln!(out, "    {} {name:width$}  {old}{}", paint(style, sign), shown_value(value))?;
        }
        for (op, name, value) in change.values().filter(|(op, _, _)| *op != Op::Set) {
            let remark = match op {
                Op::Set => "",
                Op::SetOnce => "(only if there is none)",
                Op::Add => "(added to what is there)",
                Op::Append => "(appended to what is there)",
                Op::Prepend => "(prepended to what is there)",
            };
            writeln!(out, "    {} {name:width$}  {} {}", paint(ADD, "+"), shown_value(value), paint(DIM, remark))?;
        }
        for name in &change.unset {
            let old = held(&decision.before, name).unwrap_or_default();
            writeln!(out, "    {} {name:width$}  {old}", paint(REMOVE, "-"))?;
        }
        Ok(())
    }

    /// The requests of one page, packed as a run packs them.
    fn show_requests(&self, destination: &dyn Destination, page: &[Decision]) -> std::io::Result<()> {
        let mut rounds: Vec<(Addressed, std::vec::IntoIter<Part>)> = Vec::new();
        for addressed in page.iter().filter_map(Decision::addressed) {
            // What cannot be carried is rejected without a request.
            if let Ok(parts) = destination.parts(&addressed) {
                rounds.push((addressed, parts.into_iter()));
            }
        }
        // Parts of one group follow each other: a round takes the next part of each.
        loop {
            let mut by_route: std::collections::BTreeMap<u8, Vec<(Element, usize)>> = std::collections::BTreeMap::new();
            for (addressed, parts) in &mut rounds {
                if let Some(part) = parts.next() {
                    let element = destination.element(addressed, &part);
                    by_route.entry(part.route).or_default().push((element, part.change.traits_count()));
                }
            }
            if by_route.is_empty() {
                return Ok(());
            }
            for (route, elements) in by_route {
                let sizes: Vec<Size> = elements
                    .iter()
                    .map(|(element, traits)| Size { bytes: element.bytes.len(), traits: *traits })
                    .collect();
                for batch in pack::pack(&sizes, &destination.limits(route), usize::MAX).batches {
                    let carried: Vec<&Element> = batch.iter().map(|at| &elements[*at].0).collect();
                    let attempt = Attempt { at: self.now, number: 1 };
                    self.show_request(&destination.masked(&destination.request(route, &carried, attempt)))?;
                }
            }
        }
    }

    fn show_request(&self, request: &crate::destination::Request) -> std::io::Result<()> {
        let body = String::from_utf8_lossy(&request.body);
        if self.cli.json {
            let headers: serde_json::Map<String, Value> =
                request.headers.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.clone()))).collect();
            print_json(&json!({"type": "request", "sync": self.file.mapping.name, "method": request.method,
                "url": request.url, "headers": headers, "body": body}));
            return Ok(());
        }
        let mut out = anstream::stdout().lock();
        writeln!(out, "\n{} {}", paint(BOLD, request.method), request.url)?;
        for (name, value) in &request.headers {
            writeln!(out, "{name}: {value}")?;
        }
        writeln!(out, "\n{body}")
    }

    fn foot(&self, plan: &Plan) -> std::io::Result<()> {
        let (found, counts) = (&plan.found, &plan.counts);
        let changed = counts.said.delivered - counts.new;
        if self.cli.json {
            print_json(&json!({"type": "plan", "sync": plan.sync, "full": plan.full, "comparison": found,
                "add": counts.new, "change": changed, "remove": counts.removed.delivered,
                "unchanged": counts.unchanged, "rejected": counts.said.rejected, "held": counts.held,
                "traits_set": counts.traits_set, "traits_unset": counts.traits_unset,
                "guard": plan.guarded.as_ref().map(error_json)}));
            return Ok(());
        }
        let mut out = anstream::stdout().lock();
        if self.hidden > 0 {
            writeln!(out, "\n… and {}; `--show all` shows them", plural(self.hidden, "more group"))?;
        }
        writeln!(
            out,
            "\n{} {} to add, {} to change, {} to remove, {} unchanged{}; {} to set, {} to unset",
            paint(BOLD, "Plan:"),
            paint(ADD, thousands(counts.new)),
            paint(CHANGE, thousands(changed)),
            paint(REMOVE, thousands(counts.removed.delivered)),
            thousands(counts.unchanged),
            match counts.said.rejected {
                0 => String::new(),
                rejected => format!(", {} that cannot be sent or were rejected earlier", thousands(rejected)),
            },
            plural(counts.traits_set, "trait"),
            thousands(counts.traits_unset),
        )?;
        if found.missing > found.missing_suspects && found.missing > 0 {
            let kept = found.missing - found.missing_suspects;
            writeln!(
                out,
                "{}",
                paint(
                    DIM,
                    format!(
                        "{} left the model and {} kept as {}",
                        plural(kept, "known group"),
                        if kept == 1 { "is" } else { "are" },
                        if kept == 1 { "it is" } else { "they are" },
                    )
                )
            )?;
        }
        drop(out);
        if let Some(guard) = &plan.guarded {
            screen::print_error(guard);
        }
        Ok(())
    }
}

fn written(result: std::io::Result<()>) -> Result<()> {
    result.map_err(|error| {
        Error::new(crate::error::Kind::Config, "failed to write the plan")
            .advise("look at where the output goes: a closed pipe or a full disk")
            .because(error)
    })
}

fn kind_name(decision: &Decision) -> &'static str {
    match decision.kind {
        SuspectKind::New => "new",
        SuspectKind::Changed => "changed",
        SuspectKind::Missing => "missing",
    }
}

fn held(before: &Document, name: &str) -> Option<String> {
    before.0.get(name).map(shown_value)
}

/// A value as JSON, shortened so that it stays on a line, and free of characters that would act on a terminal.
pub(super) fn shown_value(value: &Value) -> String {
    if document::is_unknown(value) {
        return "(unsure)".to_owned();
    }
    const CHARS_MAX: usize = 80;
    let text = value.to_string();
    let mut short: String = text.chars().take(CHARS_MAX).map(printable).collect();
    if text.chars().count() > CHARS_MAX {
        short.push('…');
    }
    short
}

/// A key as it may be printed, shortened so that it stays on a line or two.
pub(super) fn shown_key(key: &str) -> String {
    const CHARS_MAX: usize = 120;
    let mut short: String = key.chars().take(CHARS_MAX).map(printable).collect();
    if key.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

fn printable(char: char) -> char {
    if char.is_control() { '\u{fffd}' } else { char }
}
