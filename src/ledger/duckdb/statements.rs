//! The protocol's SQL, as text. Everything that decides what is a candidate and what is synced is here; the other modules
//! only run it.
//!
//! `mismatches` joins only keys and fingerprints of buckets that differ: every row or group that is not plainly unchanged.
//! Those of them that must be decided are the candidates, and only their documents are read.

use super::long_texts;
use crate::duckdb::{quote_identifier, quote_literal};
use crate::ledger::kv::note_of;
use crate::ledger::mirror::MIRROR;
use crate::ledger::{CompareOptions, MissingScope};
use crate::source::staged::{bucket, row_hash};

/// Counts and sums of the synced state, by bucket: number, groups, sum, exclusive or, groups that are candidates whether or
/// not their row differs, rejected groups.
pub(super) fn synced_sums(sync: &str, options: &CompareOptions) -> String {
    let always = if options.retry_rejected {
        "unconfirmed_in IS NOT NULL OR rejected_reason IS NOT NULL"
    } else {
        "unconfirmed_in IS NOT NULL"
    };
    format!(
        "SELECT {bucket}, count(*), sum(row_hash)::HUGEINT, bit_xor(row_hash), count(*) FILTER ({always}), count(rejected_reason) \
         FROM (SELECT key, {row_hash} AS row_hash, unconfirmed_in, rejected_reason FROM synced WHERE sync = {sync}) GROUP BY 1",
        bucket = bucket("key"),
        row_hash = row_hash("key", "fingerprint"),
        sync = quote_literal(sync),
    )
}

/// Count, sum and exclusive or of what finds candidates among a sync's groups.
pub(super) const SYNCED_SUMMARY: &str =
    "SELECT count(*), coalesce(sum(row_hash), 0)::HUGEINT, coalesce(bit_xor(row_hash), 0)::UBIGINT FROM (
    SELECT hash(key, fingerprint, unconfirmed_in IS NOT NULL, rejected_reason IS NOT NULL) AS row_hash
    FROM synced WHERE sync = ?)";

/// Whether the journal has no delivery of a sync.
pub(super) const NOTHING_WAS_DELIVERED: &str =
    "SELECT NOT EXISTS (SELECT 1 FROM journal WHERE sync = ? AND outcome = 'delivered')";

/// The table of the keys and fingerprints that came over.
pub(super) const SCAN: &str = "CREATE OR REPLACE TEMP TABLE scan (key VARCHAR, fingerprint UBIGINT)";

/// Every row or group that is not plainly unchanged. `kind`: 0 new, 1 with a row and a group, 2 missing.
/// `rejected_unchanged`: it was rejected and did not change since.
///
/// `filtered`: only rows and groups of the buckets that differ are compared.
pub(super) fn mismatches(sync: &str, options: &CompareOptions, filtered: bool) -> String {
    let (join, mut only) = match &options.missing {
        MissingScope::All => ("FULL JOIN", String::new()),
        MissingScope::Only(keys) => {
            let keys: Vec<String> = keys.iter().map(|key| quote_literal(key)).collect();
            ("FULL JOIN", format!(" AND key IN ({})", keys.join(", ")))
        }
        MissingScope::None => ("LEFT JOIN", String::new()),
    };
    if filtered {
        only.push_str(&format!(" AND {} IN (SELECT bucket FROM temp.differing)", bucket("key")));
    }
    format!(
        "CREATE OR REPLACE TEMP TABLE mismatch AS
SELECT coalesce(s.key, k.key) AS key, s.fingerprint,
    CASE WHEN k.key IS NULL THEN 0 WHEN s.key IS NULL THEN 2 ELSE 1 END::UTINYINT AS kind,
    coalesce(k.rejected AND s.fingerprint IS NOT DISTINCT FROM k.fingerprint, false) AS rejected_unchanged
FROM scan s
{join} (
    SELECT key, fingerprint, unconfirmed_in IS NOT NULL AS unconfirmed, rejected_reason IS NOT NULL AS rejected
    FROM synced WHERE sync = {sync}{only}
) k ON k.key = s.key
WHERE k.key IS NULL OR s.key IS NULL OR s.fingerprint IS DISTINCT FROM k.fingerprint OR k.unconfirmed OR k.rejected",
        sync = quote_literal(sync),
    )
}

