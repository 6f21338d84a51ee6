//! Sheets of workbooks: Excel's (`.xlsx`, `.xlsm`, `.xlsb`, `.xls`) and LibreOffice's (`.ods`), by the crate `calamine`.
//!
//! A sheet's cells have values of their own, so they are not read as they look but as they are: a number with all of its
//! digits, a date as year, month and day. The first row that holds anything names the columns. Of a formula the value counts
//! that the program stored which saved the file last.
//!
//! DuckDB's own extension would have to be installed for it, and reads `.xlsx` alone.

use std::fs::File;
use std::io::BufReader;

use calamine::{Cell, Data, DataRef, ExcelDateTime, Reader as _, Sheets, Xlsx};

use super::names::Found;
use super::options::Options;
use super::row::{Columns, Row};
use crate::error::{Error, Kind, Result};

/// A sheet of a workbook.
pub(super) struct Sheet {
    workbook: Sheets<BufReader<File>>,
    name: String,
    /// How many sheets there are.
    sheets: usize,
    header: Vec<String>,
    header_row: u32,
    shown: String,
}

const MB: u64 = 1_000_000;
/// Most bytes of a workbook's parts that are in memory while it is read: the texts of all cells, and of formats that are not
/// read cell by cell everything.
const IN_MEMORY_MAX: u64 = 512 * MB;

/// Most columns of a sheet, as Excel has them.
const COLUMNS_MAX: u32 = 16_384;

impl Sheet {
    pub(super) fn open(found: &Found, options: &Options) -> Result<Sheet> {
        let shown = &found.shown;
        fits_memory(found)?;
        let workbook = calamine::open_workbook_auto(&found.path).map_err(|error| unreadable(shown, &error))?;
        let names = workbook.sheet_names();
        let listed = || names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let name = match &options.sheet {
            Some(wanted) => {
                let exact = names.iter().find(|name| *name == wanted);
                let like = || names.iter().find(|name| name.trim().eq_ignore_ascii_case(wanted.trim()));
                exact.or_else(like).cloned().ok_or_else(|| {
                    Error::new(Kind::Source, format!("{shown}: there is no sheet `{wanted}`"))
                        .advise(format!(
                            "correct `excel = {{ sheet = … }}` at the source: the workbook has {}",
                            listed()
                        ))
                        .missing()
                })?
            }
            None => names.first().cloned().ok_or_else(|| {
                Error::new(Kind::Source, format!("{shown}: the workbook has no sheet"))
                    .advise("save it again with the table in its first sheet")
            })?,
        };
        let sheets = names.len();
        let mut sheet = Sheet { workbook, name, sheets, header: Vec::new(), header_row: 0, shown: shown.clone() };
        let (mut header, mut row_of_header) = (Vec::new(), None);
        let skipped = u32::try_from(options.skip_rows).unwrap_or(u32::MAX);
        sheet.cells(&mut |row, column, value| {
            if row < skipped {
                return Ok(true);
            }
            if *row_of_header.get_or_insert(row) != row {
                return Ok(false);
            }
            header.resize(header.len().max(column as usize + 1), String::new());
            header[column as usize] = value
                .trim_matches(|letter: char| letter.is_whitespace() || "\u{feff}\u{200b}".contains(letter))
                .to_owned();
            Ok(true)
        })?;
        (sheet.header, sheet.header_row) = (header, row_of_header.unwrap_or(0));
        Ok(sheet)
    }

    pub(super) fn header(&self) -> &[String] {
        &self.header
    }

    /// How it is read, for people.
    pub(super) fn reading(&self) -> String {
        match self.sheets {
            1 => format!("sheet `{}`", self.name),
            sheets => format!("sheet `{}` of {sheets}", self.name),
        }
    }

