//! `groupcast plan`: the changes that a run would send, old → new: by trait, then group by group; and their requests. As text,
//! as Markdown for pull requests, as JSON, and as a file for `groupcast run --plan`.

mod json;
mod markdown;
mod text;

use std::sync::Arc;

use serde_json::Value;

use self::json::JsonPlan;
use self::markdown::MarkdownPlan;
use self::text::TextPlan;
use super::args::{Cli, Plan, PlanFormat};
use super::exit::{with_sync, worse};
use super::orphans::warn_of_renamed;
use super::screen;
use super::service::{self, Access};
use crate::config::TargetName;
use crate::error::{Error, Kind, Result};
use crate::mapping::diagnostic::did_you_mean;
use crate::mapping::{Mapping, MappingFile};
use crate::service::open::Failure;
use crate::service::views::{PlanPart, PlanRequest, PlanView, PlannedChange, RequestView};
use crate::sync::plan_file::PlanWriter;
use crate::sync::planned::ChangeFilter;

/// Groups of one sync that wait in memory for the summary, which is printed before them. Beyond this it comes after them.
const WAITING_MAX: usize = 1_000;

/// `--detailed-exitcode`: there are changes.
const CHANGES_EXIT_CODE: u8 = 5;

/// Shows the plan of one sync.
trait PlanFormatter {
    /// The sync.
    fn head(&mut self, mapping: &Mapping) -> std::io::Result<()>;
    /// A group.
    fn change(&mut self, change: PlannedChange) -> std::io::Result<()>;
    /// A request.
    fn request(&mut self, request: RequestView) -> std::io::Result<()>;
    /// The summary, at the end.
    fn foot(&mut self, plan: &PlanView, guard: Option<&Error>) -> std::io::Result<()>;
}