/// Of a group that was only ever rejected: the destination has nothing of it.
const ONLY_REJECTED: &str = "seq = 0 AND document = '{}' AND unconfirmed_in IS NULL AND rejected_reason IS NOT NULL";
/// Of a group that was sent and never got a response: the destination may have it.
const NEVER_CONFIRMED: &str = "seq = 0 AND document = '{}' AND unconfirmed_in IS NOT NULL";

/// Groups of the sync that the destination has, or may have. Like the others below, it counts what is left out, in
/// conditions that DuckDB checks against the ranges of each part of the table: few documents are read.
pub(super) fn may_exist_count(sync: &str) -> String {
    let known = format!("SELECT count(*) FROM synced WHERE sync = {}", quote_literal(sync));
    format!("SELECT ({known}) - ({known} AND {ONLY_REJECTED})")
}

/// Groups of the sync that were delivered.
pub(super) fn delivered_count(sync: &str) -> String {
    let known = format!("SELECT count(*) FROM synced WHERE sync = {}", quote_literal(sync));
    format!("SELECT ({known}) - ({known} AND {ONLY_REJECTED}) - ({known} AND {NEVER_CONFIRMED})")
}

/// Groups of every sync that were never delivered, by sync.
pub(super) fn never_delivered_counts() -> String {
    let of = |condition: &str| format!("SELECT sync FROM synced WHERE {condition}");
    let (rejected, unconfirmed) = (of(ONLY_REJECTED), of(NEVER_CONFIRMED));
    format!("SELECT sync, count(*) FROM ({rejected} UNION ALL {unconfirmed}) GROUP BY sync")
}

/// Candidates that left the rows and that the destination has, or may have.
pub(super) const REMOVABLE: &str = "SELECT count(*) FROM candidate WHERE kind = 2 AND NOT (seq = 0 AND document = '{}' AND confirmed AND rejected_reason IS NOT NULL)";

/// Distinct keys among the rows of new groups.
pub(super) const NEW_DISTINCT: &str = "SELECT count(DISTINCT key) FROM mismatch WHERE kind = 0";

/// Groups that are not among the rows.
pub(super) const MISSING_COUNT: &str = "SELECT count(*) FROM mismatch WHERE kind = 2";

/// Keys that several rows share.
pub(super) const DUPLICATES: &str = "CREATE OR REPLACE TEMP TABLE duplicate AS
SELECT key, count(*) AS rows FROM scan GROUP BY key HAVING count(*) > 1";

/// Rows that share their key.
pub(super) const DUPLICATE_ROWS: &str = "SELECT coalesce(sum(rows), 0)::UBIGINT FROM duplicate";

/// Takes the shared keys out of the comparison.
pub(super) const DROP_DUPLICATES: &str = "DELETE FROM mismatch WHERE key IN (SELECT key FROM duplicate)";

/// Counts of new candidates, changed candidates, rejected rows that did not change, missing groups, candidates among the
/// missing.
pub(super) fn mismatch_counts(options: &CompareOptions) -> String {
    let rejected = if options.retry_rejected { "false" } else { "rejected_unchanged" };
    format!(
        "SELECT count(*) FILTER (kind = 0), count(*) FILTER (kind = 1 AND NOT {rejected}), \
         count(*) FILTER (kind = 1 AND {rejected}), count(*) FILTER (kind = 2), \
         count(*) FILTER (kind = 2 AND NOT {rejected}) FROM mismatch"
    )
}

fn chosen(options: &CompareOptions) -> String {
    let rejected = if options.retry_rejected { "" } else { " AND NOT rejected_unchanged" };
    let missing = if options.act_on_missing { "" } else { " AND kind <> 2" };
    format!("FROM mismatch WHERE true{rejected}{missing}")
}

/// The candidates, with positions in key order.
pub(super) fn choose_ordered(options: &CompareOptions) -> String {
    format!(
        "CREATE OR REPLACE TEMP TABLE chosen AS \
         SELECT (row_number() OVER (ORDER BY key) - 1)::UBIGINT AS n, key, kind, fingerprint {}",
        chosen(options)
    )
}

