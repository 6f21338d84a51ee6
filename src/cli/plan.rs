//! `groupcast plan`: the changes that a run would send, group by group, old → new; and their requests.

use std::io::Write;
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::{Cli, Select};
use super::exit::{with_sync, worse};
use super::print_json;
use super::screen::{self, ADD, BOLD, CHANGE, DIM, REMOVE, paint, plural, thousands};
use super::service::{self, Access};
use super::text::{shown_key, shown_value, written};
use crate::error::{Error, Kind, Result};
use crate::mapping::MappingFile;
use crate::model::Op;
use crate::service::open::{self, Failure};
use crate::service::views::words::one_line;
use crate::service::views::{PlanPart, PlanView, PlannedChange, RequestView};
use crate::sync::report::error_json;

pub(super) async fn plan(cli: &Cli, select: &Select, show: usize, requests: bool) -> Result<u8, Failure> {
    let project = Arc::new(open::project(&cli.folder)?);
    super::show_warnings(cli, &project);
    let files = open::chosen(&project, &select.syncs)?;
    let options = select.options(None)?;
    let opened = service::open(&project, Access::Read).await?;
    let mut code = 0;
    for file in files {
        let sync = &file.mapping.name;
        let printer = Printer { cli, file };
        printer.head()?;
        // What is not shown need not travel.
        let show = if cli.json { usize::MAX } else { show };
        let part = |part| match part {
            PlanPart::Change(change) => printer.change(&change),
            PlanPart::Request(request) => written(printer.request(&request)),
            PlanPart::Warning(what) => {
                screen::print_warning(&what, "nothing: what is damaged in the ledger is replaced by what is sent");
                Ok(())
            }
        };
        let planned = match opened.service.plan_stream(sync, options.clone(), show, requests).await {
            Ok(stream) => stream.for_each(part).await,
            Err(error) => Err(error),
        };
        match planned {
            Ok(planned) => {
                let guard = planned.guard.as_ref().map(guard_error);
                printer.foot(&planned, guard.as_ref())?;
                if let Some(guard) = &guard {
                    code = worse(code, guard.kind().exit_code());
                }
            }
            // A sync that cannot be planned stops none of the others.
            Err(error) => {
                let failure = with_sync(error.into(), sync);
                code = worse(code, super::show_failure(cli, &failure));
            }
        }
    }
    for broken in project.broken.iter().filter(|_| select.syncs.is_empty()) {
        if let Some(mistakes) = project.mistakes(&broken.name) {
            code = worse(code, super::show_failure(cli, &with_sync(mistakes.into(), &broken.name)));
        }
    }
    Ok(code)
}

/// The guard that would stop the run.
fn guard_error(guard: &Value) -> Error {
    let message = guard["message"].as_str().unwrap_or_default();
    Error::new(Kind::Guard, message).advise(guard["advice"].as_str().unwrap_or_default())
}

/// Shows the decisions of one sync.
struct Printer<'a> {
    cli: &'a Cli,
    file: &'a MappingFile,
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

    fn change(&self, planned: &PlannedChange) -> Result<()> {
        if self.cli.json {
            print_json(&self.json(planned));
            return Ok(());
        }
        written(text(planned))
    }

    fn json(&self, planned: &PlannedChange) -> Value {
        let sync = &self.file.mapping.name;
        let PlannedChange { key, kind, certain, before, change, rejection } = planned;
        match rejection {
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

    fn request(&self, request: &RequestView) -> std::io::Result<()> {
        let RequestView { method, url, headers, body } = request;
        if self.cli.json {
            let headers: serde_json::Map<String, Value> =
                headers.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
            print_json(&json!({"type": "request", "sync": self.file.mapping.name, "method": method,
                "url": url, "headers": headers, "body": body}));
            return Ok(());
        }
        let mut out = screen::stdout();
        writeln!(out, "\n{} {url}", paint(BOLD, method))?;
        for (name, value) in headers {
            writeln!(out, "{name}: {value}")?;
        }
        writeln!(out, "\n{body}")
    }

    fn foot(&self, plan: &PlanView, guard: Option<&Error>) -> std::io::Result<()> {
        let found = &plan.comparison;
        if self.cli.json {
            print_json(&json!({"type": "plan", "sync": plan.sync, "full": plan.full, "comparison": found,
                "add": plan.add, "change": plan.change, "remove": plan.remove,
                "unchanged": plan.unchanged, "rejected": plan.rejected, "rejected_unchanged": plan.rejected_unchanged,
                "traits_set": plan.traits_set, "traits_unset": plan.traits_unset,
                "guard": guard.map(error_json)}));
            return Ok(());
        }
        let mut out = screen::stdout();
        if plan.hidden > 0 {
            writeln!(out, "\n… and {}; `--show all` shows them", plural(plan.hidden, "more group"))?;
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
                rejected => format!(", {} rejected", thousands(rejected)),
            },
            plural(plan.traits_set, "trait"),
            thousands(plan.traits_unset),
        )?;
        if found.missing > found.missing_candidates && found.missing > 0 {
            let kept = found.missing - found.missing_candidates;
            writeln!(
                out,
                "{}",
                paint(
                    DIM,
                    format!(
                        "{} left the model and {} kept as {}",
                        plural(kept, "synced group"),
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
fn text(planned: &PlannedChange) -> std::io::Result<()> {
    let mut out = screen::stdout();
    let (sign, style, remark) = match (&planned.rejection, planned.kind.as_str()) {
        (Some(_), _) => ("!", REMOVE, "  cannot be sent"),
        (_, "new") => ("+", ADD, ""),
        (_, "missing") => ("-", REMOVE, "  left the model"),
        _ if !planned.certain => ("~", CHANGE, "  unconfirmed: resent in full"),
        _ => ("~", CHANGE, ""),
    };
    writeln!(out, "\n{} {}{}", paint(style.bold(), sign), paint(BOLD, shown_key(&planned.key)), paint(DIM, remark))?;
    if let Some(reason) = &planned.rejection {
        return writeln!(out, "    {}", one_line(reason));
    }
    let change = &planned.change;
    if change.delete {
        writeln!(out, "    {}", paint(REMOVE, "the group is deleted"))?;
    }
    let synced = |name: &String| planned.before.get(name).map(shown_value);
    let width =
        change.names().chain(change.repeated.keys()).map(|name| name.chars().count()).max().unwrap_or(0).min(40);
    for (name, value) in &change.set {
        let (sign, style, old) = match synced(name) {
            Some(old) => ("~", CHANGE, format!("{old} → ")),
            None => ("+", ADD, String::new()),
        };
        writeln!(out, "    {} {name:width$}  {old}{}", paint(style, sign), shown_value(value))?;
    }
    for (op, name, value) in change.values().filter(|(op, _, _)| *op != Op::Set) {
        let remark = match op {
            Op::Set => "",
            Op::SetOnce => "(only if it is not set)",
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
        let old = synced(name).unwrap_or_default();
        writeln!(out, "    {} {name:width$}  {old}", paint(REMOVE, "-"))?;
    }
    Ok(())
}
