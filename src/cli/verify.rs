//! `groupcast verify`: the destination's groups, compared with the synced state.

use std::io::Write;
use std::sync::Arc;

use serde_json::Value;

use super::args::Cli;
use super::only_sync::only_sync;
use super::print_json;
use super::screen::{self, ADD, BOLD, CHANGE, DIM, REMOVE, paint, plural, thousands};
use super::service::{self, Access};
use super::text::{shown_key, shown_value, written};
use crate::service::open::{self, Failure};
use crate::sync::verify::{Difference, Drifted, Verified};

/// The exit code when groups differ.
const DRIFT: u8 = 3;

pub(super) async fn verify(cli: &Cli, named: Option<&str>, repair: bool, show: usize) -> Result<u8, Failure> {
    let project = Arc::new(super::read_project(cli)?);
    let sync = only_sync(&project, named, "groupcast verify SYNC")?;
    let file = open::named(&project, sync)?;
    let mapping = &file.mapping;
    let access = if repair { Access::Write("groupcast verify --repair") } else { Access::Read };
    let opened = service::open(cli, &project, access).await?;
    let mut shown = 0;
    let mut sink = |drifted: Drifted| {
        shown += 1;
        if cli.json {
            let mut line = serde_json::to_value(drifted).unwrap_or_default();
            line["type"] = "drift".into();
            line["sync"] = sync.into();
            print_json(&line);
            return Ok(());
        }
        if shown > show { Ok(()) } else { written(text(&drifted)) }
    };
    let found = opened.service.verify(sync, repair).await.map_err(Failure::from)?.for_each(&mut sink).await?;
    if cli.json {
        let mut line = serde_json::to_value(&found).unwrap_or_default();
        line["type"] = "verified".into();
        line["sync"] = sync.into();
        print_json(&line);
    } else {
        summary(sync, &mapping.destination, &found, shown.saturating_sub(show) as u64)?;
    }
    Ok(if found.drifted > 0 { DRIFT } else { 0 })
}

fn text(drifted: &Drifted) -> std::io::Result<()> {
    let mut out = screen::stdout();
    let remark = if drifted.missing { "  the destination has no such group" } else { "" };
    writeln!(out, "{} {}{}", paint(CHANGE, "~"), paint(BOLD, shown_key(&drifted.key)), paint(DIM, remark))?;
    for drift in &drifted.traits {
        let value = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), shown_value);
        let (sign, style, text) = match drift.difference {
            Difference::Missing => ("-", REMOVE, format!("{} is missing", value(&drift.synced))),
            Difference::Different => ("~", CHANGE, format!("{}, not {}", value(&drift.actual), value(&drift.synced))),
            Difference::Unexpected => ("+", ADD, format!("{} although it was removed", value(&drift.actual))),
        };
        writeln!(out, "    {} {}  {text}", paint(style, sign), drift.name)?;
    }
    Ok(())
}

fn summary(sync: &str, destination: &str, found: &Verified, hidden: u64) -> Result<(), Failure> {
    let mut out = screen::stdout();
    if hidden > 0 {
        writeln!(out, "… and {}; `--show all` shows them", plural(hidden, "more group"))?;
    }
    let name = paint(BOLD, sync);
    if found.drifted == 0 {
        writeln!(out, "{name}: {destination} matches the synced state: {} compared", plural(found.compared, "group"))?;
    } else {
        writeln!(
            out,
            "{name}: {} of {} differ at {destination}: {}, {} missing, {} with another value, {} not removed",
            paint(CHANGE, thousands(found.drifted)),
            plural(found.compared, "group"),
            plural(found.missing_groups, "missing group"),
            plural(found.missing, "trait"),
            thousands(found.different),
            thousands(found.unexpected),
        )?;
    }
    if found.unconfirmed > 0 {
        let whom = plural(found.unconfirmed, "unconfirmed group");
        writeln!(out, "  {whom} not compared: the next run resends them in full")?;
    }
    if found.foreign > 0 {
        writeln!(out, "  {} at the destination that this sync never sent", plural(found.foreign, "group"))?;
    }
    if found.repaired > 0 {
        writeln!(out, "  {} marked for a full resend by the next run", plural(found.repaired, "group"))?;
    } else if found.drifted > 0 {
        writeln!(out, "  `groupcast verify {sync} --repair` marks them for a full resend by the next run")?;
    }
    Ok(())
}
