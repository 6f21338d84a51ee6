//! The comparison of a run's rows with the synced state.
//!
//! The rows are in another DuckDB instance than the ledger ([`crate::source::staged`]). Buckets of keys whose counts and
//! sums are equal on both sides are done with; of the others keys and fingerprints come over and are joined; cells only
//! of the candidates are kept, on their side.
//!
//! Where the synced groups are kept is [`SyncedGroups`]' matter: in the instance that joins, or in another database, which
//! then brings the few that are needed.

use async_trait::async_trait;
use duckdb::Connection;

use super::candidates::Candidates;
use super::statements;
use crate::duckdb::{DuckDbConnection, ledger_error};
use crate::error::{Error, Kind, Result};
use crate::ledger::{CompareOptions, Comparison, DUPLICATE_EXAMPLES_MAX, KEY_EXAMPLES_MAX, MissingScope};
use crate::source::Staged;
use crate::source::staged::{self, BUCKETS, Bucket, Wanted};

/// The synced state, by bucket.
pub(in crate::ledger) struct SyncedSums {
    pub(in crate::ledger) buckets: Vec<Bucket>,
    /// Groups that are candidates whether or not their row differs.
    pub(in crate::ledger) always: Vec<u64>,
    /// Rejected groups.
    pub(in crate::ledger) rejected: Vec<u64>,
}

impl SyncedSums {
    /// Those of no group.
    pub(in crate::ledger) fn empty() -> SyncedSums {
        SyncedSums { buckets: vec![Bucket::default(); BUCKETS], always: vec![0; BUCKETS], rejected: vec![0; BUCKETS] }
    }
}

/// The groups of one sync, as one comparison needs them.
#[async_trait]
pub(in crate::ledger) trait SyncedGroups: Send + Sync {
    /// Their counts and sums.
    async fn sums(&self) -> Result<SyncedSums>;

    /// Whether the journal has no delivery of the sync: a group that comes back takes up its sequence from there.
    async fn nothing_was_delivered(&self) -> Result<bool>;

    /// Makes sure that the joining instance has them in its table `synced`: those of these buckets, or all that may be
    /// joined. The rows' keys are in its table `scan`.
    async fn bring(&self, buckets: Option<&[u16]>) -> Result<()>;

    /// Gathers what is needed of the candidates, which are in the table `chosen`, as many as `total`. Returns the bytes of
    /// the largest document.
    async fn gather(&self, total: u64, ordered: bool) -> Result<u64>;
}

/// The groups of a sync in the instance that joins.
struct LocalGroups<'a> {
    ledger: &'a DuckDbConnection,
    sync: &'a str,
    options: &'a CompareOptions,
}

#[async_trait]
impl SyncedGroups for LocalGroups<'_> {
    async fn sums(&self) -> Result<SyncedSums> {
        let sql = statements::synced_sums(self.sync, self.options);
        self.ledger
            .call("compare", move |connection| {
                let mut sums = SyncedSums::empty();
                let mut read = || -> duckdb::Result<()> {
                    let mut statement = connection.prepare(&sql)?;
                    let mut rows = statement.query([])?;
                    while let Some(row) = rows.next()? {
                        let bucket: usize = row.get(0)?;
                        sums.buckets[bucket] = Bucket { rows: row.get(1)?, sum: row.get(2)?, xor: row.get(3)? };
                        (sums.always[bucket], sums.rejected[bucket]) = (row.get(4)?, row.get(5)?);
                    }
                    Ok(())
                };
                read().map_err(|error| compare_error(&error))?;
                Ok(sums)
            })
            .await
    }

    async fn nothing_was_delivered(&self) -> Result<bool> {
        let sync = self.sync.to_owned();
        self.ledger
            .call("compare", move |connection| {
                connection
                    .query_row(statements::NOTHING_WAS_DELIVERED, [sync], |row| row.get(0))
                    .map_err(|error| compare_error(&error))
            })
            .await
    }

    /// They are there.
    async fn bring(&self, _buckets: Option<&[u16]>) -> Result<()> {
        Ok(())
    }

    async fn gather(&self, total: u64, ordered: bool) -> Result<u64> {
        let gather = statements::candidates(self.sync, ordered);
        self.ledger
            .call("compare", move |connection| {
                let count = "SELECT count(*), coalesce(max(bytes), 0)::UBIGINT FROM candidate";
                gather_into(connection, &gather, count, total, ordered)
            })
            .await
    }
}

