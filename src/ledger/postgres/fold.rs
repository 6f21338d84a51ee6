//! Folding: what a run left becomes the synced state.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::Failure;
use super::server::Server;

/// What becomes of every group that a run ($2) of a sync ($1) sent: its row as it will be, or `gone`; and the same carried
/// out. Lines that are `in_synced` are done with. `document_from_change` means "exactly what the change sets": the text
/// between `{"set":` and `}`.
///
/// One statement, so that all of its parts see the synced state as it was.
const FOLD: &str = r#"
WITH recorded AS (
    SELECT key, bucket, row_hash, seq, outcome, reason, fingerprint, recorded_at,
        CASE WHEN document_from_change THEN substr(change, 8, length(change) - 8) ELSE document END AS document
    FROM @.journal WHERE sync = $1 AND run = $2 AND NOT in_synced AND outcome <> 'pending'
), touched AS (
    SELECT key, bucket, row_hash, seq, outcome, reason, fingerprint, recorded_at, document FROM recorded
    UNION ALL
    SELECT DISTINCT m.key, m.bucket, m.row_hash, NULL::bigint, 'unconfirmed', NULL, NULL::bigint, NULL::timestamptz, NULL
    FROM @.marks m WHERE m.sync = $1 AND m.run = $2
        AND NOT EXISTS (SELECT 1 FROM @.journal j WHERE j.sync = $1 AND j.run = $2 AND j.key = m.key)
), folded AS MATERIALIZED (
    SELECT t.key, t.bucket,
        t.outcome IN ('unchanged', 'adopted', 'delivered') AND t.document IS NULL AS gone,
        CASE WHEN t.outcome = 'unconfirmed' THEN coalesce(k.row_hash, t.row_hash) ELSE t.row_hash END AS row_hash,
        CASE WHEN t.outcome = 'unconfirmed' THEN k.fingerprint ELSE t.fingerprint END AS fingerprint,
        CASE WHEN t.outcome IN ('unchanged', 'adopted', 'delivered') THEN t.document ELSE coalesce(k.document, '{}') END AS document,
        CASE WHEN t.outcome IN ('unchanged', 'adopted', 'delivered') THEN NULL
             WHEN t.outcome = 'rejected' THEN k.unconfirmed_in
             ELSE coalesce(k.unconfirmed_in, $2) END AS unconfirmed_in,
        CASE WHEN t.outcome IN ('unchanged', 'adopted', 'delivered') THEN NULL
             WHEN t.outcome = 'rejected' THEN k.attempted
             ELSE ARRAY(SELECT DISTINCT name FROM unnest(coalesce(k.attempted, '{}') || r.traits) name) END AS attempted,
        CASE WHEN t.outcome IN ('rejected', 'partly_rejected') THEN coalesce(t.document, '{}') END AS rejected_document,
        CASE WHEN t.outcome IN ('rejected', 'partly_rejected') THEN coalesce(t.reason, '') END AS rejected_reason,
        CASE WHEN t.outcome = 'delivered' THEN t.seq ELSE coalesce(k.seq, 0) END AS seq,
        coalesce(t.recorded_at, r.started_at) AS recorded_at, k.seq AS seq_before, k.document AS document_before
    FROM touched t
    CROSS JOIN (SELECT started_at, traits FROM @.runs WHERE sync = $1 AND run = $2) r
    LEFT JOIN @.synced k ON k.sync = $1 AND k.key = t.key
), kept AS (
    UPDATE @.journal j SET change = '{"set":' || f.document_before || '}' FROM folded f
    WHERE (f.gone OR f.seq <> f.seq_before OR f.document <> f.document_before)
        AND j.in_synced AND j.change IS NULL AND j.outcome = 'delivered' AND j.sync = $1 AND j.key = f.key
        AND j.seq = f.seq_before
), gone AS (
    DELETE FROM @.synced k USING folded f WHERE f.gone AND k.sync = $1 AND k.key = f.key
)
INSERT INTO @.synced (sync, bucket, row_hash, fingerprint, seq, recorded_at, key, document, unconfirmed_in, attempted,
    rejected_document, rejected_reason)
SELECT $1, bucket, row_hash, fingerprint, seq, recorded_at, key, document, unconfirmed_in, attempted, rejected_document,
    rejected_reason
FROM folded WHERE NOT gone ORDER BY key
ON CONFLICT (sync, key) DO UPDATE SET bucket = EXCLUDED.bucket, row_hash = EXCLUDED.row_hash,
    fingerprint = EXCLUDED.fingerprint, seq = EXCLUDED.seq, recorded_at = EXCLUDED.recorded_at,
    document = EXCLUDED.document, unconfirmed_in = EXCLUDED.unconfirmed_in, attempted = EXCLUDED.attempted,
    rejected_document = EXCLUDED.rejected_document, rejected_reason = EXCLUDED.rejected_reason"#;

/// What is left of a run's marks and lines once it is folded: lines about what was sent, and how it ended.
const DROP_MARKS: &str = "DELETE FROM @.marks WHERE sync = $1 AND run = $2";
const DROP_LINES: &str = "DELETE FROM @.journal WHERE sync = $1 AND run = $2 AND outcome IN ('unchanged', 'pending')";

/// Writes what first deliveries set into their lines, which have had no text of their own so far, for groups of a sync ($1)
/// that are about to be forgotten: all, or those with these keys ($2).
const KEEP_FIRST_CHANGES: &str = r#"
UPDATE @.journal j SET change = '{"set":' || k.document || '}' FROM @.synced k
WHERE k.sync = $1 AND ($2::bytea[] IS NULL OR k.key = ANY($2)) AND j.in_synced AND j.change IS NULL
    AND j.outcome = 'delivered' AND j.sync = k.sync AND j.key = k.key AND j.seq = k.seq"#;

/// Folds a run into the synced state, in the transaction under way, if it left anything. Returns whether it did.
pub(super) async fn fold(server: &Server, client: &Client, sync: i32, run: &str) -> Result<bool, Failure> {
    let of: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] = [(&sync, Type::INT4), (&run, Type::TEXT)];
    let has_lines = "SELECT EXISTS (SELECT 1 FROM @.journal WHERE sync = $1 AND run = $2) \
        OR EXISTS (SELECT 1 FROM @.marks WHERE sync = $1 AND run = $2)";
    if !client.query_typed_one(&server.sql(has_lines), &of).await?.try_get::<_, bool>(0)? {
        return Ok(false);
    }
    for statement in [FOLD, DROP_MARKS, DROP_LINES] {
        client.execute_typed(&server.sql(statement), &of).await?;
    }
    Ok(true)
}

/// Gives first deliveries their texts before their groups are forgotten.
pub(super) async fn keep_first_changes(
    server: &Server,
    client: &Client,
    sync: i32,
    keys: Option<&Vec<&[u8]>>,
) -> Result<(), Failure> {
    client.execute_typed(&server.sql(KEEP_FIRST_CHANGES), &[(&sync, Type::INT4), (&keys, Type::BYTEA_ARRAY)]).await?;
    Ok(())
}
