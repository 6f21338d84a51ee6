//! What do Parquet files of other programs hold? Those that only they write are fixtures; `tests/fixtures/files/make.py` made
//! them.

use super::{hold, refused, sent};

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/files/");
    std::fs::read(format!("{folder}{name}")).unwrap()
}

/// What DuckDB itself writes of a query.
fn made(sql: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.parquet");
    let connection = duckdb::Connection::open_in_memory().unwrap();
    connection.execute_batch(&format!("COPY ({sql}) TO '{}' (FORMAT parquet)", path.display())).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn parquet_of_other_programs() {
    const BINARY: &str = "binary in the Parquet file, not marked as text: it is sent as hexadecimal digits";
    hold(&[
        sent(
            "spark_legacy",
            "a.parquet",
            fixture("spark-legacy.parquet"),
            "since arr:number small:number tags attrs owner",
            r#"{"007":{"since":"2026-03-04T17:30:00.123456Z","arr":1234567890123456.78,"small":1.5,"tags":["x",null],"attrs":{"a":1},"owner":{"age":5,"name":"Ann"}},"8":{"since":null,"arr":-0.1,"small":2,"tags":[],"attrs":null,"owner":null}}"#,
        ),
        sent(
            "pandas_parquet",
            "a.parquet",
            fixture("pandas.parquet"),
            "kind seats share since zoned live mixed",
            r#"{"007":{"kind":"gold","seats":5,"share":0.1,"since":"2026-03-04T17:30:00.123456789Z","zoned":"2026-03-04T16:30:00Z","live":true,"mixed":"x"},"8":{"kind":"silver","seats":null,"share":null,"since":null,"zoned":"2026-03-05T07:00:00Z","live":false,"mixed":null}}"#,
        ),
        sent(
            "pyarrow_types",
            "a.parquet",
            fixture("pyarrow.parquet"),
            "u64:number u32 i8 f32 wide:number day clock clock_ms ms utc large nothing nested",
            r#"{"007":{"u64":18446744073709551615,"u32":4294967295,"i8":-128,"f32":0.1,"wide":12345678901234567890123456789012345.678,"day":"2026-03-04","clock":"17:30:00.500","clock_ms":"17:30:00","ms":"2026-03-04T17:30:00.123Z","utc":"2026-03-04T17:30:00.123456Z","large":"xxx","nothing":null,"nested":[{"n":[1,2]}]}}"#,
        ),
        sent(
            "json_text",
            "a.parquet",
            fixture("json-text.parquet"),
            "doc:json",
            r#"{"007":{"doc":{"a":1.1,"b":12345678901234567890}}}"#,
        ),
        sent("no_rows", "a.parquet", fixture("no-rows.parquet"), "n", "{}"),
        refused(
            "binary_key",
            "a.parquet",
            fixture("binary.parquet"),
            "column `id` is BLOB, which cannot be a group's key",
            "cast it to text",
        )
        .says(BINARY)
        .says("`sql = \"FROM read_parquet('binary_key/a.parquet', binary_as_string = true)\"`"),
        sent(
            "binary_as_string",
            "a.parquet",
            fixture("binary.parquet"),
            "name",
            r#"{"007":{"name":"Acme"},"8":{"name":"Café"}}"#,
        )
        .sql("FROM read_parquet('DIR/a.parquet', binary_as_string = true)"),
        sent(
            "binary_trait",
            "a.parquet",
            made("SELECT '007' AS id, 'Acme'::BLOB AS name"),
            "name",
            r#"{"007":{"name":"41636d65"}}"#,
        )
        .says(BINARY),
        sent(
            "binary_in_sql",
            "a.parquet",
            made("SELECT '007' AS id, 'Acme'::BLOB AS name"),
            "name",
            r#"{"007":{"name":"41636d65"}}"#,
        )
        .sql("SELECT * FROM 'DIR/a.parquet'")
        .says("`read_parquet('…', binary_as_string = true)` in its SQL"),
        sent(
            "digits_in_parquet",
            "a.parquet",
            made("SELECT '007' AS id, 9007199254740993::BIGINT AS n, 1.10::DECIMAL(10,2) AS d"),
            "n d:number",
            r#"{"007":{"n":9007199254740993,"d":1.1}}"#,
        ),
        sent(
            "several_parquet_files",
            "a.parquet",
            made("SELECT '007' AS id, 1 AS n"),
            "n",
            r#"{"007":{"n":1},"8":{"n":2}}"#,
        )
        .with("b.parquet", made("SELECT '8' AS id, 2 AS n"))
        .table("*.parquet"),
        refused(
            "parquet_cut_off",
            "a.parquet",
            &made("SELECT '007' AS id, 'x' AS name")[..100],
            "/DIR/a.parquet'",
            "run again if the file was being written or replaced",
        ),
    ]);
}

#[test]
fn sql_over_text_files_is_duckdbs_reading_and_check_says_what_it_loses() {
    hold(&[
        sent(
            "sniffed_zeros",
            "a.csv",
            "id,zip,n\na,02134,1\nb,90210,2\n",
            "zip n",
            r#"{"a":{"zip":2134,"n":1},"b":{"zip":90210,"n":2}}"#,
        )
        .sql("SELECT id, zip::BIGINT AS zip, n FROM 'DIR/a.csv'")
        .says(
            "DuckDB reads `zip` of sniffed_zeros/a.csv as BIGINT, and not every value of it is one: digits may be lost",
        )
        .says("write `table = \"sniffed_zeros/a.csv\"` instead of `sql`"),
        sent(
            "sniffed_digits",
            "a.csv",
            "id,ext\na,12345678901234567890.5\n",
            "ext:string",
            r#"{"a":{"ext":"12345678901234567000"}}"#,
        )
        .sql("SELECT * FROM read_csv('DIR/a.csv')")
        .says("DuckDB reads `ext` of sniffed_digits/a.csv as DOUBLE"),
        sent(
            "sniffed_json",
            "a.ndjson",
            "{\"id\":\"a\",\"n\":12345678901234567.89}\n",
            "n:string",
            r#"{"a":{"n":"12345678901234568"}}"#,
        )
        .sql("FROM read_json('DIR/a.ndjson')")
        .says("DuckDB reads `n` of sniffed_json/a.ndjson as DOUBLE"),
        sent(
            "all_as_text",
            "a.csv",
            "id,ext\n007,12345678901234567890\n",
            "ext",
            r#"{"007":{"ext":"12345678901234567890"}}"#,
        )
        .sql("FROM read_csv('DIR/a.csv', all_varchar = true)"),
    ]);
}
