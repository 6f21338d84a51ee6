//! Does every type of value arrive exactly, by COPY and by cursor alike?

use groupcast::mapping::Expr;
use groupcast::model::cell::{self, As};
use groupcast::model::{Cell, ColumnType};
use serde_json::{Value, json};

use super::{projection, stage, table};
use crate::support::postgres::shared;

/// An SQL expression, what it means, its physical form and its JSON (declared as a string where there is no other).
type Case = (&'static str, ColumnType, Cell, Option<As>, Result<Value, &'static str>);

fn list(of: ColumnType) -> ColumnType {
    ColumnType::List(Box::new(of))
}

fn text(value: &str) -> Cell {
    Cell::Text(value.to_owned())
}

/// The number spelled exactly so.
fn number(spelled: &str) -> Value {
    serde_json::from_str(spelled).unwrap()
}

const INFINITE: i64 = i64::MAX;

fn numbers() -> Vec<Case> {
    use ColumnType::{Bool, Decimal, Float32, Float64, Int};
    let digits = "1234567890".repeat(40);
    let long: &'static str = Box::leak(format!("'{digits}.{digits}'::numeric").into_boxed_str());
    let long_text = format!("{digits}.{digits}");
    vec![
        ("true", Bool, Cell::Bool(true), None, Ok(json!(true))),
        ("false", Bool, Cell::Bool(false), None, Ok(json!(false))),
        ("(-32768)::int2", Int, Cell::Int(-32768), None, Ok(json!(-32768))),
        ("2147483647::int4", Int, Cell::Int(2147483647), None, Ok(json!(2147483647))),
        ("9007199254740993::int8", Int, Cell::Int(9007199254740993), None, Ok(json!(9007199254740993i64))),
        ("(-9223372036854775808)::int8", Int, Cell::Int(i64::MIN), None, Ok(json!(i64::MIN))),
        ("4294967295::oid", Int, Cell::Int(4294967295), None, Ok(json!(4294967295i64))),
        ("0.1::float4", Float32, Cell::Double(f64::from(0.1f32)), None, Ok(number("0.1"))),
        ("0.1::float8", Float64, Cell::Double(0.1), None, Ok(number("0.1"))),
        ("'-0'::float8", Float64, Cell::Double(-0.0), None, Ok(number("0"))),
        ("1e21::float8", Float64, Cell::Double(1e21), None, Ok(number("1000000000000000000000"))),
        ("1e-300::float8", Float64, Cell::Double(1e-300), None, Ok(number("1e-300"))),
        ("'Infinity'::float8", Float64, Cell::Double(f64::INFINITY), Some(As::String), Ok(json!("Infinity"))),
        ("'-Infinity'::float4", Float32, Cell::Double(f64::NEG_INFINITY), None, Err("no such number")),
        ("1.50::numeric(38,10)", Decimal, text("1.5000000000"), Some(As::Number), Ok(number("1.5"))),
        ("0::numeric", Decimal, text("0"), Some(As::Number), Ok(number("0"))),
        ("0.00::numeric", Decimal, text("0.00"), Some(As::Number), Ok(number("0"))),
        ("-0.00012::numeric", Decimal, text("-0.00012"), Some(As::String), Ok(json!("-0.00012"))),
        ("100000000::numeric", Decimal, text("100000000"), Some(As::Number), Ok(number("100000000"))),
        ("10000.0001::numeric", Decimal, text("10000.0001"), Some(As::Number), Ok(number("10000.0001"))),
        ("12345678901234567890.5::numeric", Decimal, text("12345678901234567890.5"), None, Err("declare")),
        (long, Decimal, text(&long_text), Some(As::String), Ok(json!(long_text))),
        ("'NaN'::numeric", Decimal, text("NaN"), Some(As::Number), Err("no such number")),
        ("'Infinity'::numeric", Decimal, text("Infinity"), Some(As::String), Ok(json!("Infinity"))),
        ("'-Infinity'::numeric", Decimal, text("-Infinity"), Some(As::String), Ok(json!("-Infinity"))),
    ]
}

