//! Mirrors in a warehouse behind a driver.
//!
//! What writes has a reader process of its own, which is not connected as read-only. A warehouse that is a file takes one at a
//! time, so the one that reads ends before.

use duckdb::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use duckdb::arrow::compute::filter_record_batch;
use duckdb::arrow::datatypes::Int64Type;

use super::Adbc;
use super::plan::{self, Plan};
use super::reader::{Request, Stop};
use crate::duckdb::DuckDbConnection;
use crate::error::{Error, Kind, Result, Within};
use crate::mapping::compile::Projection;
use crate::mapping::dialect::{Dialect as _, MirrorSql};
use crate::source::Staged;
use crate::source::mirror::{
    MirrorAccess, MirrorAnswer, MirrorChange, MirrorLines, MirrorQuery, MirrorStatements, ModelRows,
};
use crate::source::staging::batch::Physical;
use crate::source::staging::{self, FillError};

/// A table that is made and dropped to see whether that is permitted.
const PROBE: &str = "groupcast_probe";

impl Adbc {
    fn mirror_sql(&self) -> Result<&'static MirrorSql> {
        self.dialect.mirror().ok_or_else(|| Error::new(Kind::Bug, "this dialect keeps no mirror"))
    }

    fn mirror_schema(&self) -> Vec<String> {
        // A name that is none was refused when the settings were read.
        let schema = self.settings.mirror(self.dialect).map(|mirror| mirror.schema).unwrap_or_default();
        crate::mapping::sections::model::table_name(&schema).unwrap_or_else(|_| vec![schema])
    }

    async fn mirror_plan(&mut self, projection: &Projection) -> Result<(Plan, ModelRows)> {
        let expressions = plan::expressions(projection, self.dialect);
        let meanings = self.meanings(projection, &expressions).await?;
        let meanings = meanings.into_iter().map(|(meaning, _)| meaning).collect();
        let mut plan = Plan::new(projection, self.dialect, meanings).within(|| self.target.place())?;
        let rows = plan.model_rows.take().ok_or_else(|| Error::new(Kind::Bug, "this dialect keeps no mirror"))?;
        Ok((plan, rows))
    }

    pub(super) async fn compare_with_mirror(
        &mut self,
        projection: &Projection,
        query: &MirrorQuery,
        into: &DuckDbConnection,
        rows: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(Staged, MirrorAnswer)> {
        let (plan, model_rows) = self.mirror_plan(projection).await?;
        let (schema, limit) = (self.mirror_schema(), self.settings.stall_timeout());
        let statements = MirrorStatements { dialect: self.dialect, sql: self.mirror_sql()?, schema: &schema };
        let sql = statements.compare(&model_rows, query);
        let mut forms = plan.forms.clone();
        forms.extend([Physical::Int, Physical::Text, Physical::Int]);
        let request = Request::Read { sql, forms };
        plan.table().create(into).await?;
        let mut reader = self.reader().await?;
        let mut lines = MirrorLines::new(query);
        let read = staging::fill_batches(into, rows, async |mut sink| {
            let mut answer = reader.answer(&request, limit).await?;
            let mut count = 0;
            while let Some(batch) = answer.next().await? {
                let rows = rows_of(&batch, &mut lines).map_err(Stop::Malformed)?;
                count += rows.num_rows() as u64;
                if rows.num_rows() > 0 {
                    sink.send(rows).await.map_err(|_| Stop::Refused)?;
                }
            }
            Ok(count)
        })
        .await;
        let answer = read.and_then(|_| lines.finish().map_err(|what| FillError::Read(Stop::Malformed(what))));
        match answer {
            Ok(answer) => {
                reader.close().await;
                Ok((plan.table().staged(into.clone(), plan.kinds.clone(), None, None), answer))
            }
            Err(error) => {
                // Half a table must not be mistaken for a whole one. If dropping it fails too, the first error counts.
                let _ = staging::discard(into).await;
                Err(match error {
                    FillError::Append(error) => error,
                    FillError::Read(stop) => self.target.error("compare in the warehouse", stop),
                })
            }
        }
    }

    pub(super) async fn write_mirror(&mut self, projection: &Projection, change: &MirrorChange) -> Result<()> {
        let rows = match change {
            MirrorChange::Fill { .. } => Some(self.mirror_plan(projection).await?.1),
            _ => None,
        };
        let schema = self.mirror_schema();
        let statements = MirrorStatements { dialect: self.dialect, sql: self.mirror_sql()?, schema: &schema };
        self.execute(statements.change(change, rows.as_ref())).await
    }

    /// Runs statements that write, one after the other.
    async fn execute(&mut self, statements: Vec<String>) -> Result<()> {
        if let Some(reader) = self.reader.take() {
            reader.close().await;
        }
        let limit = self.settings.stall_timeout();
        let mut writer = self.connected(true).await?;
        for sql in statements {
            writer
                .ask(&Request::Execute { sql }, limit)
                .await
                .map_err(|stop| self.target.error("write the mirror", stop))?;
        }
        writer.close().await;
        Ok(())
    }

    pub(super) async fn may_keep_mirrors(&mut self) -> Result<MirrorAccess> {
        let schema = self.mirror_schema();
        let sql = self.mirror_sql()?;
        let statements = MirrorStatements { dialect: self.dialect, sql, schema: &schema };
        let parts: Vec<String> = schema.iter().cloned().chain([PROBE.to_owned()]).collect();
        let create = sql.create.replace("{table}", &self.dialect.table(&parts)).replace("{select}", "SELECT 1 AS seq");
        let drop = statements.change(&MirrorChange::Drop { table: PROBE.to_owned() }, None);
        let grants = statements.grants(self.settings.username.as_deref().unwrap_or("USER"));
        let probe = drop.iter().cloned().chain([create]).chain(drop.clone()).collect();
        let refused = self.execute(probe).await.err().map(|error| error.to_string());
        Ok(MirrorAccess { refused, grants })
    }
}

/// The rows of the model among the lines of a batch: its first columns, without the four that are about the mirror.
fn rows_of(batch: &RecordBatch, lines: &mut MirrorLines) -> Result<RecordBatch, String> {
    let about = batch.num_columns().checked_sub(3).ok_or("a line without its columns")?;
    let text = |column: usize| batch.column(column).as_string_opt::<i32>().ok_or("a key that is no text");
    let number =
        |column: usize| batch.column(column).as_primitive_opt::<Int64Type>().ok_or("a fingerprint that is no number");
    let (keys, mirror_keys) = (text(0)?, text(about + 1)?);
    let (fingerprints, mirrored) = (number(about)?, number(about + 2)?);
    let mut is_row = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        is_row.push(lines.push(
            keys.is_valid(row).then(|| keys.value(row)),
            fingerprints.is_valid(row).then(|| fingerprints.value(row)),
            mirror_keys.is_valid(row).then(|| mirror_keys.value(row)),
            mirrored.is_valid(row).then(|| mirrored.value(row)),
        )?);
    }
    let columns: Vec<usize> = (0..about).collect();
    let rows = batch.project(&columns).map_err(|error| error.to_string())?;
    filter_record_batch(&rows, &BooleanArray::from(is_row)).map_err(|error| error.to_string())
}
