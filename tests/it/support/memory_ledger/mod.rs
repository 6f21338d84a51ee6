//! The ledger as a BTreeMap: the executable specification, and the oracle of tests and simulations.
//!
//! It survives nothing by itself; a simulation keeps it alive across "crashes" by dropping only the run.

mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use groupcast::error::{Error, Kind, Result};
use groupcast::ledger::kv::note_of;
use groupcast::ledger::mirror::MIRROR;
use groupcast::ledger::{
    Access, Candidate, CandidateKind, ChangeOutcome, CompareOptions, Comparison, DUPLICATE_EXAMPLES_MAX, History,
    ImportedGroups, JournalEntry, KEY_EXAMPLES_MAX, KeyValue, Ledger, MissingScope, PreviousRun, RunCheckpoint,
    RunRecord, RunStart, RunStatus, SourceRows, Storage, with_attempted,
};
use groupcast::model::{After, Cell, Change, Document};
use parking_lot::{Mutex, MutexGuard};

/// A connection to a ledger that lives as long as its connections.
#[derive(Default)]
pub struct MemoryLedger {
    state: Arc<Mutex<State>>,
    candidates: Mutex<Vec<Candidate>>,
}

#[derive(Clone, Default)]
struct State {
    groups: BTreeMap<(String, String), Row>,
    marks: BTreeMap<(String, String), BTreeSet<String>>,
    journal: Vec<Line>,
    seq: u64,
    runs: Vec<Record>,
    notes: BTreeMap<String, String>,
}

#[derive(Clone, Default)]
struct Row {
    fingerprint: Option<u64>,
    document: Document,
    unconfirmed_in: Option<String>,
    attempted: BTreeSet<String>,
    rejected: Option<(Document, String)>,
    seq: u64,
    at: DateTime<Utc>,
}

impl Row {
    /// Whether the destination has it: it was delivered, or adopted.
    fn was_delivered(&self) -> bool {
        let unclear = self.rejected.is_some() || self.unconfirmed_in.is_some();
        self.seq > 0 || !self.document.0.is_empty() || !unclear
    }

    /// Whether the destination may have it: it was delivered, or is unconfirmed.
    fn may_exist(&self) -> bool {
        self.was_delivered() || self.unconfirmed_in.is_some()
    }
}

#[derive(Clone)]
struct Line {
    seq: u64,
    sync: String,
    run: String,
    at: DateTime<Utc>,
    entry: JournalEntry,
    /// Whether its effect is in the synced state already.
    in_synced: bool,
}

#[derive(Clone)]
struct Record {
    start: RunStart,
    checkpoint: Option<RunCheckpoint>,
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
    /// Folds a run's journal lines and marks into the synced state.
    fn fold(&mut self, sync: &str, run: &str) {
        let began = self.runs.iter().find(|record| record.start.sync == sync && record.start.run == run);
        let (traits, began) = began
            .map_or((Vec::new(), DateTime::default()), |record| (record.start.traits.clone(), record.start.started_at));
        let mut marked = self.marks.remove(&(sync.to_owned(), run.to_owned())).unwrap_or_default();
        let lines: Vec<&Line> = self.journal.iter().filter(|line| line.sync == sync && line.run == run).collect();
        for Line { seq, at, entry, in_synced, .. } in lines {
            marked.remove(&entry.key);
            if *in_synced {
                continue;
            }
            let id = (sync.to_owned(), entry.key.clone());
            let before = self.groups.get(&id).cloned();
            let known = before.clone().unwrap_or_default();
            let unconfirmed = |row: Row| Row {
                unconfirmed_in: row.unconfirmed_in.or_else(|| Some(run.to_owned())),
                attempted: row.attempted.into_iter().chain(traits.iter().cloned()).collect(),
                ..row
            };
            let after = match entry.outcome {
                ChangeOutcome::Pending => before,
                ChangeOutcome::Unchanged | ChangeOutcome::Adopted | ChangeOutcome::Delivered => {
                    let seq = if entry.outcome == ChangeOutcome::Delivered { *seq } else { known.seq };
                    entry.document.clone().map(|after| Row {
                        fingerprint: entry.fingerprint,
                        document: after.document(&entry.change),
                        seq,
                        at: *at,
                        ..Row::default()
                    })
                }
                ChangeOutcome::Rejected | ChangeOutcome::PartlyRejected => {
                    let refused =
                        entry.document.clone().map_or_else(Document::default, |after| after.document(&entry.change));
                    let row = Row {
                        fingerprint: entry.fingerprint,
                        rejected: Some((refused, entry.reason.clone().unwrap_or_default())),
                        at: *at,
                        ..known
                    };
                    Some(if entry.outcome == ChangeOutcome::PartlyRejected { unconfirmed(row) } else { row })
                }
                ChangeOutcome::Unconfirmed => Some(unconfirmed(Row { rejected: None, at: *at, ..known })),
            };
            match after {
                Some(row) => self.groups.insert(id, row),
                None => self.groups.remove(&id),
            };
        }
        for key in marked {
            let row = self.groups.entry((sync.to_owned(), key)).or_default();
            row.unconfirmed_in.get_or_insert_with(|| run.to_owned());
            row.attempted.extend(traits.iter().cloned());
            row.rejected = None;
            row.at = began;
        }
        self.journal.retain(|line| {
            line.sync != sync
                || line.run != run
                || !matches!(line.entry.outcome, ChangeOutcome::Unchanged | ChangeOutcome::Pending)
        });
    }

