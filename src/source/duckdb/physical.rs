//! The SQL that gives a DuckDB value in its physical form (`model::cell`'s table).
//!
//! Nothing here needs ICU, which the bundled DuckDB lacks: times with a zone are read as microseconds since the epoch,
//! never cast to text or to a time without a zone.

use super::type_text::DuckType;
use crate::duckdb::quote_literal;

const INT_MAX: &str = "9223372036854775807";
// Written as text, because DuckDB reads the digits of -9223372036854775808 before their sign.
const INT_MIN: &str = "CAST('-9223372036854775808' AS BIGINT)";

impl DuckType {
    /// SQL for the physical form of `value`, an expression cheap enough to be repeated (a column, a lambda's parameter).
    pub(super) fn physical(&self, value: &str) -> String {
        self.physical_at(value, 0)
    }

    /// `depth` counts the lambdas around the expression, so that each has a parameter of its own name.
    fn physical_at(&self, value: &str, depth: usize) -> String {
        match self {
            DuckType::Bool => value.to_owned(),
            DuckType::Int => format!("CAST({value} AS BIGINT)"),
            DuckType::Float | DuckType::Double => format!("CAST({value} AS DOUBLE)"),
            DuckType::HugeInt
            | DuckType::Decimal
            | DuckType::Text
            | DuckType::Uuid
            | DuckType::Json
            | DuckType::Other
            | DuckType::TooDeep => format!("CAST({value} AS VARCHAR)"),
            DuckType::Variant => format!("CAST(CAST({value} AS JSON) AS VARCHAR)"),
            DuckType::Blob => format!("lower(hex({value}))"),
            DuckType::Date => finite_or_bound(value, &format!("{value} - DATE '1970-01-01'")),
            DuckType::Time => format!("epoch_us({value})"),
            DuckType::Timestamp | DuckType::TimestampTz => finite_or_bound(value, &format!("epoch_us({value})")),
            DuckType::CoarseTimestamp => finite_or_bound(value, &format!("epoch_us(CAST({value} AS TIMESTAMP))")),
            DuckType::TimestampNs => finite_or_bound(value, &format!("epoch_ns({value})")),
            DuckType::TimestampTzNs => DuckType::TimestampNs.physical_at(&in_utc(value), depth),
            // DuckDB's parts overlap: months are what is left after years, microseconds after minutes.
            DuckType::Interval => format!(
                "CAST(extract('year' FROM {value}) * 12 + extract('month' FROM {value}) AS VARCHAR) || ' ' || \
                 CAST(extract('day' FROM {value}) AS VARCHAR) || ' ' || \
                 CAST(extract('hour' FROM {value}) * 3600000000 + extract('minute' FROM {value}) * 60000000 \
                 + extract('microsecond' FROM {value}) AS VARCHAR)"
            ),
            DuckType::List(element) => array(value, depth, |item| element.list_item(item, depth + 1)),
            DuckType::Struct(_) | DuckType::Map(..) | DuckType::Union(_) => self.json(value, depth),
        }
    }

    /// Whether equal hashes of native values mean equal physical forms, given that the type's text is hashed as well.
    /// Not so for intervals (a month hashes as 30 days); for rare types we do not rely on how DuckDB hashes them.
    pub(super) fn hashes_natively(&self) -> bool {
        match self {
            DuckType::Interval | DuckType::Union(_) | DuckType::Variant | DuckType::Other | DuckType::TooDeep => false,
            DuckType::List(element) => element.hashes_natively(),
            DuckType::Map(key, value) => key.hashes_natively() && value.hashes_natively(),
            DuckType::Struct(members) => members.iter().all(|(_, member)| member.hashes_natively()),
            _ => true,
        }
    }

    /// The largest of `value` among the rows, as text that DuckDB reads back as a literal of this type. What lies in the
    /// future is left out, infinite dates among it: rows that change until then would lie before it.
    pub(super) fn largest(&self, value: &str) -> String {
        match (self, self.is_past(value)) {
            (DuckType::TimestampTzNs, _) => {
                format!("{} || '+00'", DuckType::TimestampNs.largest(&in_utc(value)))
            }
            (DuckType::TimestampTz, Some(past)) => {
                format!("CAST(make_timestamp(epoch_us(max({value}) FILTER (WHERE {past}))) AS VARCHAR) || '+00'")
            }
            (_, Some(past)) => format!("CAST(max({value}) FILTER (WHERE {past}) AS VARCHAR)"),
            (_, None) => format!("CAST(max({value}) AS VARCHAR)"),
        }
    }

