//! The ledger as a BTreeMap: the executable specification, and the oracle of tests and simulations.
//!
//! It survives nothing by itself; a simulation keeps it alive across "crashes" by dropping only the run.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};

use super::{
    Begun, Candidate, CandidateKind, Checkpoint, Comparison, Entry, GroupCounts, HistoryEntry, Incoming, KnownGroup,
    Ledger, Missing, Outcome, RunRecord, RunStart, Scope, Status, with_attempted,
};
use crate::error::{Error, Kind, Result};
use crate::model::{Cell, Change, Document};

/// A ledger that lives as long as its value.
#[derive(Default)]
pub struct MemoryLedger {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: BTreeMap<(String, String), KnownRow>,
    pending: BTreeMap<(String, String), BTreeSet<String>>,
    journal: Vec<Line>,
    seq: u64,
    runs: Vec<Record>,
    suspects: Vec<Candidate>,
}

#[derive(Clone, Default)]
struct KnownRow {
    fingerprint: Option<u64>,
    document: Document,
    unconfirmed_in: Option<String>,
    attempted: BTreeSet<String>,
    rejected: Option<(Document, String)>,
    seq: u64,
    at: DateTime<Utc>,
}

impl KnownRow {
    /// Whether the destination was ever told this group, as far as anybody knows.
    fn was_delivered(&self) -> bool {
        let open = self.rejected.is_some() || self.unconfirmed_in.is_some();
        self.seq > 0 || !self.document.0.is_empty() || !open
    }

    /// Whether the destination may hold it: it was delivered, or nobody knows.
    fn may_be_held(&self) -> bool {
        self.was_delivered() || self.unconfirmed_in.is_some()
    }
}

struct Line {
    seq: u64,
    sync: String,
    run: String,
    at: DateTime<Utc>,
    entry: Entry,
}

struct Record {
    start: RunStart,
    checkpoint: Option<Checkpoint>,
}

fn fingerprint(salt: &str, cells: &[Cell]) -> u64 {
    let mut hasher = DefaultHasher::new();
    salt.hash(&mut hasher);
    for cell in cells {
        match cell {
            Cell::Null => 0u8.hash(&mut hasher),
            Cell::Bool(bool) => (1u8, bool).hash(&mut hasher),
            Cell::Int(int) => (2u8, int).hash(&mut hasher),
            Cell::Double(double) => (3u8, double.to_bits()).hash(&mut hasher),
            Cell::Text(text) => (4u8, text).hash(&mut hasher),
        }
    }
    hasher.finish()
}

impl State {
    /// Brings a run's journal lines and marks into the known documents.
    fn fold(&mut self, sync: &str, run: &str) {
        let began = self.runs.iter().find(|record| record.start.sync == sync && record.start.run == run);
        let (traits, began) = began
            .map_or((Vec::new(), DateTime::default()), |record| (record.start.traits.clone(), record.start.started_at));
        let mut marked = self.pending.remove(&(sync.to_owned(), run.to_owned())).unwrap_or_default();
        let lines: Vec<&Line> = self.journal.iter().filter(|line| line.sync == sync && line.run == run).collect();
        for Line { seq, at, entry, .. } in lines {
            marked.remove(&entry.key);
            let id = (sync.to_owned(), entry.key.clone());
            let before = self.known.get(&id).cloned();
            let known = before.clone().unwrap_or_default();
            let uncertain = |row: KnownRow| KnownRow {
                unconfirmed_in: row.unconfirmed_in.or_else(|| Some(run.to_owned())),
                attempted: row.attempted.into_iter().chain(traits.iter().cloned()).collect(),
                ..row
            };
            let after = match entry.outcome {
                Outcome::NotSent => before,
                Outcome::Same | Outcome::Adopted | Outcome::Delivered => {
                    let seq = if entry.outcome == Outcome::Delivered { *seq } else { known.seq };
                    entry.document.clone().map(|after| KnownRow {
                        fingerprint: entry.fingerprint,
                        document: after.document(&entry.change),
                        seq,
                        at: *at,
                        ..KnownRow::default()
                    })
                }
                Outcome::Rejected | Outcome::PartlyRejected => {
                    let refused =
                        entry.document.clone().map_or_else(Document::default, |after| after.document(&entry.change));
                    let row = KnownRow {
                        fingerprint: entry.fingerprint,
                        rejected: Some((refused, entry.reason.clone().unwrap_or_default())),
                        at: *at,
                        ..known
                    };
                    Some(if entry.outcome == Outcome::PartlyRejected { uncertain(row) } else { row })
                }
                Outcome::Unknown => Some(uncertain(KnownRow { rejected: None, at: *at, ..known })),
            };
            match after {
                Some(row) => self.known.insert(id, row),
                None => self.known.remove(&id),
            };
        }
        for key in marked {
            let row = self.known.entry((sync.to_owned(), key)).or_default();
            row.unconfirmed_in.get_or_insert_with(|| run.to_owned());
            row.attempted.extend(traits.iter().cloned());
            row.rejected = None;
            row.at = began;
        }
        self.journal.retain(|line| {
            line.sync != sync || line.run != run || !matches!(line.entry.outcome, Outcome::Same | Outcome::NotSent)
        });
    }

