//! DuckDB's type names: a small recursive parser of what `DESCRIBE` prints.
//!
//! It never fails: what it does not know is [`DuckType::Other`], which is read as DuckDB's own text.

use crate::model::ColumnType;

/// A DuckDB type, as far as reading its values needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DuckType {
    Bool,
    /// Up to 64 bits, signed.
    Int,
    /// `UBIGINT`, `HUGEINT`, `UHUGEINT`, `BIGNUM`.
    HugeInt,
    Decimal,
    Float,
    Double,
    /// `VARCHAR` and enums.
    Text,
    Uuid,
    Json,
    Blob,
    Date,
    /// Microseconds; `TIME_NS` is `Other`, because microseconds would lose digits.
    Time,
    /// `TIMESTAMP`.
    Timestamp,
    /// `TIMESTAMP_S` and `TIMESTAMP_MS`.
    CoarseTimestamp,
    TimestampNs,
    TimestampTz,
    /// `TIMESTAMPTZ_NS`.
    TimestampTzNs,
    Interval,
    /// `t[]` and `t[3]`.
    List(Box<DuckType>),
    /// Members by name, or without names (`ROW(1, 2)`).
    Struct(Vec<(Option<String>, DuckType)>),
    Map(Box<DuckType>, Box<DuckType>),
    Union(Vec<(String, DuckType)>),
    /// A value of any type, which carries its own.
    Variant,
    Other,
    /// Nested deeper than we can write SQL for.
    TooDeep,
}

/// Deepest nesting followed; DuckDB's own expression depth ends at 1,000, and every level makes the SQL we write longer.
const DEPTH_MAX: usize = 64;
/// Most lists and maps inside one another. Each is read by a lambda, and DuckDB binds nested lambdas in a time that grows
/// threefold with each level: 0.1 s for five, half a minute for nine.
const LAMBDAS_MAX: usize = 5;

impl DuckType {
    /// Reads a type's text.
    pub(super) fn parse(text: &str) -> DuckType {
        let mut reader = Reader { rest: text.trim(), too_deep: false };
        match reader.type_(0) {
            Some(parsed) if reader.rest.trim().is_empty() && parsed.lambdas() > LAMBDAS_MAX => DuckType::TooDeep,
            Some(parsed) if reader.rest.trim().is_empty() => parsed,
            _ if reader.too_deep => DuckType::TooDeep,
            _ => DuckType::Other,
        }
    }

