//! What the ledger knows of a sync's mirror ([`crate::source::mirror`]): which table it is, up to which row it counts, what it
//! must hold, and which keys it says nothing about.
//!
//! The ledger is the authority. A mirror may be dropped, restored from a backup, or written to by a process that was thought
//! dead: its count and checksum then differ from the record's, and it is made anew. What they cannot show is a change that was
//! sent and is missing in the mirror, because the process died in between: when the row changes back, it equals the mirror
//! again, and the destination keeps the other value. So every key of a run is *unmirrored*, durably, before anything of it is
//! sent, and stays so until the mirror has acknowledged what became of it.
//!
//! The record is a note of the ledger ([`super::kv`]), replaced as a whole: some hundred kilobytes at most, written twice by a
//! run that sends something, and by no other. A table beside `marks` would have to be written along with every mark by runs
//! that have no mirror, too. Whatever else changes the synced state (reset, import, rename, an older ledger) drops the note in
//! its own transaction, and the next run makes a new mirror.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::kv::{KeyValue, note_of};
use crate::error::Result;

/// The kind of note that is a mirror's record.
pub const MIRROR: &str = "mirror";
/// The kind of note that names a sync's tables. It outlives the record, so that old tables are found and dropped.
const TABLES: &str = "mirror-tables";

/// The record of a mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorRecord {
    /// Its table, without the schema.
    pub table: String,
    /// The number of the rows that it was made with: one for each key.
    pub base: u64,
    /// Rows with a higher number do not count: no append of them was acknowledged.
    pub seq: u64,
    /// The highest number that any append may have.
    pub reserved: u64,
    /// Keys that it holds.
    pub keys: u64,
    /// The sum of their fingerprints.
    #[serde(with = "as_text")]
    pub checksum: i128,
    /// What its rows were compared by: the mapping's fingerprint.
    pub mapping: String,
    /// Where it is.
    pub place: String,
    /// Rows of the table.
    pub rows: u64,
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// Why it was made then; empty where an older version has made it.
    #[serde(default)]
    pub reason: String,
    /// Keys whose row it may not hold as it was compared last, in order.
    pub unmirrored: Vec<String>,
    /// Since when there are such keys.
    #[serde(default)]
    pub behind_since: Option<DateTime<Utc>>,
}

impl MirrorRecord {
    /// The record of a sync's mirror. One that cannot be read is left out.
    pub async fn load(kv: &dyn KeyValue, sync: &str) -> Result<Option<MirrorRecord>> {
        let text = kv.get(&note_of(MIRROR, sync)).await?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// The records of all mirrors, by sync.
    pub async fn all(kv: &dyn KeyValue) -> Result<BTreeMap<String, MirrorRecord>> {
        let notes = kv.all().await?;
        let record = |(name, text): (&String, &String)| {
            let sync = name.strip_prefix(&note_of(MIRROR, ""))?;
            Some((sync.to_owned(), serde_json::from_str(text).ok()?))
        };
        Ok(notes.iter().filter_map(record).collect())
    }

    /// Takes keys for unmirrored, from now on if there were none.
    pub fn unmirror(&mut self, keys: impl IntoIterator<Item = String>, now: DateTime<Utc>) {
        self.unmirrored.extend(keys);
        self.unmirrored.sort_unstable();
        self.unmirrored.dedup();
        self.behind_since = self.behind_since.or(Some(now)).filter(|_| !self.unmirrored.is_empty());
    }

    /// Keeps the record, in place of an earlier one. Durable when it returns.
    pub async fn store(&self, kv: &dyn KeyValue, sync: &str) -> Result<()> {
        kv.put(&note_of(MIRROR, sync), &serde_json::to_string(self).unwrap_or_default()).await
    }

    /// Drops the record. Durable when it returns.
    pub async fn forget(kv: &dyn KeyValue, sync: &str) -> Result<()> {
        kv.delete(&note_of(MIRROR, sync)).await
    }
}

/// What the names of a sync's tables begin with; `new` where it had none.
pub async fn tables_of(kv: &dyn KeyValue, sync: &str, new: impl FnOnce() -> String) -> Result<String> {
    let name = note_of(TABLES, sync);
    if let Some(tables) = kv.get(&name).await? {
        return Ok(tables);
    }
    let tables = new();
    kv.put(&name, &tables).await?;
    Ok(tables)
}

/// A number of more than 64 bits in JSON.
mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(number: &i128, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i128, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
