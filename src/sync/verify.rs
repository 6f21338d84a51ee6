//! Verification: reads a destination's groups back and compares them with the synced state.
//!
//! The destination lists groups in its own order, the ledger in key order. So all remote groups are put aside first
//! ([`RemoteGroups`]), and then the ledger's groups are compared page by page. Neither side is ever in memory as a whole.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::delivery::ReadBackClient;
use crate::destination::Features;
use crate::destination::readback::{ReadBackQuery, RemoteGroup};
use crate::error::{Error, Kind, Result};
use crate::ledger::{Ledger, RunStatus, SyncedGroup};
use crate::mapping::{Field, Mapping};
use crate::model::document::{self, Document, canonicalize};
use crate::model::{OnNull, Op, Traits};

use super::remote_groups::RemoteGroups;
use super::session::{Event, Monitor};

/// Known groups that are compared at a time.
const PAGE: u64 = 1_000;

/// How one trait differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The destination lacks it.
    Missing,
    /// The destination holds another value.
    Different,
    /// The destination has it although it was removed.
    Unexpected,
}

/// A trait that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Drift {
    /// Its name.
    #[serde(rename = "trait")]
    pub name: String,
    /// How it differs.
    pub difference: Difference,
    /// The synced value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synced: Option<Value>,
    /// The destination's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<Value>,
}

/// A group that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Drifted {
    /// Its id.
    pub key: String,
    /// Whether the destination has no such group at all; then no trait is listed.
    pub missing: bool,
    /// The traits that differ.
    pub traits: Vec<Drift>,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Verified {
    /// Groups that were compared.
    pub compared: u64,
    /// Known groups that were not compared, because what they hold is not known for certain.
    pub unconfirmed: u64,
    /// Groups at the destination that the ledger does not know.
    pub foreign: u64,
    /// Groups that differ.
    pub drifted: u64,
    /// Those of them that the destination does not have.
    pub missing_groups: u64,
    /// Traits that the destination lacks.
    pub missing: u64,
    /// Traits with another value.
    pub different: u64,
    /// Traits that are there although they were removed.
    pub unexpected: u64,
    /// Groups that the next run resends.
    pub repaired: u64,
}

/// A trait as it is compared.
struct Compared<'a> {
    name: &'a str,
    op: Op,
    /// Whether it is ours alone, so that a value we never sent is drift.
    unset: bool,
}

fn compared<'a>(mapping: &'a Mapping, features: &Features) -> Vec<Compared<'a>> {
    let traits = mapping.traits.iter().map(|mapped| {
        let on_null = mapped.on_null.unwrap_or(mapping.policy.on_null);
        let unset = on_null == OnNull::Unset
            && features.on_null.contains(&OnNull::Unset)
            && !matches!(mapped.value, Field::Const(_));
        Compared { name: &mapped.name, op: mapped.op, unset }
    });
    traits.collect()
}

/// How a remote group differs from a certain known one.
fn drift(traits: &[Compared<'_>], known: &Traits, remote: &Traits, held: &dyn Fn(&Value) -> Value) -> Vec<Drift> {
    let mut found = Vec::new();
    for Compared { name, op, unset } in traits {
        let (expected, value) = (known.get(*name), remote.get(*name));
        let difference = match (expected, value) {
            (Some(expected), _) if *expected == document::unconfirmed() => None,
            (Some(_), None) => Some(Difference::Missing),
            // Others may have come first, or have added to it.
            (Some(_), Some(_)) if *op != Op::Set => None,
            (Some(expected), Some(value)) => {
                let value = canonicalize(value.clone()).ok();
                (value != Some(held(expected))).then_some(Difference::Different)
            }
            (None, Some(value)) if *unset && !value.is_null() => Some(Difference::Unexpected),
            (None, _) => None,
        };
        if let Some(difference) = difference {
            let (synced, actual) = (expected.cloned(), value.cloned());
            found.push(Drift { name: (*name).to_owned(), difference, synced, actual });
        }
    }
    found
}

/// What a verification works with.
pub struct Verification<'a> {
    /// What is compared.
    pub mapping: &'a Mapping,
    /// What its destination can carry out.
    pub features: &'a Features,
    /// What is known.
    pub ledger: &'a dyn Ledger,
    /// Where what is read back is kept meanwhile.
    pub remote: &'a RemoteGroups,
    /// Reads groups back from the destination.
    pub reader: &'a ReadBackClient<'a>,
    /// The mark to leave on groups that differ, so that the next run resends them in full; none changes nothing.
    pub repair: Option<&'a str>,
    /// Notified of how many groups were read.
    pub monitor: &'a dyn Monitor,
}

/// Takes the groups that differ.
pub type Sink<'a> = dyn FnMut(Drifted) -> Result<()> + Send + 'a;

