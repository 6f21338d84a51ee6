//! The SQL of warehouses that are read through a driver: one row of [`DIALECTS`] for each.
//!
//! What crosses the wire is always one of four forms (`model::cell`), because drivers disagree about everything else: a
//! Snowflake timestamp overflows outside 1677–2262, a decimal comes as a float, a UUID as bytes. So the warehouse itself
//! casts: decimals and wide integers to text, times to microseconds since 1970 in UTC, nested values to JSON text.
//! Templates have `{}` for the expression, which is in parentheses or a quoted name. Every statement made of them is
//! parsed by a SQL parser of the same dialect in the tests.

use crate::mapping::Quoting;
use crate::mapping::dialect::{self, Dialect, MirrorSql, NEWEST};
use crate::source::staging::batch::Physical;

/// What a column's values are to a dialect: which template gives their physical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// True or false.
    Bool,
    /// A whole number of up to 64 bits.
    Int,
    /// A float.
    Double,
    /// Text as it is.
    Text,
    /// Anything that is read as the warehouse's own text of it: decimals, wide integers, UUIDs.
    Spelled,
    /// A decimal of so many digits behind its point, all of which are written.
    Decimal(i8),
    /// A calendar date.
    Date,
    /// A time of day.
    Time,
    /// A point in time without a zone, which is UTC.
    Timestamp,
    /// A point in time with a zone.
    TimestampTz,
    /// Binary data.
    Bytes,
    /// JSON, or a nested value that becomes JSON.
    Json,
}

/// How names are quoted.
#[derive(Debug, Clone, Copy)]
enum Quote {
    /// `"a""b"`
    Double,
    /// The same in capitals where the name is plain and in small letters: what an unquoted name means.
    DoubleFolded,
    /// `` `a``b` ``
    Backtick,
    /// `` `a\`b` ``, where a backslash escapes
    BacktickEscaped,
    /// `[a]]b]`
    Bracket,
}

/// How texts are written.
#[derive(Debug, Clone, Copy)]
enum Literal {
    /// Quoted; these characters, which a server may take for something else, by this function of their code, joined by
    /// this operator.
    Coded { special: &'static [char], function: &'static str, operator: &'static str },
    /// Quoted, or in hexadecimal digits where one of these characters is in it: `||` means OR here.
    Hex(&'static [char]),
}

impl Literal {
    const fn coded(special: &'static [char], function: &'static str) -> Literal {
        Literal::Coded { special, function, operator: " || " }
    }
}

/// How a statement is cut to its first rows.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Limit,
    Top,
}

/// The templates of the physical forms.
#[derive(Debug, Clone, Copy)]
struct Forms {
    bool: &'static str,
    int: &'static str,
    double: &'static str,
    text: &'static str,
    /// Of a decimal, with `{scale}`: where `text` leaves its last zeros out.
    decimal: Option<&'static str>,
    date: &'static str,
    time: &'static str,
    timestamp: &'static str,
    timestamp_tz: &'static str,
    bytes: &'static str,
    json: &'static str,
}

/// The templates of checkpoints, with `{}` for the quoted text.
#[derive(Debug, Clone, Copy)]
struct Checkpoints {
    date: &'static str,
    timestamp: &'static str,
    timestamp_tz: &'static str,
    /// How a time in UTC ends.
    utc: &'static str,
}

/// A dialect.
#[derive(Debug)]
pub(super) struct Warehouse {
    /// The value of `dialect`.
    pub(super) name: &'static str,
    /// Words in a driver's name or path that say it is this one.
    drivers: &'static [&'static str],
    quote: Quote,
    literal: Literal,
    /// What ends a text in SQL that a person writes.
    pub(super) quoting: Quoting,
    cut: Cut,
    forms: Forms,
    checkpoints: Checkpoints,
    /// Rows that a model is described by: none, except where values have types and columns have not.
    pub(super) described_by: u64,
    /// How it writes the statements of mirrors, if it can.
    pub(super) mirror: Option<MirrorSql>,
    /// The driver's options that are set where the settings do not.
    pub(super) options: &'static [(&'static str, &'static str)],
}

const STANDARD_CHECKPOINTS: Checkpoints =
    Checkpoints { date: "DATE {}", timestamp: "TIMESTAMP {}", timestamp_tz: "TIMESTAMP {}", utc: UTC };
const UTC: &str = "+00:00";

