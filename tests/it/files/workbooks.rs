//! Which rows does a sheet have, as several programs write workbooks? `workbooks/make.py` made them.

use super::{hold, refused, sent};

const OPENPYXL: &[u8] = include_bytes!("workbooks/openpyxl.xlsx");
const XLSXWRITER: &[u8] = include_bytes!("workbooks/xlsxwriter.xlsx");
const XLWT: &[u8] = include_bytes!("workbooks/xlwt.xls");
const ODF: &[u8] = include_bytes!("workbooks/odf.ods");

#[test]
fn cells_are_sent_as_what_they_are() {
    hold(&[
        sent(
            "the_first_sheet",
            "a.xlsx",
            OPENPYXL,
            "name seats mrr active since seen code note",
            r#"{"a1":{"name":"Acme","seats":3,"mrr":12.5,"active":true,"since":"2026-03-04",
                "seen":"2026-03-04T10:20:30Z","code":"007","note":null},
               "b2":{"name":"Bäcker 日本","seats":12345678901,"mrr":0.1,"active":false,"since":"1999-12-31",
                "seen":"2026-03-05T00:00:00Z","code":"042","note":"x\ny"},
               "c3":{"name":null,"seats":null,"mrr":null,"active":null,"since":null,"seen":null,"code":null,"note":null},
               "4711":{"name":"Number as key","seats":-1,"mrr":1000000000000000000000,"active":true,"since":"2030-01-01",
                "seen":"2026-01-02T03:04:05.250Z","code":"1e5","note":"=1+1"}}"#,
        )
        .files("")
        .says("a.xlsx is read as sheet `Accounts` of 2: 4 rows"),
        sent("by_a_duckdb_source", "a.xlsx", OPENPYXL, "name", r#"{"a1":{"name":"Acme"}}"#).only("a1", r#"{"name":"Acme"}"#),
        sent(
            "below_a_title",
            "a.xlsx",
            OPENPYXL,
            "name",
            r#"{"z":{"name":"Zeta"},"y":{"name":"Ypsilon"}}"#,
        )
        .files("excel = { sheet = 'with TITLE', skip = 1 }"),
        sent(
            "formats_are_looks",
            "a.xlsx",
            XLSXWRITER,
            "since spent price sum bad",
            r##"{"a":{"since":"2026-03-04","spent":"36:05:00","price":1234.5,"sum":3,"bad":"#DIV/0!"}}"##,
        )
        .files(""),
        sent(
            "excel_97",
            "a.xls",
            XLWT,
            "name seats since",
            r#"{"a":{"name":"Acme","seats":3,"since":"2026-03-04"},"b":{"name":"Beta","seats":0.5,"since":null}}"#,
        )
        .files(""),
        sent(
            "open_document",
            "a.ods",
            ODF,
            "seats since",
            r#"{"a":{"seats":3,"since":"2026-03-04"},"b":{"seats":4,"since":"2026-03-05"}}"#,
        )
        .files(""),
        sent(
            "conditions_see_types",
            "a.xlsx",
            OPENPYXL,
            "double = { sql = \"seats * 2\" }",
            r#"{"a1":{"double":6}}"#,
        )
        .files("")
        .more("where = \"since >= DATE '2026-01-01' AND seats > 0\""),
    ]);
}

#[test]
fn what_cannot_be_read_says_where() {
    let cut = &OPENPYXL[..OPENPYXL.len() / 2];
    hold(&[
        refused("no_such_sheet", "a.xlsx", OPENPYXL, "a.xlsx: there is no sheet `Kunden`", "`Accounts`, `With title`")
            .files("excel = { sheet = 'Kunden' }"),
        refused(
            "beside_the_table",
            "a.xlsx",
            XLSXWRITER,
            "a.xlsx, row 2: a value in column D, which has no name in row 1",
            "give the column a name",
        )
        .files("excel = { sheet = 'Stray' }"),
        refused("cut_off", "a.xlsx", cut, "a.xlsx: this is not a workbook that can be read: Xlsx error: Zip error: invalid Zip archive: Could not find EOCD", "complete").files(""),
        refused("not_one", "a.xls", "id,name\na,b\n", "a.xls: this is not a workbook that can be read: Xls error: Cfb error: Invalid OLE (12 bytes is too small, signature \\x69\\x64\\x2c\\x6e\\x61\\x6d\\x65\\x0a invalid, not an office document?)", "extension").files(""),
        refused("another_name", "a.csv", OPENPYXL, "a.csv: this is a ZIP archive or an Excel workbook, not text", ".xlsx").files(""),
    ]);
}
