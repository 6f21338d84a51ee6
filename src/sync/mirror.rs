//! A run whose rows are compared in their warehouse, with the mirror there ([`crate::source::mirror`]).
//!
//! It is another way of narrowing what is read: which rows differ from the mirror, which keys left it, and a line of totals
//! come from the warehouse in one statement; those rows are then compared with the ledger like any others, and `model::delta`
//! decides. So whatever is wrong with a mirror costs candidates. It must only never hide a change, and for that
//!
//! 1. the ledger's record says what the mirror holds (count and checksum) and up to which row it counts. Where they do not
//!    fit, where there is no mirror, or where it cannot be read, the run compares here: it makes the mirror anew with one statement
//!    in the warehouse, and then reads all rows in the same statement that compares them with the new mirror. What changed between
//!    the two is seen by that, in every warehouse, with or without snapshots over several statements.
//! 2. every key that the statement hands over is unmirrored, durably, before anything is sent. It is asked for by every later
//!    statement until its outcome is settled in the ledger and the append that has it was acknowledged.
//! 3. an append has every key that is unmirrored: as it was settled, or as one that the mirror does not hold. So a late append of
//!    a process that was thought dead, whose keys are all unmirrored, has lower numbers than this one and does not count.
//!
//! Unconfirmed and rejected groups are asked for as well: the ledger alone knows of them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use super::reader::{Reader, Rows};
use super::session::{Event, Session};
use crate::error::{Kind, Result};
use crate::ledger::mirror::{MirrorRecord, tables_of};
use crate::ledger::{ChangeOutcome, CompareOptions, Comparison, MissingScope};
use crate::mapping::Compare;
use crate::mapping::compile::Projection;
use crate::source::mirror::{
    ComparedKey, GONE, KEYS_MAX, MirrorAnswer, MirrorChange, MirrorQuery, MirrorTotals, WANTED_BYTES_MAX,
};

/// A mirror with so many rows per key is compacted, and no smaller one than that of so many rows.
const ROWS_PER_KEY_MAX: u64 = 3;
const COMPACTED_FROM_ROWS: u64 = 10_000;
/// A sync's two tables; one of them counts.
const TABLES: [&str; 2] = ["a", "b"];
/// Most letters of a sync's name in its tables' names.
const NAME_LETTERS: usize = 30;

/// What a run did with its mirror.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct MirrorReport {
    /// Where the rows were compared.
    #[schemars(with = "String")]
    pub compared: Compare,
    /// Why they were compared here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the mirror was made anew.
    pub rebuilt: bool,
    /// Rows that left the warehouse.
    pub rows_read: u64,
    /// Keys that the mirror holds.
    pub keys: u64,
    /// Keys that the next run compares in any case, because the mirror may not hold them as they are.
    pub unmirrored: u64,
}

/// Why rows are compared here at first.
const NO_MIRROR: &str = "there was no mirror";

impl MirrorReport {
    /// The remark about rows that were compared here, where the mirror should have been enough.
    pub(super) fn remark(&self) -> Option<String> {
        let reason = self.reason.as_ref().filter(|reason| *reason != NO_MIRROR)?;
        Some(format!("rows were compared here and not in the warehouse: {reason}"))
    }
}

/// Rows that were read through the mirror.
pub(super) struct MirroredRows {
    pub(super) rows: Rows,
    run: MirrorRun,
    /// None where every row was handed over.
    totals: Option<MirrorTotals>,
}

/// What a run owes its mirror.
pub(super) struct MirrorRun {
    /// The record to go on from; none where there will be no mirror.
    record: Option<MirrorRecord>,
    /// The keys that were handed over.
    keys: Vec<ComparedKey>,
    /// The keys that were asked for.
    wanted: Vec<String>,
    is_new: bool,
    /// Whether the ledger has noted the keys as unmirrored.
    is_reserved: bool,
    projection: Projection,
    pub(super) report: MirrorReport,
}

impl MirroredRows {
    /// What a run owes the mirror after it was compared.
    pub(super) fn into_run(self) -> MirrorRun {
        self.run
    }

    /// The options for comparing these rows.
    pub(super) fn options(&self, options: CompareOptions) -> CompareOptions {
        if self.totals.is_none() {
            return options;
        }
        let keys: BTreeSet<&String> = self.run.keys.iter().map(|key| &key.key).chain(&self.run.wanted).collect();
        let mut only: Vec<String> = keys.into_iter().cloned().collect();
        if only.is_empty() {
            // No group has the empty key, and a list of nothing is no list.
            only.push(String::new());
        }
        CompareOptions { missing: MissingScope::Only(only), ..options }
    }