    /// The sequence of a group's last delivered change: what a forgotten group goes on from.
    fn last_delivered(&self, sync: &str, key: &str) -> u64 {
        let delivered =
            |line: &&Line| line.sync == sync && line.entry.key == key && line.entry.outcome == ChangeOutcome::Delivered;
        self.journal.iter().rev().find(delivered).map_or(0, |line| line.seq)
    }

    fn of_sync<'a>(&'a self, sync: &'a str) -> impl Iterator<Item = (&'a str, &'a Row)> {
        let groups = self.groups.iter().filter(move |((of, _), _)| of == sync);
        groups.map(|((_, key), row)| (key.as_str(), row))
    }
}

/// The end of a run that crashed.
fn crashed(at: DateTime<Utc>) -> RunCheckpoint {
    RunCheckpoint {
        status: RunStatus::Crashed,
        ended_at: at,
        counts: String::new(),
        rows: None,
        cursor: None,
        full: false,
        error: None,
        error_kind: None,
        guard: None,
        detail: String::new(),
    }
}

impl MemoryLedger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn begin(&self, start: &RunStart) -> Result<PreviousRun> {
        let mut state = self.state();
        let left: Vec<String> = state
            .runs
            .iter()
            .filter(|record| record.start.sync == start.sync && record.checkpoint.is_none())
            .map(|record| record.start.run.clone())
            .collect();
        for run in &left {
            state.fold(&start.sync, run);
            for record in &mut state.runs {
                if record.start.run == *run {
                    record.checkpoint = Some(crashed(start.started_at));
                }
            }
        }
        let finished = |wanted: &dyn Fn(&Record, &RunCheckpoint) -> bool| {
            let mut newest = state.runs.iter().rev().filter(|record| record.start.sync == start.sync);
            newest
                .find_map(|record| record.checkpoint.as_ref().filter(|checkpoint| wanted(record, checkpoint)).cloned())
        };
        let same = |record: &Record| record.start.mapping == start.mapping;
        let begun = PreviousRun {
            recovered: left,
            cursor: finished(&|record, checkpoint| same(record) && checkpoint.cursor.is_some())
                .and_then(|checkpoint| checkpoint.cursor),
            full_read_at: finished(&|record, checkpoint| same(record) && checkpoint.full)
                .map(|checkpoint| checkpoint.ended_at),
            rows: finished(&|_, checkpoint| checkpoint.rows.is_some()).and_then(|checkpoint| checkpoint.rows),
        };
        state.runs.push(Record { start: start.clone(), checkpoint: None });
        Ok(begun)
    }

    async fn compare(&self, sync: &str, rows: SourceRows<'_>, options: &CompareOptions) -> Result<Comparison> {
        let SourceRows::Rows(rows) = rows else {
            return Err(Error::new(Kind::Bug, "the memory ledger compares rows in memory only"));
        };
        let state = self.state();
        let mut found = Comparison { rows: rows.len() as u64, ..Comparison::default() };
        let mut by_key: BTreeMap<&str, Vec<&[Cell]>> = BTreeMap::new();
        for (key, cells) in rows {
            match key.as_deref() {
                None => found.null_keys += 1,
                Some("") => found.empty_keys += 1,
                Some(key) => by_key.entry(key).or_default().push(cells),
            }
        }
        let mut candidates = Vec::new();
        for (key, cells) in &by_key {
            let [cells] = cells[..] else {
                found.duplicate_rows += cells.len() as u64;
                found.duplicate_examples.push((*key).to_owned());
                continue;
            };
            let fingerprint = fingerprint(&options.salt, cells);
            let known = state.groups.get(&(sync.to_owned(), (*key).to_owned())).cloned();
            let kind = match &known {
                None => CandidateKind::New,
                Some(row) if row.fingerprint == Some(fingerprint) => {
                    match (row.rejected.is_some(), row.unconfirmed_in.is_some()) {
                        (true, _) if options.retry_rejected => CandidateKind::Changed,
                        (true, _) => {
                            found.rejected_unchanged += 1;
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
            let row = known.unwrap_or_else(|| Row { seq: state.last_delivered(sync, key), ..Row::default() });
            candidates.push(Candidate {
                key: (*key).to_owned(),
                kind,
                cells: cells.to_vec(),
                oversize: None,
                fingerprint: Some(fingerprint),
                synced: with_attempted(row.document, &row.attempted),
                confirmed: row.unconfirmed_in.is_none(),
                settled_seq: row.seq,
                rejected: row.rejected,
                unreadable: None,
            });
        }
        for (key, row) in state.of_sync(sync) {
            found.synced += u64::from(row.may_exist());
            let in_scope = match &options.missing {
                MissingScope::All => true,
                MissingScope::Only(only) => only.iter().any(|only| only == key),
                MissingScope::None => false,
            };
            if !in_scope || by_key.contains_key(key) {
                continue;
            }
            found.missing += 1;
            found.missing_examples.push(key.to_owned());
            let held = row.rejected.is_some() && row.fingerprint.is_none() && !options.retry_rejected;
            if options.act_on_missing && !held {
                found.missing_candidates += 1;
                found.removable += u64::from(row.may_exist());
                candidates.push(Candidate {
                    key: key.to_owned(),
                    kind: CandidateKind::Missing,
                    cells: Vec::new(),
                    oversize: None,
                    fingerprint: None,
                    synced: with_attempted(row.document.clone(), &row.attempted),
                    confirmed: row.unconfirmed_in.is_none(),
                    settled_seq: row.seq,
                    rejected: row.rejected.clone(),
                    unreadable: None,
                });
            }
        }
        found.duplicate_examples.truncate(DUPLICATE_EXAMPLES_MAX);
        let shown = if found.missing > 0 && found.new > 0 { KEY_EXAMPLES_MAX } else { 0 };
        found.new_examples.truncate(shown);
        found.missing_examples.truncate(shown);
        candidates.sort_by(|left, right| left.key.cmp(&right.key));
        drop(state);
        *self.candidates.lock() = candidates;
        Ok(found)
    }

    async fn page(&self, from: u64, count: u64) -> Result<Vec<Candidate>> {
        Ok(self.candidates.lock().iter().skip(from as usize).take(count as usize).cloned().collect())
    }

    async fn mark(&self, sync: &str, run: &str, keys: Vec<String>) -> Result<()> {
        self.state().marks.entry((sync.to_owned(), run.to_owned())).or_default().extend(keys);
        Ok(())
    }

    async fn record(&self, sync: &str, run: &str, at: DateTime<Utc>, entries: Vec<JournalEntry>) -> Result<()> {
        let mut state = self.state();
        for mut entry in entries {
            // What was set as text is spelled out: a specification need not be fast.
            if let (ChangeOutcome::Delivered, Some(After::Text(text)), true) =
                (entry.outcome, &entry.document, entry.change.is_empty())
            {
                let set = Document::from_text(text).unwrap().0;
                entry.change = Arc::new(Change { set, ..Change::default() });
            }
            state.seq += 1;
            // What is known of a new group is known at once.
            let known = match entry.outcome {
                ChangeOutcome::Delivered => Some(state.seq),
                ChangeOutcome::Adopted => Some(0),
                _ => None,
            };
            let known = known.zip(entry.document.clone()).filter(|_| entry.is_new);
            let in_synced = known.is_some();
            if let Some((seq, after)) = known {
                let document = after.document(&entry.change);
                let row = Row { fingerprint: entry.fingerprint, document, seq, at, ..Row::default() };
                state.groups.insert((sync.to_owned(), entry.key.clone()), row);
            }
            let line = Line { seq: state.seq, sync: sync.to_owned(), run: run.to_owned(), at, entry, in_synced };
            state.journal.push(line);
        }
        Ok(())
    }

    async fn finish(&self, sync: &str, run: &str, checkpoint: RunCheckpoint) -> Result<()> {
        let mut state = self.state();
        state.fold(sync, run);
        self.candidates.lock().clear();
        for record in &mut state.runs {
            if record.start.sync == sync && record.start.run == run {
                record.checkpoint = Some(checkpoint.clone());
            }
        }
        Ok(())
    }

    async fn mark_crashed(&self, record: &RunRecord, at: DateTime<Utc>, error: &str, kind: &str) -> Result<()> {
        let mut state = self.state();
        let of_run = |found: &Record| found.start.sync == record.sync && found.start.run == record.run;
        let Some(at_index) = state.runs.iter().position(|found| of_run(found) && found.checkpoint.is_none()) else {
            return Ok(());
        };
        state.fold(&record.sync, &record.run);
        let (error, error_kind) = (Some(error.to_owned()), Some(kind.to_owned()));
        state.runs[at_index].checkpoint = Some(RunCheckpoint { error, error_kind, ..crashed(at) });
        Ok(())
    }

    async fn reset(&self, sync: &str, keys: Option<&[String]>, mark: &str, forget: bool) -> Result<u64> {
        if keys.is_some_and(<[String]>::is_empty) {
            return Ok(0);
        }
        let mut state = self.state();
        let concerned: Vec<(String, String)> = (state.groups.keys())
            .filter(|(of, group)| of == sync && keys.is_none_or(|keys| keys.contains(group)))
            .cloned()
            .collect();
        for record in state.runs.iter_mut().filter(|record| record.start.sync == sync) {
            if let Some(checkpoint) = &mut record.checkpoint {
                (checkpoint.cursor, checkpoint.full) = (None, false);
            }
        }
        // Groups that are unconfirmed are compared whatever a mirror holds.
        if keys.is_none() || forget {
            state.notes.remove(&note_of(MIRROR, sync));
        }
        for id in &concerned {
            if forget {
                state.groups.remove(id);
            } else if let Some(row) = state.groups.get_mut(id) {
                row.unconfirmed_in.get_or_insert_with(|| mark.to_owned());
                row.rejected = None;
            }
        }
        Ok(concerned.len() as u64)
    }

    async fn rename(&self, from: &str, to: &str) -> Result<u64> {
        let mut state = self.state();
        state.notes.retain(|name, _| ![from, to].map(|sync| note_of(MIRROR, sync)).contains(name));
        let moved = |of: &str| if of == from { to.to_owned() } else { of.to_owned() };
        let groups = state.groups.keys().filter(|(of, _)| of == from).count() as u64;
        state.groups =
            std::mem::take(&mut state.groups).into_iter().map(|((of, key), row)| ((moved(&of), key), row)).collect();
        state.marks =
            std::mem::take(&mut state.marks).into_iter().map(|((of, run), keys)| ((moved(&of), run), keys)).collect();
        state.journal.iter_mut().for_each(|line| line.sync = moved(&line.sync));
        state.runs.iter_mut().for_each(|record| record.start.sync = moved(&record.start.sync));
        Ok(groups)
    }

    async fn import(&self, sync: &str, mut groups: ImportedGroups, replace: bool) -> Result<u64> {
        let mut taken = BTreeMap::new();
        let mut last_seq = 0;
        while let Some(page) = groups.recv().await {
            for group in page? {
                last_seq = last_seq.max(group.settled_seq);
                let row = Row {
                    fingerprint: group.fingerprint,
                    document: group.document,
                    unconfirmed_in: group.unconfirmed_in,
                    attempted: group.attempted.into_iter().collect(),
                    rejected: group.rejected,
                    seq: group.settled_seq,
                    at: group.at,
                };
                taken.insert((sync.to_owned(), group.key), row);
            }
        }
        let mut state = self.state();
        let running = |record: &Record| record.start.sync == sync && record.checkpoint.is_none();
        let has_some = state.of_sync(sync).next().is_some() || state.runs.iter().any(running);
        if has_some && !replace {
            return Err(Error::new(Kind::Config, "the sync has groups"));
        }
        state.notes.remove(&note_of(MIRROR, sync));
        state.groups.retain(|(of, _), _| of != sync);
        state.marks.retain(|(of, _), _| of != sync);
        for record in state.runs.iter_mut().filter(|record| record.start.sync == sync) {
            let ended = record.checkpoint.get_or_insert_with(|| crashed(record.start.started_at));
            (ended.cursor, ended.full) = (None, false);
        }
        state.seq = state.seq.max(last_seq);
        let count = taken.len() as u64;
        state.groups.extend(taken);
        Ok(count)
    }

    async fn drop_sync(&self, sync: &str) -> Result<u64> {
        let mut state = self.state();
        let before = state.groups.len();
        state.notes.remove(&note_of(MIRROR, sync));
        state.groups.retain(|(of, _), _| of != sync);
        state.marks.retain(|(of, _), _| of != sync);
        state.journal.retain(|line| line.sync != sync);
        state.runs.retain(|record| record.start.sync != sync);
        Ok((before - state.groups.len()) as u64)
    }

    fn history(&self) -> &dyn History {
        self
    }

    fn kv(&self) -> &dyn KeyValue {
        self
    }

    fn storage(&self) -> &dyn Storage {
        self
    }

    /// A read-only connection has the state as of now to itself.
    fn connect(&self, access: Access) -> Result<Arc<dyn Ledger>> {
        let state = match access {
            Access::ReadWrite => Arc::clone(&self.state),
            Access::ReadOnly => Arc::new(Mutex::new(self.state().clone())),
        };
        Ok(Arc::new(MemoryLedger { state, candidates: Mutex::default() }))
    }
}
