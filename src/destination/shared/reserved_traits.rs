//! Reserved traits: findings about names that a vendor gives a meaning, and names that collide.
//!
//! All of it is found before anything is read, from declared types and constants. An undeclared type is not guessed.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate};
use serde_json::Value;

use crate::destination::{MappingFinding, TraitShape};
use crate::model::cell::As;

/// What a reserved trait should be.
#[derive(Debug, Clone, Copy)]
pub(in crate::destination) enum ExpectedType {
    /// Text.
    Text,
    /// A number.
    Number,
    /// A date or a timestamp.
    Timestamp,
    /// An object with these members.
    Members(&'static [&'static str]),
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// A trait with a meaning of its own.
#[derive(Debug, Clone, Copy)]
pub(in crate::destination) struct ReservedTrait {
    pub(in crate::destination) name: &'static str,
    pub(in crate::destination) wanted: ExpectedType,
    /// What to know where the vendor's own pages disagree; empty otherwise.
    pub(in crate::destination) note: &'static str,
}

pub(in crate::destination) const fn reserved_trait(name: &'static str, wanted: ExpectedType) -> ReservedTrait {
    ReservedTrait { name, wanted, note: "" }
}

/// How a vendor compares names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::destination) enum NameFolding {
    /// Without regard to capitals.
    Capitals,
    /// Without regard to capitals and underscores: `createdAt` is `created_at`.
    CapitalsAndUnderscores,
}

impl NameFolding {
    pub(in crate::destination) fn fold(self, name: &str) -> String {
        let lower = name.to_lowercase();
        match self {
            NameFolding::Capitals => lower,
            NameFolding::CapitalsAndUnderscores => lower.replace('_', ""),
        }
    }

    fn regardless_of(self) -> &'static str {
        match self {
            NameFolding::Capitals => "capitals",
            NameFolding::CapitalsAndUnderscores => "capitals and underscores",
        }
    }
}

/// Two traits, or two members of one object, that are one to the vendor: which value wins would be chance.
pub(in crate::destination) fn collisions(
    vendor: &str,
    folding: NameFolding,
    traits: &[TraitShape<'_>],
) -> Vec<MappingFinding> {
    let mut found = Vec::new();
    let mut clash = |about: &str, names: &mut dyn Iterator<Item = &str>, what: &str| {
        let mut met: BTreeMap<String, String> = BTreeMap::new();
        for name in names {
            let Some(first) = met.insert(folding.fold(name), name.to_owned()) else { continue };
            found.push(MappingFinding {
                about: Some(if about.is_empty() { name.to_owned() } else { about.to_owned() }),
                error: true,
                what: format!(
                    "{what} `{first}` and `{name}` are one to {vendor}, which compares names regardless of {}",
                    folding.regardless_of()
                ),
                help: "keep one of them".to_owned(),
            });
        }
    };
    clash("", &mut traits.iter().map(|shape| shape.name), "traits");
    for shape in traits {
        if let Some(members) = &shape.members {
            clash(shape.name, &mut members.iter().copied(), "members");
        }
    }
    found
}

/// ReservedTrait traits that are declared, or set, as something else.
pub(in crate::destination) fn mistyped(
    spec: &str,
    table: &[ReservedTrait],
    folding: NameFolding,
    traits: &[TraitShape<'_>],
) -> Vec<MappingFinding> {
    let one = |shape: &TraitShape<'_>| {
        let reserved = table.iter().find(|one| folding.fold(one.name) == folding.fold(shape.name))?;
        let (what, help) = mismatch(reserved, shape)?;
        let note = if reserved.note.is_empty() { String::new() } else { format!(" ({})", reserved.note) };
        let what = format!("`{}` {what} in {spec}{note}", shape.name);
        Some(MappingFinding { about: Some(shape.name.to_owned()), error: false, what, help })
    };
    traits.iter().filter_map(one).collect()
}

/// What is known of a trait's values before any is read.
#[derive(PartialEq)]
enum Seen<'a> {
    Text(Option<&'a str>),
    Number,
    Flag,
    Timestamp,
    List,
    Object,
    Unknown,
}

fn seen<'a>(shape: &TraitShape<'a>) -> Seen<'a> {
    match (shape.constant, shape.declared) {
        (Some(Value::String(text)), _) => Seen::Text(Some(text)),
        (Some(Value::Number(_)), _) => Seen::Number,
        (Some(Value::Bool(_)), _) => Seen::Flag,
        (Some(Value::Array(_)), _) => Seen::List,
        (Some(Value::Object(_)), _) => Seen::Object,
        (Some(Value::Null), _) => Seen::Unknown,
        (None, _) if shape.members.is_some() => Seen::Object,
        (None, Some(As::String)) => Seen::Text(None),
        (None, Some(As::Number | As::Integer)) => Seen::Number,
        (None, Some(As::Boolean)) => Seen::Flag,
        (None, Some(As::Date | As::Timestamp)) => Seen::Timestamp,
        (None, Some(As::List)) => Seen::List,
        (None, Some(As::Json) | None) => Seen::Unknown,
    }
}

fn mismatch(reserved: &ReservedTrait, shape: &TraitShape<'_>) -> Option<(String, String)> {
    let seen = seen(shape);
    let declare = |kind: &str| format!("declare `as = \"{kind}\"`, or use another name");
    match reserved.wanted {
        _ if seen == Seen::Unknown => None,
        ExpectedType::Text => {
            (!matches!(seen, Seen::Text(_) | Seen::Timestamp)).then(|| ("is text".to_owned(), declare("string")))
        }
        ExpectedType::Number => (seen != Seen::Number).then(|| ("is a number".to_owned(), declare("number"))),
        ExpectedType::Timestamp => {
            let fits = seen == Seen::Timestamp || matches!(seen, Seen::Text(Some(text)) if is_moment(text));
            (!fits).then(|| ("is an ISO 8601 date".to_owned(), declare("timestamp")))
        }
        ExpectedType::OneOf(words) => match seen {
            Seen::Text(None) => None,
            Seen::Text(Some(text)) if words.contains(&text) => None,
            _ => Some((format!("is {}", listed(words)), "write one of these words".to_owned())),
        },
        ExpectedType::Members(names) => {
            if seen != Seen::Object {
                let help = format!("map it as an object: `{{ {} = … }}`", names.first().unwrap_or(&"…"));
                return Some(("is an object".to_owned(), help));
            }
            let strange: Vec<&str> =
                shape.members.iter().flatten().copied().filter(|member| !names.contains(member)).collect();
            let first = strange.first()?;
            let what = format!("has no member {}", listed(&strange));
            let plain = |name: &str| name.to_lowercase().replace(['_', '-', ' '], "");
            let respelled = names.iter().copied().find(|name| plain(name) == plain(first));
            let help = match respelled {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("its members are {}", listed(names)),
            };
            Some((what, help))
        }
    }
}

/// `a`, `b` or `c`.
fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn is_moment(text: &str) -> bool {
    DateTime::parse_from_rfc3339(text).is_ok() || text.parse::<NaiveDate>().is_ok()
}
