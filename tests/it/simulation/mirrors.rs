//! The mirrors of a warehouse in which everything goes wrong that can: appends land late, twice by halves or never, tables are
//! dropped, restored from a copy, and lose rows.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use groupcast::error::{Error, Kind, Result};
use groupcast::ledger::mirror::MirrorRecord;
use groupcast::model::Cell;
use groupcast::source::mirror::{
    FINGERPRINT_MAX, GONE, MirrorAnswer, MirrorChange, MirrorLines, MirrorQuery, MirrorTotals,
};

/// Key, fingerprint, number.
type Line = (String, i64, u64);
pub(super) type Row = (Option<String>, Vec<Cell>);

/// The mirrors' schema of a warehouse.
pub(super) struct Mirrors {
    random: fastrand::Rng,
    tables: BTreeMap<String, Vec<Line>>,
    /// Appends whose process was given up, and that may still land.
    late: Vec<(String, Vec<Line>)>,
    saved: BTreeMap<String, Vec<Line>>,
    /// Whether anything goes wrong.
    pub(super) is_fair: bool,
}

fn fingerprint(key: &str, cells: &[Cell]) -> i64 {
    let mut hasher = DefaultHasher::new();
    (key, format!("{cells:?}")).hash(&mut hasher);
    hasher.finish() as i64 & FINGERPRINT_MAX
}

fn failed(what: &str) -> Error {
    Error::new(Kind::Source, what)
}

impl Mirrors {
    pub(super) fn new(seed: u64) -> Mutex<Mirrors> {
        let random = fastrand::Rng::with_seed(seed ^ 0xfab);
        let (tables, saved) = (BTreeMap::new(), BTreeMap::new());
        Mutex::new(Mirrors { random, tables, late: Vec::new(), saved, is_fair: false })
    }

    /// What happens to the schema between two runs.
    pub(super) fn suffer(&mut self) {
        match self.random.u8(0..40) {
            0..4 if !self.late.is_empty() => {
                let (table, lines) = self.late.remove(self.random.usize(0..self.late.len()));
                // A table that is gone takes nothing.
                if let Some(table) = self.tables.get_mut(&table) {
                    table.extend(lines);
                }
            }
            4 => self.saved = self.tables.clone(),
            5 => self.tables = self.saved.clone(),
            6 => self.tables.clear(),
            7 => drop(self.tables.values_mut().next().and_then(Vec::pop)),
            _ => {}
        }
    }

    fn newest(&self, table: &str, base: u64, seq: u64) -> Option<BTreeMap<String, i64>> {
        let mut newest: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
        for (key, fingerprint, number) in
            self.tables.get(table)?.iter().filter(|(.., number)| (base..=seq).contains(number))
        {
            let known = newest.entry(key).or_insert((*number, *fingerprint));
            *known = (*known).max((*number, *fingerprint));
        }
        let held = newest.into_iter().filter(|(_, (_, fingerprint))| *fingerprint != GONE);
        Some(held.map(|(key, (_, fingerprint))| (key.to_owned(), fingerprint)).collect())
    }

    /// What a mirror holds, as a protocol that trusts it would take it.
    pub(super) fn trusted(&self, record: &mut MirrorRecord) {
        let held = self.newest(&record.table, record.base, record.seq).unwrap_or_default();
        (record.keys, record.checksum) =
            (held.len() as u64, held.values().map(|fingerprint| i128::from(*fingerprint)).sum());
    }

    /// Compares rows with a mirror; the rows that are handed over.
    pub(super) fn compare(&mut self, rows: Vec<Row>, query: &MirrorQuery) -> Result<(Vec<Row>, MirrorAnswer)> {
        if !self.is_fair && self.random.u8(0..50) == 0 {
            return Err(failed("the warehouse is busy"));
        }
        let held = self.newest(&query.table, query.base, query.seq).ok_or_else(|| failed("there is no such table"))?;
        let (mut lines, mut handed) = (MirrorLines::new(query), Vec::new());
        let totals = MirrorTotals {
            rows: rows.len() as u64,
            joined: held.len() as u64,
            keys: held.len() as u64,
            checksum: held.values().map(|fingerprint| i128::from(*fingerprint)).sum(),
            ..MirrorTotals::default()
        };
        let mut left = held.clone();
        for (key, cells) in rows {
            let name = key.as_deref().unwrap_or_default();
            let (of_row, mirrored) = (fingerprint(name, &cells), left.remove(name));
            let is_wanted = query.wanted.iter().any(|wanted| wanted == name);
            if query.all || mirrored != Some(of_row) || is_wanted {
                lines.push(Some(name), Some(of_row), mirrored.map(|_| name), mirrored).unwrap();
                handed.push((key, cells));
            }
        }
        for (key, mirrored) in left {
            lines.push(None, None, Some(&key), Some(mirrored)).unwrap();
        }
        let MirrorTotals { rows, joined, keys, checksum, .. } = totals;
        lines.push(None, None, Some(&format!("{rows} {rows} {rows} {joined} {keys} {checksum}")), None).unwrap();
        Ok((handed, lines.finish().unwrap()))
    }

    /// Carries a change out, or not, or later; the response may be lost.
    pub(super) fn change(&mut self, rows: Vec<Row>, change: &MirrorChange) -> Result<()> {
        let fate = if self.is_fair { 9 } else { self.random.u8(0..10) };
        if let (0, MirrorChange::Append { table, seq, rows }) = (fate, change) {
            let lines = rows.iter().map(|(key, fingerprint)| (key.clone(), *fingerprint, *seq)).collect();
            self.late.push((table.clone(), lines));
        }
        if fate < 2 {
            return Err(failed("the connection broke off"));
        }
        match change {
            MirrorChange::Fill { table, seq } => {
                let line = |(key, cells): Row| Some((key.clone()?, fingerprint(&key?, &cells), *seq));
                self.tables.insert(table.clone(), rows.into_iter().filter_map(line).collect());
            }
            MirrorChange::Append { table, seq, rows } => {
                let lines = rows.iter().map(|(key, fingerprint)| (key.clone(), *fingerprint, *seq));
                // Half of it may land before the rest fails.
                let count = if fate == 2 { rows.len() / 2 } else { rows.len() };
                self.tables.get_mut(table).ok_or_else(|| failed("there is no such table"))?.extend(lines.take(count));
            }
            MirrorChange::Compact { table, base, seq, into } => {
                let held = self.newest(table, *base, *seq).ok_or_else(|| failed("there is no such table"))?;
                let lines = held.into_iter().map(|(key, fingerprint)| (key, fingerprint, *seq)).collect();
                self.tables.insert(into.clone(), lines);
            }
            MirrorChange::Drop { table } => drop(self.tables.remove(table)),
        }
        if fate < 4 { Err(failed("the answer was lost")) } else { Ok(()) }
    }
}
