//! Conversions of PostgreSQL: the SQL that turns a column into what a trait declares, where no value of its type can become it.

use crate::model::cell::As;
use crate::source::conversion::base;

/// The expression that gives what is `wanted`, with `{}` for the column.
pub(super) fn template(declared: &str, wanted: As) -> Option<&'static str> {
    let base = base(declared);
    let number = matches!(wanted, As::Number | As::Integer);
    let time = matches!(wanted, As::Date | As::Timestamp);
    if base.ends_with(']') {
        return match wanted {
            As::Number | As::Integer => Some("cardinality({})"),
            As::Boolean => Some("cardinality({}) > 0"),
            _ => None,
        };
    }
    Some(match (base.as_str(), wanted) {
        ("money", As::Integer) => "round({}::numeric)::bigint",
        ("money", As::Number | As::Json) => "{}::numeric",
        ("money", As::Boolean) => "{}::numeric <> 0",
        ("money", As::List) => "ARRAY[{}::numeric]",
        ("hstore", As::Json) => "hstore_to_json({})",
        ("hstore", As::List) => "to_json(avals({}))",
        ("point", _) if number => "{}[0]",
        ("point", As::Json | As::List) => "json_build_array({}[0], {}[1])",
        ("geometry" | "geography", As::Json) => "ST_AsGeoJSON({})::json",
        ("vector" | "halfvec", As::Json | As::List) => "{}::text::json",
        ("tsvector", As::List) => "to_json(tsvector_to_array({}))",
        ("ltree", As::List) => "to_json(string_to_array({}::text, '.'))",
        ("xid8", _) if number => "{}::text::numeric",
        ("pg_lsn", _) if number => "{} - '0/0'::pg_lsn",
        ("boolean", _) if number => "CAST({} AS integer)",
        // Whole by itself.
        ("date", As::Integer) => "extract(epoch FROM {})",
        (
            "date"
            | "time without time zone"
            | "time with time zone"
            | "interval"
            | "timestamp without time zone"
            | "timestamp with time zone",
            _,
        ) if number => match wanted {
            As::Number => "extract(epoch FROM {})",
            _ => "floor(extract(epoch FROM {}))",
        },
        ("smallint" | "integer" | "bigint" | "numeric" | "double precision" | "real", _) if time => "to_timestamp({})",
        ("numeric" | "double precision" | "real", As::Boolean) => "{} <> 0",
        ("json" | "jsonb", _) if time => "{} #>> '{}'",
        ("bytea", As::List) => "ARRAY[{}]",
        ("bytea", As::Json) => "convert_from({}, 'UTF8')::json",
        ("bytea", _) => "convert_from({}, 'UTF8')",
        ("bit" | "bit varying", _) if number => "lpad({}::text, 64, '0')::bit(64)::bigint",
        ("bit", As::Boolean) if declared == "bit(1)" => "{} = B'1'",
        (range, As::Json | As::List) if range.ends_with("multirange") => "to_json(ARRAY(SELECT unnest({})::text))",
        (range, _) if range.ends_with("multirange") => return None,
        (range, As::Json | As::List) if range.ends_with("range") => {
            "json_build_array(to_json(lower({})), to_json(upper({})))"
        }
        ("int4range" | "int8range" | "numrange", _) if number => "lower({})",
        ("daterange" | "tsrange" | "tstzrange", _) if time => "lower({})",
        ("daterange" | "tsrange" | "tstzrange", As::Number) => "extract(epoch FROM lower({}))",
        ("daterange" | "tsrange" | "tstzrange", As::Integer) => "floor(extract(epoch FROM lower({})))",
        (other, As::Json) if text_is_plain(other) || is_shape(other) => "to_json({}::text)",
        (scalar, As::List) if text_is_plain(scalar) || is_shape(scalar) || is_scalar(scalar) => "ARRAY[{}]",
        // A composite, as far as anybody knows.
        (_, As::Json) => "to_json({})",
        (_, As::List) => "(SELECT json_agg(value) FROM json_each(to_json({})))",
        _ => return None,
    })
}

/// PostgreSQL's types of one value that have a JSON form of their own.
fn is_scalar(base: &str) -> bool {
    const SCALARS: [&str; 14] = [
        "boolean",
        "smallint",
        "integer",
        "bigint",
        "oid",
        "numeric",
        "real",
        "double precision",
        "date",
        "time without time zone",
        "timestamp without time zone",
        "timestamp with time zone",
        "interval",
        "uuid",
    ];
    SCALARS.contains(&base)
}

/// PostgreSQL's shapes in the plane, which are text to everybody else.
fn is_shape(base: &str) -> bool {
    ["point", "lseg", "line", "box", "path", "polygon", "circle"].contains(&base)
}

/// Whether the server's own text of such a value is what people expect to see: an address, a document, a bit string.
pub(super) fn text_is_plain(declared: &str) -> bool {
    const PLAIN: [&str; 27] = [
        "text",
        "character",
        "character varying",
        "\"char\"",
        "name",
        "uuid",
        "json",
        "jsonb",
        "inet",
        "cidr",
        "macaddr",
        "macaddr8",
        "xml",
        "tsvector",
        "tsquery",
        "pg_lsn",
        "ltree",
        "lquery",
        "jsonpath",
        "regclass",
        "regtype",
        "xid",
        "xid8",
        "bit",
        "bit varying",
        "time with time zone",
        "citext",
    ];
    let base = declared.split('(').next().unwrap_or_default().trim();
    PLAIN.contains(&base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_never_fit_have_sql_that_does() {
        for (declared, wanted, expected) in [
            ("money", As::Number, Some("{}::numeric")),
            ("hstore", As::Json, Some("hstore_to_json({})")),
            ("addr", As::Json, Some("to_json({})")),
            ("addr", As::List, Some("(SELECT json_agg(value) FROM json_each(to_json({})))")),
            ("int4range", As::Json, Some("json_build_array(to_json(lower({})), to_json(upper({})))")),
            ("int4range", As::Number, Some("lower({})")),
            ("datemultirange", As::Json, Some("to_json(ARRAY(SELECT unnest({})::text))")),
            ("point", As::Number, Some("{}[0]")),
            ("geometry(Point,4326)", As::Json, Some("ST_AsGeoJSON({})::json")),
            ("vector(3)", As::List, Some("{}::text::json")),
            ("interval", As::Number, Some("extract(epoch FROM {})")),
            ("boolean", As::Integer, Some("CAST({} AS integer)")),
            ("timestamp(3) without time zone", As::Number, Some("extract(epoch FROM {})")),
            ("timestamp with time zone", As::Number, Some("extract(epoch FROM {})")),
            ("bigint", As::Timestamp, Some("to_timestamp({})")),
            ("numeric(10,2)", As::Boolean, Some("{} <> 0")),
            ("jsonb", As::Date, Some("{} #>> '{}'")),
            ("text[]", As::Number, Some("cardinality({})")),
            ("bytea", As::Json, Some("convert_from({}, 'UTF8')::json")),
            ("uuid", As::Number, None),
            ("inet", As::Json, Some("to_json({}::text)")),
            ("bit(3)", As::Boolean, None),
        ] {
            assert_eq!(template(declared, wanted), expected, "{declared} as {wanted:?}");
        }
    }
}
