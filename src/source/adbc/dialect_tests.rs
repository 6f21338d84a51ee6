//! Every statement that a dialect can make, parsed by a SQL parser of that dialect.

use sqlparser::dialect as parsers;
use sqlparser::parser::Parser;

use super::dialects::{DIALECTS, Form, NAMES, Warehouse, named, of_driver};
use super::plan::{self, Plan};
use super::settings::AdbcSettings;
use super::types::Meaning;
use crate::mapping::compile::{Projection, Restriction};
use crate::mapping::dialect::Dialect as _;
use crate::mapping::{Expr, From};
use crate::model::ColumnType;
use crate::source::mirror::{GONE, MirrorChange, MirrorQuery, MirrorStatements};

const FORMS: [Form; 12] = [
    Form::Bool,
    Form::Int,
    Form::Double,
    Form::Text,
    Form::Spelled,
    Form::Decimal(2),
    Form::Date,
    Form::Time,
    Form::Timestamp,
    Form::TimestampTz,
    Form::Bytes,
    Form::Json,
];

fn parser(of: &Warehouse) -> Box<dyn parsers::Dialect> {
    match of.name {
        "postgres" => Box::new(parsers::PostgreSqlDialect {}),
        "redshift" => Box::new(parsers::RedshiftSqlDialect {}),
        "snowflake" => Box::new(parsers::SnowflakeDialect),
        "bigquery" => Box::new(parsers::BigQueryDialect),
        "databricks" => Box::new(parsers::DatabricksDialect {}),
        "clickhouse" => Box::new(parsers::ClickHouseDialect {}),
        "mysql" => Box::new(parsers::MySqlDialect {}),
        "sqlserver" => Box::new(parsers::MsSqlDialect {}),
        "duckdb" => Box::new(parsers::DuckDbDialect),
        "sqlite" => Box::new(parsers::SQLiteDialect {}),
        _ => Box::new(parsers::GenericDialect {}),
    }
}

#[track_caller]
fn parses(of: &Warehouse, sql: &str) {
    // The generic parser reads what the others do; no released one has Trino's own.
    let parsed = Parser::parse_sql(parser(of).as_ref(), sql);
    let statements = parsed.unwrap_or_else(|error| panic!("{}: {error}\n{sql}", of.name));
    assert_eq!(statements.len(), 1, "{}: more than one statement\n{sql}", of.name);
}

fn meaning(form: Form) -> Meaning {
    let kind = match form {
        Form::Time => ColumnType::Time,
        Form::Timestamp | Form::TimestampTz => ColumnType::Timestamp,
        Form::Date => ColumnType::Date,
        Form::Int => ColumnType::Int,
        _ => ColumnType::Text,
    };
    Meaning { kind, form, declared: String::new() }
}

fn projection(from: From, restriction: Option<Restriction>, cursor: Option<&str>) -> Projection {
    Projection {
        from,
        filters: vec!["plan <> 'free'".to_owned()],
        restriction,
        key: "account id".to_owned(),
        columns: FORMS.iter().enumerate().map(|(at, _)| Expr::Column(format!("column {at}"))).collect(),
        cursor: cursor.map(str::to_owned),
        limit: Some(10),
        summed: false,
    }
}

#[test]
fn every_statement_parses_in_its_dialect() {
    for dialect in DIALECTS {
        let tables = [vec!["accounts"], vec!["analytics", "accounts"], vec!["db", "analytics", "dim accounts"]];
        let froms = tables
            .into_iter()
            .map(|parts| From::Table(parts.into_iter().map(str::to_owned).collect()))
            .chain([From::Query("SELECT * FROM accounts -- all of them".to_owned())]);
        for from in froms {
            for cursor in [Form::Int, Form::Date, Form::Timestamp, Form::TimestampTz, Form::Text] {
                let checkpoint = match cursor {
                    Form::Int => "42",
                    Form::Date => "2024-02-29",
                    Form::Timestamp => "2024-02-29 01:02:03.000004",
                    Form::TimestampTz => "2024-02-29 01:02:03.000004+00",
                    _ => "it's",
                };
                let restriction = Some(Restriction::CursorFrom(checkpoint.to_owned()));
                let projection = projection(from.clone(), restriction, Some("changed at"));
                let meanings = std::iter::once(Form::Int).chain(FORMS).chain([cursor]).map(meaning).collect();
                let plan = Plan::new(&projection, dialect, meanings).unwrap();
                parses(dialect, &plan.sql);
                parses(dialect, &dialect.first_rows(&plan.sql.replace(" LIMIT 10", "").replace("TOP (10) ", ""), 0));
                if let Some(sql) = &plan.cursor_maximum {
                    parses(dialect, sql);
                }
            }
            let group = projection(
                from,
                Some(Restriction::Groups(vec!["it's \\' OR 1=1 --".to_owned(), "b".to_owned()])),
                None,
            );
            parses(dialect, &plan::select(&group, dialect, &plan::expressions(&group, dialect)));
        }
    }
}

#[test]
fn no_text_ends_its_literal_early() {
    for dialect in DIALECTS {
        for text in ["", "it's", "\\", "\\' OR 1=1 --", "a\nb", "a\0b", "'; DROP TABLE a; --", "`", "\"", "é🎉", "''"]
        {
            let sql = format!("SELECT {} AS a", dialect.literal(text));
            // The parser reads no hexadecimal number as an argument of CONVERT … USING.
            if !sql.contains("CONVERT(0x") {
                parses(dialect, &sql);
            }
        }
    }
}