    /// How many rows have a `value` in the future that is not infinite.
    pub(super) fn ahead(&self, value: &str) -> String {
        if *self == DuckType::TimestampTzNs {
            return DuckType::TimestampNs.ahead(&in_utc(value));
        }
        match self.is_past(value) {
            Some(past) => format!("count(*) FILTER (WHERE NOT ({past}) AND NOT isinf({value}))"),
            None => "0::BIGINT".to_owned(),
        }
    }

    /// Whether a value is not in the future, by the clock of this machine; `None` for what is no time.
    fn is_past(&self, value: &str) -> Option<String> {
        // Times without a zone are UTC, and so is the session.
        let now = "make_timestamp(epoch_us(now()))";
        let until = match self {
            DuckType::Date => format!("{value} <= CAST({now} AS DATE)"),
            DuckType::Timestamp | DuckType::CoarseTimestamp => format!("{value} <= {now}"),
            DuckType::TimestampNs => format!("{value} <= CAST({now} AS TIMESTAMP_NS)"),
            DuckType::TimestampTz => format!("epoch_us({value}) <= epoch_us(now())"),
            _ => return None,
        };
        Some(format!("NOT isinf({value}) AND {until}"))
    }

    /// SQL for an element of a list's physical form, as JSON text: booleans and integers bare, everything else a string.
    fn list_item(&self, item: &str, depth: usize) -> String {
        match self {
            DuckType::Bool
            | DuckType::Int
            | DuckType::Date
            | DuckType::Time
            | DuckType::Timestamp
            | DuckType::CoarseTimestamp
            | DuckType::TimestampNs
            | DuckType::TimestampTz
            | DuckType::TimestampTzNs => format!("CAST({} AS VARCHAR)", self.physical_at(item, depth)),
            DuckType::List(_) => self.physical_at(item, depth),
            DuckType::Float | DuckType::Double => {
                float(item, &format!("'\"' || CAST(CAST({item} AS DOUBLE) AS VARCHAR) || '\"'"))
            }
            _ => json_string(&self.physical_at(item, depth)),
        }
    }

    /// SQL for the value as JSON text, exact: numbers keep every digit, what JSON has no number for is a string.
    /// DuckDB's own `to_json` writes a bare NaN, rounds numbers inside JSON members and prints times in the session's zone.
    fn json(&self, value: &str, depth: usize) -> String {
        match self {
            DuckType::Bool | DuckType::Int | DuckType::HugeInt | DuckType::Decimal | DuckType::Json => {
                format!("CAST({value} AS VARCHAR)")
            }
            DuckType::Float | DuckType::Double => float(value, &format!("CAST({value} AS VARCHAR)")),
            DuckType::Variant => self.physical_at(value, depth),
            DuckType::Text
            | DuckType::Uuid
            | DuckType::Other
            | DuckType::TooDeep
            | DuckType::Date
            | DuckType::Time
            | DuckType::Interval => json_string(&format!("CAST({value} AS VARCHAR)")),
            DuckType::Blob => json_string(&self.physical_at(value, depth)),
            DuckType::Timestamp | DuckType::CoarseTimestamp | DuckType::TimestampNs => {
                json_time(value, &format!("CAST({value} AS VARCHAR)"))
            }
            DuckType::TimestampTz => json_time(value, &utc_text(value)),
            DuckType::TimestampTzNs => DuckType::TimestampNs.json(&in_utc(value), depth),
            DuckType::List(element) => array(value, depth, |item| element.json(item, depth + 1)),
            DuckType::Struct(members) => {
                let named = members.iter().all(|(name, _)| name.is_some());
                let fields = members.iter().enumerate().map(|(index, (name, kind))| match name {
                    Some(name) if named => {
                        let label = quote_literal(&format!("{}:", serde_json::Value::from(name.as_str())));
                        let member = format!("struct_extract({value}, {})", quote_literal(name));
                        format!("{label} || coalesce({}, 'null')", kind.json(&member, depth + 1))
                    }
                    _ => {
                        let member = format!("struct_extract({value}, {})", index + 1);
                        format!("coalesce({}, 'null')", kind.json(&member, depth + 1))
                    }
                });
                let (open, close) = if named { ('{', '}') } else { ('[', ']') };
                let fields = fields.collect::<Vec<_>>().join(" || ',' || ");
                format!("CASE WHEN {value} IS NULL THEN NULL ELSE '{open}' || {fields} || '{close}' END")
            }
            DuckType::Map(key, item) => {
                let entry = format!("e{depth}");
                let label = json_string(&key.map_key(&format!("struct_extract({entry}, 'key')"), depth + 1));
                let content = item.json(&format!("struct_extract({entry}, 'value')"), depth + 1);
                let entries = format!(
                    "list_transform(map_entries({value}), lambda {entry}: {label} || ':' || coalesce({content}, 'null'))"
                );
                format!("CASE WHEN {value} IS NULL THEN NULL ELSE '{{' || array_to_string({entries}, ',') || '}}' END")
            }
            DuckType::Union(members) => {
                let cases = members.iter().map(|(name, kind)| {
                    let tag = quote_literal(name);
                    let label = quote_literal(&format!("{{{}:", serde_json::Value::from(name.as_str())));
                    let member = kind.json(&format!("union_extract({value}, {tag})"), depth + 1);
                    format!(" WHEN {tag} THEN {label} || coalesce({member}, 'null') || '}}'")
                });
                format!("CASE CAST(union_tag({value}) AS VARCHAR){} END", cases.collect::<String>())
            }
        }
    }

