//! Conversions: the SQL that turns a column into what a trait declares, where no value of its type can become it. Pure; by the
//! source's own name of the type, whose capitals tell DuckDB's from PostgreSQL's.

use crate::model::ColumnType;
use crate::model::cell::As;

/// Whether some value of a column can become what is declared. What the meaning of its values leaves open, its type may not:
/// a struct is JSON, and never a number.
pub fn fits(kind: &ColumnType, declared: &str, wanted: As) -> bool {
    let whole = matches!(wanted, As::Number | As::Integer | As::Boolean);
    let never = match declared.split('(').next() {
        _ if declared.ends_with(']') => false,
        Some("STRUCT" | "MAP" | "UNION") => whole || wanted == As::List,
        Some("TUPLE") => whole,
        _ => false,
    };
    kind.can_become(wanted) && !never
}

/// The expression over `column` (as written in SQL) that gives what is `wanted`, where there is a usual one.
pub fn sql(declared: &str, column: &str, wanted: As) -> Option<String> {
    let template = template(declared, wanted)?;
    // The braces of PostgreSQL's path are no column.
    Some(template.replacen("{}", column, template.matches("{}").count() - template.matches("'{}'").count()))
}

/// The same with `{}` for the column. A `'{}'` stands behind all of them.
fn template(declared: &str, wanted: As) -> Option<&'static str> {
    let duckdb = declared.starts_with(|letter: char| letter.is_ascii_uppercase());
    let plain = declared.to_ascii_lowercase();
    // `timestamp(3) with time zone` without its precision.
    let base = match (plain.split_once('('), plain.rsplit_once(')')) {
        (Some((before, _)), Some((_, after))) if !plain.ends_with(']') => format!("{before}{after}"),
        _ => plain.clone(),
    };
    let number = matches!(wanted, As::Number | As::Integer);
    let time = matches!(wanted, As::Date | As::Timestamp);
    if plain.ends_with(']') {
        return match wanted {
            As::Number | As::Integer => Some(if duckdb { "len({})" } else { "cardinality({})" }),
            As::Boolean => Some(if duckdb { "len({}) > 0" } else { "cardinality({}) > 0" }),
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
        ("geometry" | "geography", As::Json) if !duckdb => "ST_AsGeoJSON({})::json",
        ("vector" | "halfvec", As::Json | As::List) => "{}::text::json",
        ("tsvector", As::List) => "to_json(tsvector_to_array({}))",
        ("ltree", As::List) => "to_json(string_to_array({}::text, '.'))",
        ("xid8", _) if number => "{}::text::numeric",
        ("pg_lsn", _) if number => "{} - '0/0'::pg_lsn",
        ("boolean", _) if number => "CAST({} AS integer)",
        (
            "date"
            | "time"
            | "time without time zone"
            | "time with time zone"
            | "interval"
            | "timestamp"
            | "timestamp without time zone"
            | "timestamp with time zone"
            | "timestamp_s"
            | "timestamp_ms"
            | "timestamp_ns"
            | "timestamptz_ns",
            _,
        ) if number => match (base.as_str(), wanted) {
            // Whole by themselves.
            ("date" | "timestamp_s", _) | (_, As::Number) => "extract(epoch FROM {})",
            _ => "floor(extract(epoch FROM {}))",
        },
        (
            "smallint" | "integer" | "bigint" | "tinyint" | "utinyint" | "usmallint" | "uinteger" | "numeric"
            | "decimal" | "double precision" | "real" | "float" | "double",
            _,
        ) if time => "to_timestamp({})",
        ("ubigint" | "hugeint" | "uhugeint" | "bignum", _) if time => "to_timestamp(CAST({} AS DOUBLE))",
        (
            "numeric" | "decimal" | "double precision" | "real" | "float" | "double" | "ubigint" | "hugeint"
            | "uhugeint",
            As::Boolean,
        ) => "{} <> 0",
        ("bignum", As::Boolean) => "CAST({} AS DOUBLE) <> 0",
        ("json", _) if time && duckdb => "{} ->> '$'",
        ("json" | "jsonb", _) if time => "{} #>> '{}'",
        ("bytea", As::List) => "ARRAY[{}]",
        ("bytea", As::Json) => "convert_from({}, 'UTF8')::json",
        ("bytea", _) => "convert_from({}, 'UTF8')",
        ("map", _) if number => "cardinality({})",
        ("map", As::Boolean) => "cardinality({}) > 0",
        ("map", As::List) => "map_values({})",
        ("blob", As::List) => "[{}]",
        ("blob", As::Json) => "decode({})::JSON",
        ("blob", _) => "decode({})",
        ("bit" | "bit varying", _) if number && !duckdb => "lpad({}::text, 64, '0')::bit(64)::bigint",
        ("bit", _) if number => "CAST({} AS BIGINT)",
        ("bit", As::Boolean) if declared == "bit(1)" => "{} = B'1'",
        ("time_ns", As::Number) => "extract(epoch FROM CAST({} AS TIME))",
        ("time_ns", As::Integer) => "floor(extract(epoch FROM CAST({} AS TIME)))",
        ("variant", _) if time => "CAST({} AS VARCHAR)",
        ("variant", As::Json | As::List) => "CAST({} AS JSON)",
        (range, As::Json | As::List) if range.ends_with("multirange") => "to_json(ARRAY(SELECT unnest({})::text))",
        (range, _) if range.ends_with("multirange") => return None,
        (range, As::Json | As::List) if range.ends_with("range") => {
            "json_build_array(to_json(lower({})), to_json(upper({})))"
        }
        ("int4range" | "int8range" | "numrange", _) if number => "lower({})",
        ("daterange" | "tsrange" | "tstzrange", _) if time => "lower({})",
        ("daterange" | "tsrange" | "tstzrange", As::Number) => "extract(epoch FROM lower({}))",
        ("daterange" | "tsrange" | "tstzrange", As::Integer) => "floor(extract(epoch FROM lower({})))",
        (_, As::List) if duckdb => "[{}]",
        (_, As::Json) if duckdb => "to_json(CAST({} AS VARCHAR))",
        (other, As::Json) if is_plain(other) || is_shape(other) => "to_json({}::text)",
        (scalar, As::List) if is_plain(scalar) || is_shape(scalar) || is_scalar(scalar) => "ARRAY[{}]",
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
pub(super) fn is_plain(declared: &str) -> bool {
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
    // DuckDB's types without a decoder (BIT, TIME WITH TIME ZONE, VARIANT) have one text as well.
    PLAIN.contains(&base) || base.starts_with(|letter: char| letter.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_never_fit_have_sql_that_does() {
        for (declared, wanted, expected) in [
            ("money", As::Number, Some("a::numeric")),
            ("hstore", As::Json, Some("hstore_to_json(a)")),
            ("addr", As::Json, Some("to_json(a)")),
            ("addr", As::List, Some("(SELECT json_agg(value) FROM json_each(to_json(a)))")),
            ("int4range", As::Json, Some("json_build_array(to_json(lower(a)), to_json(upper(a)))")),
            ("int4range", As::Number, Some("lower(a)")),
            ("datemultirange", As::Json, Some("to_json(ARRAY(SELECT unnest(a)::text))")),
            ("point", As::Number, Some("a[0]")),
            ("geometry(Point,4326)", As::Json, Some("ST_AsGeoJSON(a)::json")),
            ("vector(3)", As::List, Some("a::text::json")),
            ("interval", As::Number, Some("extract(epoch FROM a)")),
            ("boolean", As::Integer, Some("CAST(a AS integer)")),
            ("BOOLEAN", As::Integer, Some("CAST(a AS integer)")),
            ("timestamp(3) without time zone", As::Number, Some("extract(epoch FROM a)")),
            ("timestamp with time zone", As::Number, Some("extract(epoch FROM a)")),
            ("bigint", As::Timestamp, Some("to_timestamp(a)")),
            ("numeric(10,2)", As::Boolean, Some("a <> 0")),
            ("jsonb", As::Date, Some("a #>> '{}'")),
            ("JSON", As::Date, Some("a ->> '$'")),
            ("text[]", As::Number, Some("cardinality(a)")),
            ("VARCHAR[]", As::Number, Some("len(a)")),
            ("bytea", As::Json, Some("convert_from(a, 'UTF8')::json")),
            ("VARIANT", As::Json, Some("CAST(a AS JSON)")),
            ("uuid", As::Number, None),
            ("inet", As::Json, Some("to_json(a::text)")),
            ("bit(3)", As::Boolean, None),
            ("DECIMAL(10,2)[]", As::Boolean, Some("len(a) > 0")),
            ("STRUCT(a DECIMAL(10,2))", As::Number, None),
        ] {
            assert_eq!(sql(declared, "a", wanted).as_deref(), expected, "{declared} as {wanted:?}");
        }
    }
}