fn texts() -> Vec<Case> {
    use ColumnType::{Bytes, Json, Other, Text, Uuid};
    let same = |value: &str| (text(value), Ok(json!(value)));
    let mut cases = Vec::new();
    for (sql, kind, value) in [
        ("'Zoë 🎉 \"quoted\" \\ back'::text", Text, "Zoë 🎉 \"quoted\" \\ back"),
        ("''::text", Text, ""),
        ("E'a\\nb\\tc'::varchar(20)", Text, "a\nb\tc"),
        ("'ab'::char(5)", Text, "ab"),
        ("'x'::\"char\"", Text, "x"),
        ("'a_name'::name", Text, "a_name"),
        ("'Mixed'::citext", Text, "Mixed"),
        ("'happy'::mood", Text, "happy"),
        ("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("'\\x00ff10'::bytea", Bytes, "00ff10"),
        ("''::bytea", Bytes, ""),
        ("'192.168.0.0/16'::inet", Other, "192.168.0.0/16"),
        ("int4range(1, 5)", Other, "[1,5)"),
        ("tstzrange('2024-01-01Z', NULL)", Other, "[\"2024-01-01 00:00:00+00\",)"),
        ("'12.34'::money", Other, "$12.34"),
        ("ROW(1, 'two', 0.1::float8)::pair", Other, "(1,two,0.1)"),
        ("'<a>1</a>'::xml", Other, "<a>1</a>"),
        ("'12:00:00.5+02'::timetz", Other, "12:00:00.5+02"),
        ("'a=>1'::hstore", Other, "\"a\"=>\"1\""),
        ("B'101'", Other, "101"),
        ("'one two'::tsvector", Other, "'one' 'two'"),
        ("'literal'", Text, "literal"),
    ] {
        let (cell, json) = same(value);
        cases.push((sql, kind, cell, None, json));
    }
    cases.push(("'5'::positive", ColumnType::Int, Cell::Int(5), None, Ok(json!(5))));
    let (spaced, parsed) = ("{\"b\": 1.50,  \"a\": [null]}", json!({"a": [null], "b": number("1.5")}));
    cases.push(("'{\"b\": 1.50,  \"a\": [null]}'::json", Json, text(spaced), None, Ok(parsed.clone())));
    cases.push((
        "'{\"b\": 1.50,  \"a\": [null]}'::jsonb",
        Json,
        text("{\"a\": [null], \"b\": 1.50}"),
        None,
        Ok(parsed),
    ));
    cases.push(("'null'::jsonb", Json, text("null"), None, Ok(Value::Null)));
    cases
}

fn times() -> Vec<Case> {
    use ColumnType::{Date, Interval, Time, Timestamp};
    let micros = 1_714_979_287_654_321;
    vec![
        ("'1970-01-01'::date", Date, Cell::Int(0), None, Ok(json!("1970-01-01"))),
        ("'1969-12-31'::date", Date, Cell::Int(-1), None, Ok(json!("1969-12-31"))),
        ("'0044-03-15 BC'::date", Date, Cell::Int(-735_160), None, Ok(json!("-0043-03-15"))),
        ("'5874897-12-31'::date", Date, Cell::Int(2_145_042_905), None, Err("years")),
        ("'infinity'::date", Date, Cell::Int(INFINITE), None, Err("infinite")),
        ("'-infinity'::date", Date, Cell::Int(i64::MIN), Some(As::String), Ok(json!("-infinity"))),
        ("'00:00'::time", Time, Cell::Int(0), None, Ok(json!("00:00:00"))),
        ("'12:34:56.789'::time", Time, Cell::Int(45_296_789_000), None, Ok(json!("12:34:56.789"))),
        ("'24:00:00'::time", Time, Cell::Int(86_400_000_000), None, Ok(json!("24:00:00"))),
        (
            "'2024-05-06 07:08:07.654321'::timestamp",
            Timestamp,
            Cell::Int(micros),
            None,
            Ok(json!("2024-05-06T07:08:07.654321Z")),
        ),
        (
            "'2024-05-06 09:08:07.654321+02'::timestamptz",
            Timestamp,
            Cell::Int(micros),
            None,
            Ok(json!("2024-05-06T07:08:07.654321Z")),
        ),
        // Not in the time zone of the server, which is New York.
        (
            "'2024-05-06 07:08:07.654321'::timestamptz",
            Timestamp,
            Cell::Int(micros),
            None,
            Ok(json!("2024-05-06T07:08:07.654321Z")),
        ),
        (
            "'1969-12-31 23:59:59.5Z'::timestamptz",
            Timestamp,
            Cell::Int(-500_000),
            None,
            Ok(json!("1969-12-31T23:59:59.500Z")),
        ),
        (
            "'0044-03-15 00:00:00 BC'::timestamp",
            Timestamp,
            Cell::Int(-735_160 * 86_400_000_000),
            None,
            Ok(json!("-0043-03-15T00:00:00Z")),
        ),
        ("'infinity'::timestamptz", Timestamp, Cell::Int(INFINITE), None, Err("infinite")),
        ("'-infinity'::timestamp", Timestamp, Cell::Int(i64::MIN), Some(As::String), Ok(json!("-infinity"))),
        ("'294276-12-31 23:59:59'::timestamp", Timestamp, Cell::Int(i64::MAX - 1), None, Err("years")),
        (
            "'1 year 2 mons 3 days 04:05:06.5'::interval",
            Interval,
            text("14 3 14706500000"),
            None,
            Ok(json!("P1Y2M3DT4H5M6.5S")),
        ),
        ("'-1 mon'::interval", Interval, text("-1 0 0"), None, Ok(json!("P-1M"))),
    ]
}

fn lists() -> Vec<Case> {
    use ColumnType::{Bool, Bytes, Date, Decimal, Float32, Float64, Int, Interval, Json, Other, Text, Timestamp, Uuid};
    vec![
        (
            "ARRAY[1, NULL, 9007199254740993]::int8[]",
            list(Int),
            text("[1,null,9007199254740993]"),
            None,
            Ok(json!([1, null, 9007199254740993i64])),
        ),
        ("'{}'::int4[]", list(Int), text("[]"), None, Ok(json!([]))),
        ("'{{1,2},{3,NULL}}'::int2[]", list(Int), text("[[1,2],[3,null]]"), None, Ok(json!([[1, 2], [3, null]]))),
        ("'[5:6]={7,8}'::int4[]", list(Int), text("[7,8]"), None, Ok(json!([7, 8]))),
        ("ARRAY[true, false]", list(Bool), text("[true,false]"), None, Ok(json!([true, false]))),
        (
            "ARRAY['a\"b', NULL, '', 'NULL', E'x\\ny']",
            list(Text),
            text(r#"["a\"b",null,"","NULL","x\u000ay"]"#),
            None,
            Ok(json!(["a\"b", null, "", "NULL", "x\ny"])),
        ),
        ("ARRAY[1.50, 2]::numeric[]", list(Decimal), text(r#"["1.50","2"]"#), None, Ok(json!([number("1.5"), 2]))),
        ("ARRAY[0.1, 'NaN']::float8[]", list(Float64), text(r#"["0.1","NaN"]"#), None, Err("no such number")),
        (
            "ARRAY[0.1, 1e21]::float8[]",
            list(Float64),
            text(r#"["0.1","1000000000000000000000"]"#),
            None,
            Ok(json!([number("0.1"), number("1000000000000000000000")])),
        ),
        ("ARRAY[0.1]::float4[]", list(Float32), text(r#"["0.1"]"#), None, Ok(json!([number("0.1")]))),
        (
            "ARRAY['Infinity', '-Infinity']::float4[]",
            list(Float32),
            text(r#"["Infinity","-Infinity"]"#),
            None,
            Err("no such number"),
        ),
        (
            "ARRAY['1970-01-02', '1969-12-31']::date[]",
            list(Date),
            text("[1,-1]"),
            None,
            Ok(json!(["1970-01-02", "1969-12-31"])),
        ),
        (
            "ARRAY['1970-01-01 00:00:01Z']::timestamptz[]",
            list(Timestamp),
            text("[1000000]"),
            None,
            Ok(json!(["1970-01-01T00:00:01Z"])),
        ),
        ("ARRAY['1 day']::interval[]", list(Interval), text(r#"["0 1 0"]"#), None, Ok(json!(["P1D"]))),
        (
            "ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']::uuid[]",
            list(Uuid),
            text(r#"["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]"#),
            None,
            Ok(json!(["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"])),
        ),
        ("ARRAY['{\"a\": 1}']::jsonb[]", list(Json), text(r#"["{\"a\": 1}"]"#), None, Ok(json!([{"a": 1}]))),
        ("ARRAY['\\xff']::bytea[]", list(Bytes), text(r#"["ff"]"#), None, Ok(json!(["ff"]))),
        ("ARRAY['happy', NULL]::mood[]", list(Text), text(r#"["happy",null]"#), None, Ok(json!(["happy", null]))),
        ("ARRAY[5]::positive[]", list(Int), text("[5]"), None, Ok(json!([5]))),
        (
            "ARRAY['10.0.0.0/8', NULL]::cidr[]",
            list(Other),
            text(r#"["10.0.0.0/8",null]"#),
            None,
            Ok(json!(["10.0.0.0/8", null])),
        ),
        ("ARRAY[ROW(1, 'a', 2)]::pair[]", list(Other), text(r#"["(1,a,2)"]"#), None, Ok(json!(["(1,a,2)"]))),
        ("ARRAY['ab']::char(4)[]", list(Text), text(r#"["ab"]"#), None, Ok(json!(["ab"]))),
    ]
}

#[tokio::test]
async fn every_type_arrives_exactly() {
    let database = shared().create_database().await;
    database
        .execute(
            "CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad', 'happy');
             CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE TYPE pair AS (a int, b text, c float8);
             CREATE TABLE one (id int); INSERT INTO one VALUES (1), (2)",
        )
        .await;
    let cases: Vec<Case> = [numbers(), texts(), times(), lists()].concat();
    let mut wanted = projection(table("one"), "id", &[]);
    // Each value in one row, a null of the same type in the other.
    wanted.columns = cases.iter().map(|(sql, ..)| Expr::Sql(format!("CASE WHEN id = 1 THEN {sql} END"))).collect();
    for read in ["auto", "copy", "cursor"] {
        let mut source = database.source(json!({"read": read})).await;
        let described = source_kinds(&mut source, &wanted).await;
        let (staged, rows) = stage(&mut source, &wanted).await.unwrap();
        assert_eq!(described, staged.kinds);
        for (index, (sql, kind, cell, declared, expected)) in cases.iter().enumerate() {
            let (got, null) = (&rows[0].1[index], &rows[1].1[index]);
            assert_eq!(&staged.kinds[index], kind, "{read}: {sql}");
            assert_eq!(got, cell, "{read}: {sql}");
            assert_eq!(null, &Cell::Null, "{read}: {sql}");
            if let (Cell::Double(got), Cell::Double(cell)) = (got, cell) {
                assert_eq!(got.to_bits(), cell.to_bits(), "{read}: {sql}");
            }
            match (cell::to_json(got, kind, *declared), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got.to_string(), expected.to_string(), "{read}: {sql}"),
                (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{read}: {sql}: {reason}"),
                (got, expected) => panic!("{read}: {sql}: {got:?} instead of {expected:?}"),
            }
        }
    }
}

async fn source_kinds(
    source: &mut groupcast::source::postgres::Postgres,
    wanted: &groupcast::mapping::compile::Projection,
) -> Vec<ColumnType> {
    use groupcast::source::Source as _;
    source.describe_projection(wanted).await.unwrap().into_iter().map(|column| column.kind).collect()
}

#[tokio::test]
async fn nan_is_staged_as_nan() {
    let database = shared().create_database().await;
    database.execute("CREATE TABLE one AS SELECT 1 AS id, 'NaN'::float8 AS d, 'NaN'::float4 AS f").await;
    for read in ["auto", "copy", "cursor"] {
        let mut source = database.source(json!({"read": read})).await;
        let (_, rows) = stage(&mut source, &projection(table("one"), "id", &["d", "f"])).await.unwrap();
        assert!(rows[0].1.iter().all(|cell| matches!(cell, Cell::Double(value) if value.is_nan())), "{rows:?}");
    }
}

#[tokio::test]
async fn numerics_of_every_size_are_the_servers_own_text() {
    let database = shared().create_database().await;
    database
        .execute(
            "SELECT setseed(0.5);
             CREATE TABLE numbers AS SELECT n AS id, (CASE WHEN n % 2 = 0 THEN -1 ELSE 1 END)
                 * round((random() * 10 ^ (n % 40))::numeric * (10::numeric ^ (n % 23 - 11)), n % 31) AS d
             FROM generate_series(1, 20000) n;
             INSERT INTO numbers SELECT 20000 + n, 10::numeric ^ n FROM generate_series(-60, 60) n",
        )
        .await;
    let mut wanted = projection(table("numbers"), "id", &["d"]);
    wanted.columns.push(Expr::Sql("d::text".into()));
    let (_, rows) = stage(&mut database.source(json!({})).await, &wanted).await.unwrap();
    assert_eq!(rows.len(), 20_121);
    for (key, cells) in rows {
        assert_eq!(cells[0], cells[1], "row {key:?}");
    }
}

#[tokio::test]
async fn keys_of_every_type_are_the_servers_text() {
    let database = shared().create_database().await;
    database.execute("CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad')").await;
    for (sql, expected) in [
        ("'007'::text", "007"),
        ("''::text", ""),
        ("' a '::varchar", " a "),
        ("'ab'::char(9)", "ab"),
        ("'Mixed'::citext", "Mixed"),
        ("'sad'::mood", "sad"),
        ("(-7)::int2", "-7"),
        ("9223372036854775807::int8", "9223372036854775807"),
        ("1.50::numeric(10,2)", "1.50"),
        ("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("true", "true"),
        ("'2024-05-06'::date", "2024-05-06"),
    ] {
        for read in ["auto", "copy", "cursor"] {
            let from = groupcast::mapping::From::Query(format!("SELECT {sql} AS \"The Key\""));
            let mut source = database.source(json!({"read": read})).await;
            let (_, rows) = stage(&mut source, &projection(from, "The Key", &[])).await.unwrap();
            assert_eq!(rows, [(Some(expected.to_owned()), vec![])], "{sql} by {read}");
        }
    }
}
