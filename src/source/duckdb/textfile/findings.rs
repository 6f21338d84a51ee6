//! Findings about how a text file is read: what was inferred, and which columns look like something that
//! they are not sent as. Values are never shown, only where they stand.

use super::column::Notation;
use super::names::{self, Format};
use super::shape::{Decided, Look};
use super::{FileProfile, LINE_BITS, TextColumn};
use crate::format::thousands as count;
use crate::mapping::Expr;
use crate::mapping::compile::Projection;
use crate::model::ColumnType;
use crate::model::cell::As;
use crate::source::{FindingSubject, SourceFinding};

/// Columns named in the remark about the whole table.
const COLUMNS_SHOWN: usize = 20;

impl FileProfile {
    /// Remarks about the table and the columns of a projection.
    pub(in crate::source::duckdb) fn findings(&self, projection: &Projection) -> Vec<SourceFinding> {
        let mut findings = vec![self.decided(projection)];
        if let (Err(_), Some(member)) = (self.column(&projection.key), &self.wrapper) {
            findings.push(SourceFinding {
                subject: FindingSubject::Table,
                note: false,
                what: format!("the file is one object, whose member `{member}` may contain the rows"),
                help: vec![super::rows::unwrap_advice(&self.files[0].shown, member)],
            });
        }
        for expr in &projection.columns {
            let Expr::Column(name) = expr else { continue };
            let Ok((_, column)) = self.column(name) else { continue };
            findings.extend(self.about(column).map(|(what, help)| SourceFinding {
                subject: FindingSubject::Untyped(name.clone()),
                note: false,
                what,
                help: vec![help],
            }));
        }
        let used = projection.columns.iter().filter_map(|expr| match expr {
            Expr::Column(name) => Some(name),
            Expr::Sql(_) => None,
        });
        for name in used.chain([&projection.key]) {
            let Ok((_, column)) = self.column(name) else { continue };
            let (lost, line) = column.shape.look_of(Look::Scientific);
            if lost > 0 && column.members.is_none() && column.shape.decided() == Decided::Text {
                findings.push(SourceFinding {
                    subject: FindingSubject::Column(name.clone()),
                    note: false,
                    what: format!(
                        "`{name}` has {} in scientific notation, the first at {}: a spreadsheet writes long numbers so, and \
                         their last digits are not in the file any more",
                        values(lost),
                        self.place(line)
                    ),
                    help: vec![
                        "format the column as text or as a number before saving, or export the file without a spreadsheet"
                            .to_owned(),
                    ],
                });
            }
        }
        findings
    }

    /// How the files were read, and what the columns of a projection are sent as.
    fn decided(&self, projection: &Projection) -> SourceFinding {
        let first = &self.files[0].shown;
        let what = match self.files.len() {
            1 => format!("{first} is read as {}", self.reading(0)),
            more => {
                let forms: Vec<String> = (0..more).map(|file| self.reading(file)).collect();
                let same = forms.iter().all(|form| *form == forms[0]);
                let how = if same { forms[0].clone() } else { format!("{first} as {}, others otherwise", forms[0]) };
                format!("{} files, {first} the first of them, are read as {how}", count(more as u64))
            }
        };
        let mut sent: Vec<String> = Vec::new();
        for expr in &projection.columns {
            let Expr::Column(name) = expr else { continue };
            let Ok((_, column)) = self.column(name) else { continue };
            sent.push(format!("`{name}` {}", sent_as(&column.kind())));
        }
        let more = sent.len().saturating_sub(COLUMNS_SHOWN);
        sent.truncate(COLUMNS_SHOWN);
        let columns = match (sent.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!("; by its values {}", sent.join(", ")),
            (false, more) => format!("; by its values {} and {more} more", sent.join(", ")),
        };
        SourceFinding {
            subject: FindingSubject::Table,
            note: true,
            what: format!("{what}: {} {}{columns}", count(self.rows), if self.rows == 1 { "row" } else { "rows" }),
            help: vec![
                "a column has a type while every value of it is written so: `as` in the mapping decides it for good"
                    .to_owned(),
                match self.files.first().and_then(|file| names::format(&file.shown)) {
                    Some(Format::Sheet) => {
                        "another sheet, or a header further down, is meant by `excel = { sheet = …, skip = … }` at the source"
                            .to_owned()
                    }
                    format => format!(
                        "to read the file otherwise say at the source how it is written (`csv` of the type `files`), or have \
                         DuckDB read it: `sql = \"FROM {}('{first}', …)\"`",
                        if format == Some(Format::Objects) { "read_json" } else { "read_csv" }
                    ),
                },
            ],
        }
    }

    fn reading(&self, file: usize) -> String {
        self.readings[file].clone()
    }

