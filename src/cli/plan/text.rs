//! A plan as text: what becomes of each trait, then the groups, old → new.

use std::io::Write;

use serde_json::Value;

use super::PlanFormatter;
use crate::cli::screen::{self, ADD, BOLD, CHANGE, DIM, REMOVE, paint, plural, thousands};
use crate::cli::text::{VALUE_CHARS_MAX, after_key, shown_key, value_within, values_within};
use crate::error::Error;
use crate::format::{cut, one_line};
use crate::mapping::Mapping;
use crate::model::Op;
use crate::model::members::changed_members;
use crate::service::views::{PlanView, PlannedChange, RequestView, TraitExample, TraitSummary};

/// The widest name that values are aligned after; of a terminal's line at most a quarter.
const NAME_WIDTH_MAX: usize = 40;
/// Characters of the examples behind a trait's counts.
const EXAMPLES_WIDTH: usize = 72;
/// Between an old value and the new one.
const ARROW: &str = " → ";
/// Characters that show that a value goes on before and behind.
const CUT_MARKS: usize = 2;
/// What values have of a line, however narrow the terminal is.
const VALUE_WIDTH_MIN: usize = 24;
/// Groups from which on a summary helps.
const SUMMARY_GROUPS_MIN: u64 = 3;

/// Shows a plan of one sync.
pub(super) struct TextPlan {
    /// Groups that wait for the summary; none where they are shown as they come.
    waiting: Option<Vec<PlannedChange>>,
    page: Page,
}

/// The columns that a line has; as many as it needs where it is no terminal's.
#[derive(Clone, Copy)]
struct Page(Option<usize>);

impl Page {
    /// The columns in which names are aligned.
    fn name_width(self, longest: usize) -> usize {
        longest.min(self.0.map_or(NAME_WIDTH_MAX, |width| (width / 4).min(NAME_WIDTH_MAX)))
    }

    /// What is left of a line for a value.
    fn room(self, taken: usize) -> usize {
        let left = |width: usize| width.saturating_sub(taken + CUT_MARKS).clamp(VALUE_WIDTH_MIN, VALUE_CHARS_MAX);
        self.0.map_or(VALUE_CHARS_MAX, left)
    }

    /// Two values behind so many columns: on one line, or below each other where one has no room for both.
    fn change(self, taken: usize, old: &Value, new: &Value) -> String {
        let [before, after] = values_within(old, new, VALUE_CHARS_MAX);
        let needed = taken + before.chars().count() + ARROW.chars().count() + after.chars().count();
        if self.0.is_none_or(|width| needed <= width) {
            return format!("{before}{ARROW}{after}");
        }
        let [before, after] = values_within(old, new, self.room(taken));
        format!("{before}\n{:1$}{ARROW}{after}", "", taken.saturating_sub(ARROW.chars().count()))
    }
}

