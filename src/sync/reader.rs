//! The rows of a run, and where they come from.

use async_trait::async_trait;

use crate::error::{Error, Kind, Result};
use crate::ledger::SourceRows;
use crate::mapping::compile::Projection;
use crate::model::{Cell, ColumnType};
use crate::source::instance::Instance;
use crate::source::mirror::{MirrorAnswer, MirrorChange, MirrorQuery, MirrorSettings};
use crate::source::{RowsSummary, Source, Staged};

/// The rows of a run.
pub enum Rows {
    /// Staged in an instance of their own.
    Staged(Staged),
    /// In memory.
    Memory {
        /// Key and cells.
        rows: Vec<(Option<String>, Vec<Cell>)>,
        /// What the cells mean.
        kinds: Vec<ColumnType>,
    },
}

impl Rows {
    /// As the ledger takes them, and what their columns mean.
    pub(super) fn incoming(&self) -> (SourceRows<'_>, Vec<ColumnType>) {
        match self {
            Rows::Staged(staged) => (SourceRows::Staged(staged), staged.kinds.clone()),
            Rows::Memory { rows, kinds } => (SourceRows::Rows(rows), kinds.clone()),
        }
    }
}

/// Where a run's rows come from.
#[async_trait]
pub trait Reader: Send {
    /// Reads the projection once, in one snapshot.
    async fn read(&mut self, projection: &Projection, rows: &(dyn Fn(u64) + Send + Sync)) -> Result<Rows>;
    /// Whether it can sum rows up; see [`Source::sums_rows`].
    fn sums_rows(&self) -> bool {
        false
    }
    /// What the rows are, without reading them; see [`Source::summary`].
    async fn summary(&mut self, _projection: &Projection) -> Result<Option<RowsSummary>> {
        Ok(None)
    }
    /// The mirrors that can be kept beside the rows; see [`Source::mirror`].
    fn mirror(&self) -> Option<MirrorSettings> {
        None
    }
    /// The rows that a mirror's query wants; see [`Source::compare`].
    async fn compare(
        &mut self,
        _projection: &Projection,
        _query: &MirrorQuery,
        _rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(Rows, MirrorAnswer)> {
        Err(Error::new(Kind::Bug, "these rows have no mirror"))
    }
    /// Changes a mirror; see [`Source::change_mirror`].
    async fn change_mirror(&mut self, _projection: &Projection, _change: &MirrorChange) -> Result<()> {
        Err(Error::new(Kind::Bug, "these rows have no mirror"))
    }
    /// Releases every lock and snapshot.
    async fn release(&mut self) -> Result<()>;
    /// Makes a read or comparison that is under way fail soon.
    fn interrupt(&self);
}

/// A source whose rows are staged in an instance of their own.
pub struct Warehouse {
    /// The source.
    pub source: Box<dyn Source>,
    /// Where its rows are put.
    pub instance: Instance,
}

#[async_trait]
impl Reader for Warehouse {
    async fn read(&mut self, projection: &Projection, rows: &(dyn Fn(u64) + Send + Sync)) -> Result<Rows> {
        self.source.stage(projection, self.instance.duckdb(), rows).await.map(Rows::Staged)
    }

    fn sums_rows(&self) -> bool {
        self.source.sums_rows()
    }

    async fn summary(&mut self, projection: &Projection) -> Result<Option<RowsSummary>> {
        self.source.summary(projection).await
    }

    fn mirror(&self) -> Option<MirrorSettings> {
        self.source.mirror()
    }

    async fn compare(
        &mut self,
        projection: &Projection,
        query: &MirrorQuery,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(Rows, MirrorAnswer)> {
        let (staged, answer) = self.source.compare(projection, query, self.instance.duckdb(), rows).await?;
        Ok((Rows::Staged(staged), answer))
    }

    async fn change_mirror(&mut self, projection: &Projection, change: &MirrorChange) -> Result<()> {
        self.source.change_mirror(projection, change).await
    }

    async fn release(&mut self) -> Result<()> {
        self.source.release(self.instance.duckdb()).await
    }

    fn interrupt(&self) {
        self.instance.duckdb().interrupt();
    }
}
