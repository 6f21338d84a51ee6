//! `groupcast plan`: what a run would say, group by group, old → new; and the requests it would send.

use std::io::Write;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::args::{Cli, Select};
use super::client::Client;
use super::print_json;
use super::screen::{self, ADD, BOLD, CHANGE, DIM, Progress, REMOVE, paint, plural, thousands};
use super::told::Teller;
use crate::delivery::{Outside, Signal};
use crate::destination::pack::{self, Size};
use crate::destination::{Addressed, Attempt, Destination, Element, Part};
use crate::env::{Clock, Random, SystemClock};
use crate::error::{Error, Kind, Result, Within};
use crate::mapping::MappingFile;
use crate::model::{Op, document};
use crate::open::job::Job;
use crate::open::{self, Failure};
use crate::sync::decide::Decision;
use crate::sync::report::error_json;
use crate::view::words::{json_line, one_line};
use crate::view::{PlanView, PlannedView, ask};

pub(super) async fn plan(cli: &Cli, select: &Select, show: usize, requests: bool) -> Result<u8, Failure> {
    let project = open::project(&cli.folder)?;
    super::show_warnings(cli, &project);
    let files = open::chosen(&project, &select.syncs)?;
    let options = select.options(None)?;
    let ledger = match Teller::open(&project).await? {
        Teller::Ledger(ledger) => ledger,
        Teller::Daemon(client) if requests => {
            let error =
                Error::new(Kind::LedgerBusy, format!("{} holds the ledger, and it shows no requests", client.whom()));
            return Err(error.advise("leave `--requests` out, or stop the daemon first").into());
        }
        Teller::Daemon(client) => return by_daemon(cli, &files, &client, select, show).await,
    };
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
        let mut planned = job.plan(&mut |destination, page| printer.page(destination, page)).await?;
        let guard = planned.guarded.take();
        let hidden = printer.hidden;
        printer.foot(&ask::plan(planned, Vec::new(), hidden), guard.as_ref())?;
        if let Some(guard) = &guard {
            code = guard.kind().exit_code();
        }
    }
    Ok(code)
}