    /// What was found, with the rows that were not handed over.
    pub(super) fn with_all(&self, found: Comparison) -> Comparison {
        let Some(totals) = self.totals else { return found };
        let MirrorTotals { null_keys, empty_keys, .. } = totals;
        let found = Comparison { null_keys, empty_keys, ..found };
        let others = found.invalid_keys() + found.new + found.changed + found.rejected_unchanged;
        Comparison { rows: totals.rows, unchanged: totals.rows.saturating_sub(others), ..found }
    }
}

/// Which of a run's candidates came to an end.
#[derive(Default)]
pub(super) struct SettledKeys {
    /// Those that may be settled; none where nothing is noted.
    noted: Option<HashSet<String>>,
    recorded: u64,
    settled: HashSet<String>,
    open: BTreeSet<String>,
}

impl SettledKeys {
    /// Notes the outcomes that `run` will need.
    pub(super) fn of(run: Option<&MirrorRun>) -> SettledKeys {
        let keys = |run: &MirrorRun| run.keys.iter().map(|key| &key.key).chain(&run.wanted).cloned().collect();
        SettledKeys { noted: run.filter(|run| run.record.is_some()).map(keys), ..SettledKeys::default() }
    }

    /// Notes an outcome that was recorded.
    pub(super) fn note(&mut self, key: &str, outcome: ChangeOutcome) {
        let Some(noted) = &self.noted else { return };
        self.recorded += 1;
        match outcome {
            ChangeOutcome::Delivered | ChangeOutcome::Unchanged | ChangeOutcome::Adopted | ChangeOutcome::Rejected => {
                if noted.contains(key) {
                    self.settled.insert(key.to_owned());
                }
            }
            // As many as there are candidates, in the worst case; then the mirror is given up.
            ChangeOutcome::PartlyRejected | ChangeOutcome::Pending | ChangeOutcome::Unconfirmed => {
                if self.open.len() <= KEYS_MAX {
                    self.open.insert(key.to_owned());
                }
            }
        }
    }
}

/// Why a mirror cannot be relied on, or none if it can.
fn misfit(record: &MirrorRecord, answer: &MirrorAnswer) -> Option<String> {
    let MirrorTotals { joined, keys, checksum, .. } = answer.totals;
    if (keys, checksum) != (record.keys, record.checksum) {
        return Some("the mirror does not hold what it should".to_owned());
    }
    if joined != keys {
        return Some("several rows have one key".to_owned());
    }
    answer.too_many.then(|| format!("more than {KEYS_MAX} rows differ"))
}

