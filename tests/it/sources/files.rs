//! Text files, workbooks and Parquet files.

use std::io::Write as _;

use crate::support::cli::Place;

use super::native::{ENDLESS, duckdb_type, large};
use super::values::{self, Row};
use super::{Case, Engine, Middle, Models, ROWS, WIDTH, conforms};

#[test]
fn csv() {
    conforms(&mut Written { extension: "csv", write: to_csv });
}

#[test]
fn ndjson() {
    conforms(&mut Written { extension: "ndjson", write: to_ndjson });
}

#[test]
fn workbook() {
    conforms(&mut Written { extension: "xlsx", write: to_workbook });
}

#[test]
fn parquet() {
    conforms(&mut Parquet);
}

/// A table for a file: the names and types of its columns, and its rows.
struct Sheet {
    columns: Vec<(String, String)>,
    rows: Vec<Vec<Option<String>>>,
}

impl Sheet {
    fn small() -> Sheet {
        let columns = values::columns();
        let rows = values::rows().into_iter().filter(|(key, ..)| key != EMPTY_TEXT).map(|(key, column, value): Row| {
            let mut row = vec![None; columns.len() + 1];
            (row[0], row[column + 1]) = (Some(key), Some(value));
            row
        });
        let rows = rows.collect();
        let columns = columns.into_iter().map(|column| (column.name, column.kind));
        Sheet { columns: [("id".to_owned(), "text".to_owned())].into_iter().chain(columns).collect(), rows }
    }

    fn large(version: u32) -> Sheet {
        let columns = [("id", "text"), ("version", "smallint"), ("word", "text")];
        let word = "x".repeat(WIDTH);
        Sheet {
            columns: columns.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into(),
            rows: (0..ROWS)
                .map(|n| vec![Some(format!("k{n}")), Some(version.to_string()), Some(word.clone())])
                .collect(),
        }
    }
}

/// The row whose value is an empty text, which is no value in these files.
const EMPTY_TEXT: &str = "9/0";

/// A file that the program reads itself.
struct Written {
    extension: &'static str,
    write: fn(&Sheet) -> Vec<u8>,
}

impl Written {
    fn write(&self, place: &Place, name: &str, sheet: &Sheet) {
        std::fs::write(place.path(&format!("{name}.{}", self.extension)), (self.write)(sheet)).unwrap();
    }
}

impl Engine for Written {
    fn set_up(&mut self, place: &mut Place) -> (String, Models) {
        self.write(place, "small", &Sheet::small());
        self.write(place, "large", &Sheet::large(1));
        let table = |name: &str| format!("table = \"{name}.{}\"", self.extension);
        let models = Models { small: table("small"), large: table("large"), endless: None };
        ("[sources.engine]\ntype = \"files\"\n".to_owned(), models)
    }

    fn middle(&self) -> Middle {
        Middle::File(match self.extension {
            "csv" => "large.csv",
            "ndjson" => "large.ndjson",
            _ => "large.xlsx",
        })
    }

    fn cannot(&self, case: Case) -> Option<&'static str> {
        (case == Case::Death).then_some("the program reads the file itself, and its death is in `killed`")
    }

    fn without(&self) -> Vec<String> {
        vec![EMPTY_TEXT.to_owned()]
    }

    fn change(&mut self, place: &Place) {
        self.write(place, "large", &Sheet::large(2));
    }
}

fn to_csv(sheet: &Sheet) -> Vec<u8> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let line = |cells: Vec<String>| cells.join(",") + "\n";
    let header = line(sheet.columns.iter().map(|(name, _)| quoted(name)).collect());
    let row = |row: &Vec<Option<String>>| {
        line(row.iter().map(|cell| cell.as_deref().map_or_else(String::new, quoted)).collect())
    };
    std::iter::once(header).chain(sheet.rows.iter().map(row)).collect::<String>().into_bytes()
}