/// Plans that the daemon makes, because it holds the ledger.
async fn by_daemon(
    cli: &Cli,
    files: &[&MappingFile],
    client: &Client,
    select: &Select,
    show: usize,
) -> Result<u8, Failure> {
    let mut code = 0;
    let show = if cli.json { usize::MAX } else { show };
    for file in files {
        let sync = &file.mapping.name;
        let now = SystemClock::start().now();
        let mut printer = Printer { cli, file, room: show, hidden: 0, requests: false, now };
        printer.head()?;
        let each = &mut |change: &PlannedView| printer.change(change);
        let planned = client.plan(sync, &select.ask(None), show, each).await.within(|| format!("sync {sync}"))?;
        let guard = planned.guard.as_ref().map(|guard| {
            let message = guard["message"].as_str().unwrap_or_default();
            Error::new(Kind::Guard, message).advise(guard["advice"].as_str().unwrap_or_default())
        });
        printer.hidden = planned.hidden;
        printer.foot(&planned, guard.as_ref())?;
        if let Some(guard) = &guard {
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
            screen::stdout(),
            "{}  {} → {} ({})",
            paint(BOLD, &mapping.name),
            mapping.source,
            mapping.destination,
            mapping.group_type
        )
    }

    fn page(&mut self, destination: &dyn Destination, page: &[Decision]) -> Result<()> {
        for planned in page.iter().filter_map(ask::planned) {
            self.change(&planned)?;
        }
        if self.requests {
            written(self.show_requests(destination, page))?;
        }
        Ok(())
    }

    fn change(&mut self, planned: &PlannedView) -> Result<()> {
        if self.cli.json {
            print_json(&self.json(planned));
        } else if self.room == 0 {
            self.hidden += 1;
        } else {
            self.room -= 1;
            written(text(planned))?;
        }
        Ok(())
    }

    fn json(&self, planned: &PlannedView) -> Value {
        let sync = &self.file.mapping.name;
        let PlannedView { key, kind, certain, before, change, refused } = planned;
        match refused {
            Some(reason) => json!({"type": "rejected", "sync": sync, "key": key, "reason": reason}),
            None => {
                let before = |name: &String| before.get(name).cloned().unwrap_or(Value::Null);
                let before: serde_json::Map<String, Value> =
                    change.names().map(|name| (name.clone(), before(name))).collect();
                json!({"type": "change", "sync": sync, "key": key, "kind": kind, "certain": certain,
                    "before": before, "change": change})
            }
        }
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
        let mut out = screen::stdout();
        writeln!(out, "\n{} {}", paint(BOLD, request.method), request.url)?;
        for (name, value) in &request.headers {
            writeln!(out, "{name}: {value}")?;
        }
        writeln!(out, "\n{body}")
    }

    fn foot(&self, plan: &PlanView, guard: Option<&Error>) -> std::io::Result<()> {
        let found = &plan.comparison;
        if self.cli.json {
            print_json(&json!({"type": "plan", "sync": plan.sync, "full": plan.full, "comparison": found,
                "add": plan.add, "change": plan.change, "remove": plan.remove,
                "unchanged": plan.unchanged, "rejected": plan.rejected, "held": plan.held,
                "traits_set": plan.traits_set, "traits_unset": plan.traits_unset,
                "guard": guard.map(error_json)}));
            return Ok(());
        }
        let mut out = screen::stdout();
        if self.hidden > 0 {
            writeln!(out, "\n… and {}; `--show all` shows them", plural(self.hidden, "more group"))?;
        }
        writeln!(
            out,
            "\n{} {} to add, {} to change, {} to remove, {} unchanged{}; {} to set, {} to unset",
            paint(BOLD, "Plan:"),
            paint(ADD, thousands(plan.add)),
            paint(CHANGE, thousands(plan.change)),
            paint(REMOVE, thousands(plan.remove)),
            thousands(plan.unchanged),
            match plan.rejected {
                0 => String::new(),
                rejected => format!(", {} that cannot be sent or were rejected earlier", thousands(rejected)),
            },
            plural(plan.traits_set, "trait"),
            thousands(plan.traits_unset),
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
        if let Some(guard) = guard {
            screen::print_error(guard);
        }
        Ok(())
    }
}

/// One group of a plan.
fn text(planned: &PlannedView) -> std::io::Result<()> {
    let mut out = screen::stdout();
    let (sign, style, remark) = match (&planned.refused, planned.kind.as_str()) {
        (Some(_), _) => ("!", REMOVE, "  cannot be sent"),
        (_, "new") => ("+", ADD, ""),
        (_, "missing") => ("-", REMOVE, "  left the model"),
        _ if !planned.certain => ("~", CHANGE, "  uncertain: everything is said again"),
        _ => ("~", CHANGE, ""),
    };
    writeln!(out, "\n{} {}{}", paint(style.bold(), sign), paint(BOLD, shown_key(&planned.key)), paint(DIM, remark))?;
    if let Some(reason) = &planned.refused {
        return writeln!(out, "    {}", one_line(reason));
    }
    let change = &planned.change;
    if change.delete {
        writeln!(out, "    {}", paint(REMOVE, "the group is deleted"))?;
    }
    let held = |name: &String| planned.before.get(name).map(shown_value);
    let width =
        change.names().chain(change.repeated.keys()).map(|name| name.chars().count()).max().unwrap_or(0).min(40);
    for (name, value) in &change.set {
        let (sign, style, old) = match held(name) {
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
    for (name, value) in &change.repeated {
        let remark = paint(DIM, "(unchanged, sent with every change)");
        writeln!(out, "    {} {name:width$}  {} {remark}", paint(DIM, "="), shown_value(value))?;
    }
    for name in &change.unset {
        let old = held(name).unwrap_or_default();
        writeln!(out, "    {} {name:width$}  {old}", paint(REMOVE, "-"))?;
    }
    Ok(())
}

fn written(result: std::io::Result<()>) -> Result<()> {
    result.map_err(|error| {
        Error::new(Kind::Config, "failed to write the plan")
            .advise("look at where the output goes: a closed pipe or a full disk")
            .because(error)
    })
}

/// A value as JSON, shortened so that it stays on a line, and free of characters that would act on a terminal.
pub(super) fn shown_value(value: &Value) -> String {
    if document::is_unknown(value) {
        return "(unsure)".to_owned();
    }
    const CHARS_MAX: usize = 80;
    let text = value.to_string();
    let mut short = json_line(text.chars().take(CHARS_MAX).collect());
    if text.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

/// A key as it may be printed, shortened so that it stays on a line or two.
pub(super) fn shown_key(key: &str) -> String {
    const CHARS_MAX: usize = 120;
    let mut short = one_line(&key.chars().take(CHARS_MAX).collect::<String>()).into_owned();
    if key.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}
