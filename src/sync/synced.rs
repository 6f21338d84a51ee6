//! Documents recorded as synced without any run that sent them: what the tests of a mapping start from.

use std::sync::Arc;

use super::session::Session;
use crate::error::Result;
use crate::ledger::{ChangeOutcome, JournalEntry, RunCheckpoint, RunStatus};
use crate::model::{After, Document};

/// No row's fingerprint: whatever the row is, it is compared.
const NO_FINGERPRINT: u64 = 0;

/// Records these documents as what the destination holds of these groups.
pub async fn record(session: &Session<'_>, documents: Vec<(String, Document)>) -> Result<()> {
    let (start, _) = session.begin().await?;
    let entry = |(key, document): (String, Document)| JournalEntry {
        key,
        is_new: true,
        change: Arc::default(),
        document: Some(After::Document(document)),
        fingerprint: Some(NO_FINGERPRINT),
        outcome: ChangeOutcome::Adopted,
        reason: None,
    };
    let entries = documents.into_iter().map(entry).collect();
    session.ledger.record(&start.sync, &start.run, start.started_at, entries).await?;
    let checkpoint = RunCheckpoint {
        status: RunStatus::Succeeded,
        ended_at: start.started_at,
        counts: String::new(),
        rows: None,
        cursor: None,
        full: false,
        error: None,
        error_kind: None,
        guard: None,
        detail: String::new(),
    };
    session.ledger.finish(&start.sync, &start.run, checkpoint).await
}
