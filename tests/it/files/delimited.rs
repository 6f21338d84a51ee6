//! Which rows does delimited text have, and where is it refused?

use super::{gzip, hold, refused, sent};

#[test]
fn quotation_marks_and_line_ends() {
    hold(&[
        sent("quoted_comma", "a.csv", "id,name\na,\"Acme, Inc.\"\n", "name", r#"{"a":{"name":"Acme, Inc."}}"#),
        sent(
            "doubled_marks",
            "a.csv",
            "id,name\na,\"Acme \"\"Best\"\" Ltd\"\n",
            "name",
            r#"{"a":{"name":"Acme \"Best\" Ltd"}}"#,
        ),
        sent("only_marks", "a.csv", "id,name\na,\"\"\"\"\"\"\n", "name", r#"{"a":{"name":"\"\""}}"#),
        sent(
            "inches",
            "a.csv",
            "id,name\na,12\" pipe\nb,say \"hi\"\n",
            "name",
            r#"{"a":{"name":"12\" pipe"},"b":{"name":"say \"hi\""}}"#,
        ),
        sent(
            "line_break_in_a_value",
            "a.csv",
            "id,name,n\na,\"Acme\nLtd\",1\nb,\"x\r\ny\",2\n",
            "name n",
            r#"{"a":{"name":"Acme\nLtd","n":1},"b":{"name":"x\r\ny","n":2}}"#,
        ),
        sent("crlf", "a.csv", "id,name\r\na,Acme\r\n", "name", r#"{"a":{"name":"Acme"}}"#),
        sent(
            "lf_and_crlf",
            "a.csv",
            "id,name\r\na,Acme\nb,Beta\r\n",
            "name",
            r#"{"a":{"name":"Acme"},"b":{"name":"Beta"}}"#,
        ),
        sent("old_mac", "a.csv", "id,name\ra,Acme\rb,Beta\r", "name", r#"{"a":{"name":"Acme"},"b":{"name":"Beta"}}"#)
            .says("lines end with carriage returns"),
        sent("return_in_quotes", "a.csv", "id,name\na,\"Acme\rLtd\"\n", "name", r#"{"a":{"name":"Acme\rLtd"}}"#),
        refused(
            "lone_return",
            "a.csv",
            "id,name\na,Acme\rLtd\n",
            "DIR/a.csv, line 2, column 2 (`name`): a line that ends otherwise than the lines before (a carriage return alone, or a newline alone)",
            "between `\"`",
        ),
        refused(
            "lone_newline",
            "a.csv",
            "id,name\ra,Acme\nb,x\r",
            "DIR/a.csv, line 2, column 2 (`name`): a line that ends otherwise than the lines before (a carriage return alone, or a newline alone)",
            "same end",
        ),
        sent("no_last_line_end", "a.csv", "id,name\na,Acme", "name", r#"{"a":{"name":"Acme"}}"#),
        sent("blank_lines", "a.csv", "\nid,name\n\na,Acme\n\n\n", "name", r#"{"a":{"name":"Acme"}}"#),
        sent("excels_empty_rows", "a.csv", "id,name,n\na,Acme,1\n,,\n,,\n", "name", r#"{"a":{"name":"Acme"}}"#),
        sent(
            "a_row_without_a_key",
            "a.csv",
            "id,name\na,Acme\n,Beta\n",
            "name",
            r#"{"a":{"name":"Acme"},"<null>":{"name":"Beta"}}"#,
        ),
        refused(
            "never_closed",
            "a.csv",
            "id,name\na,\"Acme\nb,Beta\n",
            "DIR/a.csv, line 2, column 2 (`name`): a quotation mark `\"` that is opened here and never closed",
            "quote = \"none\"",
        ),
        refused(
            "behind_the_mark",
            "a.csv",
            "id,name\na,\"Acme\" Ltd\n",
            "DIR/a.csv, line 2, column 2 (`name`): text behind the closing quotation mark `\"`",
            "is written twice",
        ),
        refused(
            "backslashes",
            "a.csv",
            "id,name\na,\"Acme \\\"Best\\\" Ltd\"\n",
            "DIR/a.csv, line 2, column 2 (`name`): text behind the closing quotation mark `\"`",
            "csv = { escape = '\\' }",
        ),
        refused("a_nul", "a.csv", "id,name\na,Ac\0me\n", "DIR/a.csv, line 2, column 2 (`name`): a NUL byte", "damaged"),
        refused(
            "a_tail_of_nuls",
            "a.csv",
            "id,name\na,Acme\n\0\0\0\0",
            "DIR/a.csv, line 3, column 1 (`id`): a NUL byte",
            "cut off",
        ),
    ]);
}

#[test]
fn rows_of_another_length() {
    hold(&[
        refused(
            "too_many",
            "a.csv",
            "id,name\na,Acme, Inc.\n",
            "DIR/a.csv, line 2: 3 values instead of 2, the number of columns in line 1 (delimiter `,`, quote `\"`)",
            "needs quotation marks",
        ),
        refused(
            "too_few",
            "a.csv",
            "id,name,n\na,Acme,1\nb,Bet\n",
            "DIR/a.csv, line 3: 2 values instead of 3, the number of columns in line 1 (delimiter `,`, quote `\"`)",
            "see that the file is whole",
        ),
        refused(
            "cut_off",
            "a.csv",
            "id,name,n\na,Acme,1\nb",
            "DIR/a.csv, line 3: 1 value instead of 3, the number of columns in line 1 (delimiter `,`, quote `\"`)",
            "null_padding",
        ),
        sent(
            "trailing_delimiters",
            "a.csv",
            "id,name,\na,Acme,\nb,Beta,\n",
            "name",
            r#"{"a":{"name":"Acme"},"b":{"name":"Beta"}}"#,
        ),
        sent(
            "delimiters_behind_rows",
            "a.csv",
            "id,name\na,Acme,\nb,Beta,,\n",
            "name",
            r#"{"a":{"name":"Acme"},"b":{"name":"Beta"}}"#,
        ),
        refused(
            "a_comment",
            "a.csv",
            "# exported today\nid,name\na,Acme\n",
            "the model has no column `id` (and 1 more)",
            "it has `# exported today`",
        ),
        refused(
            "salesforces_footer",
            "a.csv",
            "\"id\",\"name\"\n\"a\",\"Acme\"\n\"\"\n\"\"\n\"Accounts\"\n\"Copyright (c) 2026 salesforce.com, inc.\"\n",
            "DIR/a.csv, line 5: 1 value instead of 2, the number of columns in line 1 (delimiter `,`, quote `\"`)",
            "below the table",
        ),
        sent("skipped_with_sql", "a.csv", "Accounts\n\nid,name\n007,Acme\n", "name", r#"{"007":{"name":"Acme"}}"#)
            .sql("FROM read_csv('DIR/a.csv', all_varchar = true, skip = 2, header = true)"),
        refused(
            "two_files_in_one",
            "a.csv",
            "id,name\na,Acme\nid,name\nb,Beta\n",
            "DIR/a.csv, line 3: the header of line 1 is repeated here",
            "remove this line",
        ),
    ]);
}

#[test]
fn headers() {
    hold(&[
        refused("nothing", "a.csv", "", "DIR/a.csv: the file is empty, it has not even a header", "complete"),
        refused("only_line_ends", "a.csv", "\n\n", "DIR/a.csv: the file has no rows and no columns", "complete"),
        sent("only_a_header", "a.csv", "id,name\n", "name", r#"{}"#),
        sent("a_header_without_line_end", "a.csv", "id,name", "name", r#"{}"#),
        sent("one_column", "a.csv", "id\na\nb\n", "n = { const = 1 }", r#"{"a":{"n":1},"b":{"n":1}}"#),
        sent(
            "one_column_of_names",
            "a.csv",
            "id\n\"Acme, Inc.\"\nBeta\n",
            "n = { const = 1 }",
            r#"{"Acme, Inc.":{"n":1},"Beta":{"n":1}}"#,
        ),
        sent(
            "blanks_around_names",
            "a.csv",
            "id, name ,\u{a0}plan\u{a0}\na,Acme,pro\n",
            "name plan",
            r#"{"a":{"name":"Acme","plan":"pro"}}"#,
        ),
        sent(
            "blanks_in_names",
            "a.csv",
            "Record ID,Company name,Annual Revenue (USD)\n007,Acme,5.00\n",
            "name = \"Company name\"\narr = \"Annual Revenue (USD)\"",
            r#"{"007":{"name":"Acme","arr":5}}"#,
        )
        .key("Record ID"),
        sent("capitals", "a.csv", "id,Name,name\na,Acme,acme\n", "Name name", r#"{"a":{"Name":"Acme","name":"acme"}}"#),
        refused(
            "the_same_name_twice",
            "a.csv",
            "id,name,plan,name\na,Acme,pro,Beta\n",
            "two columns are called `name`: columns 2 and 4 of DIR/a.csv",
            "another name",
        ),
        sent("twice_and_not_used", "a.csv", "id,x,x,plan\na,1,2,pro\n", "plan", r#"{"a":{"plan":"pro"}}"#),
        sent(
            "a_column_without_name",
            "a.csv",
            ",id,name\n0,a,Acme\n1,b,Beta\n",
            "name",
            r#"{"a":{"name":"Acme"},"b":{"name":"Beta"}}"#,
        ),
        sent(
            "marks_in_names",
            "a.csv",
            "\"id\",\"the \"\"name\"\"\"\na,Acme\n",
            "n = 'the \"name\"'",
            r#"{"a":{"n":"Acme"}}"#,
        ),
        sent(
            "unicode_names",
            "a.csv",
            "id,größe,名前\na,5,アクメ\n",
            "g = \"größe\"\nn = \"名前\"",
            r#"{"a":{"g":5,"n":"アクメ"}}"#,
        ),
        sent("names_of_sql", "a.csv", "id,select,order\na,1,2\n", "select order", r#"{"a":{"select":1,"order":2}}"#),
        refused(
            "no_header",
            "a.csv",
            "a,Acme\nb,Beta\n",
            "the model has no column `id` (and 1 more)",
            "it has `a` and `Acme`",
        ),
        refused("another_name", "a.csv", "id,nmae\na,Acme\n", "the model has no column `name`", "did you mean `nmae`?"),
    ]);
}

#[test]
fn packed_and_foreign_files() {
    hold(&[
        sent("gzip", "a.csv.gz", gzip("id,name\n007,Acme\n"), "name", r#"{"007":{"name":"Acme"}}"#),
        sent("gzip_by_its_bytes", "a.csv", gzip("id,name\n007,Acme\n"), "name", r#"{"007":{"name":"Acme"}}"#),
        sent(
            "two_gzips_in_one",
            "a.csv.gz",
            [gzip("id,name\n007,Acme\n"), gzip("8,Beta\n")].concat(),
            "name",
            r#"{"007":{"name":"Acme"},"8":{"name":"Beta"}}"#,
        ),
        sent(
            "gzip_with_newlines_in_values",
            "a.csv.gz",
            gzip("id,name\r\n007,\"a\r\nb\"\r\n"),
            "name",
            r#"{"007":{"name":"a\r\nb"}}"#,
        ),
        refused(
            "gzip_cut_off",
            "a.csv.gz",
            &gzip("id,name\n007,Acme\n")[..24],
            "the packed data is damaged or cut off",
            "write the file again",
        ),
        refused(
            "zstd_that_is_damaged",
            "a.csv.zst",
            b"\x28\xb5\x2f\xfd\x00",
            "DIR/a.csv.zst, line 1, column 1: the packed data is damaged or cut off",
            "write the file again",
        ),
        refused(
            "a_workbook_in_disguise",
            "a.csv",
            b"PK\x03\x04\x14\x00\x00\x00",
            "DIR/a.csv: this is a ZIP archive or an Excel workbook, not text",
            "`.xlsx`",
        ),
        refused(
            "parquet_in_disguise",
            "a.csv",
            b"PAR1\x15\x04\x15\x10",
            "DIR/a.csv: this is a Parquet file, not text",
            "`.parquet`",
        ),
        refused(
            "an_old_workbook",
            "a.csv",
            b"\xd0\xcf\x11\xe0\xa1\xb1",
            "DIR/a.csv: this is an old Excel workbook, not text",
            "`.xls`",
        ),
        refused(
            "a_workbook_of_another_kind",
            "a.numbers",
            b"PK\x03\x04",
            "`a_workbook_of_another_kind/a.numbers` is a spreadsheet of a kind that is not read",
            "`.xlsx` or CSV",
        ),
        refused(
            "an_archive",
            "a.zip",
            b"PK\x03\x04",
            "`an_archive/a.zip` is an archive, which is not read",
            "unpack it",
        ),
        refused("xml", "a.xml", b"<a/>", "`xml/a.xml` is not a format that is read", "write CSV, NDJSON or Parquet"),
        refused("not_there", "b.csv", "", "DIR/a.csv: no such file", "starts at the folder of groupcast.toml")
            .table("a.csv"),
    ]);
}

#[test]
fn what_is_larger_than_anything_that_is_meant() {
    let long = "x".repeat(17 * 1024 * 1024);
    hold(&[
        refused(
            "a_long_value",
            "a.csv",
            format!("id,name\n007,{long}\n"),
            "DIR/a.csv, line 2, column 2 (`name`): a value of more than 16 MB begins here, or a quotation mark is never closed",
            "is written twice",
        ),
        refused(
            "a_mark_that_swallows_the_file",
            "a.csv",
            format!("id,name\n007,\"{long}\n"),
            "DIR/a.csv, line 2, column 2 (`name`): a value of more than 16 MB begins here, or a quotation mark is never closed",
            "quote = \"none\"",
        ),
        refused(
            "one_large_object",
            "a.json",
            format!("{{\"data\":[{}{{}}]}}", "{\"id\":\"a\"},".repeat(6_200_000)),
            "DIR/a.json, line 1: an object of more than 64 MB begins here",
            "json->'data'",
        ),
    ]);
}
