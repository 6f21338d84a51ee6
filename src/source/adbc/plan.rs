//! A projection with the meanings that the driver gave it: the statement that reads its rows, and what comes of it.

use chrono::{DateTime, NaiveDate, TimeDelta};

use super::dialects::{Form, Warehouse};
use super::types::Meaning;
use crate::error::{Error, Kind, Result};
use crate::mapping::compile::Projection;
use crate::mapping::dialect::Dialect as _;
use crate::model::ColumnType;
use crate::source::mirror::{MirrorStatements, ModelRows};
use crate::source::staging::StagingTable;
use crate::source::staging::batch::Physical;

/// What is described before anything is read: key, columns, cursor, as they are.
pub(super) fn expressions(projection: &Projection, dialect: &Warehouse) -> Vec<String> {
    let columns = projection.columns.iter().map(|expr| dialect.expression(expr));
    std::iter::once(dialect.identifier(&projection.key))
        .chain(columns)
        .chain(projection.cursor.iter().map(|cursor| dialect.identifier(cursor)))
        .collect()
}

/// The statement that selects these expressions, each under a name of its own.
pub(super) fn select(projection: &Projection, dialect: &Warehouse, expressions: &[String]) -> String {
    let named: Vec<String> = expressions
        .iter()
        .enumerate()
        .map(|(at, expression)| format!("{expression} AS {}", dialect.identifier(&format!("c{at}"))))
        .collect();
    projection.select(dialect, &named)
}

/// How rows are read.
pub(super) struct Plan {
    pub(super) sql: String,
    /// The forms of key, columns and cursor.
    pub(super) forms: Vec<Physical>,
    pub(super) kinds: Vec<ColumnType>,
    cursor: Option<Meaning>,
    /// The rows as a mirror's statements take them, where the dialect has them.
    pub(super) model_rows: Option<ModelRows>,
    /// How the warehouse is asked for the cursor's maximum, where only its own collation can compare.
    pub(super) cursor_maximum: Option<String>,
}

impl Plan {
    /// `meanings` are those of [`expressions`].
    pub(super) fn new(projection: &Projection, dialect: &Warehouse, meanings: Vec<Meaning>) -> Result<Plan> {
        let expressions = expressions(projection, dialect);
        let mut selected = Vec::new();
        let mut forms = Vec::new();
        for (at, (expression, meaning)) in expressions.iter().zip(&meanings).enumerate() {
            match (at, meaning.form) {
                // A key is text, whatever it is.
                (0, Form::Text) => selected.push(dialect.physical(Form::Text, expression)),
                (0, _) => selected.push(dialect.as_text(expression)),
                (_, form) => selected.push(dialect.physical(form, expression)),
            }
            forms.push(if at == 0 { Physical::Text } else { meaning.physical() });
        }
        let cursor = projection.cursor.as_ref().and(meanings.last()).cloned();
        if let (Some(name), Some(meaning)) = (&projection.cursor, &cursor)
            && !meaning.kind.can_be_cursor()
            && meaning.form != Form::Text
        {
            let what =
                format!("the cursor `{name}` is {}, whose largest value does not show what changed", meaning.declared);
            return Err(Error::new(Kind::Config, what)
                .advise("use a timestamp, date or integer column, or cast it to one in the model's SQL"));
        }
        let cursor_maximum = cursor.as_ref().filter(|meaning| meaning.physical() == Physical::Text).map(|meaning| {
            let column = dialect.identifier(projection.cursor.as_deref().unwrap_or_default());
            let largest = format!("max({column})");
            // The largest of digits is not the largest number.
            let as_text = if meaning.form == Form::Text { largest } else { dialect.as_text(&largest) };
            projection.select(dialect, &[format!("{as_text} AS {}", dialect.identifier("c0"))])
        });
        let kinds = meanings.into_iter().skip(1).take(projection.columns.len()).map(|meaning| meaning.kind).collect();
        let sql = select(projection, dialect, &selected);
        let cells = projection.columns.len();
        let model_rows = dialect.mirror().map(|mirror| {
            let values = &selected[..=cells];
            let identities = values.iter().zip(&forms).map(|(value, form)| dialect.identity(value, *form, mirror));
            let statements = MirrorStatements { dialect, sql: mirror, schema: &[] };
            let fingerprint = statements.fingerprint(&identities.collect::<Vec<_>>());
            let cells = values[1..].iter().enumerate().map(|(at, value)| format!("{value} AS c{at}"));
            let (key, fingerprint) = (format!("{} AS k", values[0]), format!("{fingerprint} AS fp"));
            let keys = projection.select(dialect, &[key.clone(), fingerprint.clone()]);
            let columns: Vec<String> = std::iter::once(key).chain(cells).chain([fingerprint]).collect();
            ModelRows { select: projection.select(dialect, &columns), keys, cells: columns.len() - 2 }
        });
        Ok(Plan { sql, forms, kinds, cursor, model_rows, cursor_maximum })
    }

    /// The table that holds the rows.
    pub(super) fn table(&self) -> StagingTable {
        let columns = &self.forms[1..];
        StagingTable::new(columns[..self.kinds.len()].to_vec(), columns.get(self.kinds.len()).copied())
    }

    /// The largest value of the cursor that is not in the future, where its physical form shows that: in days
    /// or microseconds since 1970.
    pub(super) fn until(&self, now: DateTime<chrono::Utc>) -> Option<i64> {
        match self.cursor.as_ref()?.form {
            Form::Date => Some(now.timestamp().div_euclid(86_400)),
            Form::Timestamp | Form::TimestampTz => Some(now.timestamp_micros()),
            _ => None,
        }
    }

    /// A checkpoint of the cursor's largest physical value: `Warehouse::cursor_literal` takes it.
    pub(super) fn checkpoint(&self, largest: i64) -> Option<String> {
        match self.cursor.as_ref()?.form {
            Form::Date => {
                let date = NaiveDate::default().checked_add_signed(TimeDelta::try_days(largest)?)?;
                Some(date.format("%Y-%m-%d").to_string())
            }
            Form::Timestamp => {
                Some(DateTime::from_timestamp_micros(largest)?.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
            }
            Form::TimestampTz => {
                Some(DateTime::from_timestamp_micros(largest)?.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string())
            }
            _ => Some(largest.to_string()),
        }
    }

    /// Whether the cursor's physical values are compared here.
    pub(super) fn compares_here(&self) -> bool {
        self.cursor.is_some() && self.cursor_maximum.is_none()
    }
}
