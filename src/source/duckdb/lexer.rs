//! A lexer for SQL that a person wrote: just enough of DuckDB's lexical rules to end a query before
//! its semicolon and to see whether an expression reaches beyond its own row.

/// What the scanner distinguishes.
#[derive(Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Semicolon,
    /// A literal, a quoted name, an operator.
    Other,
}

/// The query without trailing semicolons and whatever comment follows them.
pub(super) fn without_semicolon(sql: &str) -> &str {
    let mut end = None;
    for (at, token) in tokens(sql) {
        match token {
            Token::Semicolon => end = end.or(Some(at)),
            Token::Word(_) | Token::Other => end = None,
        }
    }
    sql[..end.unwrap_or(sql.len())].trim_end()
}

/// Whether an expression may read other tables or give another answer when it is evaluated again. Errs towards yes:
/// then the rows are copied once instead of being read in place.
pub(super) fn reaches_beyond_its_row(sql: &str) -> bool {
    // Every subquery starts with one of the first five; the rest are DuckDB's functions that are not constant.
    const WORDS: [&str; 30] = [
        "select",
        "from",
        "with",
        "table",
        "values",
        "now",
        "today",
        "current_date",
        "current_time",
        "current_timestamp",
        "localtime",
        "localtimestamp",
        "get_current_time",
        "get_current_timestamp",
        "transaction_timestamp",
        "age",
        "random",
        "setseed",
        "uuid",
        "uuidv4",
        "uuidv7",
        "gen_random_uuid",
        "nextval",
        "currval",
        "txid_current",
        "current_schema",
        "current_schemas",
        "current_database",
        "in_search_path",
        "getvariable",
    ];
    tokens(sql).into_iter().any(|(_, token)| match token {
        Token::Word(word) => WORDS.contains(&word.to_ascii_lowercase().as_str()),
        Token::Semicolon => true,
        Token::Other => false,
    })
}

/// Whether an expression names a column, in quotation marks or without; capitals do not matter. A word that only looks like
/// it (an alias, a function) counts as well.
pub(super) fn names(sql: &str, column: &str) -> bool {
    tokens(sql).into_iter().any(|(at, token)| match token {
        Token::Word(word) => word.eq_ignore_ascii_case(column),
        Token::Other if sql[at..].starts_with('"') => {
            let length = quoted(&sql[at..], '"', false);
            let inside = sql[at..at + length].trim_matches('"').replace("\"\"", "\"");
            inside.eq_ignore_ascii_case(column)
        }
        Token::Semicolon | Token::Other => false,
    })
}

fn tokens(sql: &str) -> Vec<(usize, Token<'_>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let (length, token) = match next {
            _ if next.is_whitespace() => (next.len_utf8(), None),
            '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), None),
            '/' if rest.starts_with("/*") => (rest.find("*/").map_or(rest.len(), |end| end + 2), None),
            ';' => (1, Some(Token::Semicolon)),
            '\'' | '"' => (quoted(rest, next, false), Some(Token::Other)),
            'e' | 'E' if rest[1..].starts_with('\'') => (1 + quoted(&rest[1..], '\'', true), Some(Token::Other)),
            '$' => (dollar_quoted(rest).unwrap_or(1), Some(Token::Other)),
            _ if next.is_alphabetic() || next == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len());
                (end, Some(Token::Word(&rest[..end])))
            }
            _ => (next.len_utf8(), Some(Token::Other)),
        };
        if let Some(token) = token {
            found.push((at, token));
        }
        at += length;
    }
    found
}

/// The length of a quoted text, both quotes included; a doubled quote is part of it.
fn quoted(text: &str, quote: char, backslashes: bool) -> usize {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if backslashes && character == '\\' {
            characters.next();
        } else if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    text.len()
}

/// The length of `$tag$ … $tag$`, when the text starts with one.
fn dollar_quoted(text: &str) -> Option<usize> {
    let tag_end = text[1..].find('$')? + 2;
    let tag = &text[..tag_end];
    if !tag[1..tag_end - 1].chars().all(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    Some(text[tag_end..].find(tag).map_or(text.len(), |end| tag_end + end + tag_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_ends_before_its_semicolon() {
        for (sql, expected) in [
            ("select 1", "select 1"),
            ("select 1;\n", "select 1"),
            ("select 1 ; ; -- done; really", "select 1"),
            ("select 1; /* a;b */", "select 1"),
            ("select 1 -- not; the end", "select 1 -- not; the end"),
            ("select ';' as \"a;b\", E'\\';', $$;$$, $x$;$x$;", "select ';' as \"a;b\", E'\\';', $$;$$, $x$;$x$"),
            ("select 'it''s;'", "select 'it''s;'"),
            ("select 1; select 2;", "select 1; select 2"),
            ("select 'open;", "select 'open;"),
            ("", ""),
        ] {
            assert_eq!(without_semicolon(sql), expected, "{sql}");
        }
    }

    #[test]
    fn subqueries_and_changing_functions_are_seen() {
        for sql in ["(SELECT 1)", "x in (from t)", "now()", "\"a\" < current_date", "random() > 0.5", "a; b"] {
            assert!(reaches_beyond_its_row(sql), "{sql}");
        }
        for sql in
            ["arr_cents / 100", "plan = 'select from'", "\"from\" > 1", "upper(name) -- from\n", "selected", "é = 'ü'"]
        {
            assert!(!reaches_beyond_its_row(sql), "{sql}");
        }
    }
}
