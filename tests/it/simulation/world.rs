//! What does the destination hold, and may it hold that? A destination that applies what it is told, in whatever
//! weather, and the two pure rules a history is judged by: [`unsound`], about every word that is said, and [`wanted`],
//! about the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use groupcast::destination::file::File;
use groupcast::destination::{
    AddressedChange, Attempt, Destination, Element, Features, Part, RequestLimits, Route, Verdict,
};
use groupcast::io::http::CallLimits;
use groupcast::io::http::Transport;
use groupcast::io::http::{Applied, NoResponse, Request, Response};
use groupcast::mapping::{Expr, Field, Mapping, OnMissing, OnRemovedTrait, Trait};
use groupcast::model::{Change, OnNull, Op};
use groupcast::secret::Secret;
use serde_json::Value;

/// A row: the columns `a` to `d`.
pub(super) type Row = [Option<u8>; 4];
pub(super) type Source = BTreeMap<String, Row>;
/// Traits of a group, each value as its JSON text, so that equal numbers are equal whichever type held them.
pub(super) type Group = BTreeMap<String, String>;

/// How bad a history is: the chance of each mishap, per request or (the last two) per run and ledger call.
#[derive(Clone, Copy)]
pub(super) struct Weather {
    pub(super) refused: f64,
    pub(super) dropped: f64,
    pub(super) lost_answer: f64,
    pub(super) rejected: f64,
    pub(super) crash: f64,
}

pub(super) const STORM: Weather =
    Weather { refused: 0.05, dropped: 0.05, lost_answer: 0.1, rejected: 0.15, crash: 0.03 };
pub(super) const DRIZZLE: Weather =
    Weather { refused: 0.01, dropped: 0.01, lost_answer: 0.02, rejected: 0.03, crash: 0.005 };
pub(super) const QUIET: Weather = Weather { refused: 0.0, dropped: 0.0, lost_answer: 0.0, rejected: 0.0, crash: 0.0 };

/// What a run reads: the truth while it speaks.
#[derive(Clone)]
pub(super) struct Truth {
    pub(super) source: Source,
    pub(super) mapping: Mapping,
    pub(super) fingerprint: String,
}

/// The row and the mapping with which a group was last settled.
pub(super) type Settled = (Option<Row>, String);

impl Truth {
    pub(super) fn of(&self, key: &str) -> Settled {
        (self.source.get(key).copied(), self.fingerprint.clone())
    }
}

pub(super) struct World {
    pub(super) random: fastrand::Rng,
    pub(super) weather: Weather,
    pub(super) held: BTreeMap<String, Group>,
    /// Groups about which the destination refuses every word.
    pub(super) poisoned: BTreeSet<String>,
    pub(super) requests: u64,
    pub(super) truth: Truth,
    /// Groups whose last word was acknowledged, or that needed none, and of what.
    pub(super) settled: BTreeMap<String, Settled>,
    /// The same when the run began.
    pub(super) settled_before: BTreeMap<String, Settled>,
    /// Whatever must never happen.
    pub(super) complaints: Vec<String>,
}

impl World {
    pub(super) fn happens(&mut self, chance: f64) -> bool {
        self.random.f64() < chance
    }

    /// Listens to a line before it is known whether it arrives.
    fn hear(&mut self, key: &str, change: &Change) {
        if let Some(fault) = unsound(change, self.truth.source.get(key), &self.truth.mapping) {
            self.complaints.push(format!("{key}: {fault} in {change:?}"));
        }
        if self.settled_before.get(key) == Some(&self.truth.of(key)) {
            self.complaints.push(format!("{key}: settled, unchanged, and spoken about again: {change:?}"));
        }
    }

    fn apply(&mut self, key: &str, change: &Change) {
        if change.delete {
            self.held.remove(key);
            return;
        }
        let group = self.held.entry(key.to_owned()).or_default();
        group.extend(change.set.iter().map(|(name, value)| (name.clone(), value.to_string())));
        for (name, value) in &change.set_once {
            group.entry(name.clone()).or_insert_with(|| value.to_string());
        }
        for name in &change.unset {
            group.remove(name);
        }
        if group.is_empty() {
            self.held.remove(key);
        }
    }
}

