//! How are traits and changes shown: old → new, with the signs that `groupcast plan` uses?

use maud::{Markup, html};
use serde_json::Value;

use super::words::{long, short, shown_line};
use crate::model::{Change, Op, Traits, document};

/// A value as JSON.
fn written(value: &Value) -> String {
    if document::is_unknown(value) { "(unsure)".to_owned() } else { value.to_string() }
}

/// A trait's value: in whole when short, else behind a click.
pub(super) fn value(value: &Value) -> Markup {
    if document::is_unknown(value) {
        let meaning = "the destination holds a value that is not known for certain";
        return html! { span class="soft" title=(meaning) { "(unsure)" } };
    }
    html! { span class="value" { (long(&written(value))) } }
}

/// Traits by name, behind a click.
pub(super) fn document(title: &str, traits: &Traits) -> Markup {
    html! {
        details class="long" {
            summary { (title) }
            (held(traits))
        }
    }
}

fn held(traits: &Traits) -> Markup {
    html! {
        @if traits.is_empty() { p class="soft" { "No traits." } }
        @else {
            ul class="diff" {
                @for (name, held) in traits { (line("", "", name, None, Some(held), "")) }
            }
        }
    }
}

/// One trait: sign, name, old → new, remark.
fn line(sign: &str, meaning: &str, name: &str, old: Option<&Value>, new: Option<&Value>, remark: &str) -> Markup {
    let tone = match sign {
        "+" => "add",
        "-" => "cut",
        "~" => "swap",
        _ => "",
    };
    html! {
        li class=(tone) {
            @if !sign.is_empty() {
                span class="sign" aria-hidden="true" { (sign) } span class="hidden" { (meaning) " " }
            }
            bdi class="name" title=(shown_line(name)) { (short(name)) }
            span class="values" {
                @if let Some(old) = old { del { (value(old)) } }
                @if old.is_some() && new.is_some() { span class="arrow" aria-label="becomes" role="img" { "→" } }
                @if let Some(new) = new { @if old.is_some() { ins { (value(new)) } } @else { (value(new)) } }
                @if !remark.is_empty() { span class="soft" { (remark) } }
            }
        }
    }
}

/// What is said about a group. With `before`, the held values beside the new ones.
pub(super) fn change(change: &Change, before: Option<&Traits>) -> Markup {
    let old = |name: &str| before.and_then(|before| before.get(name));
    html! {
        ul class="diff" {
            @if change.delete {
                li class="cut" { span class="sign" aria-hidden="true" { "-" } " the group is deleted" }
            }
            @for (op, name, new) in change.values() {
                @match (op, old(name)) {
                    (Op::Set, Some(old)) => { (line("~", "changed", name, Some(old), Some(new), "")) }
                    (Op::Set, None) if before.is_none() => { (line("~", "set", name, None, Some(new), "")) }
                    (op, _) => { (line("+", "added", name, None, Some(new), remark(op))) }
                }
            }
            @for (name, held) in &change.repeated {
                (line("=", "repeated", name, None, Some(held), "(unchanged, sent with every change)"))
            }
            @for name in &change.unset {
                @let held = old(name);
                (line("-", "unset", name, held, None, if held.is_some() { "" } else { "unset" }))
            }
        }
    }
}

fn remark(op: Op) -> &'static str {
    match op {
        Op::Set => "",
        Op::SetOnce => "(only if there is none)",
        Op::Add => "(added to what is there)",
        Op::Append => "(appended to what is there)",
        Op::Prepend => "(prepended to what is there)",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_shows_old_and_new_and_what_is_unsure() {
        let Value::Object(before) = json!({"plan": "free", "gone": 1, "arr": document::unsure()}) else { panic!() };
        let Value::Object(set) = json!({"plan": "<b>pro", "arr": 5, "fresh": true}) else { panic!() };
        let Value::Object(append) = json!({"tags": ["x"]}) else { panic!() };
        let said = Change { set, append, unset: ["gone".to_owned()].into(), ..Change::default() };
        let html = change(&said, Some(&before)).into_string();
        assert!(html.contains("<del><span class=\"value\"><bdi>&quot;free&quot;</bdi>"), "{html}");
        assert!(html.contains("&quot;&lt;b&gt;pro&quot;") && !html.contains("<b>"), "{html}");
        assert!(html.contains("(unsure)") && html.contains("(appended to what is there)"), "{html}");
        assert_eq!((html.matches("class=\"swap\"").count(), html.matches("class=\"add\"").count()), (2, 2), "{html}");
        assert_eq!(html.matches("class=\"cut\"").count(), 1);
        let deleted = Change { delete: true, ..Change::default() };
        assert!(change(&deleted, None).into_string().contains("the group is deleted"));
    }
}