/// Makes the table of the candidates, in order of their positions where they are many, and reads from it how many there are,
/// which must be `total`, and another figure.
pub(in crate::ledger) fn gather_into(
    connection: &Connection,
    gather: &str,
    count: &str,
    total: u64,
    ordered: bool,
) -> Result<u64> {
    let run = |sql: &str| connection.execute_batch(sql).map_err(|error| compare_error(&error));
    if !ordered {
        run("SET preserve_insertion_order = true")?;
    }
    let stored = run(gather);
    if !ordered {
        run("SET preserve_insertion_order = false")?;
    }
    stored?;
    let (stored, figure): (u64, u64) =
        connection.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(ledger_error("compare"))?;
    if stored != total {
        let what = format!("{total} groups were to be compared, and {stored} were found");
        return Err(Error::new(Kind::Bug, what));
    }
    Ok(figure)
}

/// Interrupts what runs in two instances, unless it is disarmed: a comparison that is not awaited any more must not go on.
struct Interrupter(Option<(DuckDbConnection, DuckDbConnection)>);

impl Drop for Interrupter {
    fn drop(&mut self) {
        if let Some((ledger, input)) = &self.0 {
            ledger.interrupt();
            input.interrupt();
        }
    }
}

/// Finds the candidates among the rows, with the synced groups in this instance; see [`crate::ledger::Ledger::compare`].
///
/// Up to `ordered_max` candidates come in key order.
pub(super) async fn compare(
    ledger: &DuckDbConnection,
    sync: &str,
    staged: &Staged,
    options: &CompareOptions,
    ordered_max: u64,
) -> Result<(Comparison, Candidates)> {
    compare_with(&LocalGroups { ledger, sync, options }, ledger, sync, staged, options, ordered_max).await
}

/// The same with the synced groups wherever they are. `ledger` is the instance that joins.
pub(in crate::ledger) async fn compare_with(
    groups: &dyn SyncedGroups,
    ledger: &DuckDbConnection,
    sync: &str,
    staged: &Staged,
    options: &CompareOptions,
    ordered_max: u64,
) -> Result<(Comparison, Candidates)> {
    let mut interrupter = Interrupter(Some((ledger.clone(), staged.duckdb.clone())));
    let compared = compare_all(groups, ledger, sync, staged, options, ordered_max).await;
    interrupter.0 = None;
    compared
}