/// A text of 15 digits, and that of what it leaves out: together no two doubles have them.
macro_rules! double_and_rest {
    ($double:literal, $text:literal) => {
        concat!(
            "CAST({} AS ",
            $text,
            ") || '~' || CAST({} - CAST(CAST({} AS ",
            $text,
            ") AS ",
            $double,
            ") AS ",
            $text,
            ")"
        )
    };
}

const CREATE: &str = "CREATE TABLE {table} AS {select}";

/// Every dialect; the first is where names of drivers that say nothing else lead. The names of `dialect` are theirs.
pub(super) const DIALECTS: &[Warehouse] = &[
    Warehouse {
        name: "redshift",
        drivers: &["redshift"],
        quote: Quote::Double,
        literal: Literal::coded(&['\\', '\0'], "chr"),
        quoting: Quoting::Standard,
        described_by: 0,
        cut: Cut::Limit,
        forms: Forms {
            bool: "{}",
            int: "CAST({} AS BIGINT)",
            double: "CAST({} AS DOUBLE PRECISION)",
            text: "CAST({} AS VARCHAR)",
            decimal: None,
            date: "CAST(DATEDIFF(day, DATE '1970-01-01', {}) AS BIGINT)",
            time: "DATEDIFF(microsecond, TIME '00:00:00', {})",
            timestamp: "DATEDIFF(microsecond, TIMESTAMP '1970-01-01 00:00:00', {})",
            timestamp_tz: "DATEDIFF(microsecond, TIMESTAMP '1970-01-01 00:00:00', {} AT TIME ZONE 'UTC')",
            bytes: "LOWER(TO_HEX({}))",
            json: "JSON_SERIALIZE({})",
        },
        checkpoints: Checkpoints {
            date: "CAST({} AS DATE)",
            timestamp: "CAST({} AS TIMESTAMP)",
            timestamp_tz: "CAST({} AS TIMESTAMPTZ)",
            utc: UTC,
        },
        mirror: Some(MirrorSql {
            hash: "STRTOL(SUBSTRING(MD5({}), 1, 15), 16)",
            length: "LEN({})",
            double: double_and_rest!("DOUBLE PRECISION", "VARCHAR"),
            int: "CAST({} AS BIGINT)",
            text: "CAST({} AS VARCHAR)",
            sum: "SUM(CAST({} AS DECIMAL(38, 0)))",
            newest: NEWEST,
            create: CREATE,
            joined: "{}",
            grants: &["CREATE SCHEMA {schema}", "GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}"],
        }),
        options: &[],
    },
    Warehouse {
        name: "postgres",
        drivers: &["postgres", "cockroach", "alloydb", "greenplum"],
        quote: Quote::Double,
        literal: Literal::coded(&['\\', '\0'], "chr"),
        quoting: Quoting::Standard,
        described_by: 0,
        cut: Cut::Limit,
        forms: Forms {
            bool: "{}",
            int: "CAST({} AS bigint)",
            double: "CAST({} AS double precision)",
            text: "CAST({} AS text)",
            decimal: None,
            date: "CASE WHEN isfinite({}) THEN CAST({} - DATE '1970-01-01' AS bigint) \
                   WHEN {} > DATE '1970-01-01' THEN 9223372036854775807 \
                   WHEN {} IS NOT NULL THEN -9223372036854775807 - 1 END",
            time: "CAST(extract(epoch FROM {}) * 1000000 AS bigint)",
            timestamp: "CASE WHEN isfinite({}) THEN CAST(extract(epoch FROM date_trunc('second', {})) AS bigint) * 1000000 \
                        + CAST(extract(microseconds FROM {}) AS bigint) % 1000000 \
                        WHEN {} > TIMESTAMP '1970-01-01 00:00:00' THEN 9223372036854775807 \
                        WHEN {} IS NOT NULL THEN -9223372036854775807 - 1 END",
            timestamp_tz: "CASE WHEN isfinite({}) THEN CAST(extract(epoch FROM date_trunc('second', {} AT TIME ZONE 'UTC')) \
                           AS bigint) * 1000000 + CAST(extract(microseconds FROM {}) AS bigint) % 1000000 \
                           WHEN {} > CAST('1970-01-01 00:00:00+00' AS timestamptz) THEN 9223372036854775807 \
                           WHEN {} IS NOT NULL THEN -9223372036854775807 - 1 END",
            bytes: "encode({}, 'hex')",
            json: "CAST(to_json({}) AS text)",
        },
        checkpoints: Checkpoints {
            date: "CAST({} AS date)",
            timestamp: "CAST({} AS timestamp)",
            timestamp_tz: "CAST({} AS timestamptz)",
            utc: UTC,
        },
        mirror: Some(MirrorSql {
            hash: "CAST(CAST('x' || substr(md5({}), 1, 15) AS bit(60)) AS bigint)",
            length: "length({})",
            double: double_and_rest!("double precision", "text"),
            int: "CAST({} AS bigint)",
            text: "CAST({} AS text)",
            sum: "sum({})",
            newest: NEWEST,
            create: CREATE,
            joined: "{}",
            grants: &["CREATE SCHEMA {schema}", "GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}"],
        }),
        options: &[],
    },
    Warehouse {
        name: "snowflake",
        drivers: &["snowflake"],
        quote: Quote::DoubleFolded,
        literal: Literal::coded(&['\\', '\0'], "chr"),
        quoting: Quoting::Backslashes,
        described_by: 0,
        cut: Cut::Limit,
        forms: Forms {
            bool: "{}",
            int: "CAST({} AS BIGINT)",
            double: "CAST({} AS DOUBLE)",
            text: "CAST({} AS VARCHAR)",
            decimal: None,
            date: "DATEDIFF('day', CAST('1970-01-01' AS DATE), {})",
            time: "DATEDIFF('microsecond', CAST('00:00:00' AS TIME), {})",
            timestamp: "DATE_PART('epoch_microsecond', {})",
            timestamp_tz: "DATE_PART('epoch_microsecond', {})",
            bytes: "LOWER(HEX_ENCODE({}))",
            json: "TO_JSON(TO_VARIANT({}))",
        },
        checkpoints: Checkpoints {
            date: "CAST({} AS DATE)",
            timestamp: "CAST({} AS TIMESTAMP_NTZ)",
            timestamp_tz: "CAST({} AS TIMESTAMP_TZ)",
            utc: UTC,
        },
        mirror: Some(MirrorSql {
            hash: "CAST(MOD(MD5_NUMBER_LOWER64({}), 1152921504606846976) AS BIGINT)",
            length: "LENGTH({})",
            double: double_and_rest!("DOUBLE", "VARCHAR"),
            int: "CAST({} AS BIGINT)",
            text: "CAST({} AS VARCHAR)",
            sum: "SUM(CAST({} AS NUMBER(38, 0)))",
            newest: NEWEST,
            create: CREATE,
            joined: "{}",
            grants: &["CREATE SCHEMA {schema}", "GRANT USAGE, CREATE TABLE ON SCHEMA {schema} TO ROLE {user}"],
        }),
        options: &[("adbc.snowflake.sql.client_option.max_timestamp_precision", "microseconds")],
    },
    Warehouse {
        name: "bigquery",
        drivers: &["bigquery"],
        quote: Quote::BacktickEscaped,
        literal: Literal::coded(&['\\', '\'', '\n', '\r', '\0'], "chr"),
        quoting: Quoting::Backslashes,
        described_by: 0,
        cut: Cut::Limit,
        forms: Forms {
            bool: "{}",
            int: "CAST({} AS INT64)",
            double: "CAST({} AS FLOAT64)",
            text: "CAST({} AS STRING)",
            decimal: None,
            date: "UNIX_DATE({})",
            time: "TIME_DIFF({}, TIME '00:00:00', MICROSECOND)",
            timestamp: "UNIX_MICROS(TIMESTAMP({}))",
            timestamp_tz: "UNIX_MICROS({})",
            bytes: "TO_HEX({})",
            json: "IF({} IS NULL, NULL, TO_JSON_STRING({}))",
        },
        checkpoints: Checkpoints { date: "DATE {}", timestamp: "DATETIME {}", timestamp_tz: "TIMESTAMP {}", utc: UTC },
        mirror: Some(MirrorSql {
            hash: "CAST(CONCAT('0x', SUBSTR(TO_HEX(MD5({})), 1, 15)) AS INT64)",
            length: "LENGTH({})",
            double: "CAST({} AS STRING)",
            int: "CAST({} AS INT64)",
            text: "CAST({} AS STRING)",
            sum: "SUM(CAST({} AS NUMERIC))",
            newest: NEWEST,
            create: CREATE,
            joined: "{}",
            grants: &[
                "CREATE SCHEMA {schema}",
                "GRANT `roles/bigquery.dataEditor` ON SCHEMA {schema} TO 'user:{user}'",
            ],
        }),
        options: &[],
    },
    Warehouse {
        name: "databricks",
        drivers: &["databricks", "spark", "sail"],
        quote: Quote::Backtick,
        literal: Literal::coded(&['\\', '\'', '\0'], "chr"),
        quoting: Quoting::Backslashes,
        described_by: 0,
        cut: Cut::Limit,
        forms: Forms {
            bool: "{}",
            int: "CAST({} AS BIGINT)",
            double: "CAST({} AS DOUBLE)",
            text: "CAST({} AS STRING)",
            decimal: None,
            date: "CAST(DATEDIFF({}, DATE '1970-01-01') AS BIGINT)",
            time: "CAST({} AS STRING)",
            // Of its own parts, since a cast to TIMESTAMP goes by the session's zone.
            timestamp: "(CAST(DATEDIFF(CAST({} AS DATE), DATE '1970-01-01') AS BIGINT) * 86400 + HOUR({}) * 3600 \
                        + MINUTE({}) * 60) * 1000000 + CAST(EXTRACT(SECOND FROM {}) * 1000000 AS BIGINT)",
            timestamp_tz: "UNIX_MICROS({})",
            bytes: "LOWER(HEX({}))",
            json: "TO_JSON({})",
        },
        checkpoints: Checkpoints { timestamp: "TIMESTAMP_NTZ {}", ..STANDARD_CHECKPOINTS },

        mirror: Some(MirrorSql {
            hash: "CAST(CONV(SUBSTR(MD5({}), 1, 15), 16, 10) AS BIGINT)",
            length: "LENGTH({})",
            double: "CAST({} AS STRING)",
            int: "CAST({} AS BIGINT)",
            text: "CAST({} AS STRING)",
            // The sum of whole numbers overflows at 64 bits.
            sum: "SUM(CAST({} AS DECIMAL(38, 0)))",
            newest: NEWEST,
            create: CREATE,
            joined: "{}",
            grants: &["CREATE SCHEMA {schema}", "GRANT USE SCHEMA, CREATE TABLE ON SCHEMA {schema} TO `{user}`"],
        }),
        options: &[],
    },
    Warehouse {
        name: "clickhouse",
        drivers: &["clickhouse", "chdb"],
        quote: Quote::BacktickEscaped,
        literal: Literal::coded(&['\\', '\0'], "char"),
        quoting: Quoting::Backslashes,
        described_by: 0,
        cut: Cut::Limit,
        forms: Forms {
            bool: "{}",
            int: "toInt64({})",
            double: "toFloat64({})",
            text: "toString({})",
            decimal: Some("toDecimalString({}, {scale})"),
            date: "toInt64(toInt32(toDate32({})))",
            time: "toString({})",
            timestamp: "toUnixTimestamp64Micro(toDateTime64({}, 6, 'UTC'))",
            timestamp_tz: "toUnixTimestamp64Micro(toDateTime64({}, 6, 'UTC'))",
            bytes: "lower(hex({}))",
            json: "toJSONString({})",
        },
        checkpoints: Checkpoints {
            date: "toDate32({})",
            timestamp: "toDateTime64({}, 6, 'UTC')",
            timestamp_tz: "toDateTime64({}, 6, 'UTC')",
            utc: UTC,
        },
        mirror: Some(MirrorSql {
            hash: "toInt64(bitAnd(reinterpretAsUInt64(substring(MD5({}), 1, 8)), 1152921504606846975))",
            length: "length({})",
            double: "toString({})",
            int: "toInt64({})",
            text: "toString({})",
            sum: "sum(toInt128({}))",
            newest: "SELECT group_key AS mirror_key, argMax(fingerprint, seq) AS mirrored FROM {table} WHERE seq >= {base} \
                     AND seq <= {seq} GROUP BY group_key",
            create: "CREATE TABLE {table} ENGINE = MergeTree ORDER BY tuple() AS {select}",
            // Without it a key that is missing on one side is the empty text, and its fingerprint 0.
            joined: "SELECT * FROM (\n{}\n) AS compared SETTINGS join_use_nulls = 1",
            grants: &[
                "CREATE DATABASE {schema}",
                "GRANT SELECT, INSERT, CREATE TABLE, DROP TABLE ON {schema}.* TO {user}",
            ],
        }),
        options: &[],
    },
    Warehouse {
        name: "mysql",
        drivers: &["mysql", "mariadb", "singlestore"],
        quote: Quote::Backtick,
        literal: Literal::Hex(&['\\', '\0']),
        quoting: Quoting::Backslashes,
        described_by: 0,
        cut: Cut::Limit,
        forms: Forms {
            bool: "{}",
            int: "CAST({} AS SIGNED)",
            double: "CAST({} AS DOUBLE)",
            text: "CAST({} AS CHAR)",
            decimal: None,
            date: "DATEDIFF({}, '1970-01-01')",
            time: "TIME_TO_SEC({}) * 1000000 + MICROSECOND({})",
            timestamp: "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', {})",
            timestamp_tz: "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', \
                           CONVERT_TZ({}, @@session.time_zone, '+00:00'))",
            bytes: "LOWER(HEX({}))",
            json: "CAST({} AS CHAR)",
        },
        checkpoints: Checkpoints {
            date: "CAST({} AS DATE)",
            timestamp: "CAST({} AS DATETIME(6))",
            timestamp_tz: "CONVERT_TZ(CAST({} AS DATETIME(6)), '+00:00', @@session.time_zone)",
            utc: "",
        },
        mirror: None,
        options: &[],
    },
    Warehouse {
        name: "sqlserver",
        drivers: &["sqlserver", "mssql", "fabric", "synapse"],
        quote: Quote::Bracket,
        literal: Literal::Coded { special: &['\0'], function: "nchar", operator: " + " },
        quoting: Quoting::Standard,
        described_by: 0,
        cut: Cut::Top,
        forms: Forms {
            bool: "CAST({} AS BIT)",
            int: "CAST({} AS BIGINT)",
            double: "CAST({} AS FLOAT(53))",
            text: "CAST({} AS NVARCHAR(MAX))",
            decimal: None,
            date: "CAST(DATEDIFF(day, CAST('1970-01-01' AS DATE), {}) AS BIGINT)",
            time: "DATEDIFF_BIG(microsecond, CAST('00:00:00' AS TIME), {})",
            timestamp: "DATEDIFF_BIG(microsecond, CAST('1970-01-01 00:00:00' AS DATETIME2), {})",
            timestamp_tz: "DATEDIFF_BIG(microsecond, CAST('1970-01-01 00:00:00 +00:00' AS DATETIMEOFFSET), {})",
            bytes: "LOWER(CONVERT(VARCHAR(MAX), {}, 2))",
            json: "CAST({} AS NVARCHAR(MAX))",
        },
        checkpoints: Checkpoints {
            date: "CAST({} AS DATE)",
            timestamp: "CAST({} AS DATETIME2)",
            timestamp_tz: "CAST({} AS DATETIMEOFFSET)",
            utc: UTC,
        },
        mirror: None,
        options: &[],
    },
    Warehouse {
        name: "trino",
        drivers: &["trino", "presto", "starburst", "athena"],
        quote: Quote::Double,
        literal: Literal::coded(&['\0'], "chr"),
        quoting: Quoting::Standard,
        described_by: 0,
        cut: Cut::Limit,
        forms: Forms {
            bool: "{}",
            int: "CAST({} AS BIGINT)",
            double: "CAST({} AS DOUBLE)",
            text: "CAST({} AS VARCHAR)",
            decimal: None,
            date: "date_diff('day', DATE '1970-01-01', {})",
            time: "date_diff('second', TIME '00:00:00', date_trunc('second', {})) * 1000000 \
                   + CAST(split_part(CAST(CAST({} AS TIME(6)) AS VARCHAR), '.', 2) AS BIGINT)",
            timestamp: "date_diff('second', TIMESTAMP '1970-01-01 00:00:00', date_trunc('second', {})) * 1000000 \
                        + CAST(split_part(CAST(CAST({} AS TIMESTAMP(6)) AS VARCHAR), '.', 2) AS BIGINT)",
            timestamp_tz: "date_diff('second', TIMESTAMP '1970-01-01 00:00:00 UTC', date_trunc('second', {})) * 1000000 \
                           + CAST(split_part(CAST(CAST({} AT TIME ZONE 'UTC' AS TIMESTAMP(6)) AS VARCHAR), '.', 2) AS BIGINT)",
            bytes: "lower(to_hex({}))",
            json: "json_format(CAST({} AS JSON))",
        },
        checkpoints: Checkpoints { utc: " UTC", ..STANDARD_CHECKPOINTS },
        mirror: None,
        options: &[],
    },
    Warehouse {
        name: "duckdb",
        drivers: &["duckdb", "motherduck"],
        quote: Quote::Double,
        literal: Literal::coded(&['\0'], "chr"),
        quoting: Quoting::Standard,
        described_by: 0,
        cut: Cut::Limit,
        forms: Forms {
            bool: "{}",
            int: "CAST({} AS BIGINT)",
            double: "CAST({} AS DOUBLE)",
            text: "CAST({} AS VARCHAR)",
            decimal: None,
            date: "CAST({} - DATE '1970-01-01' AS BIGINT)",
            time: "epoch_us({})",
            timestamp: "epoch_us({})",
            timestamp_tz: "epoch_us({})",
            bytes: "lower(hex({}))",
            json: "CAST(to_json({}) AS VARCHAR)",
        },
        checkpoints: Checkpoints { timestamp_tz: "TIMESTAMPTZ {}", ..STANDARD_CHECKPOINTS },

        mirror: Some(MirrorSql {
            hash: "CAST(md5_number_lower({}) & 1152921504606846975 AS BIGINT)",
            length: "length({})",
            double: "CAST({} AS VARCHAR)",
            int: "CAST({} AS BIGINT)",
            text: "CAST({} AS VARCHAR)",
            sum: "sum(CAST({} AS HUGEINT))",
            newest: "SELECT group_key AS mirror_key, arg_max(fingerprint, seq) AS mirrored FROM {table} WHERE seq >= {base} \
                     AND seq <= {seq} GROUP BY group_key",
            create: CREATE,
            joined: "{}",
            grants: &["CREATE SCHEMA {schema}"],
        }),
        options: &[],
    },
    Warehouse {
        name: "sqlite",
        drivers: &["sqlite", "turso", "libsql"],
        quote: Quote::Double,
        literal: Literal::coded(&['\0'], "char"),
        quoting: Quoting::Standard,
        // As many as the driver looks at itself, before it decides on a type.
        described_by: 1024,
        cut: Cut::Limit,
        forms: Forms {
            bool: "{}",
            int: "{}",
            double: "{}",
            text: "CAST({} AS TEXT)",
            decimal: None,
            date: "CAST(julianday({}) - 2440587.5 AS INTEGER)",
            time: "CAST({} AS TEXT)",
            timestamp: "CAST({} AS TEXT)",
            timestamp_tz: "CAST({} AS TEXT)",
            bytes: "lower(hex({}))",
            json: "CAST({} AS TEXT)",
        },
        checkpoints: Checkpoints { date: "{}", timestamp: "{}", timestamp_tz: "{}", utc: UTC },
        mirror: None,
        options: &[],
    },
];