/// The column a trait of these mappings reads.
pub(super) fn value_of(mapped: &Trait, row: &Row) -> Option<u8> {
    let Field::Column { expr: Expr::Column(name), .. } = &mapped.value else { panic!("traits are columns here") };
    row[usize::from(name.as_bytes()[0] - b'a')]
}

fn on_null(mapped: &Trait, mapping: &Mapping) -> OnNull {
    mapped.on_null.unwrap_or(mapping.policy.on_null)
}

/// Why these words must not be said, given the row as it is (`None`: the group left the model): every value must be the
/// source's own of this moment, said with the mapping's operator, and a trait is only removed where the policy says so.
/// It follows that whatever a trait ever holds is a value the source had, that a skipped null and a kept trait are
/// never touched, and that a `set_once` trait is never replaced.
fn unsound(change: &Change, row: Option<&Row>, mapping: &Mapping) -> Option<&'static str> {
    let Some(row) = row else {
        return match mapping.policy.on_missing {
            OnMissing::Keep => Some("a group that left the model is to be kept"),
            OnMissing::Delete if !change.delete || change.traits_count() > 0 => Some("a group is to be deleted"),
            OnMissing::Unset if change.delete || change.traits_count() > change.unset.len() => {
                Some("a group that left the model is only unset")
            }
            _ => None,
        };
    };
    if change.delete {
        return Some("the group is in the model");
    }
    let mapped = |name: &String| mapping.traits.iter().find(|mapped| mapped.name == *name);
    for (name, value) in &change.set {
        let Some(mapped) = mapped(name).filter(|mapped| mapped.op == Op::Set) else {
            return Some("only a mapped trait with op `set` is set");
        };
        match value_of(mapped, row) {
            Some(now) if value.as_u64() == Some(u64::from(now)) => {}
            None if value.is_null() && on_null(mapped, mapping) == OnNull::Null => {}
            _ => return Some("the source does not have this value"),
        }
    }
    for (name, value) in &change.set_once {
        let Some(mapped) = mapped(name).filter(|mapped| mapped.op == Op::SetOnce) else {
            return Some("only a mapped trait with op `set_once` is set once");
        };
        if value_of(mapped, row).map(u64::from).is_none_or(|now| value.as_u64() != Some(now)) {
            return Some("the source does not have this first value");
        }
    }
    for name in &change.unset {
        let allowed = match mapped(name) {
            Some(mapped) => {
                mapped.op == Op::Set && on_null(mapped, mapping) == OnNull::Unset && value_of(mapped, row).is_none()
            }
            None => mapping.policy.on_removed_trait == OnRemovedTrait::Unset,
        };
        if !allowed {
            return Some("this trait is not to be removed");
        }
    }
    None
}

/// What a group must hold in the end, given what it held `before` the weather cleared up: exactly this, under every
/// policy, because what we may not speak about must stay as it was.
///
/// | trait | source | must hold |
/// |---|---|---|
/// | op `set` | a value | that value |
/// | op `set` | null | nothing (`unset`), null (`null`), what it held before (`skip`) |
/// | op `set_once` | a value | what it held before, or else that value |
/// | op `set_once` | null | what it held before |
/// | not mapped | | nothing (`on_removed_trait = "unset"`), what it held before (`keep`) |
/// | any, the group left the model | | nothing (`on_missing = "unset"`, `"delete"`), what it held before (`keep`) |
pub(super) fn wanted(before: &Group, row: Option<&Row>, mapping: &Mapping) -> Group {
    let Some(row) = row else {
        return if mapping.policy.on_missing == OnMissing::Keep { before.clone() } else { Group::new() };
    };
    let mut group = match mapping.policy.on_removed_trait {
        OnRemovedTrait::Keep => before.clone(),
        OnRemovedTrait::Unset => Group::new(),
    };
    for mapped in &mapping.traits {
        let held = before.get(&mapped.name).cloned();
        let value = value_of(mapped, row).map(|value| value.to_string());
        let wanted = match (mapped.op, value) {
            (Op::Set, Some(value)) => Some(value),
            (Op::Set, None) => match on_null(mapped, mapping) {
                OnNull::Unset => None,
                OnNull::Null => Some("null".to_owned()),
                OnNull::Skip => held,
            },
            (Op::SetOnce, value) => held.or(value),
            (op, _) => unreachable!("no history draws {op:?}: after a lost answer such a group waits for a person"),
        };
        match wanted {
            Some(value) => group.insert(mapped.name.clone(), value),
            None => group.remove(&mapped.name),
        };
    }
    group
}