async fn compare_all(
    groups: &dyn SyncedGroups,
    ledger: &DuckDbConnection,
    sync: &str,
    staged: &Staged,
    options: &CompareOptions,
    ordered_max: u64,
) -> Result<(Comparison, Candidates)> {
    let whole = options.missing == MissingScope::All;
    let (rows, synced) = tokio::try_join!(staged.sums(&options.salt), groups.sums())?;
    let mut found = Comparison {
        rows: rows.rows,
        null_keys: rows.null_keys,
        empty_keys: rows.empty_keys,
        synced: synced.buckets.iter().map(|bucket| bucket.rows).sum(),
        ..Comparison::default()
    };
    let valid = found.rows - found.null_keys - found.empty_keys;
    // Where only a part of the model was read, the rest of a bucket may differ.
    let differs = |bucket: usize| !whole || rows.buckets[bucket] != synced.buckets[bucket] || synced.always[bucket] > 0;
    let differing: Vec<u16> = (0..BUCKETS).filter(|bucket| differs(*bucket)).map(|bucket| bucket as u16).collect();
    // A rejected row that did not change has its group's fingerprint: it is excluded, and equal.
    let rejected_elsewhere: u64 =
        (0..BUCKETS).filter(|bucket| !differs(*bucket)).map(|bucket| synced.rejected[bucket]).sum();
    if whole && differing.is_empty() {
        // The usual night: neither rows nor documents are read.
        found.rejected_unchanged = rejected_elsewhere;
        found.unchanged = valid - found.rejected_unchanged;
        return Ok((found, Candidates::default()));
    }
    if whole
        && found.synced == 0
        && groups.nothing_was_delivered().await?
        && let Some(candidates) = all_new(staged, options, valid, ordered_max).await?
    {
        found.new = valid;
        return Ok((found, candidates));
    }
    let of = |buckets: &[Bucket]| differing.iter().map(|bucket| buckets[usize::from(*bucket)].rows).sum::<u64>();
    let (valid_here, known_here) = (of(&rows.buckets), of(&synced.buckets));
    // Most of them: then looking for the few that are equal costs more than it saves.
    let only = (whole && differing.len() <= BUCKETS / 2).then_some(differing);
    let (valid_here, known_here) = if only.is_some() { (valid_here, known_here) } else { (valid, found.synced) };
    let rejected_elsewhere = if only.is_some() { rejected_elsewhere } else { 0 };

    let setup = [Some(statements::SCAN.to_owned()), only.as_deref().map(staged::differing)];
    run(ledger, setup.into_iter().flatten().collect()).await?;
    staged.copy_fingerprints(&options.salt, only.as_deref(), ledger, "scan").await?;
    groups.bring(only.as_deref()).await?;
    let (text, options_here, filtered) = (sync.to_owned(), options.clone(), only.is_some());
    let found = ledger
        .call("compare", move |connection| {
            join(connection, &text, &options_here, filtered, (valid_here, known_here), &mut found)?;
            found.rejected_unchanged += rejected_elsewhere;
            found.unchanged = valid - found.duplicate_rows - found.new - found.changed - found.rejected_unchanged;
            Ok(found)
        })
        .await?;
    if found.candidates() == 0 {
        run(ledger, vec![statements::CLEAN_UP.to_owned()]).await?;
        return Ok((found, Candidates::default()));
    }
    let candidates = choose(groups, ledger, staged, options, &found, (valid, ordered_max)).await?;
    run(ledger, vec![statements::CLEAN_UP.to_owned()]).await?;
    Ok((found, candidates))
}