/// The names of all dialects, for the setting.
pub(super) const NAMES: &[&str] = &[
    "postgres",
    "redshift",
    "snowflake",
    "bigquery",
    "databricks",
    "clickhouse",
    "mysql",
    "sqlserver",
    "trino",
    "duckdb",
    "sqlite",
];

/// The names of the dialects that have the statements of mirrors.
pub(super) fn with_mirrors() -> String {
    let names: Vec<&str> =
        DIALECTS.iter().filter(|dialect| dialect.mirror.is_some()).map(|dialect| dialect.name).collect();
    names.join(", ")
}

/// The dialect of this name.
pub(super) fn named(name: &str) -> Option<&'static Warehouse> {
    DIALECTS.iter().find(|dialect| dialect.name == name)
}

/// The dialect that a driver's name or path speaks of.
pub(super) fn of_driver(driver: &str) -> Option<&'static Warehouse> {
    let file = driver.rsplit('/').next().unwrap_or(driver).to_ascii_lowercase();
    DIALECTS.iter().find(|dialect| dialect.drivers.iter().any(|word| file.contains(word)))
}

impl Warehouse {
    /// The expression that yields a value's physical form.
    pub(super) fn physical(&self, form: Form, expression: &str) -> String {
        let Forms { bool, int, double, text, decimal, date, time, timestamp, timestamp_tz, bytes, json } = self.forms;
        let template = match form {
            Form::Bool => bool,
            Form::Int => int,
            Form::Double => double,
            Form::Text if self.described_by == 0 => "{}",
            Form::Text => text,
            Form::Spelled => text,
            Form::Decimal(scale) => match decimal {
                Some(template) => return template.replace("{}", expression).replace("{scale}", &scale.to_string()),
                None => text,
            },
            Form::Date => date,
            Form::Time => time,
            Form::Timestamp => timestamp,
            Form::TimestampTz => timestamp_tz,
            Form::Bytes => bytes,
            Form::Json => json,
        };
        template.replace("{}", expression)
    }

