//! Does the destination hold what it is known to hold? Reads its groups back and compares them with the ledger.
//!
//! The destination lists groups in its own order, the ledger in key order. So the mapped traits of every remote group go
//! into a temporary table beside the ledger first, which spills to disk; then the ledger's groups are looked through page
//! by page. Neither side is ever in memory as a whole.

use std::collections::{HashMap, HashSet};

use duckdb::params;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::delivery::ReadBackClient;
use crate::destination::Features;
use crate::destination::readback::{ReadBackQuery, RemoteGroup};
use crate::duckdb::{DuckDbConnection, ledger_error};
use crate::error::{Error, Kind, Result};
use crate::ledger::{KnownGroup, Ledger, Status};
use crate::mapping::{Field, Mapping};
use crate::model::document::{self, canonicalize};
use crate::model::{OnNull, Op, Traits};

use super::{Event, Monitor};

/// Known groups that are compared at a time.
const PAGE: u64 = 1_000;

/// How one trait differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The destination lacks it.
    Missing,
    /// The destination holds another value.
    Different,
    /// The destination holds it although it was removed.
    Unexpected,
}

/// A trait that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Its name.
    #[serde(rename = "trait")]
    pub name: String,
    /// How it differs.
    pub difference: Difference,
    /// What the destination is known to hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<Value>,
    /// What it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Value>,
}

/// A group that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drifted {
    /// Its id.
    pub key: String,
    /// Whether the destination has no such group at all; then no trait is listed.
    pub missing: bool,
    /// The traits that differ.
    pub traits: Vec<Drift>,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Groups that the next run says again.
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
            (Some(expected), _) if *expected == document::unsure() => None,
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
            let (known, held) = (expected.cloned(), value.cloned());
            found.push(Drift { name: (*name).to_owned(), difference, known, held });
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
    pub duckdb: &'a DuckDbConnection,
    /// How the destination is asked.
    pub reader: &'a ReadBackClient<'a>,
    /// The mark to leave on groups that differ, so that the next run says them again in full; none leaves all as it is.
    pub repair: Option<&'a str>,
    /// Told how many groups were read.
    pub monitor: &'a dyn Monitor,
}

/// Takes the groups that differ.
pub type Sink<'a> = dyn FnMut(Drifted) -> Result<()> + Send + 'a;