    /// SQL for the text of a map's key. Text as it is; nested keys as JSON.
    fn map_key(&self, key: &str, depth: usize) -> String {
        match self {
            DuckType::TimestampTz => utc_text(key),
            DuckType::TimestampTzNs => format!("CAST({} AS VARCHAR)", in_utc(key)),
            DuckType::List(_) | DuckType::Struct(_) | DuckType::Map(..) | DuckType::Union(_) => self.json(key, depth),
            DuckType::Blob => self.physical_at(key, depth),
            _ => format!("CAST({key} AS VARCHAR)"),
        }
    }
}

fn finite_or_bound(value: &str, finite: &str) -> String {
    format!(
        "CASE WHEN isinf({value}) THEN CASE WHEN CAST({value} AS VARCHAR) = 'infinity' THEN {INT_MAX} ELSE {INT_MIN} END \
         ELSE {finite} END"
    )
}

fn float(value: &str, finite: &str) -> String {
    format!(
        "CASE WHEN isnan({value}) THEN '\"NaN\"' WHEN isinf({value}) THEN \
         CASE WHEN {value} > 0 THEN '\"Infinity\"' ELSE '\"-Infinity\"' END ELSE {finite} END"
    )
}

fn json_string(text: &str) -> String {
    format!("CAST(to_json({text}) AS VARCHAR)")
}

/// A time with a zone and nanoseconds as the same moment without a zone: the session's is UTC. Few functions take the type.
fn in_utc(value: &str) -> String {
    format!("CAST({value} AS TIMESTAMP_NS)")
}

/// A time with a zone as the text of the same moment in UTC.
fn utc_text(value: &str) -> String {
    format!("CAST(make_timestamp(epoch_us({value})) AS VARCHAR)")
}

/// RFC 3339 in UTC; infinity and years before Christ stay in DuckDB's words.
fn json_time(value: &str, text: &str) -> String {
    format!(
        "CASE WHEN isinf({value}) THEN '\"' || CAST({value} AS VARCHAR) || '\"' \
         WHEN {text} LIKE '%(BC)%' THEN '\"' || {text} || '\"' \
         ELSE '\"' || replace({text}, ' ', 'T') || 'Z\"' END"
    )
}

/// A JSON array of the items' JSON texts; a null item is `null`, a null list is null.
fn array(value: &str, depth: usize, item: impl FnOnce(&str) -> String) -> String {
    let name = format!("e{depth}");
    let items = format!("list_transform({value}, lambda {name}: coalesce({}, 'null'))", item(&name));
    format!("CASE WHEN {value} IS NULL THEN NULL ELSE '[' || array_to_string({items}, ',') || ']' END")
}