/// The candidates, without positions yet.
pub(super) fn choose_unordered(options: &CompareOptions) -> String {
    format!(
        "CREATE OR REPLACE TEMP TABLE chosen AS SELECT NULL::UBIGINT AS n, key, kind, fingerprint {}",
        chosen(options)
    )
}

/// Takes the positions that rows were given elsewhere.
pub(super) const POSITIONS: &str = "CREATE OR REPLACE TEMP TABLE positions (n UBIGINT, key VARCHAR)";

/// Gives the candidates the positions of their rows, and puts the missing ones, which have none, behind them.
pub(super) const POSITION_CHOSEN: &str = "CREATE OR REPLACE TEMP TABLE chosen AS
SELECT p.n, c.key, c.kind, c.fingerprint FROM chosen c JOIN positions p ON p.key = c.key WHERE c.kind < 2
UNION ALL
SELECT ((SELECT count(*) FROM positions) + row_number() OVER () - 1)::UBIGINT, key, kind, fingerprint
FROM chosen WHERE kind = 2";

/// The synced state of the chosen ones. A group that was removed or forgotten and comes back takes its last delivered
/// sequence from the journal, so that its dedup keys do not repeat. Synced documents are looked up with the few keys, never
/// the other way round. Where the chosen are too many to be found by position in any order, they are sorted by it.
pub(super) fn candidates(sync: &str, ordered: bool) -> String {
    format!(
        "CREATE OR REPLACE TEMP TABLE candidate AS
SELECT n, key, kind, fingerprint, document, confirmed, seq, rejected_document, rejected_reason, attempted,
    ({bytes} + {rejected_bytes})::UBIGINT AS bytes
FROM (
    SELECT c.n, c.key, c.kind, c.fingerprint, k.document, k.unconfirmed_in IS NULL AS confirmed, k.seq::UBIGINT AS seq,
        k.rejected_document, k.rejected_reason, to_json(k.attempted)::VARCHAR AS attempted
    FROM synced k JOIN chosen c ON c.key = k.key WHERE k.sync = {sync} AND c.kind > 0
    UNION ALL
    SELECT c.n, c.key, c.kind, c.fingerprint, NULL, true, coalesce(j.seq, 0)::UBIGINT, NULL, NULL, NULL
    FROM (SELECT * FROM chosen WHERE kind = 0) c LEFT JOIN (
        SELECT key, max(seq) AS seq FROM journal WHERE sync = {sync} AND outcome = 'delivered'
            AND key IN (SELECT key FROM chosen WHERE kind = 0) GROUP BY key
    ) j ON j.key = c.key
){order}",
        bytes = long_texts::bytes("document"),
        rejected_bytes = long_texts::bytes("rejected_document"),
        sync = quote_literal(sync),
        order = if ordered { "" } else { "\nORDER BY n" },
    )
}

/// What a comparison leaves behind beside the candidates.
pub(super) const CLEAN_UP: &str = "DROP TABLE IF EXISTS temp.scan; DROP TABLE IF EXISTS temp.mismatch; \
    DROP TABLE IF EXISTS temp.duplicate; DROP TABLE IF EXISTS temp.differing; DROP TABLE IF EXISTS temp.chosen; \
    DROP TABLE IF EXISTS temp.positions";

/// Bytes of the documents of the candidates between two positions.
pub(super) const SIZES: &str = "SELECT n, bytes FROM candidate WHERE n >= ? AND n < ?";

/// A page of candidates by position.
pub(super) const PAGE: &str = "SELECT n, key, kind, fingerprint, document, confirmed, seq, rejected_document, rejected_reason, \
    attempted FROM candidate WHERE n >= ? AND n < ?";

/// Temporary copies of one sync's tables, which hide the real ones: folding then leaves the file as it is.
pub(super) fn overlay(sync: &str) -> String {
    let tables = ["synced", "marks", "journal"].map(|table| {
        format!(
            "CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM main.{table} WHERE sync = {};",
            quote_literal(sync)
        )
    });
    tables.concat()
}

/// Every group of an outdated ledger: unconfirmed, and not excluded as rejected.
const UNCONFIRMED: &str = "coalesce(unconfirmed_in, 'older-ledger')";

