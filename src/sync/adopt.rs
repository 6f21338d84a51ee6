//! An adoption: the source's rows are taken for what the destination holds, and nothing is sent.

use std::sync::Arc;

use super::decide::Decider;
use super::guard::{self, GuardSet};
use super::reader::Reader;
use super::report::Counts;
use super::run::detail_of;
use super::session::{PAGE_CANDIDATES, Session};
use crate::error::{Error, Kind, Result};
use crate::ledger::mirror::MirrorRecord;
use crate::ledger::{JournalEntry, PreviousRun, RunCheckpoint, RunStart, RunStatus};
use crate::model::After;

/// Groups that are adopted in one transaction: so many that DuckDB writes most of them to the ledger's file at once, past
/// its log.
const ADOPTED_AT_ONCE: usize = 250_000;
/// Bytes of their documents, after which there are fewer.
const ADOPTED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Marks the source's rows as already synced, without sending anything. Returns how many groups.
pub async fn adopt(session: &Session<'_>, reader: &mut dyn Reader) -> Result<u64> {
    let (start, previous) = session.begin().await?;
    let sync = start.sync.clone();
    let run = start.run.clone();
    // Nothing that it records is marked.
    MirrorRecord::forget(session.ledger.kv(), &sync).await?;
    let adopted = session.adopt_rows(start, previous, reader).await;
    let (status, error) = match &adopted {
        Ok(_) => (RunStatus::Succeeded, None),
        Err(error) => (RunStatus::Failed, Some(error.to_string())),
    };
    let counts = Counts {
        rows: *adopted.as_ref().unwrap_or(&0),
        unchanged: *adopted.as_ref().unwrap_or(&0),
        ..Counts::default()
    };
    let checkpoint = RunCheckpoint {
        status,
        ended_at: session.clock.now(),
        counts: serde_json::to_string(&counts).unwrap_or_default(),
        rows: None,
        cursor: None,
        full: false,
        guard: None,
        error_kind: adopted.as_ref().err().map(|error| error.kind().name().to_owned()),
        detail: adopted.as_ref().err().map(|error| detail_of(error, Vec::new())).unwrap_or_default(),
        error,
    };
    session.ledger.finish(&sync, &run, checkpoint).await?;
    adopted
}

impl Session<'_> {
    /// The lines of the next candidates to adopt, none if there are no more; `position` moves on.
    async fn adoptable(&self, decider: &Arc<Decider>, position: &mut u64) -> Result<Vec<JournalEntry>> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while entries.len() < ADOPTED_AT_ONCE && bytes < ADOPTED_BYTES_MAX {
            let candidates = self.ledger.page(*position, PAGE_CANDIDATES).await?;
            if candidates.is_empty() {
                break;
            }
            *position += candidates.len() as u64;
            let decider = Arc::clone(decider);
            let adopt = move || {
                let decided = candidates.into_iter().map(|candidate| decider.decide(candidate));
                decided.filter_map(|decision| decider.adopted(decision)).collect::<Vec<_>>()
            };
            let page = tokio::task::spawn_blocking(adopt).await;
            let page = page.map_err(|panic| Error::new(Kind::Bug, "failed to decide a page").because(panic))?;
            let text_bytes = |entry: &JournalEntry| match &entry.document {
                Some(After::Text(text)) => text.len(),
                _ => 0,
            };
            bytes += page.iter().map(text_bytes).sum::<usize>();
            entries.extend(page);
        }
        Ok(entries)
    }

    async fn adopt_rows(&self, start: RunStart, previous: PreviousRun, reader: &mut dyn Reader) -> Result<u64> {
        let phase = self.phase(start, previous, reader, |_| true).await?;
        let guards = GuardSet { full: false, ..self.guard_set(false, phase.started_at) };
        let readings = guards.readings(&phase.found, None, None, None);
        let keys: Vec<guard::Reading> = readings.into_iter().filter(|reading| reading.guard == "keys").collect();
        if let Some(reading) = guards.stopping(&keys) {
            return Err(reading.error());
        }
        let (mut position, mut adopted) = (0, phase.found.unchanged);
        let mut batch = self.adoptable(&phase.decider, &mut position).await?;
        while !batch.is_empty() {
            adopted += batch.len() as u64;
            let recorded = self.ledger.record(&self.mapping.name, &phase.run, phase.started_at, batch);
            let (recorded, following) = tokio::join!(recorded, self.adoptable(&phase.decider, &mut position));
            recorded?;
            batch = following?;
        }
        Ok(adopted)
    }
}
