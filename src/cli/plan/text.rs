//! A plan as text: what becomes of each trait, then the groups, old → new.

use std::io::Write;

use serde_json::Value;

use super::PlanFormatter;
use crate::cli::screen::{self, ADD, BOLD, CHANGE, DIM, REMOVE, paint, plural, thousands};
use crate::cli::text::{after_key, shown_key, shown_value};
use crate::error::Error;
use crate::format::one_line;
use crate::mapping::Mapping;
use crate::model::Op;
use crate::model::members::changed_members;
use crate::service::views::{PlanView, PlannedChange, RequestView, TraitExample, TraitSummary};

/// The widest name that values are aligned after.
const NAME_WIDTH_MAX: usize = 40;
/// Characters of the examples behind a trait's counts.
const EXAMPLES_WIDTH: usize = 72;
/// Groups from which on a summary helps.
const SUMMARY_GROUPS_MIN: u64 = 3;

/// Shows a plan of one sync.
pub(super) struct TextPlan {
    /// Groups that wait for the summary; none where they are shown as they come.
    waiting: Option<Vec<PlannedChange>>,
}

impl TextPlan {
    /// `streaming`: groups are shown as they come, and the summary after them.
    pub(super) fn new(streaming: bool) -> TextPlan {
        TextPlan { waiting: (!streaming).then(Vec::new) }
    }
}

impl PlanFormatter for TextPlan {
    fn head(&mut self, mapping: &Mapping) -> std::io::Result<()> {
        let Mapping { name, source, destination, group_type, .. } = mapping;
        writeln!(screen::stdout(), "{}  {source} → {destination} ({group_type})", paint(BOLD, name))
    }

    fn change(&mut self, planned: PlannedChange) -> std::io::Result<()> {
        match &mut self.waiting {
            Some(waiting) => waiting.push(planned),
            None => group(&planned)?,
        }
        Ok(())
    }

    fn request(&mut self, request: RequestView) -> std::io::Result<()> {
        let RequestView { method, url, headers, body } = request;
        let mut out = screen::stdout();
        writeln!(out, "\n{} {url}", paint(BOLD, method))?;
        for (name, value) in headers {
            writeln!(out, "{name}: {value}")?;
        }
        writeln!(out, "\n{body}")
    }

    fn foot(&mut self, plan: &PlanView, _: Option<&Error>) -> std::io::Result<()> {
        if plan.add + plan.change + plan.remove >= SUMMARY_GROUPS_MIN {
            summary(&plan.traits)?;
        }
        self.waiting.take().iter().flatten().try_for_each(group)?;
        let found = &plan.comparison;
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
            let (is, they) = if kept == 1 { ("is", "it is") } else { ("are", "they are") };
            let remark = format!("{} left the model and {is} kept as {they}", plural(kept, "synced group"));
            writeln!(out, "{}", paint(DIM, remark))?;
        }
        Ok(())
    }
}

/// What becomes of each trait: counts, and the first few values.
fn summary(traits: &[TraitSummary]) -> std::io::Result<()> {
    let mut out = screen::stdout();
    let name = |of: &TraitSummary| shown_key(&of.name);
    let width = traits.iter().map(|of| name(of).chars().count()).max().unwrap_or(0).min(NAME_WIDTH_MAX);
    let counts: Vec<[(u64, &str); 3]> =
        (traits.iter()).map(|of| [(of.added, "added"), (of.changed, "changed"), (of.unset, "unset")]).collect();
    let plain = |counts: &[(u64, &str); 3]| {
        let parts = counts.iter().filter(|(count, _)| *count > 0);
        parts.map(|(count, what)| format!("{} {what}", thousands(*count))).collect::<Vec<_>>().join(", ")
    };
    let counts_width = counts.iter().map(|counts| plain(counts).chars().count()).max().unwrap_or(0);
    writeln!(out)?;
    for (of, counts) in traits.iter().zip(&counts) {
        let text = plain(counts);
        let pad = " ".repeat(counts_width - text.chars().count());
        let styles = [ADD, CHANGE, REMOVE];
        let parts = counts.iter().zip(styles).filter(|((count, _), _)| *count > 0);
        let painted: Vec<String> =
            parts.map(|((count, what), style)| paint(style, format!("{} {what}", thousands(*count)))).collect();
        writeln!(out, "  {:width$}  {}{pad}  {}", name(of), painted.join(", "), paint(DIM, examples(&of.examples)))?;
    }
    Ok(())
}