pub(super) async fn plan(cli: &Cli, args: &Plan) -> Result<u8, Failure> {
    let project = Arc::new(super::read_project(cli)?);
    super::show_warnings(cli, &project);
    let selection = args.select.which.read()?;
    let files = selection.chosen(&project)?;
    super::warn_of_none(&files, &project, &selection);
    let options = args.select.options("plan", &selection.names_of(&files, &project), None)?;
    let filter =
        ChangeFilter { traits: args.traits.iter().cloned().collect(), kinds: args.kinds.iter().cloned().collect() };
    warn_of_unknown_traits(&filter, &files);
    let target = project.settings.target.as_ref().map(TargetName::as_str);
    let mut writer = args.out.as_deref().map(|out| PlanWriter::create(out, target)).transpose()?;
    let opened = service::open(cli, &project, Access::Read).await?;
    let names: Vec<&str> = files.iter().map(|file| file.mapping.name.as_str()).collect();
    warn_of_renamed(opened.service.as_ref(), &names, cli.json).await?;
    let format = if cli.json { PlanFormat::Json } else { args.output };
    // What is not shown need not travel, unless it is written to a file.
    let shown = if format == PlanFormat::Json { usize::MAX } else { args.show.0 };
    let (mut code, mut changes) = (0, 0);
    for file in files {
        let sync = &file.mapping.name;
        let mut formatter: Box<dyn PlanFormatter> = match format {
            PlanFormat::Text => Box::new(TextPlan::new(shown > WAITING_MAX || args.requests)),
            PlanFormat::Markdown => Box::new(MarkdownPlan::default()),
            PlanFormat::Json => Box::new(JsonPlan::of(&file.mapping)),
        };
        super::text::written(formatter.head(&file.mapping))?;
        let request = PlanRequest {
            options: options.clone(),
            show: Some(shown).filter(|shown| writer.is_none() && *shown < usize::MAX),
            requests: args.requests,
            // A plan file has every change.
            filter: if writer.is_some() { ChangeFilter::default() } else { filter.clone() },
        };
        let mut unshown = 0;
        let mut room = shown;
        let mut seal = None;
        let part = |part| match part {
            PlanPart::Change(change) => {
                if let Some(writer) = &mut writer {
                    writer.change(&change)?;
                }
                if !filter.admits(&change) {
                    return Ok(());
                }
                match room.checked_sub(1) {
                    Some(left) => room = left,
                    None => {
                        unshown += 1;
                        return Ok(());
                    }
                }
                super::text::written(formatter.change(*change))
            }
            PlanPart::Destination(of) => {
                seal = Some(of);
                Ok(())
            }
            PlanPart::Request(request) => super::text::written(formatter.request(request)),
            PlanPart::Warning(what) => {
                screen::print_warning(&what, "nothing: what is damaged in the ledger is replaced by what is sent");
                Ok(())
            }
        };
        let planned = match opened.service.plan_stream(sync, request).await {
            Ok(stream) => stream.for_each(part).await,
            Err(error) => Err(error),
        };
        match planned {
            Ok(mut planned) => {
                planned.hidden += unshown;
                planned.traits.retain(|of| filter.traits.is_empty() || filter.traits.contains(&of.name));
                changes += planned.add + planned.change + planned.remove;
                let guard = planned.guard.as_ref().map(guard_error);
                super::text::written(formatter.foot(&planned, guard.as_ref()))?;
                let unknown = options.group.as_ref().and_then(|groups| groups.unknown(&planned.comparison));
                if let Some(what) = unknown.filter(|_| !cli.json) {
                    screen::print_warning(&what, "look at its spelling: `--group` takes a value of the key's column");
                }
                if let Some(guard) = &guard {
                    if format != PlanFormat::Json {
                        screen::print_error(guard);
                    }
                    code = worse(code, guard.kind().exit_code());
                }
                if let Some(writer) = &mut writer {
                    let unsealed = || Error::new(Kind::Bug, "the plan came without its destination's seal");
                    let settings = seal.ok_or_else(unsealed)?;
                    writer.end_sync(&file.mapping, (planned.mapping, settings), options.clone())?;
                }
            }
            // A sync that cannot be planned stops none of the others.
            Err(error) => {
                let failure = with_sync(error.into(), sync);
                code = worse(code, super::show_failure(cli, &failure));
                // A plan of some of the syncs would look like one of all.
                writer = None;
            }
        }
    }
    for broken in selection.broken(&project) {
        if let Some(mistakes) = project.mistakes(&broken.name) {
            code = worse(code, super::show_failure(cli, &with_sync(mistakes.into(), &broken.name)));
            writer = None;
        }
    }
    if let Some(out) = &args.out {
        finish(writer, out, format)?;
    }
    Ok(if code == 0 && args.detailed_exitcode && changes > 0 { CHANGES_EXIT_CODE } else { code })
}

/// Puts the plan file in its place, or says why there is no new one.
fn finish(writer: Option<PlanWriter>, out: &std::path::Path, format: PlanFormat) -> Result<()> {
    let Some(writer) = writer else {
        let what = format!("{} was not written: not every sync could be planned", out.display());
        screen::print_warning(&what, "correct the errors above, or name the syncs to plan");
        return Ok(());
    };
    writer.finish()?;
    if format == PlanFormat::Text {
        let text = format!("\nPlan written to {0}; `groupcast run --plan {0}` sends exactly this\n", out.display());
        drop(std::io::Write::write_all(&mut screen::stdout(), text.as_bytes()));
    }
    Ok(())
}

/// A trait that was removed from its mapping can be in a plan too, so this is no error.
fn warn_of_unknown_traits(filter: &ChangeFilter, files: &[&MappingFile]) {
    let traits: Vec<&str> =
        files.iter().flat_map(|file| &file.mapping.traits).map(|mapped| mapped.name.as_str()).collect();
    for name in filter.traits.iter().filter(|name| !traits.contains(&name.as_str())) {
        let what = format!("no selected mapping has a trait `{name}`");
        let advice = match did_you_mean(name, traits.iter().copied()) {
            Some(similar) => format!("did you mean `{similar}`?"),
            None => "only groups that still have it from an earlier mapping are shown".to_owned(),
        };
        screen::print_warning(&what, &advice);
    }
}

/// The guard that would stop the run.
fn guard_error(guard: &Value) -> Error {
    let message = guard["message"].as_str().unwrap_or_default();
    Error::new(Kind::Guard, message).advise(guard["advice"].as_str().unwrap_or_default())
}