/// Makes every group of the tables at hand unconfirmed.
pub(super) fn nothing_is_confirmed() -> String {
    format!("UPDATE synced SET unconfirmed_in = {UNCONFIRMED}, rejected_document = NULL, rejected_reason = NULL")
}

/// Drops the record of a sync's mirror: what it knows of the synced state is no longer so.
pub(super) const DROP_MIRROR: &str = "DELETE FROM kv WHERE name = ?";

/// Makes nothing in the ledger confirmed any more, for good: cursors do not count, and groups that it does not have may
/// be at the destination.
pub(super) fn rewind() -> String {
    format!(
        "{}; UPDATE runs SET cursor_value = NULL, read_all = NULL, full_read = false; \
         UPDATE identity SET rewound_after = (SELECT coalesce(max(run), '') FROM runs); \
         DELETE FROM kv WHERE starts_with(name, {})",
        nothing_is_confirmed(),
        quote_literal(&note_of(MIRROR, ""))
    )
}

/// A view that hides the real groups where an outdated ledger is only read.
pub(super) fn unconfirmed_view(database: &str) -> String {
    format!(
        "CREATE OR REPLACE TEMP VIEW synced AS SELECT * REPLACE ({UNCONFIRMED} AS unconfirmed_in, NULL::VARCHAR AS \
         rejected_document, NULL::VARCHAR AS rejected_reason) FROM {}.main.synced",
        quote_identifier(database)
    )
}

/// The real groups again.
pub(super) const NO_UNCONFIRMED_VIEW: &str = "DROP VIEW IF EXISTS temp.synced";

/// Whether there may be groups at a sync's destination that the ledger does not have: it was found to be outdated, and the
/// sync's whole model was not sent since.
pub(super) const NEW_MAY_BE_THERE: &str = "SELECT count(*) > 0 FROM identity WHERE rewound_after IS NOT NULL \
    AND NOT EXISTS (SELECT 1 FROM runs WHERE sync = ? AND full_read AND run > rewound_after)";

/// The real tables again.
pub(super) const NO_OVERLAY: &str =
    "DROP TABLE IF EXISTS temp.synced; DROP TABLE IF EXISTS temp.marks; DROP TABLE IF EXISTS temp.journal";

/// Whether a run marked or recorded anything, so that there is something to fold.
pub(super) fn has_lines(sync: &str, run: &str) -> String {
    let one = format!("sync = {} AND run = {}", quote_literal(sync), quote_literal(run));
    format!("SELECT EXISTS (SELECT 1 FROM journal WHERE {one}) OR EXISTS (SELECT 1 FROM marks WHERE {one})")
}

