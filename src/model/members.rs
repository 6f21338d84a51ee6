//! The members of two JSON values that differ, by path: what a person wants to see of a large value that changed a little.

use std::collections::BTreeSet;

use serde_json::Value;

use super::document;

/// Members that are listed; values that differ in more are easier to read as a whole.
const MEMBERS_MAX: usize = 12;

/// A member that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedMember<'a> {
    /// Where it is, after the value's own name: `.address.city`, `[2]`.
    pub path: String,
    /// The value before; none where it is new.
    pub before: Option<&'a Value>,
    /// The value after; none where it is gone.
    pub after: Option<&'a Value>,
}

/// The members of two objects or two lists that differ. None where they have nothing in common, or where too much differs.
pub fn changed_members<'a>(before: &'a Value, after: &'a Value) -> Option<Vec<ChangedMember<'a>>> {
    let mut changed = Vec::new();
    let mut equal = false;
    compare(String::new(), before, after, &mut changed, &mut equal)?;
    let is_whole = changed.iter().any(|member| member.path.is_empty());
    (equal && !is_whole).then_some(changed)
}

/// None where too much differs. `equal` is set when a member is the same.
fn compare<'a>(
    path: String,
    before: &'a Value,
    after: &'a Value,
    changed: &mut Vec<ChangedMember<'a>>,
    equal: &mut bool,
) -> Option<()> {
    match (before, after) {
        _ if before == after => {
            *equal = true;
            return Some(());
        }
        (Value::Object(old), Value::Object(new)) if !document::is_unknown(before) && !document::is_unknown(after) => {
            for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                let path = format!("{path}.{}", member_name(name));
                match (old.get(name), new.get(name)) {
                    (Some(old), Some(new)) => compare(path, old, new, changed, equal)?,
                    (before, after) => changed.push(ChangedMember { path, before, after }),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            let same_start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
            let rest = old.len().min(new.len()) - same_start;
            let same_end =
                old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
            *equal |= same_start + same_end > 0;
            let (old_middle, new_middle) =
                (&old[same_start..old.len() - same_end], &new[same_start..new.len() - same_end]);
            if old_middle.len() == new_middle.len() {
                for (at, (old, new)) in old_middle.iter().zip(new_middle).enumerate() {
                    compare(format!("{path}[{}]", same_start + at), old, new, changed, equal)?;
                }
            } else {
                let member = |at: usize| format!("{path}[{}]", same_start + at);
                let gone = old_middle.iter().enumerate();
                changed.extend(gone.map(|(at, old)| ChangedMember {
                    path: member(at),
                    before: Some(old),
                    after: None,
                }));
                let added = new_middle.iter().enumerate();
                changed.extend(added.map(|(at, new)| ChangedMember {
                    path: member(at),
                    before: None,
                    after: Some(new),
                }));
            }
        }
        _ => changed.push(ChangedMember { path, before: Some(before), after: Some(after) }),
    }
    (changed.len() <= MEMBERS_MAX).then_some(())
}

/// A member's name as a path shows it: quoted where it could be taken for something else.
fn member_name(name: &str) -> String {
    let is_plain = !name.is_empty() && name.chars().all(|char| char.is_alphanumeric() || "_-$".contains(char));
    if is_plain { name.to_owned() } else { Value::from(name).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(before: Value, after: Value) -> Option<Vec<String>> {
        let text = |value: Option<&Value>| value.map_or_else(|| "–".to_owned(), Value::to_string);
        let members = changed_members(&before, &after)?;
        Some(
            members
                .iter()
                .map(|member| format!("{} {} {}", member.path, text(member.before), text(member.after)))
                .collect(),
        )
    }

    #[test]
    fn only_the_members_that_differ_are_listed() {
        assert_eq!(
            shown(
                json!({"city": "Bonn", "geo": {"lat": 1, "lon": 2}, "old": 1, "zip": "1"}),
                json!({"city": "Köln", "geo": {"lat": 1, "lon": 3}, "a b": null, "zip": "1"}),
            ),
            Some(vec![
                ".\"a b\" – null".to_owned(),
                ".city \"Bonn\" \"Köln\"".to_owned(),
                ".geo.lon 2 3".to_owned(),
                ".old 1 –".to_owned()
            ])
        );
    }

    #[test]
    fn lists_are_compared_from_both_ends() {
        assert_eq!(shown(json!([1, 2, 3]), json!([1, 3])), Some(vec!["[1] 2 –".to_owned()]));
        assert_eq!(shown(json!([1, 2]), json!([0, 1, 2])), Some(vec!["[0] – 0".to_owned()]));
        assert_eq!(
            shown(json!([1, {"a": 1, "b": 2}]), json!([1, {"a": 1, "b": 3}])),
            Some(vec!["[1].b 2 3".to_owned()])
        );
        assert_eq!(shown(json!([1, 1]), json!([1])), Some(vec!["[1] 1 –".to_owned()]));
    }

    #[test]
    fn values_without_anything_in_common_are_shown_as_a_whole() {
        assert_eq!(shown(json!({"a": 1}), json!({"a": 2})), None);
        assert_eq!(shown(json!("a"), json!("b")), None);
        assert_eq!(shown(json!({"a": 1}), json!([1])), None);
        assert_eq!(shown(json!([1]), json!([])), None);
        assert_eq!(shown(document::unconfirmed(), json!({"a": 1})), None);
        let many = |from: u64| Value::Array((from..from + 40).map(Value::from).chain([Value::Null]).collect());
        assert_eq!(shown(many(0), many(100)), None);
    }
}