/// Compares all groups of a sync with what the destination holds, and hands `sink` every one that differs.
///
/// Errors: [`Kind::Destination`] when there is no response or one that cannot be read; [`Kind::Ledger`]; those of `sink`.
pub async fn verify(verification: &Verification<'_>, sink: &mut Sink<'_>) -> Result<Verified> {
    let Verification { mapping, features, ledger, remote, reader, repair, monitor } = *verification;
    let sync = &mapping.name;
    if ledger.history().runs(Some(sync), None, 1).await?.first().is_some_and(|run| run.status == RunStatus::Running) {
        return Err(Error::new(Kind::Ledger, "the last run crashed, and what it sent is unconfirmed")
            .advise(format!("run `groupcast run {sync}` first: it recovers the crashed run")));
    }
    let traits = compared(mapping, features);
    let read = fetch(&traits, remote, reader, monitor).await?;
    let held = |value: &Value| reader.readback.held(value);
    let mut found = Verified::default();
    let (mut after, mut met) = (None::<String>, 0);
    loop {
        let page = ledger.history().groups(sync, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        let last = last.key.clone();
        let keys = page.iter().map(|known| known.key.clone()).collect();
        let mut remotes = remote.among(keys, after.take(), last.clone()).await?;
        after = Some(last);
        let mut differing = Vec::new();
        for SyncedGroup { key, document, unconfirmed_in, rejected, unreadable, .. } in page {
            let remote = remotes.remove(&key);
            met += u64::from(remote.is_some());
            if unconfirmed_in.is_some() || unreadable.is_some() {
                found.unconfirmed += 1;
                continue;
            }
            let drifted = match remote {
                // Nothing was ever sent of it.
                None if document.0.is_empty() => Drifted { key, missing: false, traits: Vec::new() },
                None => Drifted { key, missing: true, traits: Vec::new() },
                // A rejected group is not ours yet, if nothing of it was ever accepted.
                Some(_) if document.0.is_empty() && rejected.is_some() => continue,
                Some(remote) => Drifted { key, missing: false, traits: drift(&traits, &document.0, &remote, &held) },
            };
            found.compared += 1;
            if !drifted.missing && drifted.traits.is_empty() {
                continue;
            }
            found.count(&drifted);
            differing.push(drifted);
        }
        if let Some(mark) = repair.filter(|_| !differing.is_empty()) {
            let keys: Vec<String> = differing.iter().map(|drifted| drifted.key.clone()).collect();
            found.repaired += ledger.reset(sync, Some(&keys), mark, false).await?;
        }
        differing.into_iter().try_for_each(&mut *sink)?;
    }
    found.foreign = read.saturating_sub(met);
    Ok(found)
}

impl Verified {
    fn count(&mut self, drifted: &Drifted) {
        let count = |wanted| drifted.traits.iter().filter(|drift| drift.difference == wanted).count() as u64;
        self.drifted += 1;
        self.missing_groups += u64::from(drifted.missing);
        self.missing += count(Difference::Missing);
        self.different += count(Difference::Different);
        self.unexpected += count(Difference::Unexpected);
    }
}

/// Reads all remote groups, the mapped traits of each. Returns how many there are.
async fn fetch(
    traits: &[Compared<'_>],
    remote: &RemoteGroups,
    reader: &ReadBackClient<'_>,
    monitor: &dyn Monitor,
) -> Result<u64> {
    let mut cursors = HashSet::new();
    let mut next: Option<String> = None;
    let mut read = 0;
    // No response means that there is no group of this type.
    while let Some(response) = reader.query(ReadBackQuery::Page(next.as_deref())).await? {
        let page = reader.readback.page(&response)?;
        let groups: Vec<(String, Document)> = page.groups.into_iter().map(|group| mapped(traits, group)).collect();
        read += groups.len() as u64;
        remote.add(groups).await?;
        monitor.note(Event::Reading(read));
        match page.next {
            None => break,
            Some(cursor) if !cursors.insert(cursor.clone()) => {
                return Err(Error::new(Kind::Destination, "the destination's list of groups leads back to itself")
                    .advise("try again; if it stays so, report it to the destination's vendor"));
            }
            Some(cursor) => next = Some(cursor),
        }
    }
    remote.count().await
}

/// The mapped traits of a remote group.
fn mapped(traits: &[Compared<'_>], group: RemoteGroup) -> (String, Document) {
    let RemoteGroup { key, traits: mut remote } = group;
    let mapped: Traits = traits
        .iter()
        .filter_map(|compared| remote.remove(compared.name).map(|value| (compared.name.to_owned(), value)))
        .collect();
    (key, Document(mapped))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn traits(value: Value) -> Traits {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn only_what_is_ours_and_certain_can_drift() {
        let compared = |name, op, unset| Compared { name, op, unset };
        let mapped = [
            compared("same", Op::Set, true),
            compared("changed", Op::Set, true),
            compared("lost", Op::Set, true),
            compared("back", Op::Set, true),
            compared("theirs", Op::Set, false),
            compared("first", Op::SetOnce, true),
            compared("maybe", Op::Set, true),
            compared("none", Op::Set, true),
        ];
        let known =
            traits(json!({"same": 12, "changed": "a", "lost": null, "first": 1, "maybe": document::unconfirmed()}));
        let remote: Traits = serde_json::from_str(
            r#"{"same": 12.0, "changed": "b", "back": true, "theirs": 5, "first": 2, "none": null, "unmapped": 1}"#,
        )
        .unwrap();
        let found = drift(&mapped, &known, &remote, &Value::clone);
        let found: Vec<(&str, Difference)> =
            found.iter().map(|drift| (drift.name.as_str(), drift.difference)).collect();
        let expected =
            [("changed", Difference::Different), ("lost", Difference::Missing), ("back", Difference::Unexpected)];
        assert_eq!(found, expected);
    }
}