/// What becomes of every group that a run sent: its row as it will be, or `gone`.
///
/// `document_from_change` in the journal means "exactly what the change sets", which spares a copy. Lines that are
/// `in_synced` are done with.
/// Long texts are not read: references to them move.
pub(super) fn fold(sync: &str, run: &str) -> [String; 6] {
    let (sync, run) = (quote_literal(sync), quote_literal(run));
    [
        format!(
            "CREATE OR REPLACE TEMP TABLE folded AS
WITH recorded AS (
    SELECT key, seq, outcome, reason, fingerprint, recorded_at,
        {document} AS document
    FROM journal WHERE sync = {sync} AND run = {run} AND in_synced IS NOT TRUE
), touched AS (
    SELECT * FROM recorded WHERE outcome <> 'pending'
    UNION ALL BY NAME
    SELECT DISTINCT key, 'unconfirmed' AS outcome FROM marks
    WHERE sync = {sync} AND run = {run} AND key NOT IN (SELECT key FROM journal WHERE sync = {sync} AND run = {run})
)
SELECT t.key,
    t.outcome IN ('unchanged', 'adopted', 'delivered') AND t.document IS NULL AS gone,
    CASE WHEN t.outcome = 'unconfirmed' THEN k.fingerprint ELSE t.fingerprint END AS fingerprint,
    CASE WHEN t.outcome IN ('unchanged', 'adopted', 'delivered') THEN t.document ELSE coalesce(k.document, '{{}}') END AS document,
    CASE WHEN t.outcome IN ('unchanged', 'adopted', 'delivered') THEN NULL
         WHEN t.outcome = 'rejected' THEN k.unconfirmed_in
         ELSE coalesce(k.unconfirmed_in, {run}) END AS unconfirmed_in,
    CASE WHEN t.outcome IN ('unchanged', 'adopted', 'delivered') THEN NULL
         WHEN t.outcome = 'rejected' THEN k.attempted
         ELSE list_sort(list_distinct(list_concat(coalesce(k.attempted, []),
            (SELECT traits FROM runs WHERE sync = {sync} AND run = {run})))) END AS attempted,
    CASE WHEN t.outcome IN ('rejected', 'partly_rejected') THEN coalesce(t.document, '{{}}') END AS rejected_document,
    CASE WHEN t.outcome IN ('rejected', 'partly_rejected') THEN coalesce(t.reason, '') END AS rejected_reason,
    CASE WHEN t.outcome = 'delivered' THEN t.seq ELSE coalesce(k.seq, 0) END AS seq,
    coalesce(t.recorded_at, (SELECT max(started_at) FROM runs WHERE sync = {sync} AND run = {run})) AS recorded_at,
    k.seq AS seq_before, k.document AS document_before
FROM touched t LEFT JOIN (SELECT * FROM synced WHERE sync = {sync}) k ON k.key = t.key",
            document = long_texts::LINE_DOCUMENT,
        ),
        keep_first_changes(&format!(
            "SELECT {sync} AS sync, key, seq_before AS seq, document_before AS document FROM folded \
             WHERE gone OR seq <> seq_before OR document <> document_before"
        )),
        format!("DELETE FROM synced WHERE sync = {sync} AND key IN (SELECT key FROM folded)"),
        format!(
            "INSERT INTO synced
SELECT {sync}, key, fingerprint, document, unconfirmed_in, attempted, rejected_document, rejected_reason, seq, recorded_at
FROM folded WHERE NOT gone"
        ),
        format!("DELETE FROM marks WHERE sync = {sync} AND run = {run}"),
        format!(
            "DELETE FROM journal WHERE sync = {sync} AND run = {run} AND outcome IN ('unchanged', 'pending')"
        ),
    ]
}

/// Writes what first deliveries set into their lines of the journal, which have had no text of their own so far: `groups`
/// yields `sync`, `key`, `seq` and `document` of groups whose document is about to be replaced.
pub(super) fn keep_first_changes(groups: &str) -> String {
    format!(
        "UPDATE journal SET change = '{{\"set\":' || g.document || '}}' FROM ({groups}) g \
         WHERE journal.in_synced AND journal.change IS NULL AND journal.outcome = 'delivered' AND journal.sync = g.sync \
         AND journal.key = g.key AND journal.seq = g.seq"
    )
}

/// The last run that is older than `kept`, if one is; `kept` is in microseconds.
///
/// A run is as old as the time between the ends of all runs since, each gap counted with at most a tenth of `kept`. So one
/// moment of a clock that is years ahead ages what happened by that tenth and no more, however many runs end before it is
/// set right; and a clock that goes back makes nothing older. Where runs are rarer than that, history is kept for longer.
pub(super) fn last_forgotten(kept: i64) -> String {
    let gap = (kept / 10).max(1);
    format!(
        "WITH ended AS (
    SELECT run, date_diff('microsecond', ended_at, lead(ended_at) OVER (ORDER BY run)) AS gap
    FROM runs WHERE ended_at IS NOT NULL
), aged AS (
    SELECT run, sum(least(greatest(coalesce(gap, 0), 0), {gap})) OVER (ORDER BY run DESC) AS age FROM ended
)
SELECT max(run) FROM aged WHERE age > {kept}"
    )
}

/// Whether anything may be older than a time, by the clock alone: most runs find nothing to forget.
pub(super) const MAYBE_OLD: &str = "SELECT EXISTS (SELECT 1 FROM runs WHERE ended_at < ?) \
    OR EXISTS (SELECT 1 FROM journal WHERE recorded_at < ?)";

/// Drops old lines of the journal, except those of runs under way, which are not folded yet.
pub(super) const FORGET_LINES: &str =
    "DELETE FROM journal WHERE run <= ? AND run NOT IN (SELECT run FROM runs WHERE status = 'running')";