    /// How many lambdas stand inside one another in the SQL that reads it.
    fn lambdas(&self) -> usize {
        match self {
            DuckType::List(element) => 1 + element.lambdas(),
            DuckType::Map(key, value) => 1 + key.lambdas().max(value.lambdas()),
            DuckType::Struct(members) => members.iter().map(|(_, member)| member.lambdas()).max().unwrap_or(0),
            DuckType::Union(members) => members.iter().map(|(_, member)| member.lambdas()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// What values of this type mean to the rest of the program.
    pub(super) fn meaning(&self) -> ColumnType {
        match self {
            DuckType::Bool => ColumnType::Bool,
            DuckType::Int => ColumnType::Int,
            DuckType::HugeInt => ColumnType::HugeInt,
            DuckType::Decimal => ColumnType::Decimal,
            DuckType::Float => ColumnType::Float32,
            DuckType::Double => ColumnType::Float64,
            DuckType::Text => ColumnType::Text,
            DuckType::Uuid => ColumnType::Uuid,
            DuckType::Json | DuckType::Variant | DuckType::Struct(_) | DuckType::Map(..) | DuckType::Union(_) => {
                ColumnType::Json
            }
            DuckType::Blob => ColumnType::Bytes,
            DuckType::Date => ColumnType::Date,
            DuckType::Time => ColumnType::Time,
            DuckType::Timestamp | DuckType::CoarseTimestamp | DuckType::TimestampTz => ColumnType::Timestamp,
            DuckType::TimestampNs | DuckType::TimestampTzNs => ColumnType::TimestampNs,
            DuckType::Interval => ColumnType::Interval,
            DuckType::List(element) => ColumnType::List(Box::new(element.meaning())),
            DuckType::Other | DuckType::TooDeep => ColumnType::Other,
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    too_deep: bool,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, token: &str) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn sees(&self, token: char) -> bool {
        self.rest.trim_start().starts_with(token)
    }

    /// A bare word: letters, digits, underscores.
    fn word(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len());
        self.rest = &rest[end..];
        (end > 0).then(|| &rest[..end])
    }

    /// A text in quotes that are doubled inside it.
    fn quoted(&mut self, quote: char) -> Option<String> {
        self.skip(quote.encode_utf8(&mut [0; 4]))?;
        let mut out = String::new();
        loop {
            let end = self.rest.find(quote)?;
            out.push_str(&self.rest[..end]);
            self.rest = &self.rest[end + 1..];
            match self.rest.strip_prefix(quote) {
                Some(rest) => {
                    out.push(quote);
                    self.rest = rest;
                }
                None => return Some(out),
            }
        }
    }

    fn type_(&mut self, depth: usize) -> Option<DuckType> {
        if depth > DEPTH_MAX {
            self.too_deep = true;
            return None;
        }
        let mut parsed = self.base(depth)?;
        while self.sees('[') {
            self.skip("[")?;
            if !self.sees(']') {
                self.word()?;
            }
            self.skip("]")?;
            parsed = DuckType::List(Box::new(parsed));
        }
        Some(parsed)
    }

    fn base(&mut self, depth: usize) -> Option<DuckType> {
        if self.sees('"') {
            // `"NULL"`, and types an extension named.
            self.quoted('"')?;
            self.arguments();
            return Some(DuckType::Other);
        }
        let word = self.word()?.to_ascii_uppercase();
        Some(match word.as_str() {
            "BOOLEAN" => DuckType::Bool,
            "TINYINT" | "SMALLINT" | "INTEGER" | "BIGINT" | "UTINYINT" | "USMALLINT" | "UINTEGER" => DuckType::Int,
            "UBIGINT" | "HUGEINT" | "UHUGEINT" | "BIGNUM" | "VARINT" => DuckType::HugeInt,
            "DECIMAL" => {
                self.arguments();
                DuckType::Decimal
            }
            "FLOAT" => DuckType::Float,
            "DOUBLE" => DuckType::Double,
            "VARCHAR" => DuckType::Text,
            "ENUM" => {
                self.arguments()?;
                DuckType::Text
            }
            "UUID" => DuckType::Uuid,
            "JSON" => DuckType::Json,
            "BLOB" => DuckType::Blob,
            "DATE" => DuckType::Date,
            "TIME" if self.with_time_zone() => DuckType::Other,
            "TIME" => DuckType::Time,
            "TIMESTAMP" if self.with_time_zone() => DuckType::TimestampTz,
            "TIMESTAMP" => DuckType::Timestamp,
            "TIMESTAMP_S" | "TIMESTAMP_MS" => DuckType::CoarseTimestamp,
            "TIMESTAMP_NS" if self.with_time_zone() => DuckType::TimestampTzNs,
            "TIMESTAMP_NS" => DuckType::TimestampNs,
            "TIMESTAMPTZ_NS" => DuckType::TimestampTzNs,
            "INTERVAL" => DuckType::Interval,
            "VARIANT" => DuckType::Variant,
            // DuckDB 2.0's name of a struct without names.
            "STRUCT" | "TUPLE" => DuckType::Struct(self.members(|reader| reader.member(depth))?),
            "UNION" => {
                let members = self.members(|reader| reader.member(depth))?;
                DuckType::Union(members.into_iter().map(|(name, kind)| Some((name?, kind))).collect::<Option<_>>()?)
            }
            "MAP" => {
                let mut sides = self.members(|reader| reader.type_(depth + 1))?.into_iter();
                match (sides.next(), sides.next(), sides.next()) {
                    (Some(key), Some(value), None) => DuckType::Map(Box::new(key), Box::new(value)),
                    _ => return None,
                }
            }
            _ => {
                self.arguments();
                DuckType::Other
            }
        })
    }

    fn with_time_zone(&mut self) -> bool {
        match self.rest.strip_prefix(" WITH TIME ZONE") {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A parenthesis whose contents do not matter, quotes respected.
    fn arguments(&mut self) -> Option<()> {
        if !self.sees('(') {
            return None;
        }
        let mut depth = 0;
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next()? {
                quote @ ('\'' | '"') => {
                    self.quoted(quote)?;
                }
                other => {
                    self.rest = &self.rest[other.len_utf8()..];
                    match other {
                        '(' => depth += 1,
                        ')' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        return Some(());
                    }
                }
            }
        }
    }

    fn members<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        self.skip("(")?;
        let mut members = vec![one(self)?];
        while self.sees(',') {
            self.skip(",")?;
            members.push(one(self)?);
        }
        self.skip(")")?;
        Some(members)
    }

    /// `name type`, or a type alone.
    fn member(&mut self, depth: usize) -> Option<(Option<String>, DuckType)> {
        if self.sees('"') {
            let name = self.quoted('"')?;
            // A quoted type name without a member name is followed by the list's end at once.
            if self.sees(',') || self.sees(')') {
                return Some((None, DuckType::Other));
            }
            return Some((Some(name), self.type_(depth + 1)?));
        }
        let before = self.rest;
        let name = self.word()?;
        let ends = [',', ')', '(', '['].iter().any(|end| self.sees(*end));
        if ends || self.rest.starts_with(" WITH TIME ZONE") {
            self.rest = before;
            return Some((None, self.type_(depth + 1)?));
        }
        Some((Some(name.to_owned()), self.type_(depth + 1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(element: DuckType) -> DuckType {
        DuckType::List(Box::new(element))
    }

    #[test]
    fn scalars_and_lists() {
        for (text, expected) in [
            ("BOOLEAN", DuckType::Bool),
            ("UINTEGER", DuckType::Int),
            ("UBIGINT", DuckType::HugeInt),
            ("BIGNUM", DuckType::HugeInt),
            ("DECIMAL(38,10)", DuckType::Decimal),
            ("ENUM('a', 'b''c, (', ')')", DuckType::Text),
            ("ENUM('a')[]", list(DuckType::Text)),
            ("TIME", DuckType::Time),
            ("TIME WITH TIME ZONE", DuckType::Other),
            ("TIME_NS", DuckType::Other),
            ("TIMESTAMP", DuckType::Timestamp),
            ("TIMESTAMP_MS", DuckType::CoarseTimestamp),
            ("TIMESTAMP WITH TIME ZONE[]", list(DuckType::TimestampTz)),
            ("INTEGER[3][]", list(list(DuckType::Int))),
            ("JSON[]", list(DuckType::Json)),
            ("GEOMETRY('OGC:CRS84')", DuckType::Other),
            ("\"NULL\"", DuckType::Other),
            ("\"NULL\"[]", list(DuckType::Other)),
        ] {
            assert_eq!(DuckType::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn nested_types_keep_their_names() {
        let parsed = DuckType::parse(
            r#"STRUCT("a b" INTEGER, "q""x" DECIMAL(10,2), Upper STRUCT(v VARCHAR[]), "timestamp" TIMESTAMP WITH TIME ZONE)[]"#,
        );
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(
            parsed,
            list(DuckType::Struct(vec![
                (named("a b"), DuckType::Int),
                (named("q\"x"), DuckType::Decimal),
                (named("Upper"), DuckType::Struct(vec![(named("v"), list(DuckType::Text))])),
                (named("timestamp"), DuckType::TimestampTz),
            ]))
        );
        assert_eq!(
            DuckType::parse("STRUCT(TIMESTAMP WITH TIME ZONE, DECIMAL(3,1), INTEGER[])"),
            DuckType::Struct(vec![
                (None, DuckType::TimestampTz),
                (None, DuckType::Decimal),
                (None, list(DuckType::Int)),
            ])
        );
        assert_eq!(
            DuckType::parse("MAP(VARCHAR, MAP(INTEGER, DOUBLE[]))"),
            DuckType::Map(
                Box::new(DuckType::Text),
                Box::new(DuckType::Map(Box::new(DuckType::Int), Box::new(list(DuckType::Double))))
            )
        );
        assert_eq!(
            DuckType::parse(r#"UNION("num x" INTEGER, s VARCHAR)"#),
            DuckType::Union(vec![("num x".to_owned(), DuckType::Int), ("s".to_owned(), DuckType::Text)])
        );
    }

    #[test]
    fn what_cannot_be_read_is_other() {
        for text in
            ["", "STRUCT(", "STRUCT(a INTEGER", "MAP(VARCHAR)", "INTEGER extra", "ENUM('a", "[]", "INTEGER[", "("]
        {
            assert_eq!(DuckType::parse(text), DuckType::Other, "{text}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let structs = |depth: usize| format!("{}INTEGER{}", "STRUCT(a ".repeat(depth), ")".repeat(depth));
        assert!(matches!(DuckType::parse(&structs(40)), DuckType::Struct(_)));
        assert_eq!(DuckType::parse(&structs(100)), DuckType::TooDeep);
        assert_ne!(DuckType::parse(&format!("INTEGER{}", "[]".repeat(5))), DuckType::TooDeep);
        assert_eq!(DuckType::parse(&format!("INTEGER{}", "[]".repeat(6))), DuckType::TooDeep);
        assert_eq!(DuckType::parse("STRUCT(a MAP(VARCHAR, INTEGER[][][][][]))"), DuckType::TooDeep);
    }

    #[test]
    fn the_types_of_duckdb_2() {
        assert_eq!(DuckType::parse("VARIANT[]"), list(DuckType::Variant));
        let inner = DuckType::Struct(vec![(None, DuckType::Other)]);
        assert_eq!(
            DuckType::parse("TUPLE(INTEGER, TUPLE(\"NULL\"))"),
            DuckType::Struct(vec![(None, DuckType::Int), (None, inner)])
        );
    }
}