    /// Visits every row with its number; returns how many there were.
    pub(super) fn each(
        &mut self,
        columns: &mut Columns,
        visit: &mut dyn FnMut(&Columns, u64, &Row<'_>) -> Result<()>,
    ) -> Result<u64> {
        let mut fields: Vec<Option<usize>> = vec![None; columns.names.len()];
        for (field, name) in self.header.iter().enumerate() {
            let position = columns.add(name);
            fields.resize(columns.names.len(), None);
            // Of columns with one name the first one counts; they are refused where they are used.
            fields[position] = fields[position].or(Some(field));
        }
        let (header, shown, header_row) = (self.header.len(), self.shown.clone(), self.header_row);
        let mut values: Vec<String> = vec![String::new(); header];
        let (mut current, mut count) = (header_row, 0);
        let columns = &*columns;
        let mut end_row = |row: u32, values: &mut Vec<String>| -> Result<()> {
            if values.iter().any(|value| !value.is_empty()) {
                visit(columns, u64::from(row) + 1, &Row::Sheet { values, fields: &fields })?;
                count += 1;
            }
            values.iter_mut().for_each(String::clear);
            Ok(())
        };
        self.cells(&mut |row, column, value| {
            if row <= header_row {
                return Ok(true);
            }
            if row != current {
                end_row(current, &mut values)?;
                current = row;
            }
            match values.get_mut(column as usize) {
                Some(place) => *place = value,
                None => {
                    let what = format!(
                        "{shown}, row {}: a value in column {}, which has no name in row {}",
                        row + 1,
                        letters(column),
                        header_row + 1
                    );
                    return Err(Error::new(Kind::Source, what).advise(
                        "remove it, or give the column a name; where rows above the header do not belong to the table, write \
                         `excel = { skip = … }` at the source",
                    ));
                }
            }
            Ok(true)
        })?;
        end_row(current, &mut values)?;
        Ok(count)
    }

    /// Visits the cells that hold something, row by row, until `visit` has enough.
    fn cells(&mut self, visit: &mut dyn FnMut(u32, u32, String) -> Result<bool>) -> Result<()> {
        let shown = self.shown.clone();
        let mut pass_on = |row: u32, column: u32, value: Option<String>| -> Result<bool> {
            if column >= COLUMNS_MAX {
                return Err(damaged(&shown, "a cell beyond the last column"));
            }
            value.filter(|value| !value.is_empty()).map_or(Ok(true), |value| visit(row, column, value))
        };
        match &mut self.workbook {
            Sheets::Xlsx(workbook) => each_cell(workbook, &self.name, &self.shown, &mut pass_on),
            workbook => {
                let range = workbook.worksheet_range(&self.name).map_err(|error| unreadable(&self.shown, &error))?;
                let (first_row, first_column) = range.start().unwrap_or_default();
                for (row, column, value) in range.used_cells() {
                    let (row, column) = (first_row + row as u32, first_column + column as u32);
                    if !pass_on(row, column, written(value))? {
                        return Ok(());
                    }
                }
                Ok(())
            }
        }
    }
}

/// Fails for a workbook whose parts that are held in memory are too large, by what its archive says of them.
fn fits_memory(found: &Found) -> Result<()> {
    let shown = &found.shown;
    let file = File::open(&found.path).map_err(|error| super::names::unreadable(shown, &error))?;
    // What is no archive is judged by who reads it.
    let Ok(mut archive) = zip::ZipArchive::new(BufReader::new(file)) else { return Ok(()) };
    let lower = shown.to_ascii_lowercase();
    let is_streamed = lower.ends_with(".xlsx") || lower.ends_with(".xlsm");
    let mut bytes = 0_u64;
    for at in 0..archive.len() {
        let Ok(part) = archive.by_index_raw(at) else { continue };
        let is_sheet = part.name().is_ok_and(|name| name.contains("worksheets/"));
        if !(is_streamed && is_sheet) {
            bytes = bytes.saturating_add(part.size());
        }
    }
    if bytes <= IN_MEMORY_MAX {
        return Ok(());
    }
    let what = format!("{shown}: the workbook's texts unpack to {} MB, more than {}", bytes / MB, IN_MEMORY_MAX / MB);
    Err(Error::new(Kind::Source, what).advise("export the sheet as CSV"))
}

/// The cells of one sheet, read one after the other: a workbook of a million rows is not in memory as a whole.
fn each_cell(
    workbook: &mut Xlsx<BufReader<File>>,
    name: &str,
    shown: &str,
    visit: &mut dyn FnMut(u32, u32, Option<String>) -> Result<bool>,
) -> Result<()> {
    let failed = |error: calamine::XlsxError| unreadable(shown, &calamine::Error::Xlsx(error));
    let mut cells = workbook.worksheet_cells_reader(name).map_err(failed)?;
    let mut last_row = 0;
    while let Some(cell) = cells.next_cell().map_err(failed)? {
        let (row, column) = Cell::get_position(&cell);
        if row < last_row {
            return Err(damaged(shown, "rows that are out of order"));
        }
        last_row = row;
        let value = match cell.get_value() {
            DataRef::SharedString(text) => Some((*text).to_owned()),
            other => written(&Data::from(other.clone())),
        };
        if !visit(row, column, value)? {
            return Ok(());
        }
    }
    Ok(())
}

/// A cell's value as text files have it.
fn written(value: &Data) -> Option<String> {
    Some(match value {
        Data::Empty => return None,
        Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => text.clone(),
        Data::Int(number) => number.to_string(),
        Data::Float(number) => number_text(*number),
        Data::Bool(flag) => flag.to_string(),
        Data::DateTime(moment) => moment_text(moment),
        Data::Error(error) => error.to_string(),
    })
}

/// A double by its shortest digits, whole ones without a point, and with an exponent as programs write it.
fn number_text(number: f64) -> String {
    // Every whole number below is exact.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    const SMALL: f64 = 1e-5;
    if number.fract() == 0.0 && number.abs() < EXACT_MAX {
        return format!("{}", number as i64);
    }
    if (SMALL..EXACT_MAX).contains(&number.abs()) {
        return format!("{number}");
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power}"),
        _ => text,
    }
}