/// Drops old records of runs, except what later runs and queries need: each sync's last run, its last good one, the last
/// that counted all rows, and for each mapping the last that moved the cursor or read everything.
pub(super) const FORGET_RUNS: &str = "DELETE FROM runs WHERE run <= ? AND ended_at IS NOT NULL AND run NOT IN (
    SELECT max(run) FROM runs GROUP BY sync
    UNION ALL SELECT max(run) FROM runs WHERE partial IS NOT TRUE GROUP BY sync
    UNION ALL SELECT max(run) FROM runs WHERE status IN ('succeeded', 'succeeded_with_rejections') AND partial IS NOT TRUE GROUP BY sync
    UNION ALL SELECT max(run) FROM runs WHERE source_rows IS NOT NULL GROUP BY sync
    UNION ALL SELECT max(run) FROM runs WHERE cursor_value IS NOT NULL OR read_all GROUP BY sync, mapping
    UNION ALL SELECT max(run) FROM runs WHERE full_read GROUP BY sync, mapping)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fold_reads_documents_that_are_stored_in_pieces() {
        assert!(fold("s", "r")[0].contains(long_texts::LINE_DOCUMENT));
    }

    #[test]
    fn hostile_names_stay_inside_their_quotes() {
        let options = CompareOptions {
            salt: "a'b".to_owned(),
            missing: MissingScope::Only(["k'; DROP TABLE synced; --", "b"].map(str::to_owned).to_vec()),
            retry_rejected: false,
            act_on_missing: false,
        };
        let sql = mismatches("s'x", &options, false);
        assert!(sql.contains("sync = 's''x' AND key IN ('k''; DROP TABLE synced; --', 'b')"), "{sql}");
    }

    #[test]
    fn only_documents_of_candidates_are_read() {
        let options = CompareOptions {
            salt: "m".to_owned(),
            missing: MissingScope::All,
            retry_rejected: false,
            act_on_missing: false,
        };
        insta::assert_snapshot!(synced_sums("accounts", &options), @"SELECT (hash(key) & 4095)::USMALLINT, count(*), sum(row_hash)::HUGEINT, bit_xor(row_hash), count(*) FILTER (unconfirmed_in IS NOT NULL), count(rejected_reason) FROM (SELECT key, hash(key, fingerprint) AS row_hash, unconfirmed_in, rejected_reason FROM synced WHERE sync = 'accounts') GROUP BY 1");
        insta::assert_snapshot!(candidates("accounts", true), @r"
        CREATE OR REPLACE TEMP TABLE candidate AS
        SELECT n, key, kind, fingerprint, document, confirmed, seq, rejected_document, rejected_reason, attempted,
            (coalesce(CASE WHEN starts_with(document, '@') THEN TRY_CAST(split_part(rtrim(document, '='), ':', 2) AS UBIGINT) ELSE strlen(document) END, 0) + coalesce(CASE WHEN starts_with(rejected_document, '@') THEN TRY_CAST(split_part(rtrim(rejected_document, '='), ':', 2) AS UBIGINT) ELSE strlen(rejected_document) END, 0))::UBIGINT AS bytes
        FROM (
            SELECT c.n, c.key, c.kind, c.fingerprint, k.document, k.unconfirmed_in IS NULL AS confirmed, k.seq::UBIGINT AS seq,
                k.rejected_document, k.rejected_reason, to_json(k.attempted)::VARCHAR AS attempted
            FROM synced k JOIN chosen c ON c.key = k.key WHERE k.sync = 'accounts' AND c.kind > 0
            UNION ALL
            SELECT c.n, c.key, c.kind, c.fingerprint, NULL, true, coalesce(j.seq, 0)::UBIGINT, NULL, NULL, NULL
            FROM (SELECT * FROM chosen WHERE kind = 0) c LEFT JOIN (
                SELECT key, max(seq) AS seq FROM journal WHERE sync = 'accounts' AND outcome = 'delivered'
                    AND key IN (SELECT key FROM chosen WHERE kind = 0) GROUP BY key
            ) j ON j.key = c.key
        )
        ");
    }
}
