//! The beginning of a run: what crashed runs left is folded, and the new run recorded.

use chrono::{DateTime, Utc};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::error::Failure;
use super::fold::fold;
use super::server::Server;
use super::{key_text, stored};
use crate::ledger::{Cursor, PreviousRun, RunStart};

/// The number of a sync, given to it when it has none yet.
pub(super) async fn number(server: &Server, client: &Client, sync: &str) -> Result<i32, Failure> {
    if let Some(number) = find_number(server, client, sync).await? {
        return Ok(number);
    }
    let insert =
        "INSERT INTO @.syncs (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name RETURNING id";
    Ok(client.query_typed_one(&server.sql(insert), &[(&sync, Type::TEXT)]).await?.try_get(0)?)
}

/// The number of a sync that the ledger has something of.
pub(super) async fn find_number(server: &Server, client: &Client, sync: &str) -> Result<Option<i32>, Failure> {
    let find = "SELECT id FROM @.syncs WHERE name = $1";
    let found = client.query_typed_opt(&server.sql(find), &[(&sync, Type::TEXT)]).await?;
    Ok(found.map(|row| row.try_get(0)).transpose()?)
}

/// Runs of a sync that are recorded as running, but for the one that begins.
pub(super) async fn crashed(server: &Server, client: &Client, sync: i32, own: &str) -> Result<Vec<String>, Failure> {
    let crashed = "SELECT run FROM @.runs WHERE sync = $1 AND status = 'running' AND run <> $2 ORDER BY run";
    let crashed = client.query_typed(&server.sql(crashed), &[(&sync, Type::INT4), (&own, Type::TEXT)]).await?;
    Ok(crashed.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// What earlier runs left for the next one, but for those that crashed.
pub(super) async fn previous(
    server: &Server,
    client: &Client,
    sync: i32,
    start: &RunStart,
) -> Result<PreviousRun, Failure> {
    let latest = |columns: &str, condition: &str| {
        format!("SELECT {columns} FROM @.runs WHERE sync = $1 AND run <> $2 AND {condition} ORDER BY run DESC LIMIT 1")
    };
    let sql = format!(
        "SELECT c.is_there, c.cursor_value, f.ended_at, r.source_rows FROM (SELECT $3::text) one LEFT JOIN LATERAL ({}) c ON true \
         LEFT JOIN LATERAL ({}) f ON true LEFT JOIN LATERAL ({}) r ON true",
        latest("true AS is_there, cursor_value", "mapping = $3 AND (cursor_value IS NOT NULL OR read_all)"),
        latest("ended_at", "mapping = $3 AND full_read"),
        latest("source_rows", "source_rows IS NOT NULL"),
    );
    let (run, mapping) = (stored(&start.run), stored(&start.mapping));
    let given: [(&(dyn ToSql + Sync), Type); 3] = [(&sync, Type::INT4), (&run, Type::TEXT), (&mapping, Type::TEXT)];
    let row = client.query_typed_one(&server.sql(&sql), &given).await?;
    let has_cursor: Option<bool> = row.try_get(0)?;
    let cursor: Option<Vec<u8>> = row.try_get(1)?;
    let rows: Option<i64> = row.try_get(3)?;
    Ok(PreviousRun {
        recovered: Vec::new(),
        cursor: has_cursor.map(|_| cursor.map_or(Cursor::ReadAll, |cursor| Cursor::At(key_text(cursor)))),
        full_read_at: row.try_get::<_, Option<DateTime<Utc>>>(2)?,
        rows: rows.map(|rows| rows as u64),
    })
}

/// Folds crashed runs and records the new one, in the transaction under way; see [`crate::ledger::Ledger::begin`].
pub(super) async fn begin(server: &Server, client: &Client, start: &RunStart) -> Result<(i32, PreviousRun), Failure> {
    let sync = number(server, client, &start.sync).await?;
    let crashed = crashed(server, client, sync, &start.run).await?;
    for run in &crashed {
        fold(server, client, sync, run).await?;
    }
    let previous = previous(server, client, sync, start).await?;
    if !crashed.is_empty() {
        let end =
            "UPDATE @.runs SET status = 'crashed', ended_at = $2 WHERE sync = $1 AND status = 'running' AND run <> $3";
        let given: [(&(dyn ToSql + Sync), Type); 3] =
            [(&sync, Type::INT4), (&start.started_at, Type::TIMESTAMPTZ), (&start.run, Type::TEXT)];
        client.execute_typed(&server.sql(end), &given).await?;
    }
    let traits: Vec<_> = start.traits.iter().map(|name| stored(name)).collect();
    let insert = "INSERT INTO @.runs (sync, run, mapping, traits, started_at, started_by, partial, status) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, 'running') ON CONFLICT (sync, run) DO NOTHING";
    client
        .execute_typed(
            &server.sql(insert),
            &[
                (&sync, Type::INT4),
                (&stored(&start.run), Type::TEXT),
                (&stored(&start.mapping), Type::TEXT),
                (&traits, Type::TEXT_ARRAY),
                (&start.started_at, Type::TIMESTAMPTZ),
                (&stored(&start.started_by), Type::TEXT),
                (&start.partial, Type::BOOL),
            ],
        )
        .await?;
    Ok((sync, PreviousRun { recovered: crashed, ..previous }))
}