impl TextPlan {
    /// `streaming`: groups are shown as they come, and the summary after them.
    pub(super) fn new(streaming: bool) -> TextPlan {
        TextPlan { waiting: (!streaming).then(Vec::new), page: Page(screen::width()) }
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
            None => group(self.page, &planned)?,
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
            summary(self.page, &plan.traits)?;
        }
        self.waiting.take().iter().flatten().try_for_each(|planned| group(self.page, planned))?;
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
fn summary(page: Page, traits: &[TraitSummary]) -> std::io::Result<()> {
    let mut out = screen::stdout();
    let name = |of: &TraitSummary| shown_key(&of.name);
    let width = page.name_width(traits.iter().map(|of| name(of).chars().count()).max().unwrap_or(0));
    let counts: Vec<[(u64, &str); 3]> =
        (traits.iter()).map(|of| [(of.added, "added"), (of.changed, "changed"), (of.unset, "unset")]).collect();
    let plain = |counts: &[(u64, &str); 3]| {
        let parts = counts.iter().filter(|(count, _)| *count > 0);
        parts.map(|(count, what)| format!("{} {what}", thousands(*count))).collect::<Vec<_>>().join(", ")
    };
    let counts_width = counts.iter().map(|counts| plain(counts).chars().count()).max().unwrap_or(0);
    let room = |of: &TraitSummary| {
        let taken = 2 + name(of).chars().count().max(width) + 2 + counts_width + 2;
        page.0.map_or(EXAMPLES_WIDTH, |columns| {
            columns.saturating_sub(taken + CUT_MARKS).clamp(VALUE_WIDTH_MIN, EXAMPLES_WIDTH)
        })
    };
    writeln!(out)?;
    for (of, counts) in traits.iter().zip(&counts) {
        let text = plain(counts);
        let pad = " ".repeat(counts_width - text.chars().count());
        let styles = [ADD, CHANGE, REMOVE];
        let parts = counts.iter().zip(styles).filter(|((count, _), _)| *count > 0);
        let painted: Vec<String> =
            parts.map(|((count, what), style)| paint(style, format!("{} {what}", thousands(*count)))).collect();
        writeln!(
            out,
            "  {:width$}  {}{pad}  {}",
            name(of),
            painted.join(", "),
            paint(DIM, examples(&of.examples, room(of)))
        )?;
    }
    Ok(())
}

/// As many of the examples as there is room for, at least one, which may be cut.
fn examples(examples: &[TraitExample], room: usize) -> String {
    let mut text = String::new();
    for TraitExample { before, after, .. } in examples {
        let example = match (before, after) {
            (Some(before), Some(after)) => format!("{before} → {after}"),
            (None, Some(after)) => after.clone(),
            (before, None) => format!("{} → (unset)", before.as_deref().unwrap_or("(unknown)")),
        };
        let example = one_line(&example).into_owned();
        let is_first = text.is_empty();
        if !is_first && text.chars().count() + example.chars().count() + 2 > room {
            break;
        }
        if !is_first {
            text.push_str("; ");
        }
        text.push_str(&example);
    }
    // To a pipe it goes whole.
    if room < EXAMPLES_WIDTH { cut(&text, room) } else { text }
}

/// One group.
fn group(page: Page, planned: &PlannedChange) -> std::io::Result<()> {
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
    let width = page.name_width(width.unwrap_or(0));
    let shown = |name: &str, value: &Value| value_within(value, page.room(VALUES_AT + name.chars().count().max(width)));
    for (name, value) in &change.set {
        match synced(name) {
            Some(old) => changed(&mut out, page, (name, width), old, value)?,
            None => writeln!(out, "    {} {name:width$}  {}", paint(ADD, "+"), shown(name, value))?,
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
        writeln!(out, "    {} {name:width$}  {} {}", paint(ADD, "+"), shown(name, value), paint(DIM, remark))?;
    }
    for (name, value) in &change.repeated {
        let remark = paint(DIM, "(unchanged, sent with every change)");
        writeln!(out, "    {} {name:width$}  {} {remark}", paint(DIM, "="), shown(name, value))?;
    }
    for name in &change.unset {
        let old = synced(name).map(|old| shown(name, old)).unwrap_or_default();
        writeln!(out, "    {} {name:width$}  {old}", paint(REMOVE, "-"))?;
    }
    Ok(())
}

/// Columns before a trait's value, besides its name.
const VALUES_AT: usize = 8;
/// Columns before the value of a member, besides its path.
const MEMBER_VALUES_AT: usize = 12;

/// A trait whose value changes; of a large value, the members that do.
fn changed(
    out: &mut impl Write,
    page: Page,
    (name, width): (&str, usize),
    old: &Value,
    new: &Value,
) -> std::io::Result<()> {
    let Some(members) = changed_members(old, new) else {
        let values = page.change(VALUES_AT + name.chars().count().max(width), old, new);
        return writeln!(out, "    {} {name:width$}  {values}", paint(CHANGE, "~"));
    };
    writeln!(out, "    {} {name:width$}  {}", paint(CHANGE, "~"), paint(DIM, "in part:"))?;
    let paths = members.iter().map(|member| shown_key(&member.path)).collect::<Vec<_>>();
    let width = page.name_width(paths.iter().map(|path| path.chars().count()).max().unwrap_or(0));
    for (member, path) in members.iter().zip(paths) {
        let taken = MEMBER_VALUES_AT + path.chars().count().max(width);
        let (sign, style, text) = match (member.before, member.after) {
            (Some(old), Some(new)) => ("~", CHANGE, page.change(taken, old, new)),
            (None, Some(new)) => ("+", ADD, value_within(new, page.room(taken))),
            (old, None) => ("-", REMOVE, old.map(|old| value_within(old, page.room(taken))).unwrap_or_default()),
        };
        writeln!(out, "        {} {path:width$}  {text}", paint(style, sign))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_that_is_wider_than_the_terminal_takes_two_lines() {
        let (old, new) = (json!("free"), json!("enterprise"));
        assert_eq!(Page(None).change(20, &old, &new), "\"free\" → \"enterprise\"");
        assert_eq!(Page(Some(80)).change(20, &old, &new), "\"free\" → \"enterprise\"");
        assert_eq!(Page(Some(30)).change(10, &old, &new), "\"free\"\n        → \"enterprise\"");
        // What differs far behind is shown, not only what is the same.
        let [old, new] = ["1", "2"].map(|end| json!(format!("{}{end}", "long ".repeat(60))));
        let text = Page(Some(80)).change(30, &old, &new);
        assert!(text.starts_with('…') && text.contains("long 1\" → …") && text.ends_with("long 2\""), "{text}");
        let [old, new] = ["old ", "new "].map(|word| json!(word.repeat(60)));
        let text = Page(Some(80)).change(30, &old, &new);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 2 && lines[0].chars().count() <= 50 && lines[1].chars().count() <= 80, "{text}");
    }
}