fn to_ndjson(sheet: &Sheet) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in &sheet.rows {
        let member = |((name, kind), cell): (&(String, String), &Option<String>)| {
            let value = match (cell, kind.as_str()) {
                (None, _) => "null".to_owned(),
                (Some(text), "text" | "date" | "timestamp" | "timestamptz") => serde_json::to_string(text).unwrap(),
                (Some(digits), _) => digits.clone(),
            };
            format!("{}:{value}", serde_json::to_string(name).unwrap())
        };
        let members: Vec<String> = sheet.columns.iter().zip(row).map(member).collect();
        writeln!(bytes, "{{{}}}", members.join(",")).unwrap();
    }
    bytes
}

/// What does not fit a number of a workbook is text there. Not packed, so that reading takes its time.
fn to_workbook(sheet: &Sheet) -> Vec<u8> {
    let escaped = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('"', "&quot;")
            .replace('\n', "&#10;")
            .replace('\t', "&#9;")
    };
    let text = |text: &str| format!("<c t=\"inlineStr\"><is><t xml:space=\"preserve\">{}</t></is></c>", escaped(text));
    let mut rows = String::from("<row>");
    rows.extend(sheet.columns.iter().map(|(name, _)| text(name)));
    rows.push_str("</row>");
    for row in &sheet.rows {
        rows.push_str("<row>");
        for ((_, kind), cell) in sheet.columns.iter().zip(row) {
            rows.push_str(&match (cell, kind.as_str()) {
                (None, _) => "<c/>".to_owned(),
                (Some(value), "boolean") => format!("<c t=\"b\"><v>{}</v></c>", u8::from(value == "true")),
                (Some(value), "smallint" | "double") => format!("<c><v>{value}</v></c>"),
                (Some(value), _) => text(value),
            });
        }
        rows.push_str("</row>");
    }
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let package = "http://schemas.openxmlformats.org/package/2006";
    let parts = [
        (
            "[Content_Types].xml",
            format!(
                "<Types xmlns=\"{package}/content-types\"><Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/><Default Extension=\"xml\" ContentType=\"application/xml\"/></Types>"
            ),
        ),
        (
            "_rels/.rels",
            format!(
                "<Relationships xmlns=\"{package}/relationships\"><Relationship Id=\"r1\" Type=\"{office}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
            ),
        ),
        (
            "xl/workbook.xml",
            format!(
                "<workbook xmlns=\"{main}\" xmlns:r=\"{office}\"><sheets><sheet name=\"Accounts\" sheetId=\"1\" r:id=\"r1\"/></sheets></workbook>"
            ),
        ),
        (
            "xl/_rels/workbook.xml.rels",
            format!(
                "<Relationships xmlns=\"{package}/relationships\"><Relationship Id=\"r1\" Type=\"{office}/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>"
            ),
        ),
        ("xl/worksheets/sheet1.xml", format!("<worksheet xmlns=\"{main}\"><sheetData>{rows}</sheetData></worksheet>")),
    ];
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in parts {
        archive.start_file(name, stored).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Files that DuckDB reads.
struct Parquet;

impl Engine for Parquet {
    fn set_up(&mut self, place: &mut Place) -> (String, Models) {
        let folder = place.path("").display().to_string();
        place.warehouse(&format!(
            "{} {} COPY \"My Accounts\" TO '{folder}/small.parquet'; COPY large TO '{folder}/large.parquet'",
            values::table("My Accounts", duckdb_type),
            large("range(1, ROWS + 1) t(n)")
        ));
        let table = |name: &str| format!("table = \"{name}.parquet\"");
        let models = Models { small: table("small"), large: table("large"), endless: Some(ENDLESS.to_owned()) };
        ("[sources.engine]\ntype = \"files\"\n".to_owned(), models)
    }

    fn middle(&self) -> Middle {
        Middle::Program
    }

    fn cannot(&self, case: Case) -> Option<&'static str> {
        match case {
            Case::Death => Some("the engine is a part of the program, whose death is in `killed`"),
            Case::Snapshot => {
                Some("nothing shows where DuckDB reads; files that do not fit together are in `duckdb_source`")
            }
            Case::Values | Case::Cancel => None,
        }
    }
}