/// A date with its time, or a time alone, which Excel counts from the day before its first one.
fn moment_text(moment: &ExcelDateTime) -> String {
    let value = moment.as_f64();
    if moment.is_duration() || (0.0..1.0).contains(&value) {
        let seconds = (value.abs() * 86_400.0).round() as u64;
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    }
    let (year, month, day, hour, minute, second, milli) = moment.to_ymd_hms_milli();
    let fraction = if milli == 0 { String::new() } else { format!(".{milli:03}") };
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction}")
}

/// A column as spreadsheets name it.
fn letters(column: u32) -> String {
    let mut name = String::new();
    let mut rest = column + 1;
    while rest > 0 {
        let letter = (b'A' + ((rest - 1) % 26) as u8) as char;
        name.insert(0, letter);
        rest = (rest - 1) / 26;
    }
    name
}

fn damaged(shown: &str, what: &str) -> Error {
    Error::new(Kind::Source, format!("{shown}: the workbook is damaged: {what}"))
        .advise("open it in a spreadsheet program, save it again, and run again")
}

fn unreadable(shown: &str, error: &calamine::Error) -> Error {
    let text = error.to_string();
    if let calamine::Error::Io(error) = error {
        return super::names::unreadable(shown, error);
    }
    let lower = text.to_lowercase();
    if lower.contains("password") || lower.contains("encrypt") {
        return Error::new(Kind::Source, format!("{shown}: the workbook is protected by a password"))
            .advise("save it without one");
    }
    Error::new(Kind::Source, format!("{shown}: this is not a workbook that can be read"))
        .advise(
            "make sure that it is complete and that its extension is right (`.xlsx`, `.xlsm`, `.xlsb`, `.xls`, `.ods`); its \
             writer should write to another file and rename it",
        )
        .because(crate::duckdb::first_line(&text))
}

#[cfg(test)]
mod tests {
    use calamine::ExcelDateTimeType;

    use super::*;

    #[test]
    fn values_are_written_as_text_files_have_them() {
        let moment = |value| Data::DateTime(ExcelDateTime::new(value, ExcelDateTimeType::DateTime, false));
        let span = |value| Data::DateTime(ExcelDateTime::new(value, ExcelDateTimeType::TimeDelta, false));
        for (value, expected) in [
            (Data::Float(42.0), "42"),
            (Data::Float(-0.5), "-0.5"),
            (Data::Float(1e300), "1e+300"),
            (Data::Float(-1.5e-7), "-1.5e-7"),
            (Data::Float(1e16), "1e+16"),
            (Data::Float(123_456_789_012_345.0), "123456789012345"),
            (Data::Bool(true), "true"),
            (moment(45943.0), "2025-10-13 00:00:00"),
            (moment(45943.541), "2025-10-13 12:59:02.400"),
            (moment(0.75), "18:00:00"),
            (span(1.5), "36:00:00"),
        ] {
            assert_eq!(written(&value).as_deref(), Some(expected), "{value:?}");
        }
        assert_eq!(written(&Data::Empty), None);
    }

    #[test]
    fn a_workbook_that_would_fill_memory_is_refused_by_what_its_archive_says() {
        use std::io::Write as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.xlsx");
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        let packed = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        archive.start_file("xl/sharedStrings.xml", packed).unwrap();
        let zeros = vec![b' '; 8 * 1024 * 1024];
        for _ in 0..=IN_MEMORY_MAX / zeros.len() as u64 {
            archive.write_all(&zeros).unwrap();
        }
        archive.finish().unwrap();
        let state = super::super::names::State::of(&std::fs::metadata(&path).unwrap());
        let found = Found { path, shown: "bomb.xlsx".to_owned(), parts: Vec::new(), state };
        let error = Sheet::open(&found, &Options::default()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("bomb.xlsx: the workbook's texts unpack to 5"), "{error}");
    }

    #[test]
    fn columns_are_named_as_spreadsheets_do() {
        assert_eq!(["A", "Z", "AA", "XFD"], [0, 25, 26, 16_383].map(letters).each_ref().map(String::as_str));
    }
}