/// A destination of NDJSON lines that can refuse a group (the file's own never does), and that takes a change in one
/// part or trait by trait.
pub(super) struct Picky {
    pub(super) file: File,
    pub(super) trait_by_trait: bool,
}

impl Destination for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn features(&self) -> Features {
        self.file.features()
    }

    fn limits(&self, route: Route) -> RequestLimits {
        self.file.limits(route)
    }

    fn parts(&self, change: &AddressedChange) -> Result<Vec<Part>, String> {
        if change.change.delete || !self.trait_by_trait {
            return self.file.parts(change);
        }
        let Change { set, set_once, unset, .. } = &*change.change;
        let one = |name: &String, value: &Value| [(name.clone(), value.clone())].into_iter().collect();
        let sets = set.iter().map(|(name, value)| Change { set: one(name, value), ..Change::default() });
        let firsts = set_once.iter().map(|(name, value)| Change { set_once: one(name, value), ..Change::default() });
        let unsets = unset.iter().map(|name| Change { unset: [name.clone()].into(), ..Change::default() });
        Ok(sets.chain(firsts).chain(unsets).map(|change| Part { route: 0, change: change.into() }).collect())
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        self.file.element(addressed, part)
    }

    fn request(&self, route: Route, elements: &[&Element], attempt: Attempt) -> Request {
        self.file.request(route, elements, attempt)
    }

    fn interpret(&self, route: Route, count: usize, response: &Response) -> Verdict {
        if response.status == 400 {
            let reason = String::from_utf8_lossy(&response.body).into_owned();
            return Verdict::Rejected { reason, applied: Applied::No };
        }
        self.file.interpret(route, count, response)
    }

    fn masked(&self, request: &Request) -> Request {
        request.clone()
    }

    fn secrets(&self) -> Vec<Secret> {
        Vec::new()
    }
}

/// The way to it.
pub(super) struct Sky<'a>(pub(super) &'a Mutex<World>);

#[async_trait]
impl Transport for Sky<'_> {
    async fn send(&self, request: &Request, _: CallLimits) -> Result<Response, NoResponse> {
        let mut world = self.0.lock().unwrap();
        world.requests += 1;
        let lines: Vec<(String, Change)> = request
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("a line is JSON"))
            .map(|line: Value| (line["key"].as_str().expect("a line has a key").to_owned(), change_of(line)))
            .collect();
        for (key, change) in &lines {
            world.hear(key, change);
        }
        let weather = world.weather;
        if world.happens(weather.refused) {
            return Err(NoResponse { applied: Applied::No, what: "connection refused".to_owned() });
        }
        if world.happens(weather.dropped) {
            return Err(NoResponse { applied: Applied::Maybe, what: "connection reset".to_owned() });
        }
        // What is refused tells so only while the poison lasts; one part of a change may get through before or after.
        if lines.iter().any(|(key, _)| world.poisoned.contains(key)) && world.happens(0.8) {
            return Ok(Response { status: 400, body: b"no such plan".to_vec(), ..Response::default() });
        }
        let lost = world.happens(weather.lost_answer);
        // Without an answer nobody knows how far it got.
        let applied = if lost { world.random.usize(0..=lines.len()) } else { lines.len() };
        for (key, change) in &lines[..applied] {
            world.apply(key, change);
        }
        if lost {
            return Err(NoResponse { applied: Applied::Maybe, what: "no answer".to_owned() });
        }
        Ok(Response { status: 200, ..Response::default() })
    }
}

fn change_of(mut line: Value) -> Change {
    let fields = line.as_object_mut().expect("a line is an object");
    fields.retain(|name, _| ["set", "set_once", "unset", "delete"].contains(&name.as_str()));
    serde_json::from_value(line).expect("a line is a change")
}