    /// A value in its physical form as a text that no other value has: what a mirror's fingerprints are made of.
    pub(super) fn identity(&self, physical: &str, form: Physical, sql: &MirrorSql) -> String {
        match form {
            Physical::Text => format!("({physical})"),
            Physical::Bool => format!("CASE WHEN {physical} THEN '1' WHEN NOT ({physical}) THEN '0' END"),
            Physical::Int => sql.text.replace("{}", &format!("({physical})")),
            Physical::Double => format!("({})", sql.double.replace("{}", &format!("({physical})"))),
        }
    }

    /// Whether a time of day arrives as the warehouse's text, because it has no such type or no arithmetic for it.
    pub(super) fn spells_times(&self) -> bool {
        self.forms.time == self.forms.text
    }

    /// A column's name as it is written in a mapping: in small letters where an unquoted name means it.
    pub(super) fn written(&self, name: &str) -> String {
        let lower = name.to_ascii_lowercase();
        let is_folded = matches!(self.quote, Quote::DoubleFolded)
            && Warehouse::is_plain(&lower)
            && !name.contains(|letter: char| letter.is_ascii_lowercase());
        if is_folded { lower } else { name.to_owned() }
    }

    fn is_plain(name: &str) -> bool {
        name.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_')
            && name
                .chars()
                .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_$".contains(letter))
    }
}