/// The candidates of a first run: every row is one, there is nothing to join it with, and its fingerprint stays beside its
/// cells. `None` where keys repeat, or where memory does not suffice to tell.
async fn all_new(
    staged: &Staged,
    options: &CompareOptions,
    valid: u64,
    ordered_max: u64,
) -> Result<Option<Candidates>> {
    let short_of_memory = |error: &Error| error.to_string().contains("Out of Memory");
    match staged.keys_are_distinct(valid).await {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) if short_of_memory(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    let wanted = |ordered| Wanted::New { salt: &options.salt, ordered };
    let cells = match staged.keep_cells(wanted(valid <= ordered_max)).await {
        Err(error) if short_of_memory(&error) => staged.keep_cells(wanted(false)).await?,
        kept => kept?,
    };
    Ok(Some(Candidates { total: valid, cells: Some(cells), all_new: true, document_bytes_max: 0 }))
}

async fn run(duckdb: &DuckDbConnection, statements: Vec<String>) -> Result<()> {
    duckdb
        .call("compare", move |connection| {
            statements.iter().try_for_each(|sql| connection.execute_batch(sql)).map_err(|error| compare_error(&error))
        })
        .await
}

fn count(connection: &Connection, sql: &str) -> Result<u64> {
    connection.query_row(sql, [], |row| row.get(0)).map_err(ledger_error("compare"))
}

/// Joins the keys and fingerprints that came over with the synced state. `valid` and `synced` are how many rows and groups
/// are compared.
fn join(
    connection: &Connection,
    sync: &str,
    options: &CompareOptions,
    filtered: bool,
    (valid, synced): (u64, u64),
    found: &mut Comparison,
) -> Result<()> {
    let run = |sql: &str| connection.execute_batch(sql).map_err(|error| compare_error(&error));
    run(&statements::mismatches(sync, options, filtered))?;
    // Groups are unique and each was matched or found missing, so rows without duplicates are exactly as many as
    // matched groups and distinct new keys. Only when the sum does not add up is every key grouped.
    let distinct = (options.missing == MissingScope::All)
        .then(|| {
            Ok::<_, Error>(
                synced - count(connection, statements::MISSING_COUNT)? + count(connection, statements::NEW_DISTINCT)?,
            )
        })
        .transpose()?;
    if distinct != Some(valid) {
        run(statements::DUPLICATES)?;
        found.duplicate_rows = count(connection, statements::DUPLICATE_ROWS)?;
        if found.duplicate_rows > 0 {
            run(statements::DROP_DUPLICATES)?;
            let mut examples = connection
                .prepare(&format!("SELECT key FROM duplicate ORDER BY key LIMIT {DUPLICATE_EXAMPLES_MAX}"))
                .map_err(ledger_error("list duplicate keys"))?;
            let keys = examples.query_map([], |row| row.get(0)).map_err(ledger_error("list duplicate keys"))?;
            found.duplicate_examples = keys.collect::<Result<_, _>>().map_err(ledger_error("list duplicate keys"))?;
        }
    }
    let missing_candidates;
    (found.new, found.changed, found.rejected_unchanged, found.missing, missing_candidates) = connection
        .query_row(&statements::mismatch_counts(options), [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .map_err(ledger_error("count candidates"))?;
    if found.missing > 0 && found.new > 0 {
        for (kind, examples) in [(0, &mut found.new_examples), (2, &mut found.missing_examples)] {
            *examples = key_examples(connection, kind)?;
        }
    }
    found.missing_candidates = if options.act_on_missing { missing_candidates } else { 0 };
    Ok(())
}

/// Gives every candidate a position, has the cells of their rows kept, and gathers their synced state.
///
/// Few candidates come in key order: only keys are sorted, never documents or cells. Of many, the cells are kept in the
/// order in which they are read, and the synced documents are sorted to fit.
async fn choose(
    groups: &dyn SyncedGroups,
    ledger: &DuckDbConnection,
    staged: &Staged,
    options: &CompareOptions,
    found: &Comparison,
    (valid, ordered_max): (u64, u64),
) -> Result<Candidates> {
    let total = found.candidates();
    let with_row = found.new + found.changed;
    let ordered = total <= ordered_max;
    let mut cells = None;
    if ordered {
        run(ledger, vec![statements::choose_ordered(options)]).await?;
        if with_row > 0 {
            let sql = "SELECT n, key FROM temp.chosen WHERE kind < 2".to_owned();
            cells = Some(staged.keep_cells(Wanted::Positions { from: ledger, sql }).await?);
        }
    } else {
        run(ledger, vec![statements::choose_unordered(options), statements::POSITIONS.to_owned()]).await?;
        if with_row > 0 {
            // Without an order of its own a row's position is where it was put.
            let sql = "SELECT key FROM temp.chosen WHERE kind < 2".to_owned();
            let wanted = if with_row == valid { Wanted::All } else { Wanted::Keys { from: ledger, sql } };
            let kept = staged.keep_cells(wanted).await?;
            kept.copy_positions(ledger, "positions").await?;
            cells = Some(kept);
        }
        run(ledger, vec![statements::POSITION_CHOSEN.to_owned()]).await?;
    }
    let document_bytes_max = groups.gather(total, ordered).await?;
    Ok(Candidates { total, cells, all_new: false, document_bytes_max })
}

/// The first keys of mismatches of a kind.
fn key_examples(connection: &Connection, kind: u8) -> Result<Vec<String>> {
    let failed = ledger_error("list keys");
    let mut first = connection
        .prepare(&format!("SELECT key FROM mismatch WHERE kind = {kind} ORDER BY key LIMIT {KEY_EXAMPLES_MAX}"))
        .map_err(&failed)?;
    let keys = first.query_map([], |row| row.get(0)).map_err(&failed)?;
    keys.collect::<Result<_, _>>().map_err(failed)
}

/// A failure while comparing is the source's when its values cannot be read, the ledger's otherwise.
pub(in crate::ledger) fn compare_error(error: &duckdb::Error) -> Error {
    let text = error.to_string();
    let failed = Error::new(Kind::Ledger, "failed to compare the source with the synced state");
    let failed = if crate::duckdb::is_damaged(&text) {
        failed.advise("the ledger is damaged: restore it from a backup, and leave its `.generation` file in place")
    } else if text.contains("Out of Memory") {
        failed.advise("raise `state.memory` in groupcast.toml; half of it is the ledger's")
    } else if crate::duckdb::is_full(&text) {
        failed.advise("free space where DuckDB spills (`state.temp_folder`)")
    } else if text.contains("INTERRUPT") {
        Error::new(Kind::Interrupted, "interrupted while comparing")
    } else {
        failed
    };
    failed.because(crate::duckdb::first_line(&text))
}
