//! A check that a text is one piece of SQL. Mappings splice queries, conditions and expressions into a statement of ours, so each
//! must be one whole: a quote or parenthesis left open would swallow what follows. Only tokens are read, not grammar.

/// What ends a text or a name in quotation marks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Quoting {
    /// A mark that is not doubled, as in PostgreSQL and DuckDB.
    #[default]
    Standard,
    /// The same unless a backslash is before it; names stand in backticks. As in BigQuery, ClickHouse, MySQL, Snowflake
    /// and Spark.
    Backslashes,
}

/// `text` without surrounding space and trailing semicolons. Fails when it is empty, holds several statements, or
/// leaves a quote, comment or parenthesis open, by the rules of every source.
pub(super) fn single(text: &str) -> Result<String, String> {
    single_by(text, Quoting::Standard).or_else(|problem| single_by(text, Quoting::Backslashes).map_err(|_| problem))
}

/// The same by these rules alone.
pub(super) fn single_by(text: &str, quoting: Quoting) -> Result<String, String> {
    let text = text.replace("\r\n", "\n");
    let mut scan = Scan { rest: &text, offset: 0, backslash: quoting == Quoting::Backslashes };
    let mut depth = 0_i64;
    let mut content = false;
    let mut end: Option<usize> = None;
    while let Some((token, start)) = scan.next()? {
        match token {
            Token::Blank => continue,
            Token::Semicolon => {
                if !content {
                    return Err("an SQL text that is empty before its `;`".to_owned());
                }
                end.get_or_insert(start);
                continue;
            }
            Token::Open => depth += 1,
            Token::Close => depth -= 1,
            Token::Other => {}
        }
        if end.is_some() {
            return Err("more than one SQL statement: only one is run".to_owned());
        }
        if depth < 0 {
            return Err("a `)` without its `(` in the SQL".to_owned());
        }
        content = true;
    }
    if !content {
        return Err("an empty SQL text".to_owned());
    }
    if depth > 0 {
        return Err("a `(` without its `)` in the SQL".to_owned());
    }
    Ok(text[..end.unwrap_or(text.len())].trim().to_owned())
}

enum Token {
    /// Space or a comment.
    Blank,
    Semicolon,
    Open,
    Close,
    Other,
}

struct Scan<'a> {
    rest: &'a str,
    offset: usize,
    backslash: bool,
}

impl Scan<'_> {
    /// The next token and where it starts.
    fn next(&mut self) -> Result<Option<(Token, usize)>, String> {
        let start = self.offset;
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        let (token, length) = match first {
            ';' => (Token::Semicolon, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '\'' | '"' => (Token::Other, quoted(self.rest, first, self.backslash)?),
            '`' if self.backslash => (Token::Other, quoted(self.rest, first, true)?),
            '-' if self.rest.starts_with("--") => (Token::Blank, self.rest.find('\n').unwrap_or(self.rest.len())),
            '/' if self.rest.starts_with("/*") => (Token::Blank, comment(self.rest)?),
            '$' => (Token::Other, dollar_quoted(self.rest)?),
            _ if first.is_whitespace() => (Token::Blank, first.len_utf8()),
            _ if first.is_alphanumeric() || first == '_' => (Token::Other, word(self.rest)?),
            _ => (Token::Other, first.len_utf8()),
        };
        self.rest = &self.rest[length..];
        self.offset += length;
        Ok(Some((token, start)))
    }
}

/// A word; `$` belongs to it, and an `E'…'` string hangs on it because backslashes escape there.
fn word(text: &str) -> Result<usize, String> {
    let length = text.find(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == '$'));
    let length = length.unwrap_or(text.len());
    if text[..length].eq_ignore_ascii_case("e") && text[length..].starts_with('\'') {
        return Ok(length + quoted(&text[length..], '\'', true)?);
    }
    Ok(length)
}

/// A quoted text; a doubled quote simply reads as two quoted texts.
fn quoted(text: &str, quote: char, backslash: bool) -> Result<usize, String> {
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        if backslash && letter == '\\' {
            letters.next();
        } else if letter == quote {
            return Ok(at + 1);
        }
    }
    Err(format!("a {quote} that is never closed in the SQL"))
}

/// A block comment; they nest, as in PostgreSQL.
fn comment(text: &str) -> Result<usize, String> {
    let mut depth = 0_u32;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Ok(at);
            }
        } else {
            at += 1;
        }
    }
    Err("a comment `/*` that is never closed in the SQL".to_owned())
}

/// `$$…$$` or `$tag$…$tag$`; a lone `$` is an ordinary character.
fn dollar_quoted(text: &str) -> Result<usize, String> {
    let tag =
        text[1..].find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).map_or(text.len(), |at| at + 1);
    let numbered = text[1..].starts_with(|letter: char| letter.is_ascii_digit());
    if numbered || !text[tag..].starts_with('$') {
        return Ok(1);
    }
    let tag = &text[..=tag];
    match text[tag.len()..].find(tag) {
        Some(at) => Ok(tag.len() + at + tag.len()),
        None => Err(format!("a {tag} that is never closed in the SQL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_statement_is_trimmed() {
        for (text, expected) in [
            ("select 1", "select 1"),
            (" select 1 ;; \n", "select 1"),
            ("select 1; -- done", "select 1"),
            ("select ';' as a", "select ';' as a"),
            ("select 'it''s; fine'", "select 'it''s; fine'"),
            ("select E'it\\'s; fine'", "select E'it\\'s; fine'"),
            ("select \"a;b\" from t", "select \"a;b\" from t"),
            ("select $x$ ; ( $x$", "select $x$ ; ( $x$"),
            ("select $$;$$", "select $$;$$"),
            ("select 1 /* ; /* ( */ */", "select 1 /* ; /* ( */ */"),
            ("select $1", "select $1"),
            ("select 1\r\nfrom t", "select 1\nfrom t"),
            ("select 1 -- (", "select 1 -- ("),
        ] {
            assert_eq!(single(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_ends_a_text_is_the_sources_to_say() {
        for (text, standard, backslashes) in [
            ("name = 'it\\'s'", false, true),
            ("name = 'C:\\'", true, false),
            ("name = 'C:\\\\'", true, true),
            ("name = \"a\\\"b\"", false, true),
            ("`it's` = 1", false, true),
            ("name = 'it''s'", true, true),
        ] {
            assert_eq!(single_by(text, Quoting::Standard).is_ok(), standard, "{text}");
            assert_eq!(single_by(text, Quoting::Backslashes).is_ok(), backslashes, "{text}");
            assert!(single(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (text, expected) in [
            ("", "empty"),
            (" \n-- nothing\n/* here */", "empty"),
            (";", "empty"),
            ("select 1; select 2", "more than one"),
            ("name = 'abc", "never closed"),
            ("\"abc", "never closed"),
            ("a /* b", "never closed"),
            ("$$ abc", "never closed"),
            ("a) or (b", "without its `(`"),
            ("(a", "without its `)`"),
        ] {
            let error = single(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_and_the_verdict_is_stable(text in "[a-zE$'\"();/*\\- \néﬀ0-9]{0,40}") {
            if let Ok(one) = single(&text) {
                prop_assert_eq!(single(&one), Ok(one.clone()));
            }
        }
    }
}
