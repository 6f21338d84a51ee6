//! Traits and changes: old → new, with the signs of `groupcast plan`.

use maud::{Markup, html};
use serde_json::Value;

use super::text::{long, short, shown_line};
use crate::model::members::changed_members;
use crate::model::{Change, Op, Traits, document};

/// A value as JSON.
fn written(value: &Value) -> String {
    if document::is_unknown(value) { "(unconfirmed)".to_owned() } else { value.to_string() }
}

/// A trait's value: in whole when short, else collapsed.
pub(super) fn value(value: &Value) -> Markup {
    if document::is_unknown(value) {
        let meaning = "the destination may have another value";
        return html! { span class="soft" title=(meaning) { "(unconfirmed)" } };
    }
    html! { span class="value" { (long(&written(value))) } }
}

/// Traits by name, collapsed.
pub(super) fn document(title: &str, traits: &Traits) -> Markup {
    html! {
        details class="long" {
            summary { (title) }
            (list(traits))
        }
    }
}

fn list(traits: &Traits) -> Markup {
    html! {
        @if traits.is_empty() { p class="soft" { "No traits." } }
        @else {
            ul class="diff" {
                @for (name, value) in traits { (line("", "", name, None, Some(value), "")) }
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

/// A trait whose value changes; of a large value, the members that do.
fn changed(name: &str, old: &Value, new: &Value) -> Markup {
    let Some(members) = changed_members(old, new) else {
        return line("~", "changed", name, Some(old), Some(new), "");
    };
    html! {
        @for member in members {
            @let (sign, meaning) = match (member.before, member.after) {
                (Some(_), Some(_)) => ("~", "changed"),
                (None, _) => ("+", "added"),
                (_, None) => ("-", "removed"),
            };
            (line(sign, meaning, &format!("{name}{}", member.path), member.before, member.after, ""))
        }
    }
}

/// The change of a group. With `before`, the synced values beside the new ones.
pub(super) fn change(change: &Change, before: Option<&Traits>) -> Markup {
    let old = |name: &str| before.and_then(|before| before.get(name));
    html! {
        ul class="diff" {
            @if change.delete {
                li class="cut" { span class="sign" aria-hidden="true" { "-" } " the group is deleted" }
            }
            @for (op, name, new) in change.values() {
                @match (op, old(name)) {
                    (Op::Set, Some(old)) => { (changed(name, old, new)) }
                    (Op::Set, None) if before.is_none() => { (line("~", "set", name, None, Some(new), "")) }
                    (op, _) => { (line("+", "added", name, None, Some(new), remark(op))) }
                }
            }
            @for (name, value) in &change.repeated {
                (line("=", "unchanged", name, None, Some(value), "(unchanged, sent with every change)"))
            }
            @for name in &change.unset {
                @let old = old(name);
                (line("-", "unset", name, old, None, if old.is_some() { "" } else { "unset" }))
            }
        }
    }
}

fn remark(op: Op) -> &'static str {
    match op {
        Op::Set => "",
        Op::SetOnce => "(only if the group has none)",
        Op::Add => "(added to the current value)",
        Op::Append => "(appended to the current value)",
        Op::Prepend => "(prepended to the current value)",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_shows_old_and_new_and_what_is_unconfirmed() {
        let Value::Object(before) = json!({"plan": "free", "gone": 1, "arr": document::unconfirmed()}) else {
            panic!()
        };
        let Value::Object(set) = json!({"plan": "<b>pro", "arr": 5, "fresh": true}) else { panic!() };
        let Value::Object(append) = json!({"tags": ["x"]}) else { panic!() };
        let sent = Change { set, append, unset: ["gone".to_owned()].into(), ..Change::default() };
        let html = change(&sent, Some(&before)).into_string();
        assert!(html.contains("<del><span class=\"value\"><bdi>&quot;free&quot;</bdi>"), "{html}");
        assert!(html.contains("&quot;&lt;b&gt;pro&quot;") && !html.contains("<b>"), "{html}");
        assert!(html.contains("(unconfirmed)") && html.contains("(appended to the current value)"), "{html}");
        assert_eq!((html.matches("class=\"swap\"").count(), html.matches("class=\"add\"").count()), (2, 2), "{html}");
        assert_eq!(html.matches("class=\"cut\"").count(), 1);
        let Value::Object(before) = json!({"address": {"city": "Bonn", "zip": "1"}}) else { panic!() };
        let Value::Object(set) = json!({"address": {"city": "Köln", "zip": "1"}}) else { panic!() };
        let html = change(&Change { set, ..Change::default() }, Some(&before)).into_string();
        assert!(html.contains("address.city") && !html.contains("zip"), "{html}");
        let deleted = Change { delete: true, ..Change::default() };
        assert!(change(&deleted, None).into_string().contains("the group is deleted"));
    }
}
