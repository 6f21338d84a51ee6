//! Conversions of DuckDB: the SQL that turns a column into what a trait declares, where no value of its type can become it.

use crate::model::cell::As;
use crate::source::conversion::base;

/// Whether no value of a type can become what is wanted, although its meaning leaves it open: a struct is JSON, and never a
/// number.
pub(super) fn never(declared: &str, wanted: As) -> bool {
    let whole = matches!(wanted, As::Number | As::Integer | As::Boolean);
    match declared.split('(').next() {
        _ if declared.ends_with(']') => false,
        Some("STRUCT" | "MAP" | "UNION") => whole || wanted == As::List,
        Some("TUPLE") => whole,
        _ => false,
    }
}

/// The expression that gives what is `wanted`, with `{}` for the column.
pub(super) fn template(declared: &str, wanted: As) -> Option<&'static str> {
    let base = base(declared);
    let number = matches!(wanted, As::Number | As::Integer);
    let time = matches!(wanted, As::Date | As::Timestamp);
    if base.ends_with(']') {
        return match wanted {
            As::Number | As::Integer => Some("len({})"),
            As::Boolean => Some("len({}) > 0"),
            _ => None,
        };
    }
    Some(match (base.as_str(), wanted) {
        ("boolean", _) if number => "CAST({} AS integer)",
        // Whole by themselves.
        ("date" | "timestamp_s", As::Integer) => "extract(epoch FROM {})",
        (
            "date"
            | "time"
            | "time with time zone"
            | "interval"
            | "timestamp"
            | "timestamp with time zone"
            | "timestamp_s"
            | "timestamp_ms"
            | "timestamp_ns"
            | "timestamptz_ns",
            _,
        ) if number => match wanted {
            As::Number => "extract(epoch FROM {})",
            _ => "floor(extract(epoch FROM {}))",
        },
        ("time_ns", As::Number) => "extract(epoch FROM CAST({} AS TIME))",
        ("time_ns", As::Integer) => "floor(extract(epoch FROM CAST({} AS TIME)))",
        (
            "smallint" | "integer" | "bigint" | "tinyint" | "utinyint" | "usmallint" | "uinteger" | "decimal" | "float"
            | "double",
            _,
        ) if time => "to_timestamp({})",
        ("ubigint" | "hugeint" | "uhugeint" | "bignum", _) if time => "to_timestamp(CAST({} AS DOUBLE))",
        ("decimal" | "float" | "double" | "ubigint" | "hugeint" | "uhugeint", As::Boolean) => "{} <> 0",
        ("bignum", As::Boolean) => "CAST({} AS DOUBLE) <> 0",
        ("json", _) if time => "{} ->> '$'",
        ("map", _) if number => "cardinality({})",
        ("map", As::Boolean) => "cardinality({}) > 0",
        ("map", As::List) => "map_values({})",
        ("blob", As::List) => "[{}]",
        ("blob", As::Json) => "decode({})::JSON",
        ("blob", _) => "decode({})",
        ("bit", _) if number => "CAST({} AS BIGINT)",
        ("variant", _) if time => "CAST({} AS VARCHAR)",
        ("variant", As::Json | As::List) => "CAST({} AS JSON)",
        (_, As::List) => "[{}]",
        (_, As::Json) => "to_json(CAST({} AS VARCHAR))",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_never_fit_have_sql_that_does() {
        for (declared, wanted, expected) in [
            ("BOOLEAN", As::Integer, Some("CAST({} AS integer)")),
            ("DATE", As::Integer, Some("extract(epoch FROM {})")),
            ("TIMESTAMP", As::Integer, Some("floor(extract(epoch FROM {}))")),
            ("TIMESTAMP_S", As::Number, Some("extract(epoch FROM {})")),
            ("DECIMAL(10,2)", As::Boolean, Some("{} <> 0")),
            ("BIGINT", As::Timestamp, Some("to_timestamp({})")),
            ("JSON", As::Date, Some("{} ->> '$'")),
            ("VARCHAR[]", As::Number, Some("len({})")),
            ("VARIANT", As::Json, Some("CAST({} AS JSON)")),
            ("MAP(VARCHAR, DECIMAL(10,2))", As::Number, Some("cardinality({})")),
            ("DECIMAL(10,2)[]", As::Boolean, Some("len({}) > 0")),
            ("STRUCT(a DECIMAL(10,2))", As::Number, None),
            ("STRUCT(a DECIMAL(10,2))", As::List, Some("[{}]")),
            ("UUID", As::Number, None),
        ] {
            assert_eq!(template(declared, wanted), expected, "{declared} as {wanted:?}");
        }
    }

    #[test]
    fn a_struct_is_json_alone() {
        for (declared, wanted, expected) in [
            ("STRUCT(a INTEGER)", As::Number, true),
            ("STRUCT(a INTEGER)", As::List, true),
            ("STRUCT(a INTEGER)", As::Json, false),
            ("STRUCT(a INTEGER)[]", As::List, false),
            ("TUPLE(INTEGER)", As::List, false),
            ("VARCHAR", As::Number, false),
        ] {
            assert_eq!(never(declared, wanted), expected, "{declared} as {wanted:?}");
        }
    }
}
