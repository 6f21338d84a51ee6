//! Runs without changes, remembered: the same rows, compared with the same synced state, give the same result.
//!
//! Where a source can sum its rows up itself, or knows by its files that they are the same, a run need not read them to find
//! that they are those of an earlier one. A
//! run that found no candidates is remembered beside the ledger's other notes with the sums of its rows, the state of the
//! ledger that they were compared with, and what it found. The next run asks both for their sums; unless both are equal, it
//! reads and compares as if nothing had been remembered. So this decides nothing: it spares repeating a comparison.
//!
//! Summing rows up while they are read costs time, and is done only where the run before found nothing changed either: a
//! source that always changes is read as ever.

use serde::{Deserialize, Serialize};

use super::session::Session;
use crate::error::Result;
use crate::ledger::{CompareOptions, Comparison};
use crate::source::RowsSummary;

/// What is remembered of a sync's last run without changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Unchanged {
    /// Everything else that the result depends on: this program's version and what was compared.
    compared: String,
    /// The result, and what it was made of, if that was summed up.
    found: Option<Found>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    rows: RowsSummary,
    synced: String,
    comparison: Comparison,
}

impl Unchanged {
    fn name(sync: &str) -> String {
        format!("unchanged/{sync}")
    }
}

/// What is remembered of comparisons like the one at hand.
pub(super) struct Memory {
    compared: String,
    known: Option<Unchanged>,
}

impl Memory {
    /// Whether the rows are to be summed up while they are read.
    pub(super) fn wants_sums(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.found.is_none())
    }
}

impl Session<'_> {
    /// What is remembered of comparisons like this one, of whole models only.
    pub(super) async fn remembered(&self, options: &CompareOptions) -> Result<Memory> {
        let CompareOptions { salt, missing: _, retry_rejected, act_on_missing } = options;
        let compared = format!("{} {salt} {retry_rejected} {act_on_missing}", env!("CARGO_PKG_VERSION"));
        let text = self.ledger.kv().get(&Unchanged::name(&self.mapping.name)).await?;
        let known = text.and_then(|text| serde_json::from_str(&text).ok());
        let known = known.filter(|known: &Unchanged| known.compared == compared);
        Ok(Memory { compared, known })
    }

    /// The result of the comparison, if neither the rows nor the synced state differ from what is
    /// remembered. `rows` is awaited only where something is.
    pub(super) async fn still_unchanged(
        &self,
        memory: &Memory,
        rows: impl Future<Output = Result<Option<RowsSummary>>>,
    ) -> Result<Option<Comparison>> {
        let Some(found) = memory.known.as_ref().and_then(|known| known.found.as_ref()) else { return Ok(None) };
        let (rows, synced) = tokio::try_join!(rows, self.ledger.synced_summary(&self.mapping.name))?;
        let is_equal = rows.as_ref() == Some(&found.rows) && synced.as_ref() == Some(&found.synced);
        Ok(is_equal.then(|| found.comparison.clone()))
    }

    /// Remembers a comparison that found nothing to do, and forgets what it contradicts. `summaries` are those of the rows
    /// and of the synced state, both as they were compared.
    pub(super) async fn remember(
        &self,
        memory: Memory,
        comparison: &Comparison,
        summaries: Option<(RowsSummary, String)>,
    ) -> Result<()> {
        let (kv, name) = (self.ledger.kv(), Unchanged::name(&self.mapping.name));
        if comparison.candidates() > 0 {
            return match memory.known {
                Some(_) => kv.delete(&name).await,
                None => Ok(()),
            };
        }
        let found = summaries.map(|(rows, synced)| Found { rows, synced, comparison: comparison.clone() });
        let unchanged = Unchanged { compared: memory.compared, found };
        if memory.known.as_ref() == Some(&unchanged) {
            return Ok(());
        }
        kv.put(&name, &serde_json::to_string(&unchanged).unwrap_or_default()).await
    }
}
