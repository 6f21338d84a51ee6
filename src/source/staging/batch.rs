//! Batches: columns grow as plain vectors and become Arrow arrays in one step. UTF-8 is checked once per column and batch.

use std::sync::Arc;

use duckdb::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, NullBufferBuilder, StringArray};
use duckdb::arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use duckdb::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use duckdb::arrow::record_batch::RecordBatch;

/// Rows in a batch: ten of DuckDB's vectors of 2,048 rows.
pub const ROWS_MAX: usize = 20_480;
/// Bytes of text in a batch. With one batch being filled, two waiting and one being appended, text needs at most four
/// times this and the longest rows.
pub const BYTES_MAX: usize = 8 * 1024 * 1024;

/// What holds a column's values in DuckDB: one of the physical forms of `model::cell`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Physical {
    /// BOOLEAN
    Bool,
    /// BIGINT
    Int,
    /// DOUBLE
    Double,
    /// VARCHAR
    Text,
}

impl Physical {
    /// DuckDB's name of the type.
    pub fn sql(self) -> &'static str {
        match self {
            Physical::Bool => "BOOLEAN",
            Physical::Int => "BIGINT",
            Physical::Double => "DOUBLE",
            Physical::Text => "VARCHAR",
        }
    }

    /// Arrow's type of it.
    pub fn arrow(self) -> DataType {
        match self {
            Physical::Bool => DataType::Boolean,
            Physical::Int => DataType::Int64,
            Physical::Double => DataType::Float64,
            Physical::Text => DataType::Utf8,
        }
    }
}

/// The schema of batches whose columns have these forms.
pub fn schema_of(forms: &[Physical]) -> SchemaRef {
    let field = |(at, form): (usize, &Physical)| Field::new(at.to_string(), form.arrow(), true);
    Arc::new(Schema::new(forms.iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// The values of a column so far.
pub enum Values {
    /// Of a boolean column.
    Bool(Vec<bool>),
    /// Of an integer column.
    Int(Vec<i64>),
    /// Of a column of doubles.
    Double(Vec<f64>),
    /// Of a text column: all texts one after the other.
    Text(Vec<u8>),
}

struct Column {
    name: String,
    physical: Physical,
    values: Values,
    /// Of a text column: where each text ends.
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Column {
    fn new(name: String, physical: Physical) -> Column {
        let mut column = Column {
            name,
            physical,
            values: Values::Text(Vec::new()),
            ends: Vec::new(),
            nulls: NullBufferBuilder::new(ROWS_MAX),
        };
        column.clear();
        column
    }

    /// Takes the values out.
    fn clear(&mut self) -> (Values, Vec<i32>) {
        let (values, ends) = match self.physical {
            Physical::Bool => (Values::Bool(Vec::with_capacity(ROWS_MAX)), Vec::new()),
            Physical::Int => (Values::Int(Vec::with_capacity(ROWS_MAX)), Vec::new()),
            Physical::Double => (Values::Double(Vec::with_capacity(ROWS_MAX)), Vec::new()),
            Physical::Text => {
                let mut ends = Vec::with_capacity(ROWS_MAX + 1);
                ends.push(0);
                (Values::Text(Vec::with_capacity(ROWS_MAX * 8)), ends)
            }
        };
        (std::mem::replace(&mut self.values, values), std::mem::replace(&mut self.ends, ends))
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        let nulls = self.nulls.finish();
        let (values, ends) = self.clear();
        Ok(match values {
            Values::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Values::Int(values) => Arc::new(Int64Array::new(ScalarBuffer::from(values), nulls)),
            Values::Double(values) => Arc::new(Float64Array::new(ScalarBuffer::from(values), nulls)),
            Values::Text(bytes) => {
                let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
                let array = StringArray::try_new(ends, Buffer::from_vec(bytes), nulls);
                Arc::new(array.map_err(|_| format!("{} contains text that is not UTF-8", self.name))?)
            }
        })
    }
}

/// A batch of rows that is being built, column by column within a row.
pub struct BatchBuilder {
    columns: Vec<Column>,
    schema: SchemaRef,
    rows: usize,
    bytes: usize,
}

impl BatchBuilder {
    /// An empty batch of these columns: name for messages, form.
    pub fn new(columns: impl IntoIterator<Item = (String, Physical)>) -> BatchBuilder {
        let columns: Vec<Column> = columns.into_iter().map(|(name, physical)| Column::new(name, physical)).collect();
        let schema = schema_of(&columns.iter().map(|column| column.physical).collect::<Vec<_>>());
        BatchBuilder { columns, schema, rows: 0, bytes: 0 }
    }

    /// How many columns a row has.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Appends one value of the row being built: `write` pushes it, or of text its bytes. A null takes a place like any
    /// value, so `write` pushes something for it too. Columns go in order; [`BatchBuilder::end_row`] closes the row.
    pub fn append(
        &mut self,
        column: usize,
        is_null: bool,
        write: impl FnOnce(&mut Values) -> Option<()>,
    ) -> Result<(), String> {
        let column = &mut self.columns[column];
        let written = write(&mut column.values);
        if let Values::Text(bytes) = &column.values {
            let end = i32::try_from(bytes.len()).map_err(|_| format!("a value of {} exceeds 2 GB", column.name))?;
            self.bytes += (end - column.ends.last().copied().unwrap_or_default()) as usize;
            column.ends.push(end);
        }
        column.nulls.append(!is_null);
        // Names the column, never the value.
        written.ok_or_else(|| format!("a value of {} is not of the type that the server announced", column.name))
    }

    /// Appends a text, or null.
    pub fn append_text(&mut self, column: usize, text: Option<&[u8]>) -> Result<(), String> {
        self.append(column, text.is_none(), |values| {
            let Values::Text(bytes) = values else { return None };
            bytes.extend_from_slice(text.unwrap_or_default());
            Some(())
        })
    }

    /// Closes a row.
    pub fn end_row(&mut self) {
        self.rows += 1;
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether it is time to pass the rows on.
    pub fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    /// The rows as Arrow arrays; the batch is empty afterwards.
    pub fn take(&mut self) -> Result<RecordBatch, String> {
        (self.rows, self.bytes) = (0, 0);
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(|error| error.to_string())
    }
}
