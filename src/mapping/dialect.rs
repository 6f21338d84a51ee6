//! Dialect: what differs between the SQL of one source and that of another. A source type brings its own and hands it out
//! by `Source::dialect`; the defaults are what the SQL standard says.

use super::sections::model::From;
use super::sections::traits::Expr;
use crate::model::ColumnType;
use crate::model::cell::As;

/// How a dialect writes a mirror's statements.
#[derive(Debug, Clone, Copy)]
pub struct MirrorSql {
    /// 60 bits of a text's MD5, as a whole number.
    pub hash: &'static str,
    /// How many characters a text has.
    pub length: &'static str,
    /// A double as a text that no other double has.
    pub double: &'static str,
    /// A whole number of 64 bits.
    pub int: &'static str,
    /// A number as text.
    pub text: &'static str,
    /// The exact sum of whole numbers.
    pub sum: &'static str,
    /// The newest fingerprint of every key, as `mirror_key` and `mirrored`, of `{table}` from `{base}` up to `{seq}`.
    pub newest: &'static str,
    /// Makes `{table}` of `{select}`.
    pub create: &'static str,
    /// What surrounds a statement with a join.
    pub joined: &'static str,
    /// The statements that permit a user to keep mirrors in `{schema}`; `{user}` is them.
    pub grants: &'static [&'static str],
}

/// What was added since the table was made, which is little, and the rows that it was made with, of other keys. Works everywhere,
/// and groups or sorts nothing large.
pub const NEWEST: &str = "SELECT group_key AS mirror_key, fingerprint AS mirrored FROM (SELECT group_key, fingerprint, \
    ROW_NUMBER() OVER (PARTITION BY group_key ORDER BY seq DESC) AS nth FROM {table} WHERE seq > {base} AND seq <= {seq}) \
    AS newer WHERE nth = 1 UNION ALL SELECT made.group_key AS mirror_key, made.fingerprint AS mirrored FROM {table} AS made \
    LEFT JOIN (SELECT DISTINCT group_key FROM {table} WHERE seq > {base} AND seq <= {seq}) AS newer \
    ON newer.group_key = made.group_key WHERE made.seq = {base} AND newer.group_key IS NULL";

/// How a source's SQL is written.
pub trait Dialect: Send + Sync {
    /// A name, safe whatever it contains.
    fn identifier(&self, name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    /// A text as a literal, which means the same text to every server of this dialect whatever its settings.
    fn literal(&self, text: &str) -> String {
        quoted(text)
    }

    /// A checkpoint as a literal that compares with the cursor's column. A quoted text takes the column's type in most
    /// dialects.
    fn cursor_literal(&self, cursor: &str) -> String {
        self.literal(cursor)
    }

    /// An expression's value as text.
    fn as_text(&self, expression: &str) -> String {
        format!("CAST({expression} AS VARCHAR)")
    }

    /// A SELECT statement without parentheses around it, cut to its first rows; to none in order to describe it.
    fn first_rows(&self, select: &str, rows: u64) -> String {
        format!("{select} LIMIT {rows}")
    }

    /// A table's name of one to three parts.
    fn table(&self, parts: &[String]) -> String {
        parts.iter().map(|part| self.identifier(part)).collect::<Vec<_>>().join(".")
    }

    /// A table or query as it follows FROM. The line breaks end a trailing `--` comment of the query.
    fn relation(&self, from: &From) -> String {
        match from {
            From::Table(parts) => self.table(parts),
            From::Query(sql) => format!("(\n{sql}\n) AS model"),
        }
    }

    /// The expression over `column` (as written in SQL) that gives what is `wanted` of a column whose type (by the source's own
    /// name of it) cannot become that, where there is a usual one.
    fn conversion(&self, _declared: &str, _column: &str, _wanted: As) -> Option<String> {
        None
    }

    /// Whether no value of this type can become what is `wanted`, although the meaning of its values leaves it open.
    fn never_becomes(&self, _declared: &str, _wanted: As) -> bool {
        false
    }

    /// Whether some value of a column can become what is `wanted`.
    fn can_become(&self, kind: &ColumnType, declared: &str, wanted: As) -> bool {
        kind.can_become(wanted) && !self.never_becomes(declared, wanted)
    }

    /// Whether the server's own text of a value of this type is what people expect to see: an address, a document, a bit
    /// string.
    fn text_is_plain(&self, _declared: &str) -> bool {
        true
    }

    /// How the statements of a mirror are written, where the server has what they need.
    fn mirror(&self) -> Option<&'static MirrorSql> {
        None
    }

    /// A column's name, or an expression in parentheses.
    fn expression(&self, expr: &Expr) -> String {
        match expr {
            Expr::Column(name) => self.identifier(name),
            Expr::Sql(sql) => format!("({sql}\n)"),
        }
    }
}

/// A text between single quotes, which are doubled inside.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A text as a literal in which none of the `special` characters is between quotes: each becomes `chr(n)`. For servers
/// where a backslash escapes, so that a quoted text could end early and what follows be executed, and for NUL, which few
/// protocols carry.
pub fn literal_without(text: &str, special: &[char]) -> String {
    joined_literal(text, special, "chr", " || ")
}

/// The same with the function that gives a character and the operator that joins texts.
pub fn joined_literal(text: &str, special: &[char], function: &str, operator: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for piece in text.split_inclusive(special) {
        let (plain, last) = match piece.strip_suffix(special) {
            Some(plain) => (plain, piece.chars().next_back()),
            None => (piece, None),
        };
        if !plain.is_empty() {
            parts.push(quoted(plain));
        }
        parts.extend(last.map(|special| format!("{function}({})", u32::from(special))));
    }
    match parts.as_slice() {
        [] => quoted(""),
        [only] => only.clone(),
        _ => format!("({})", parts.join(operator)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_special_character_is_between_the_quotes_of_a_literal() {
        for (text, expected) in [
            ("", "''"),
            ("acct_1", "'acct_1'"),
            ("it's", "'it''s'"),
            ("\\", "chr(92)"),
            ("a\\b", "('a' || chr(92) || 'b')"),
            ("\\' OR true --", "(chr(92) || ''' OR true --')"),
            ("\\\\é", "(chr(92) || chr(92) || 'é')"),
            ("a\0", "('a' || chr(0))"),
        ] {
            assert_eq!(literal_without(text, &['\\', '\0']), expected, "{text:?}");
        }
    }

    #[test]
    fn names_of_any_characters_stay_one_name() {
        struct Standard;
        impl Dialect for Standard {}
        let parts = ["a".to_owned(), "b \"c\".d".to_owned()];
        assert_eq!(Standard.table(&parts), "\"a\".\"b \"\"c\"\".d\"");
    }
}