    /// The sequence of a group's last delivered change: what a forgotten group goes on from.
    fn last_delivered(&self, sync: &str, key: &str) -> u64 {
        let delivered =
            |line: &&Line| line.sync == sync && line.entry.key == key && line.entry.outcome == Outcome::Delivered;
        self.journal.iter().rev().find(delivered).map_or(0, |line| line.seq)
    }

    fn group(key: &str, row: &KnownRow) -> KnownGroup {
        KnownGroup {
            key: key.to_owned(),
            document: row.document.clone(),
            unconfirmed_in: row.unconfirmed_in.clone(),
            rejected: row.rejected.clone(),
            at: row.at,
            unreadable: None,
        }
    }

    fn of_sync<'a>(&'a self, sync: &'a str) -> impl Iterator<Item = (&'a str, &'a KnownRow)> {
        let groups = self.known.iter().filter(move |((of, _), _)| of == sync);
        groups.map(|((_, key), row)| (key.as_str(), row))
    }
}

impl MemoryLedger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn begin(&self, start: &RunStart) -> Result<Begun> {
        let mut state = self.state();
        let dead: Vec<String> = state
            .runs
            .iter()
            .filter(|record| record.start.sync == start.sync && record.checkpoint.is_none())
            .map(|record| record.start.run.clone())
            .collect();
        for run in &dead {
            state.fold(&start.sync, run);
            for record in &mut state.runs {
                if record.start.run == *run {
                    record.checkpoint = Some(Checkpoint {
                        status: Status::Died,
                        ended_at: start.started_at,
                        counts: String::new(),
                        rows: None,
                        cursor: None,
                        full: false,
                        error: None,
                        error_kind: None,
                        detail: String::new(),
                    });
                }
            }
        }
        let finished = |wanted: &dyn Fn(&Record, &Checkpoint) -> bool| {
            let mut newest = state.runs.iter().rev().filter(|record| record.start.sync == start.sync);
            newest
                .find_map(|record| record.checkpoint.as_ref().filter(|checkpoint| wanted(record, checkpoint)).cloned())
        };
        let same = |record: &Record| record.start.mapping == start.mapping;
        let begun = Begun {
            recovered: dead,
            cursor: finished(&|record, checkpoint| same(record) && checkpoint.cursor.is_some())
                .and_then(|checkpoint| checkpoint.cursor),
            full_read_at: finished(&|record, checkpoint| same(record) && checkpoint.full)
                .map(|checkpoint| checkpoint.ended_at),
            rows: finished(&|_, checkpoint| checkpoint.rows.is_some()).and_then(|checkpoint| checkpoint.rows),
        };
        state.runs.push(Record { start: start.clone(), checkpoint: None });
        Ok(begun)
    }

    async fn compare(&self, sync: &str, incoming: Incoming<'_>, scope: &Scope) -> Result<Comparison> {
        let Incoming::Rows(rows) = incoming else {
            return Err(Error::new(Kind::Bug, "the memory ledger compares rows in memory only"));
        };
        let mut state = self.state();
        let mut found = Comparison { rows: rows.len() as u64, ..Comparison::default() };
        let mut by_key: BTreeMap<&str, Vec<&[Cell]>> = BTreeMap::new();
        for (key, cells) in rows {
            match key.as_deref() {
                None => found.null_keys += 1,
                Some("") => found.empty_keys += 1,
                Some(key) => by_key.entry(key).or_default().push(cells),
            }
        }
        let mut suspects = Vec::new();
        for (key, cells) in &by_key {
            let [cells] = cells[..] else {
                found.duplicate_rows += cells.len() as u64;
                found.duplicate_examples.push((*key).to_owned());
                continue;
            };
            let fingerprint = fingerprint(&scope.salt, cells);
            let known = state.known.get(&(sync.to_owned(), (*key).to_owned())).cloned();
            let kind = match &known {
                None => CandidateKind::New,
                Some(row) if row.fingerprint == Some(fingerprint) => {
                    match (row.rejected.is_some(), row.unconfirmed_in.is_some()) {
                        (true, _) if scope.retry_rejected => CandidateKind::Changed,
                        (true, _) => {
                            found.held += 1;
                            continue;
                        }
                        (false, true) => CandidateKind::Changed,
                        (false, false) => {
                            found.unchanged += 1;
                            continue;
                        }
                    }
                }
                Some(_) => CandidateKind::Changed,
            };
            match kind {
                CandidateKind::New => {
                    found.new += 1;
                    found.new_examples.push((*key).to_owned());
                }
                _ => found.changed += 1,
            }
            let row = known.unwrap_or_else(|| KnownRow { seq: state.last_delivered(sync, key), ..KnownRow::default() });
            suspects.push(Candidate {
                key: (*key).to_owned(),
                kind,
                cells: cells.to_vec(),
                oversize: None,
                fingerprint: Some(fingerprint),
                known: with_attempted(row.document, &row.attempted),
                certain: row.unconfirmed_in.is_none(),
                settled_seq: row.seq,
                rejected: row.rejected,
                unreadable: None,
            });
        }
        for (key, row) in state.of_sync(sync) {
            found.known += u64::from(row.may_be_held());
            let in_scope = match &scope.missing {
                Missing::All => true,
                Missing::Only(only) => only == key,
                Missing::None => false,
            };
            if !in_scope || by_key.contains_key(key) {
                continue;
            }
            found.missing += 1;
            found.missing_examples.push(key.to_owned());
            let held = row.rejected.is_some() && row.fingerprint.is_none() && !scope.retry_rejected;
            if scope.act_on_missing && !held {
                found.missing_candidates += 1;
                found.removable += u64::from(row.may_be_held());
                suspects.push(Candidate {
                    key: key.to_owned(),
                    kind: CandidateKind::Missing,
                    cells: Vec::new(),
                    oversize: None,
                    fingerprint: None,
                    known: with_attempted(row.document.clone(), &row.attempted),
                    certain: row.unconfirmed_in.is_none(),
                    settled_seq: row.seq,
                    rejected: row.rejected.clone(),
                    unreadable: None,
                });
            }
        }
        found.duplicate_examples.truncate(super::compare::EXAMPLES);
        let shown = if found.missing > 0 && found.new > 0 { super::compare::KEY_EXAMPLES } else { 0 };
        found.new_examples.truncate(shown);
        found.missing_examples.truncate(shown);
        suspects.sort_by(|left, right| left.key.cmp(&right.key));
        state.suspects = suspects;
        Ok(found)
    }

    async fn page(&self, from: u64, count: u64) -> Result<Vec<Candidate>> {
        Ok(self.state().suspects.iter().skip(from as usize).take(count as usize).cloned().collect())
    }

    async fn mark(&self, sync: &str, run: &str, keys: Vec<String>) -> Result<()> {
        self.state().pending.entry((sync.to_owned(), run.to_owned())).or_default().extend(keys);
        Ok(())
    }

    async fn record(&self, sync: &str, run: &str, at: DateTime<Utc>, entries: Vec<Entry>) -> Result<()> {
        let mut state = self.state();
        for entry in entries {
            state.seq += 1;
            let line = Line { seq: state.seq, sync: sync.to_owned(), run: run.to_owned(), at, entry };
            state.journal.push(line);
        }
        Ok(())
    }

    async fn finish(&self, sync: &str, run: &str, checkpoint: Checkpoint) -> Result<()> {
        let mut state = self.state();
        state.fold(sync, run);
        state.suspects.clear();
        for record in &mut state.runs {
            if record.start.sync == sync && record.start.run == run {
                record.checkpoint = Some(checkpoint.clone());
            }
        }
        Ok(())
    }

    async fn known(&self, sync: &str, key: &str) -> Result<Option<KnownGroup>> {
        let state = self.state();
        Ok(state.known.get(&(sync.to_owned(), key.to_owned())).map(|row| State::group(key, row)))
    }

    async fn history(&self, sync: &str, key: &str, count: u64) -> Result<Vec<HistoryEntry>> {
        let state = self.state();
        let lines = state.journal.iter().rev().filter(|line| line.sync == sync && line.entry.key == key);
        Ok(lines
            .take(count as usize)
            .map(|line| HistoryEntry {
                seq: line.seq,
                run: line.run.clone(),
                at: line.at,
                change: Change::clone(&line.entry.change),
                outcome: line.entry.outcome.name().to_owned(),
                reason: line.entry.reason.clone(),
            })
            .collect())
    }

    async fn rejected(&self, sync: &str, count: u64) -> Result<Vec<KnownGroup>> {
        let state = self.state();
        let rejected = state.of_sync(sync).filter(|(_, row)| row.rejected.is_some());
        Ok(rejected.take(count as usize).map(|(key, row)| State::group(key, row)).collect())
    }

    async fn runs(&self, sync: Option<&str>, count: u64) -> Result<Vec<RunRecord>> {
        let state = self.state();
        let newest = state.runs.iter().rev().filter(|record| sync.is_none_or(|sync| record.start.sync == sync));
        Ok(newest
            .take(count as usize)
            .map(|Record { start, checkpoint }| RunRecord {
                sync: start.sync.clone(),
                run: start.run.clone(),
                started_at: start.started_at,
                ended_at: checkpoint.as_ref().map(|checkpoint| checkpoint.ended_at),
                status: checkpoint.as_ref().map_or(Status::Running, |checkpoint| checkpoint.status),
                counts: checkpoint.as_ref().map(|checkpoint| checkpoint.counts.clone()).unwrap_or_default(),
                error: checkpoint.as_ref().and_then(|checkpoint| checkpoint.error.clone()),
                mapping: start.mapping.clone(),
                started_by: start.started_by.clone(),
                partial: start.partial,
                error_kind: checkpoint.as_ref().and_then(|checkpoint| checkpoint.error_kind.clone()),
            })
            .collect())
    }

    async fn standing(&self, sync: &str) -> Result<GroupCounts> {
        let state = self.state();
        let mut standing = GroupCounts::default();
        for (_, row) in state.of_sync(sync) {
            standing.known += u64::from(row.was_delivered());
            standing.unconfirmed += u64::from(row.unconfirmed_in.is_some());
            standing.rejected += u64::from(row.rejected.is_some());
        }
        Ok(standing)
    }

    async fn reset(&self, sync: &str, key: Option<&str>, mark: &str, forget: bool) -> Result<u64> {
        let mut state = self.state();
        let concerned: Vec<(String, String)> = (state.known.keys())
            .filter(|(of, group)| of == sync && key.is_none_or(|key| key == group))
            .cloned()
            .collect();
        for record in state.runs.iter_mut().filter(|record| record.start.sync == sync) {
            if let Some(checkpoint) = &mut record.checkpoint {
                (checkpoint.cursor, checkpoint.full) = (None, false);
            }
        }
        for id in &concerned {
            if forget {
                state.known.remove(id);
            } else if let Some(row) = state.known.get_mut(id) {
                row.unconfirmed_in.get_or_insert_with(|| mark.to_owned());
                row.rejected = None;
            }
        }
        Ok(concerned.len() as u64)
    }

    async fn export(&self, sync: &str, after: Option<&str>, count: u64) -> Result<Vec<KnownGroup>> {
        let state = self.state();
        let groups = state.of_sync(sync).filter(|(key, _)| after.is_none_or(|after| *key > after));
        Ok(groups.take(count as usize).map(|(key, row)| State::group(key, row)).collect())
    }
}