#[test]
fn no_name_ends_its_quotes_early() {
    for dialect in DIALECTS {
        let escapes = ["bigquery", "clickhouse"].contains(&dialect.name);
        for name in ["id", "Account Id", "a\"b", "a`b", "a]b", "a.b", "a;b", "select", "é🎉", "a\\b", "a\\`b"] {
            // The parser knows no backslashes between these marks.
            if !(escapes && name.contains(['`', '\\'])) {
                parses(dialect, &format!("SELECT {} FROM t", dialect.identifier(name)));
            }
        }
    }
}

#[test]
fn where_a_backslash_escapes_it_is_escaped_itself() {
    for name in ["bigquery", "clickhouse"] {
        assert_eq!(named(name).unwrap().identifier("a\\`b"), "`a\\\\\\`b`");
    }
}

#[test]
fn every_dialect_is_named_and_found_by_its_drivers() {
    let mut names: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name).collect();
    let mut of_setting = NAMES.to_vec();
    names.sort_unstable();
    of_setting.sort_unstable();
    assert_eq!(names, of_setting);
    for (driver, expected) in [
        ("snowflake", "snowflake"),
        ("adbc_driver_postgresql", "postgres"),
        ("/opt/drivers/libadbc_driver_bigquery.so", "bigquery"),
        ("/home/duckdb/libadbc_driver_sqlite.so", "sqlite"),
        ("mssql", "sqlserver"),
        ("mariadb", "mysql"),
        ("redshift", "redshift"),
    ] {
        assert_eq!(of_driver(driver).map(|dialect| dialect.name), Some(expected), "{driver}");
    }
    assert!(of_driver("flightsql").is_none());
    assert!(named("oracle").is_none());
}

#[test]
fn snowflakes_plain_names_are_in_capitals_and_others_as_they_are() {
    let snowflake = named("snowflake").unwrap();
    for (name, written) in [("account_id", "\"ACCOUNT_ID\""), ("Account Id", "\"Account Id\""), ("ID", "\"ID\"")] {
        assert_eq!(snowflake.identifier(name), written);
    }
    for (found, name) in
        [("ACCOUNT_ID", "account_id"), ("account_id", "account_id"), ("Mixed", "Mixed"), ("A B", "A B")]
    {
        assert_eq!(snowflake.written(found), name);
    }
    assert_eq!(named("postgres").unwrap().written("ID"), "ID");
}

#[test]
fn the_statements_of_every_dialect() {
    let mut all = String::new();
    for dialect in DIALECTS {
        let restriction = Some(Restriction::CursorFrom("2024-02-29 01:02:03.000004+00".to_owned()));
        let from = From::Table(vec!["analytics".to_owned(), "accounts".to_owned()]);
        let projection = projection(from, restriction, Some("changed_at"));
        let meanings = std::iter::once(Form::Int).chain(FORMS).chain([Form::TimestampTz]).map(meaning).collect();
        let plan = Plan::new(&projection, dialect, meanings).unwrap();
        all.push_str(&format!("-- {}\n{}\n\n", dialect.name, plan.sql.replace(", ", ",\n  ")));
    }
    insta::assert_snapshot!(all);
}

/// Every statement of a mirror in a dialect that has them.
fn mirror_statements(dialect: &'static Warehouse) -> Vec<String> {
    let from = From::Table(vec!["analytics".to_owned(), "accounts".to_owned()]);
    let projection = Projection { limit: None, ..projection(from, None, None) };
    let meanings = std::iter::once(Form::Int).chain(FORMS).map(meaning).collect();
    let rows = Plan::new(&projection, dialect, meanings).unwrap().model_rows.unwrap();
    let schema = ["db".to_owned(), "mirrors of it".to_owned()];
    let sql = dialect.mirror.as_ref().unwrap();
    let statements = MirrorStatements { dialect, sql, schema: &schema };
    let table = || "groupcast_accounts_a".to_owned();
    let wanted = vec!["it's \\' OR 1=1 --".to_owned(), "b".to_owned()];
    let changes = [
        MirrorChange::Fill { table: table(), seq: 7 },
        MirrorChange::Append { table: table(), seq: 8, rows: vec![("it's".to_owned(), 5), ("b\\".to_owned(), GONE)] },
        MirrorChange::Compact { table: table(), base: 7, seq: 8, into: "groupcast_accounts_b".to_owned() },
        MirrorChange::Drop { table: table() },
    ];
    let query =
        |all| MirrorQuery { table: table(), base: 7, seq: 8, keys: 0, checksum: 0, wanted: wanted.clone(), all };
    [statements.compare(&rows, &query(false)), statements.compare(&rows, &query(true)), statements.sum(&rows)]
        .into_iter()
        .chain(changes.iter().flat_map(|change| statements.change(change, Some(&rows))))
        .collect()
}

#[test]
fn the_statements_of_mirrors_parse_in_their_dialects() {
    let mut all = String::new();
    for dialect in DIALECTS.iter().filter(|dialect| dialect.mirror.is_some()) {
        for sql in mirror_statements(dialect) {
            parses(dialect, &sql);
            all.push_str(&format!("-- {}\n{sql}\n\n", dialect.name));
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn dialects_without_mirrors_are_refused() {
    let settings = |text: &str| toml::from_str::<AdbcSettings>(text).unwrap();
    let refused = settings("driver = 'mysql'\ncompare = 'warehouse'").check().unwrap_err();
    assert!(refused.to_string().contains("dialect `mysql`"), "{refused}");
    assert!(refused.advice().unwrap().contains("snowflake"), "{refused:?}");
    assert!(settings("driver = 'mysql'").check().is_ok());
    assert!(settings("driver = 'snowflake'\ncompare = 'warehouse'").check().is_ok());
}