/// Compares all groups of a sync with what the destination holds, and tells `sink` every one that differs.
///
/// Errors: [`Kind::Destination`] when it does not answer or answers what cannot be read; [`Kind::Ledger`]; whatever `sink`
/// fails with.
pub async fn verify(verification: &Verification<'_>, sink: &mut Sink<'_>) -> Result<Verified> {
    let Verification { mapping, features, ledger, duckdb, reader, repair, monitor } = *verification;
    let sync = &mapping.name;
    if ledger.runs(Some(sync), 1).await?.first().is_some_and(|run| run.status == Status::Running) {
        return Err(Error::new(Kind::Ledger, "the last run died before it settled what it had said")
            .advise(format!("run `groupcast run {sync}` first: it settles that")));
    }
    let traits = compared(mapping, features);
    let remote = fetch(&traits, duckdb, reader, monitor).await?;
    let held = |value: &Value| reader.readback.held(value);
    let mut found = Verified::default();
    let (mut after, mut met) = (None::<String>, 0);
    loop {
        let page = ledger.export(sync, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        let last = last.key.clone();
        let keys = page.iter().map(|known| known.key.clone()).collect();
        let mut remotes = among(duckdb, keys, after.take(), last.clone()).await?;
        after = Some(last);
        for KnownGroup { key, document, unconfirmed_in, rejected, unreadable, .. } in page {
            let remote = remotes.remove(&key);
            met += u64::from(remote.is_some());
            if unconfirmed_in.is_some() || unreadable.is_some() {
                found.unconfirmed += 1;
                continue;
            }
            let drifted = match remote {
                // Nothing was ever said about it.
                None if document.0.is_empty() => Drifted { key, missing: false, traits: Vec::new() },
                None => Drifted { key, missing: true, traits: Vec::new() },
                // A refused group is not ours yet, if nothing of it was ever taken.
                Some(_) if document.0.is_empty() && rejected.is_some() => continue,
                Some(remote) => Drifted { key, missing: false, traits: drift(&traits, &document.0, &remote, &held) },
            };
            found.compared += 1;
            if !drifted.missing && drifted.traits.is_empty() {
                continue;
            }
            found.count(&drifted);
            if let Some(mark) = repair {
                found.repaired += ledger.reset(sync, Some(&drifted.key), mark, false).await?;
            }
            sink(drifted)?;
        }
    }
    found.foreign = remote.saturating_sub(met);
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

/// Reads all remote groups into the temporary table, the mapped traits of each. Returns how many there are.
async fn fetch(
    traits: &[Compared<'_>],
    duckdb: &DuckDbConnection,
    reader: &ReadBackClient<'_>,
    monitor: &dyn Monitor,
) -> Result<u64> {
    duckdb
        .call("prepare to read groups back", |connection| {
            connection
                .execute_batch(
                    "CREATE OR REPLACE TEMP TABLE remote_group (key VARCHAR NOT NULL, traits VARCHAR NOT NULL)",
                )
                .map_err(ledger_error("prepare to read groups back"))
        })
        .await?;
    let mut cursors = HashSet::new();
    let mut next: Option<String> = None;
    let mut read = 0;
    // Without an answer there is nothing to ask about: no group of this type is there.
    while let Some(response) = reader.ask(ReadBackQuery::Page(next.as_deref())).await? {
        let page = reader.readback.page(&response)?;
        let rows: Vec<(String, String)> = page.groups.into_iter().map(|group| row(traits, group)).collect();
        read += rows.len() as u64;
        store(duckdb, rows).await?;
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
    duckdb
        .call("count remote groups", |connection| {
            connection
                .query_row("SELECT count(DISTINCT key) FROM remote_group", [], |row| row.get(0))
                .map_err(ledger_error("count remote groups"))
        })
        .await
}

fn row(traits: &[Compared<'_>], group: RemoteGroup) -> (String, String) {
    let RemoteGroup { key, traits: mut held } = group;
    let mapped: Traits = traits
        .iter()
        .filter_map(|compared| held.remove(compared.name).map(|value| (compared.name.to_owned(), value)))
        .collect();
    (key, document::Document(mapped).to_text())
}

async fn store(duckdb: &DuckDbConnection, rows: Vec<(String, String)>) -> Result<()> {
    duckdb
        .call("keep remote groups", move |connection| {
            let insert = |connection: &duckdb::Connection| -> duckdb::Result<()> {
                let mut insert = connection.prepare("INSERT INTO remote_group VALUES (?, ?)")?;
                rows.iter().try_for_each(|(key, traits)| insert.execute(params![key, traits]).map(drop))
            };
            connection.execute_batch("BEGIN").map_err(ledger_error("keep remote groups"))?;
            let stored = insert(connection).and_then(|()| connection.execute_batch("COMMIT"));
            stored.map_err(|error| {
                drop(connection.execute_batch("ROLLBACK"));
                ledger_error("keep remote groups")(error)
            })
        })
        .await
}

/// The remote groups with these keys, which are after the first and up to the last.
async fn among(
    duckdb: &DuckDbConnection,
    keys: HashSet<String>,
    after: Option<String>,
    last: String,
) -> Result<HashMap<String, Traits>> {
    duckdb
        .call("compare groups", move |connection| {
            let read = |connection: &duckdb::Connection| -> duckdb::Result<Vec<(String, String)>> {
                // No key is empty, so the empty text is before all. Between the two there may be any number of groups that
                // are not ours: they are passed over.
                let mut select =
                    connection.prepare("SELECT key, traits FROM remote_group WHERE key > ? AND key <= ?")?;
                let mut rows = select.query(params![after.unwrap_or_default(), last])?;
                let mut found = Vec::with_capacity(keys.len());
                while let Some(row) = rows.next()? {
                    let key: String = row.get(0)?;
                    if keys.contains(&key) {
                        found.push((key, row.get(1)?));
                    }
                }
                Ok(found)
            };
            let rows = read(connection).map_err(ledger_error("compare groups"))?;
            let parsed = rows.into_iter().map(|(key, text)| {
                let document = document::Document::from_text(&text);
                document.map(|document| (key, document.0)).map_err(|error| Error::new(Kind::Bug, error))
            });
            parsed.collect()
        })
        .await
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
        let known = traits(json!({"same": 12, "changed": "a", "lost": null, "first": 1, "maybe": document::unsure()}));
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