/// As many of the examples as there is room for, at least one.
fn examples(examples: &[TraitExample]) -> String {
    let mut text = String::new();
    for TraitExample { before, after, .. } in examples {
        let example = match (before, after) {
            (Some(before), Some(after)) => format!("{before} → {after}"),
            (None, Some(after)) => after.clone(),
            (before, None) => format!("{} → (unset)", before.as_deref().unwrap_or("(unknown)")),
        };
        let example = one_line(&example).into_owned();
        let is_first = text.is_empty();
        if !is_first && text.chars().count() + example.chars().count() + 2 > EXAMPLES_WIDTH {
            break;
        }
        if !is_first {
            text.push_str("; ");
        }
        text.push_str(&example);
    }
    text
}

/// One group.
fn group(planned: &PlannedChange) -> std::io::Result<()> {
    let mut out = screen::stdout();
    let (sign, style, remark) = match (&planned.rejection, planned.kind.as_str()) {
        (Some(_), _) => ("!", REMOVE, "  cannot be sent"),
        (_, "new") => ("+", ADD, ""),
        (_, "missing") => ("-", REMOVE, "  left the model"),
        _ if !planned.certain => ("~", CHANGE, "  unconfirmed: resent in full"),
        _ => ("~", CHANGE, ""),
    };
    let label = after_key(planned.label.as_deref());
    let key = paint(BOLD, shown_key(&planned.key));
    writeln!(out, "\n{} {key}{label}{}", paint(style.bold(), sign), paint(DIM, remark))?;
    if let Some(reason) = &planned.rejection {
        return writeln!(out, "    {}", one_line(reason));
    }
    let change = &planned.change;
    if change.delete {
        writeln!(out, "    {}", paint(REMOVE, "the group is deleted"))?;
    }
    let synced = |name: &String| planned.before.get(name);
    let width = change.names().chain(change.repeated.keys()).map(|name| name.chars().count()).max();
    let width = width.unwrap_or(0).min(NAME_WIDTH_MAX);
    for (name, value) in &change.set {
        match synced(name) {
            Some(old) => changed(&mut out, name, width, old, value)?,
            None => writeln!(out, "    {} {name:width$}  {}", paint(ADD, "+"), shown_value(value))?,
        }
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
        let old = synced(name).map(shown_value).unwrap_or_default();
        writeln!(out, "    {} {name:width$}  {old}", paint(REMOVE, "-"))?;
    }
    Ok(())
}

/// A trait whose value changes; of a large value, the members that do.
fn changed(out: &mut impl Write, name: &str, width: usize, old: &Value, new: &Value) -> std::io::Result<()> {
    let Some(members) = changed_members(old, new) else {
        return writeln!(out, "    {} {name:width$}  {} → {}", paint(CHANGE, "~"), shown_value(old), shown_value(new));
    };
    writeln!(out, "    {} {name:width$}  {}", paint(CHANGE, "~"), paint(DIM, "in part:"))?;
    let paths = members.iter().map(|member| shown_key(&member.path)).collect::<Vec<_>>();
    let width = paths.iter().map(|path| path.chars().count()).max().unwrap_or(0).min(NAME_WIDTH_MAX);
    for (member, path) in members.iter().zip(paths) {
        let (sign, style, text) = match (member.before, member.after) {
            (Some(old), Some(new)) => ("~", CHANGE, format!("{} → {}", shown_value(old), shown_value(new))),
            (None, Some(new)) => ("+", ADD, shown_value(new)),
            (old, None) => ("-", REMOVE, old.map(shown_value).unwrap_or_default()),
        };
        writeln!(out, "        {} {path:width$}  {text}", paint(style, sign))?;
    }
    Ok(())
}