impl Session<'_> {
    /// Reads the rows through the mirror, if the mapping or the source wants that; none where they are read as ever.
    /// `is_whole`: the whole model is compared. The report says why rows are compared here although they should not be.
    pub(super) async fn read_through_mirror(
        &self,
        reader: &mut dyn Reader,
        projection: &Projection,
        is_whole: bool,
        report: &mut Option<MirrorReport>,
    ) -> Result<Option<MirroredRows>> {
        let settings = reader.mirror();
        let of_source = settings.as_ref().map(|settings| settings.compare).unwrap_or_default();
        let wants = self.mapping.compare.unwrap_or(of_source) == Compare::Warehouse;
        let record = MirrorRecord::load(self.ledger.kv(), &self.mapping.name).await?;
        let settings = match settings {
            Some(settings) if wants && is_whole => settings,
            _ => {
                self.pass_by_mirror(record, wants).await?;
                return Ok(None);
            }
        };
        let place = format!("{}.{}", self.mapping.source, settings.schema);
        let compared = self.compared();
        let unfit = match &record {
            None => NO_MIRROR.to_owned(),
            Some(record) if record.mapping != compared || record.place != place => "the mapping was edited".to_owned(),
            Some(_) if self.options.full => "the whole model was requested".to_owned(),
            Some(record) => match self.compare_with_mirror(reader, projection, record).await? {
                Ok(rows) => return Ok(Some(rows)),
                Err(unfit) => unfit,
            },
        };
        let mut local = MirrorReport { reason: Some(unfit), ..MirrorReport::default() };
        // A plan writes nothing.
        if self.delivery.is_none() {
            *report = Some(local);
            return Ok(None);
        }
        MirrorRecord::forget(self.ledger.kv(), &self.mapping.name).await?;
        match self.make_mirror(reader, projection, place, record.as_ref()).await {
            Ok(mut rows) => {
                if let (Some(record), Some(reason)) = (&mut rows.run.record, &local.reason) {
                    record.reason.clone_from(reason);
                }
                rows.run.report.reason = local.reason;
                Ok(Some(rows))
            }
            Err(error) if error.kind() == Kind::Interrupted => Err(error),
            Err(error) => {
                local.reason = Some(format!("the mirror could not be made: {error}"));
                *report = Some(local);
                Ok(None)
            }
        }
    }

    /// A run that does not compare with the mirror leaves it behind what it sends.
    async fn pass_by_mirror(&self, record: Option<MirrorRecord>, wants: bool) -> Result<()> {
        let Some(mut record) = record.filter(|_| self.delivery.is_some()) else { return Ok(()) };
        let (kv, sync) = (self.ledger.kv(), &self.mapping.name);
        match self.options.group.as_ref().filter(|_| wants) {
            Some(groups) => {
                record.unmirror(groups.to_vec(), self.clock.now());
                record.store(kv, sync).await
            }
            None => MirrorRecord::forget(kv, sync).await,
        }
    }

    /// The rows that differ from the mirror; why it cannot be relied on, if it cannot.
    async fn compare_with_mirror(
        &self,
        reader: &mut dyn Reader,
        projection: &Projection,
        record: &MirrorRecord,
    ) -> Result<Result<MirroredRows, String>> {
        let most = KEYS_MAX as u64 + 1;
        let mut wanted = self.ledger.history().unconfirmed_or_rejected(&self.mapping.name, most).await?;
        wanted.extend(record.unmirrored.iter().cloned());
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.len() > KEYS_MAX || wanted.iter().map(String::len).sum::<usize>() > WANTED_BYTES_MAX {
            return Ok(Err("too many groups are unmirrored, unconfirmed or rejected".to_owned()));
        }
        let MirrorRecord { base, seq, keys, checksum, .. } = *record;
        let (table, asked) = (record.table.clone(), wanted.clone());
        let query = MirrorQuery { table, base, seq, keys, checksum, wanted: asked, all: false };
        let read = reader.compare(projection, &query, &|rows| self.monitor.note(Event::Reading(rows))).await;
        let (rows, answer) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => return Ok(Err(format!("the mirror could not be read: {error}"))),
        };
        if let Some(unfit) = misfit(record, &answer) {
            return Ok(Err(unfit));
        }
        let rows_read = answer.keys.iter().filter(|key| key.fingerprint.is_some()).count() as u64;
        let report = MirrorReport { compared: Compare::Warehouse, rows_read, ..MirrorReport::default() };
        let run = MirrorRun {
            record: Some(record.clone()),
            keys: answer.keys,
            wanted,
            is_new: false,
            is_reserved: false,
            projection: projection.clone(),
            report,
        };
        Ok(Ok(MirroredRows { rows, run, totals: Some(answer.totals) }))
    }

    /// Makes the mirror of the rows as they are, and reads all of them with what has changed since.
    async fn make_mirror(
        &self,
        reader: &mut dyn Reader,
        projection: &Projection,
        place: String,
        before: Option<&MirrorRecord>,
    ) -> Result<MirroredRows> {
        let sync = &self.mapping.name;
        let tables = tables_of(self.ledger.kv(), sync, || self.new_tables()).await?;
        for table in TABLES {
            reader.change_mirror(projection, &MirrorChange::Drop { table: format!("{tables}_{table}") }).await?;
        }
        let table = format!("{tables}_{}", TABLES[0]);
        let seq = self.next_seq(before.map_or(0, |record| record.reserved));
        reader.change_mirror(projection, &MirrorChange::Fill { table: table.clone(), seq }).await?;
        let (wanted, of_table) = (Vec::new(), table.clone());
        let query = MirrorQuery { table: of_table, base: seq, seq, keys: 0, checksum: 0, wanted, all: true };
        let noted = |rows| self.monitor.note(Event::Reading(rows));
        let (rows, answer) = reader.compare(projection, &query, &noted).await?;
        let MirrorTotals { rows: rows_read, joined, keys, checksum, .. } = answer.totals;
        let record = MirrorRecord {
            table,
            base: seq,
            seq,
            reserved: seq,
            keys,
            checksum,
            mapping: self.compared(),
            place,
            rows: keys,
            made_at: self.clock.now(),
            reason: String::new(),
            unmirrored: Vec::new(),
            behind_since: None,
        };
        let report = MirrorReport { rebuilt: true, rows_read, ..MirrorReport::default() };
        let run = MirrorRun {
            // Where rows came to share a key meanwhile, the figures are not those of the mirror.
            record: Some(record).filter(|_| joined == keys && !answer.too_many),
            keys: answer.keys,
            wanted: Vec::new(),
            is_new: true,
            is_reserved: false,
            projection: projection.clone(),
            report,
        };
        Ok(MirroredRows { rows, run, totals: None })
    }

    /// What a mirror depends on: an edited mapping makes other documents of the same rows, and a group that is missing for long
    /// is in no mirror.
    fn compared(&self) -> String {
        let on_missing: &str = self.mapping.policy.on_missing.into();
        format!("{} {on_missing}", self.fingerprint)
    }

    /// What the names of the sync's tables begin with: no other ledger's do.
    fn new_tables(&self) -> String {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
        let name: String = self.mapping.name.chars().map(plain).take(NAME_LETTERS).collect();
        format!("groupcast_{name}_{:08x}", self.random.up_to(0xffff_ffff))
    }

    /// A number above all that appends have had: also above those of processes that this ledger does not know of, as far as
    /// clocks are right.
    fn next_seq(&self, reserved: u64) -> u64 {
        let now = u64::try_from(self.clock.now().timestamp_micros()).unwrap_or_default();
        now.max(reserved + 1)
    }

    /// Makes every key of the run unmirrored before anything of it is sent.
    pub(super) async fn reserve_mirror(&self, run: &mut MirrorRun, found: &Comparison, acts: bool) -> Result<()> {
        let reserved = run.record.as_ref().map_or(0, |record| record.reserved);
        let seq = self.next_seq(reserved);
        let MirrorRun { record: Some(record), keys, is_new: false, is_reserved, .. } = run else { return Ok(()) };
        let is_quiet = |key: &ComparedKey| key.fingerprint == key.mirrored || (key.fingerprint.is_none() && !acts);
        if found.candidates() == 0 && record.unmirrored.is_empty() && keys.iter().all(is_quiet) {
            return Ok(());
        }
        record.reserved = seq;
        *is_reserved = true;
        let mut kept = record.clone();
        kept.unmirror(keys.iter().map(|key| key.key.clone()), self.clock.now());
        record.behind_since = kept.behind_since;
        kept.store(self.ledger.kv(), &self.mapping.name).await
    }

    /// Brings the mirror up to what is settled. Only the ledger's failures are errors: a mirror that could not be written is
    /// behind, and the ledger knows by which keys.
    pub(super) async fn settle_mirror(
        &self,
        run: MirrorRun,
        settled: SettledKeys,
        (found, acts): (&Comparison, bool),
        reader: &mut dyn Reader,
    ) -> Result<(MirrorReport, Option<String>)> {
        let MirrorRun { record, keys, wanted, is_new, is_reserved, projection, mut report } = run;
        let is_complete = settled.recorded == found.candidates();
        let Some(mut record) = record.filter(|_| is_complete || !is_new) else { return Ok((report, None)) };
        if !is_new && !is_reserved {
            report.keys = record.keys;
            return Ok((report, None));
        }
        let before = std::mem::take(&mut record.unmirrored);
        let lines = lines(&keys, &wanted, &before, &settled, (is_complete, acts));
        let (kv, sync) = (self.ledger.kv(), self.mapping.name.as_str());
        if lines.open.len() > KEYS_MAX {
            MirrorRecord::forget(kv, sync).await?;
            return Ok((report, None));
        }
        let mut behind = None;
        if !lines.rows.is_empty() {
            let seq = if is_new { self.next_seq(record.reserved) } else { record.reserved };
            let rows = lines.rows.len() as u64;
            let append = MirrorChange::Append { table: record.table.clone(), seq, rows: lines.rows };
            match reader.change_mirror(&projection, &append).await {
                Ok(()) => {
                    (record.seq, record.reserved, record.rows) = (seq, seq, record.rows + rows);
                    record.keys = record.keys.saturating_add_signed(lines.keys);
                    record.checksum += lines.checksum;
                }
                Err(error) => behind = Some(format!("the mirror could not be written: {error}")),
            }
        }
        match &behind {
            // Of a new one there is no record yet, and of an old one the ledger has what it needs.
            Some(_) if is_new => return Ok((report, behind)),
            Some(_) => {
                let kept = MirrorRecord::load(kv, sync).await?;
                report.unmirrored = kept.map_or(0, |kept| kept.unmirrored.len() as u64);
            }
            None => {
                record.unmirrored.clear();
                record.unmirror(lines.open, self.clock.now());
                record.store(kv, sync).await?;
                report.unmirrored = record.unmirrored.len() as u64;
                self.compact_mirror(&mut record, &projection, reader).await?;
            }
        }
        report.keys = record.keys;
        Ok((report, behind))
    }

    /// Makes the mirror small again, if it has many rows that do not count. A failure leaves it as it is.
    async fn compact_mirror(
        &self,
        record: &mut MirrorRecord,
        projection: &Projection,
        reader: &mut dyn Reader,
    ) -> Result<()> {
        if record.rows <= COMPACTED_FROM_ROWS || record.rows <= record.keys.saturating_mul(ROWS_PER_KEY_MAX) {
            return Ok(());
        }
        let other = match record.table.strip_suffix(TABLES[0]) {
            Some(tables) => format!("{tables}{}", TABLES[1]),
            None => format!("{}{}", record.table.trim_end_matches(TABLES[1]), TABLES[0]),
        };
        let (table, base, seq) = (record.table.clone(), record.base, record.seq);
        let compact = MirrorChange::Compact { table: table.clone(), base, seq, into: other.clone() };
        let made = match reader.change_mirror(projection, &MirrorChange::Drop { table: other.clone() }).await {
            Ok(()) => reader.change_mirror(projection, &compact).await,
            Err(error) => Err(error),
        };
        if made.is_ok() {
            (record.table, record.base, record.rows) = (other, seq, record.keys);
            record.store(self.ledger.kv(), &self.mapping.name).await?;
            // Left over, it goes with the next compaction.
            drop(reader.change_mirror(projection, &MirrorChange::Drop { table }).await);
        }
        Ok(())
    }
}

