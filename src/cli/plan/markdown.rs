//! A plan as Markdown, for the comment of a pull request: a table of counts, one of traits, and the groups as a diff that can
//! be unfolded.

use std::fmt::Write as _;
use std::io::Write;

use super::PlanFormatter;
use crate::cli::screen::{self, plural, thousands};
use crate::cli::text::{VALUE_CHARS_MAX, after_key, shown_key, shown_value, values_within};
use crate::error::Error;
use crate::format::one_line;
use crate::mapping::Mapping;
use crate::model::Op;
use crate::model::members::changed_members;
use crate::service::views::{PlanView, PlannedChange, RequestView, TraitExample};

/// Collects a plan of one sync: its counts come first.
#[derive(Default)]
pub(super) struct MarkdownPlan {
    groups: String,
    shown: u64,
    requests: String,
}

impl PlanFormatter for MarkdownPlan {
    fn head(&mut self, mapping: &Mapping) -> std::io::Result<()> {
        let Mapping { name, source, destination, group_type, .. } = mapping;
        let mut out = screen::stdout();
        writeln!(out, "### Plan of {}\n", code(name))?;
        writeln!(out, "{} → {}, group type {}\n", code(source), code(destination), code(group_type))
    }

    fn change(&mut self, planned: PlannedChange) -> std::io::Result<()> {
        self.shown += 1;
        // Writing to a string cannot fail.
        let _ = group(&mut self.groups, &planned);
        Ok(())
    }

    fn request(&mut self, request: RequestView) -> std::io::Result<()> {
        let RequestView { method, url, headers, body } = request;
        let _ = writeln!(self.requests, "{method} {url}");
        for (name, value) in headers {
            let _ = writeln!(self.requests, "{name}: {value}");
        }
        let _ = writeln!(self.requests, "\n{}\n", body.trim_end());
        Ok(())
    }

    fn foot(&mut self, plan: &PlanView, guard: Option<&Error>) -> std::io::Result<()> {
        let mut out = screen::stdout();
        if plan.add + plan.change + plan.remove + plan.rejected == 0 {
            writeln!(out, "No changes: {} equal the synced state.", plural(plan.unchanged, "row"))?;
        } else {
            writeln!(out, "| to add | to change | to remove | unchanged | rejected |\n|--:|--:|--:|--:|--:|")?;
            let counts = [plan.add, plan.change, plan.remove, plan.unchanged, plan.rejected].map(thousands);
            writeln!(out, "| {} |", counts.join(" | "))?;
        }
        if let Some(guard) = guard {
            let text = format!("{guard}: {}", guard.advice().unwrap_or_default());
            writeln!(out, "\n> **A guard would stop the run.** {}", escaped(&text))?;
        }
        if !plan.traits.is_empty() {
            writeln!(out, "\n| trait | added | changed | unset | examples |\n|:--|--:|--:|--:|:--|")?;
            for of in &plan.traits {
                let [added, changed, unset] = [of.added, of.changed, of.unset].map(|count| match count {
                    0 => String::new(),
                    count => thousands(count),
                });
                let examples: Vec<String> = of.examples.iter().map(example).collect();
                writeln!(out, "| {} | {added} | {changed} | {unset} | {} |", code(&of.name), examples.join("<br>"))?;
            }
        }
        let of_all =
            if plan.hidden > 0 { format!(" of {}", thousands(self.shown + plan.hidden)) } else { String::new() };
        let groups = format!("{}{of_all}", plural(self.shown, "group"));
        section(&mut out, &groups, "diff", &self.groups)?;
        section(&mut out, "Requests", "http", &self.requests)?;
        writeln!(out)
    }
}

/// A part that can be unfolded, with a block of code.
fn section(out: &mut impl Write, title: &str, language: &str, content: &str) -> std::io::Result<()> {
    if content.is_empty() {
        return Ok(());
    }
    // Longer than what the content has, so that it cannot end the block.
    let fence = "`".repeat((longest_run(content) + 1).max(3));
    writeln!(
        out,
        "\n<details><summary>{title}</summary>\n\n{fence}{language}\n{}\n{fence}\n\n</details>",
        content.trim_end()
    )
}

/// The longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|char| char != '`').map(str::len).max().unwrap_or(0)
}

/// Text as code within a line or a table's cell.
fn code(text: &str) -> String {
    let text = shown_key(text).replace('|', "\\|");
    let fence = "`".repeat(longest_run(&text) + 1);
    // A space on both sides is left out again, and lets text begin or end with a backtick.
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// Text that means nothing to Markdown.
fn escaped(text: &str) -> String {
    one_line(text).chars().fold(String::new(), |mut escaped, char| {
        if "\\`*_{}[]<>#|~&!".contains(char) {
            escaped.push('\\');
        }
        escaped.push(char);
        escaped
    })
}

fn example(example: &TraitExample) -> String {
    let TraitExample { key, before, after } = example;
    let values = match (before, after) {
        (Some(before), Some(after)) => format!("{} → {}", code(before), code(after)),
        (None, Some(after)) => code(after),
        (Some(before), None) => format!("{} → unset", code(before)),
        (None, None) => "unset".to_owned(),
    };
    format!("{}: {values}", code(key))
}

/// A group as lines of a diff.
fn group(out: &mut String, planned: &PlannedChange) -> std::fmt::Result {
    let remark = match planned.kind.as_str() {
        "missing" => "left the model",
        "changed" if !planned.certain => "unconfirmed: resent in full",
        kind => kind,
    };
    writeln!(out, "@@ {}{} ({remark}) @@", shown_key(&planned.key), after_key(planned.label.as_deref()))?;
    if let Some(reason) = &planned.rejection {
        return writeln!(out, "! cannot be sent: {}", one_line(reason));
    }
    let change = &planned.change;
    if change.delete {
        writeln!(out, "- the group is deleted")?;
    }
    for (op, name, value) in change.values() {
        let old = planned.before.get(name).filter(|_| op == Op::Set);
        let name = shown_key(name);
        if let Some(members) = old.and_then(|old| changed_members(old, value)) {
            for member in members {
                let path = shown_key(&member.path);
                if let Some(old) = member.before {
                    writeln!(out, "- {name}{path} = {}", shown_value(old))?;
                }
                if let Some(new) = member.after {
                    writeln!(out, "+ {name}{path} = {}", shown_value(new))?;
                }
            }
            continue;
        }
        let value = match old {
            Some(old) => {
                let [old, new] = values_within(old, value, VALUE_CHARS_MAX);
                writeln!(out, "- {name} = {old}")?;
                new
            }
            None => shown_value(value),
        };
        let remark = if op == Op::Set { String::new() } else { format!(" ({})", op.name().replace('_', " ")) };
        writeln!(out, "+ {name} = {value}{remark}")?;
    }
    for name in &change.unset {
        let old = planned.before.get(name).map(|old| format!(" = {}", shown_value(old))).unwrap_or_default();
        writeln!(out, "- {}{old}", shown_key(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_text() {
        assert_eq!(code("a|b"), "`a\\|b`");
        assert_eq!(code("`x`"), "`` `x` ``");
        assert_eq!(code("line\nbreak"), "`line\\nbreak`");
        assert_eq!(escaped("<b> *x* [y](z)"), "\\<b\\> \\*x\\* \\[y\\](z)");
        let mut out = Vec::new();
        section(&mut out, "1 group", "diff", "+ a = \"```\"\n").unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\n````diff\n+ a = \"```\"\n````\n"), "{text}");
    }
}