    /// What a column without `as` looks like, where it is sent as something else.
    fn about(&self, column: &TextColumn) -> Option<(String, String)> {
        let (name, shape, all) = (&column.name, &column.shape, column.shape.values);
        if let Some(members) = column.members {
            let several = members.sorts() > 1;
            return several.then(|| {
                (
                    format!("`{name}` has values of several types, and each is sent as its own"),
                    "write `as` to send all of them as one type".to_owned(),
                )
            });
        }
        if shape.decided() != Decided::Text || all == 0 || column.notation != Notation::Own {
            return None;
        }
        let of = |look| shape.look_of(look);
        let (numbers, _) = of(Look::Number);
        let sql = |text: &str| format!("write `{{ sql = \"{}\", as = \"number\" }}`", text.replace("{}", name));
        let so = |look: Look, what: &str| {
            let (number, line) = of(look);
            format!("`{name}` has {} {what}, the first at {}: it is sent as text", values(number), self.place(line))
        };
        if numbers == all {
            return Some((
                format!(
                    "`{name}` has numbers that are written in several ways (`1`, `1.10` and `1.9`): it is sent as text"
                ),
                "write `as = \"number\"` where they are numbers, `as = \"string\"` where they are versions or ids"
                    .to_owned(),
            ));
        }
        let (absent, _) = of(Look::NoValue);
        if absent > 0 && absent < all {
            return Some((
                so(Look::NoValue, "like `NULL`, `N/A` or `\\N`, which are texts as any other"),
                sql("nullif({}, 'N/A')"),
            ));
        }
        if of(Look::DecimalComma).0 > 0 {
            return Some((
                so(Look::DecimalComma, "with a decimal comma"),
                "write `decimal = \",\"` at the source (in `csv = { … }` where its type is `files`)".to_owned(),
            ));
        }
        if of(Look::Thousands).0 > 0 {
            return Some((so(Look::Thousands, "with marks between the thousands"), sql("replace({}, ',', '')")));
        }
        if of(Look::Decorated).0 > 0 {
            return Some((
                so(Look::Decorated, "with a currency, a percent sign or parentheses"),
                sql("regexp_replace({}, '[^0-9.-]', '', 'g')"),
            ));
        }
        if of(Look::SlashDate).0 > 0 {
            let order = if shape.day_is_first() { "%d/%m/%Y" } else { "%m/%d/%Y" };
            let help = format!(
                "write `csv = {{ dateformat = \"{order}\" }}` at the source (of type `files`), or `{{ sql = \
                 \"CAST(strptime({name}, '{order}') AS DATE)\" }}`"
            );
            return Some(if shape.order_is_open() {
                (
                    so(Look::SlashDate, "that are dates in one of two orders (day or month first)"),
                    format!("{help}, or '%d/%m/%Y' where the day comes first"),
                )
            } else {
                (so(Look::SlashDate, "that are dates, but not year first"), help)
            });
        }
        if of(Look::Time).0 == all {
            return Some((
                format!("`{name}` has dates and times that are written in several ways: it is sent as text"),
                "write `as = \"date\"` or `as = \"timestamp\"`".to_owned(),
            ));
        }
        if of(Look::YesNo).0 == all {
            return Some((so(Look::YesNo, "like yes or no"), "write `as = \"boolean\"` where they are".to_owned()));
        }
        if of(Look::Long).0 > 0 && of(Look::Long).0 + numbers == all {
            return Some((
                so(Look::Long, "with more digits than 64 bits hold"),
                "write `as = \"string\"` for an id; `as = \"number\"` keeps the digits, which the destination may round"
                    .to_owned(),
            ));
        }
        // Most of it is numbers: then the others are probably mistakes.
        (numbers > 0 && numbers >= all - all / 10 && of(Look::LeadingZeros).0 == 0).then(|| {
            let line = [Look::Other, Look::Scientific, Look::Time, Look::YesNo, Look::Long]
                .map(&of)
                .into_iter()
                .filter(|(number, _)| *number > 0)
                .map(|(_, line)| line)
                .min()
                .unwrap_or(0);
            (
                format!(
                    "`{name}` has only numbers except for {}, the first at {}: it is sent as text",
                    values(all - numbers),
                    self.place(line)
                ),
                "correct the file, or write `as = \"number\"`: then only those groups are rejected".to_owned(),
            )
        })
    }

    /// A place in one of the files.
    fn place(&self, place: u64) -> String {
        let line = place & ((1 << LINE_BITS) - 1);
        let file = &self.files[(place >> LINE_BITS) as usize];
        format!("{}, line {line}", file.shown)
    }

    /// Columns of this profile that another reading gives a type in which values are not what the file says.
    pub(in crate::source::duckdb) fn lossy(&self, name: &str, declared: &str) -> bool {
        let Some(column) = self.columns.iter().find(|column| column.name == name) else { return false };
        if column.shape.values == 0 || matches!(declared, "VARCHAR" | "JSON") {
            return false;
        }
        let ours = column.sql_type(&self.options);
        match declared {
            "DOUBLE" => ours == "VARCHAR" || ours.starts_with("DECIMAL"),
            "BIGINT" => ours == "VARCHAR",
            "HUGEINT" => column.shape.look_of(Look::LeadingZeros).0 > 0,
            "BOOLEAN" => ours == "VARCHAR" && column.shape.look_of(Look::YesNo).0 < column.shape.values,
            "DATE" | "TIMESTAMP" => ours == "VARCHAR" && column.shape.look_of(Look::SlashDate).0 > 0,
            _ => false,
        }
    }
}

fn values(number: u64) -> String {
    if number == 1 { "1 value".to_owned() } else { format!("{} values", count(number)) }
}

fn sent_as(kind: &ColumnType) -> &'static str {
    match kind {
        ColumnType::Written(As::Number | As::Integer) => "number",
        ColumnType::Written(As::Boolean) => "boolean",
        ColumnType::Written(As::Date) => "date",
        ColumnType::Written(As::Timestamp) => "timestamp",
        ColumnType::Json | ColumnType::Written(As::Json) => "JSON",
        _ => "text",
    }
}
