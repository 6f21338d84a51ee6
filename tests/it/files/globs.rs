//! Do several files make one table, and is none of them misread for another's sake?

use super::{gzip, hold, refused, sent};

#[test]
fn several_files() {
    hold(&[
        sent("two_files", "a.csv", "id,n\n007,1\n", "n", r#"{"007":{"n":1},"8":{"n":2.5}}"#)
            .with("b.csv", "id,n\n8,2.5\n")
            .table("*.csv")
            .says("2 files, two_files/a.csv the first of them"),
        sent(
            "another_order",
            "a.csv",
            "id,name,plan\na,Acme,pro\n",
            "name plan",
            r#"{"a":{"name":"Acme","plan":"pro"},"b":{"name":"Beta","plan":"free"}}"#,
        )
        .with("b.csv", "plan,id,name\nfree,b,Beta\n")
        .table("*.csv"),
        sent(
            "another_delimiter_each",
            "a.csv",
            "id,name\na,Acme\n",
            "name",
            r#"{"a":{"name":"Acme"},"b":{"name":"x,y"}}"#,
        )
        .with("b.csv", "id;name\nb;x,y\n")
        .table("*.csv")
        .says("others otherwise"),
        sent("a_type_in_one_of_them", "a.csv", "id,n\na,1\n", "n", r#"{"a":{"n":"1"},"b":{"n":"x"}}"#)
            .with("b.csv", "id,n\nb,x\n")
            .table("*.csv"),
        refused(
            "a_column_less",
            "a.csv",
            "id,name,plan\na,Acme,pro\n",
            "DIR/b.csv has no column `plan`, which DIR/a.csv has",
            "union_by_name = true",
        )
        .traits("plan")
        .with("b.csv", "id,name\nb,Beta\n")
        .table("*.csv"),
        sent(
            "a_column_less_and_not_used",
            "a.csv",
            "id,name,plan\na,Acme,pro\n",
            "name",
            r#"{"a":{"name":"Acme"},"b":{"name":"Beta"}}"#,
        )
        .with("b.csv", "id,name\nb,Beta\n")
        .table("*.csv"),
        refused(
            "renamed_meanwhile",
            "2026-01.csv",
            "id,seats\na,5\n",
            "DIR/2026-02.csv has no column `seats`, which DIR/2026-01.csv has",
            "same columns",
        )
        .traits("seats")
        .with("2026-02.csv", "id,seat_count\nb,6\n")
        .table("*.csv"),
        sent(
            "less_and_not_meant_by_sql",
            "a.csv",
            "id,name,n\na,Acme,1\n",
            "u = { sql = \"concat(name, '')\" }",
            r#"{"a":{"u":"Acme"},"b":{"u":"Beta"}}"#,
        )
        .with("b.csv", "id,name\nb,Beta\n")
        .table("*.csv"),
        refused(
            "less_and_meant_by_sql",
            "a.csv",
            "id,name,n\na,Acme,1\n",
            "DIR/b.csv has no column `n`, which DIR/a.csv has",
            "same columns",
        )
        .traits("u = { sql = \"coalesce(n, 0)\" }")
        .with("b.csv", "id,name\nb,Beta\n")
        .table("*.csv"),
        sent("an_empty_part", "part-0.csv", "", "n", r#"{"a":{"n":1}}"#)
            .with("part-1.csv", "id,n\na,1\n")
            .with("_SUCCESS", "")
            .table("part-*.csv"),
        sent(
            "partitions",
            "dt=2026-01-01/region=eu/a.csv",
            "id,n\na,1\n",
            "n dt region",
            r#"{"a":{"n":1,"dt":"2026-01-01","region":"eu"},"b":{"n":2,"dt":"2026-01-02","region":"us east"}}"#,
        )
        .with("dt=2026-01-02/region=us%20east/b.csv", "id,n\nb,2\n")
        .table("*/*/*.csv"),
        sent("below", "x/y/a.csv", "id,n\na,1\n", "n", r#"{"a":{"n":1},"b":{"n":2}}"#)
            .with("x/b.csv", "id,n\nb,2\n")
            .table("**/*.csv"),
        sent("packed_beside_plain", "a.csv", "id,n\na,1\n", "n", r#"{"a":{"n":1},"b":{"n":2}}"#)
            .with("b.csv.gz", gzip("id,n\nb,2\n"))
            .table("*.csv*"),
        refused("no_such_files", "a.csv", "id\n", "no file matches `no_such_files/*.tsv`", "check the pattern")
            .table("*.tsv"),
        refused(
            "one_of_them_broken",
            "a.csv",
            "id,name\na,1\n",
            "DIR/b.csv, line 3: 1 value instead of 2, the number of columns in line 1 (delimiter `,`, quote `\"`)",
            "whole",
        )
        .with("b.csv", "id,name\nb,2\nc\n")
        .table("*.csv"),
        sent("one_row_per_json_file", "a.json", "{\"id\":\"a\",\"n\":1}", "n", r#"{"a":{"n":1},"b":{"n":null}}"#)
            .with("b.json", "[{\"id\":\"b\",\"m\":2}]")
            .table("*.json"),
        sent("marks_in_a_files_name", "a[1].csv", "id,n\na,1\n", "n", r#"{"a":{"n":1}}"#).with("a1.csv", "id,n\nb,2\n"),
        sent("blanks_in_a_files_name", "my accounts (final) v2.1.csv", "id,n\na,1\n", "n", r#"{"a":{"n":1}}"#),
    ]);
}

#[test]
fn a_files_name_needs_no_quotation_marks() {
    for (name, parts) in [
        ("accounts.csv", vec!["accounts", "csv"]),
        ("exports/my accounts.csv", vec!["exports/my accounts.csv"]),
        ("exports/2026.11.26.accounts.csv.gz", vec!["exports/2026.11.26.accounts.csv.gz"]),
        ("../a.b.c.d.parquet", vec!["../a.b.c.d.parquet"]),
    ] {
        assert_eq!(groupcast::mapping::sections::model::table_name(name).unwrap(), parts, "{name}");
    }
    for name in ["a.b.c.d", "my accounts", "a;b.csv", "x'.csv.csv.csv.csv"] {
        assert!(groupcast::mapping::sections::model::table_name(name).is_err(), "{name}");
    }
}