/// What a run appends, and what it leaves unmirrored.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    rows: Vec<(String, i64)>,
    open: BTreeSet<String>,
    /// By how much the mirror's keys and checksum change.
    keys: i64,
    checksum: i128,
}

fn lines(
    keys: &[ComparedKey],
    wanted: &[String],
    before: &[String],
    settled: &SettledKeys,
    (is_complete, acts): (bool, bool),
) -> Lines {
    let mut lines = Lines { open: settled.open.clone(), ..Lines::default() };
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    keys.iter().for_each(|key| *times.entry(&key.key).or_default() += 1);
    let was_unmirrored = |key: &String| before.binary_search(key).is_ok();
    // What was compared and is no candidate equals the synced state.
    let is_settled = |key: &String| !settled.open.contains(key) && (is_complete || settled.settled.contains(key));
    let without_line = wanted.iter().filter(|key| !times.contains_key(key.as_str()) && was_unmirrored(key));
    let without_line =
        without_line.map(|key| ComparedKey { key: key.clone(), fingerprint: None, mirrored: None }).collect::<Vec<_>>();
    for ComparedKey { key, fingerprint, mirrored } in keys.iter().chain(&without_line) {
        // Rows that share a key are not compared.
        if times.get(key.as_str()).is_some_and(|times| *times > 1) {
            lines.open.insert(key.clone());
            continue;
        }
        // A group that is kept when its row leaves stays in the mirror: every comparison finds it missing, as it would here.
        if fingerprint.is_none() && mirrored.is_some() && !acts && !settled.open.contains(key) {
            lines.open.extend(Some(key.clone()).filter(was_unmirrored));
            continue;
        }
        let value = match is_settled(key) {
            true => fingerprint.unwrap_or(GONE),
            false => {
                lines.open.insert(key.clone());
                GONE
            }
        };
        let after = Some(value).filter(|value| *value != GONE);
        if after == *mirrored && !was_unmirrored(key) {
            continue;
        }
        lines.rows.push((key.clone(), value));
        lines.keys += i64::from(after.is_some()) - i64::from(mirrored.is_some());
        lines.checksum += i128::from(after.unwrap_or(0)) - i128::from(mirrored.unwrap_or(0));
    }
    lines
}
