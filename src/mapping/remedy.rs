//! Which SQL turns a column into what a trait declares, where no value of the column's type can become it? Pure; by the
//! source's own name of the type, whose capitals tell DuckDB's from PostgreSQL's.

use crate::model::cell::As;

/// The expression over `column` (as it stands in SQL) that gives what is `wanted`, where there is a usual one.
pub fn sql(declared: &str, column: &str, wanted: As) -> Option<String> {
    let with = |template: &str| Some(template.replace("{}", column));
    let duckdb = declared.starts_with(|letter: char| letter.is_ascii_uppercase());
    let plain = declared.to_ascii_lowercase();
    let base = plain.split('(').next().unwrap_or_default().trim();
    let number = matches!(wanted, As::Number | As::Integer);
    let time = matches!(wanted, As::Date | As::Timestamp);
    if plain.ends_with("[]") || base == "list" {
        return if number { with(if duckdb { "len({})" } else { "cardinality({})" }) } else { None };
    }
    match (base, wanted) {
        ("money", As::Integer) => with("round({}::numeric)::bigint"),
        ("money", As::Number | As::Json) => with("{}::numeric"),
        ("hstore", As::Json) => with("hstore_to_json({})"),
        ("hstore", As::List) => with("to_json(avals({}))"),
        ("point", As::Number | As::Integer) => with("{}[0]"),
        ("point", As::Json | As::List) => with("json_build_array({}[0], {}[1])"),
        ("lseg" | "line" | "box" | "path" | "polygon" | "circle", _) => None,
        ("interval", _) if number => with("extract(epoch FROM {})"),
        ("boolean", _) if number => with("CAST({} AS integer)"),
        ("date" | "time" | "time without time zone" | "timestamp" | "timestamp without time zone", _) if number => {
            with("extract(epoch FROM {})")
        }
        ("timestamp with time zone" | "timestamp_s" | "timestamp_ms" | "timestamp_ns", _) if number => {
            with("extract(epoch FROM {})")
        }
        ("smallint" | "integer" | "bigint" | "tinyint" | "double precision" | "real" | "float" | "double", _)
            if time =>
        {
            with("to_timestamp({})")
        }
        ("numeric" | "decimal" | "double precision" | "real" | "float" | "double" | "hugeint", As::Boolean) => {
            with("{} <> 0")
        }
        ("json" | "jsonb", _) if time => with(if duckdb { "{} ->> '$'" } else { "{} #>> '{}'" }).map(|sql| {
            // The braces of PostgreSQL's path are no column.
            if duckdb { sql } else { format!("{column} #>> '{{}}'") }
        }),
        ("bytea", As::Json) => with("convert_from({}, 'UTF8')::json"),
        ("bytea", _) => with("convert_from({}, 'UTF8')"),
        ("blob", As::Json) => with("decode({})::JSON"),
        ("blob", _) => with("decode({})"),
        ("bit" | "bit varying", _) if number && !duckdb => with("lpad({}::text, 64, '0')::bit(64)::bigint"),
        ("bit", As::Boolean) if !duckdb => with("{} = B'1'"),
        ("variant", As::Json | As::List) => with("CAST({} AS JSON)"),
        (range, As::Json | As::List) if !duckdb && range.ends_with("multirange") => {
            with("to_json(ARRAY(SELECT unnest({})::text))")
        }
        (range, As::Json | As::List) if !duckdb && range.ends_with("range") => {
            with("json_build_array(to_json(lower({})), to_json(upper({})))")
        }
        (range, _) if !duckdb && range.ends_with("range") && !range.ends_with("multirange") => with("lower({})"),
        (other, As::Json) if !duckdb && !is_plain(other) => with("to_json({})"),
        (other, As::List) if !duckdb && !is_plain(other) => {
            with("(SELECT json_agg(value) FROM json_each(to_json({})))")
        }
        _ => None,
    }
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
            ("inet", As::Json, None),
        ] {
            assert_eq!(sql(declared, "a", wanted).as_deref(), expected, "{declared} as {wanted:?}");
        }
    }
}