impl Dialect for Warehouse {
    fn identifier(&self, name: &str) -> String {
        match self.quote {
            Quote::DoubleFolded if Warehouse::is_plain(name) => format!("\"{}\"", name.to_ascii_uppercase()),
            Quote::Double | Quote::DoubleFolded => format!("\"{}\"", name.replace('"', "\"\"")),
            Quote::Backtick => format!("`{}`", name.replace('`', "``")),
            Quote::BacktickEscaped => format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`")),
            Quote::Bracket => format!("[{}]", name.replace(']', "]]")),
        }
    }

    fn literal(&self, text: &str) -> String {
        match self.literal {
            Literal::Coded { special, function, operator } => {
                dialect::joined_literal(text, special, function, operator)
            }
            Literal::Hex(special) if text.contains(special) => {
                format!("CONVERT(0x{} USING utf8mb4)", hex::encode(text))
            }
            Literal::Hex(_) => dialect::literal_without(text, &[]),
        }
    }

    /// A checkpoint is written by `plan`: digits, a date, or a time with or without its offset of zero. Anything else is
    /// text.
    fn cursor_literal(&self, cursor: &str) -> String {
        let Checkpoints { date, timestamp, timestamp_tz, utc } = self.checkpoints;
        let is_number = cursor.parse::<i64>().is_ok();
        let is_of = |shape: &str| {
            cursor.len() == shape.len()
                && cursor.bytes().zip(shape.bytes()).all(|(byte, of)| match of {
                    b'0' => byte.is_ascii_digit(),
                    of => byte == of,
                })
        };
        let template = match cursor {
            _ if is_number => return cursor.to_owned(),
            _ if is_of("0000-00-00") => date,
            _ if is_of("0000-00-00 00:00:00.000000") => timestamp,
            _ if is_of("0000-00-00 00:00:00.000000+00") => timestamp_tz,
            _ => return self.literal(cursor),
        };
        let text = cursor.replace("+00", utc);
        template.replace("{}", &format!("'{text}'"))
    }

    fn as_text(&self, expression: &str) -> String {
        self.physical(Form::Spelled, expression)
    }

    fn mirror(&self) -> Option<&'static MirrorSql> {
        named(self.name)?.mirror.as_ref()
    }

    fn first_rows(&self, select: &str, rows: u64) -> String {
        match (self.cut, select.strip_prefix("SELECT ")) {
            (Cut::Top, Some(rest)) => format!("SELECT TOP ({rows}) {rest}"),
            _ => format!("{select} LIMIT {rows}"),
        }
    }
}
