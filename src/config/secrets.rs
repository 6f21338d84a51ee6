//! Secrets: references to them are resolved, and their values are blanked wherever a file's text is shown.
//!
//! A text in `groupcast.toml` may refer to an environment variable (`${NAME}`) or to a file's content
//! (`${file:/run/secrets/key}`); `$${` means `${` itself.

use std::collections::BTreeMap;
use std::path::Path;

use super::files::Files;
use super::implausible;
use crate::mapping::diagnostic::did_you_mean;
use crate::mapping::reader::shown;

/// A secret file is a key or a connection string; a megabyte is a wrong path.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What references are looked up in.
pub(crate) struct References<'a> {
    /// The environment.
    pub(crate) variables: &'a BTreeMap<String, String>,
    /// Relative paths start here.
    pub(crate) folder: &'a Path,
    /// Where the files that are looked for are noted.
    pub(crate) files: &'a Files,
    /// Whether a reference to what is not there gets a stand-in instead of being an error: what is only tested needs no
    /// secrets.
    pub(crate) stand_ins: bool,
}

/// What the stand-ins of references begin with.
const STAND_IN: &str = "test-value-of-";

/// The stand-in of what a reference names.
fn stand_in(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    format!("{STAND_IN}{}", name.chars().map(plain).collect::<String>())
}

/// Whether a text is nothing but a stand-in.
pub(crate) fn is_stand_in(text: &str) -> bool {
    text.starts_with(STAND_IN)
}

impl References<'_> {
    /// `text` with every reference replaced. The errors are `message: help`, one per bad reference, and never hold more
    /// than the reference's name.
    pub(crate) fn resolve(&self, text: &str) -> Result<String, Vec<String>> {
        self.look_up(text, false)
    }

    /// The same for a secret or an address: a value that looks as if it was set wrongly is an error as well.
    pub(crate) fn resolve_secret(&self, text: &str) -> Result<String, Vec<String>> {
        self.look_up(text, true)
    }

    fn look_up(&self, text: &str, careful: bool) -> Result<String, Vec<String>> {
        let mut out = String::with_capacity(text.len());
        let mut problems = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let escaped = rest[..at].ends_with('$');
            if escaped {
                out.push_str(&rest[..at - 1]);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else {
                problems
                    .push("contains a `${` without its `}`: write `${NAME}`, or `$${` for the characters".to_owned());
                rest = "";
                break;
            };
            let name = &rest[at + 2..at + end];
            let (value, what) = match name.strip_prefix("file:") {
                Some(path) => (self.file(path.trim()), format!("file `{}`", shown(path.trim()))),
                None => (self.variable(name), format!("environment variable `{name}`")),
            };
            let value = match value {
                Err(_) if self.stand_ins => Ok(stand_in(name)),
                value => value,
            };
            let value = value.and_then(|value| match implausible::in_value(&value).filter(|_| careful) {
                Some(odd) => Err(format!("refers to the {what}, whose value {odd}")),
                None => Ok(value),
            });
            match value {
                Ok(value) => out.push_str(&value),
                Err(problem) => problems.push(problem),
            }
            rest = &rest[at + end + 1..];
        }
        out.push_str(rest);
        if problems.is_empty() { Ok(out) } else { Err(problems) }
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        let sound = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.starts_with(|letter: char| !letter.is_ascii_digit());
        if !sound {
            // Whatever stands here may be a secret in the wrong place: it is not repeated.
            return Err("contains a `${…}` that names no variable: write `${NAME}` or `${file:path}`".to_owned());
        }
        match self.variables.get(name) {
            Some(value) if value.is_empty() => {
                Err(format!("refers to the environment variable `{name}`, which is empty: set it"))
            }
            Some(value) => Ok(value.clone()),
            None => {
                let meant = did_you_mean(name, self.variables.keys().map(String::as_str));
                let help = match meant {
                    Some(meant) => format!("set it, or did you mean `{meant}`?"),
                    None => "set it where Groupcast runs, or in a file `.env` beside groupcast.toml".to_owned(),
                };
                Err(format!("refers to the environment variable `{name}`, which is not set: {help}"))
            }
        }
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let name = shown(path);
        if path.is_empty() {
            return Err("refers to a file without a path: write `${file:path}`".to_owned());
        }
        let full = self.folder.join(path);
        self.files.note(&full);
        let failed = |error: std::io::Error| {
            let why = if error.kind() == std::io::ErrorKind::NotFound {
                "does not exist"
            } else if error.kind() == std::io::ErrorKind::PermissionDenied {
                "may not be read by this user"
            } else {
                "cannot be read"
            };
            format!("refers to the file `{name}`, which {why}: relative paths start at the config folder")
        };
        let odd = [std::io::ErrorKind::InvalidInput, std::io::ErrorKind::FileTooLarge];
        let bytes = match crate::io::files::read(&full, FILE_BYTES_MAX) {
            Err(error) if odd.contains(&error.kind()) => {
                return Err(format!(
                    "refers to `{name}`, which is not a small file: name a file that contains only the secret"
                ));
            }
            read => read.map_err(failed)?,
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| format!("refers to the file `{name}`, which is not text: store the secret as UTF-8"))?;
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            return Err(format!("refers to the file `{name}`, which is empty: put the secret into it"));
        }
        Ok(text.to_owned())
    }
}

/// Whether a text refers to something.
pub(crate) fn refers(text: &str) -> bool {
    text.match_indices("${").any(|(at, _)| !text[..at].ends_with('$'))
}

/// Whether a text is a reference in another tool's notation: `$NAME`, `{{ env_var('NAME') }}`, `%NAME%`, `env:NAME`. The
/// inner value is the variable's name, where that can be nothing else.
pub(crate) fn foreign_reference(text: &str) -> Option<Option<String>> {
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|letter: char| letter.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let text = text.trim();
    let inside = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    if let Some(inside) = inside {
        return Some(inside.split(['\'', '"', ' ', '.']).find(|word| is_name(word)).map(str::to_owned));
    }
    let percent = || text.strip_prefix('%')?.strip_suffix('%');
    let prefixed = || ["$env:", "env:", "ENV:", "$"].iter().find_map(|prefix| text.strip_prefix(prefix));
    percent().or_else(prefixed).filter(|name| is_name(name)).map(|name| Some(name.to_owned()))
}

/// Whether a text contains a plaintext password: in an address (`scheme://user:password@host`), in an address's query or in
/// a `key=value` connection string.
pub(crate) fn contains_password(text: &str) -> bool {
    password_range(text).is_some_and(|range| !text[range].trim().is_empty())
        || ["password", "passwd", "pwd", "sslpassword"].iter().any(|word| {
            let lower = text.to_ascii_lowercase();
            lower.match_indices(word).any(|(at, _)| {
                // Lower-casing ASCII keeps offsets.
                let after = text[at + word.len()..].trim_start();
                after.strip_prefix('=').is_some_and(|value| {
                    let value = value.trim_start().trim_start_matches(['\'', '"']);
                    !value.is_empty() && !value.starts_with(['&', ' ']) && !value.starts_with("${")
                })
            })
        })
}

/// Whether a parameter of this name, the last part of a dotted one, holds nothing but a credential.
pub(crate) fn is_credential(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "password",
        "passwd",
        "secret",
        "token",
        "session_token",
        "access_token",
        "refresh_token",
        "bearer_token",
        "client_secret",
        "account_key",
        "secret_key",
        "connection_string",
    ];
    let last = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
    NAMES.contains(&last.as_str())
}

/// Where the password of an address stands, unless it is nothing but a reference.
fn password_range(text: &str) -> Option<std::ops::Range<usize>> {
    let start = text.find("://")? + 3;
    let user_info_end = start + text[start..].rfind('@')?;
    let colon = start + text[start..user_info_end].find(':')? + 1;
    let password = &text[colon..user_info_end];
    // `host:5432/db?user=a@b` has a colon and an at sign but no password.
    if password.split_once('/').is_some_and(|(port, _)| port.parse::<u16>().is_ok()) {
        return None;
    }
    (!refers(password)).then_some(colon..user_info_end)
}

/// Words in a key that say its value is secret. An address is one, because passwords stand in it.
const SECRET_WORDS: [&str; 11] =
    ["key", "token", "secret", "password", "passwd", "pwd", "pass", "credential", "auth", "url", "dsn"];

fn names_a_secret(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|secret| word.contains(secret))
        || did_you_mean(&word, ["api_key", "token", "secret", "password", "credentials"]).is_some()
}

/// The text of a config file as it may be shown: the values of keys that look like secrets, and passwords in addresses,
/// are stars; references stay. Works on text rather than on parsed TOML, because a file with a syntax error is exactly
/// what gets shown. Byte offsets stay what they were.
pub(crate) fn blank(text: &str) -> String {
    let mut hidden = vec![false; text.len()];
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !is_word(bytes[at]) {
            at += 1;
            continue;
        }
        let word = at..at + bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
        at = word.end;
        if names_a_secret(&text[word])
            && let Some(value) = value_after(text, at)
        {
            at = value.end.max(at);
            hide(text, value, &mut hidden);
        }
    }
    // Addresses anywhere else: a password in a `base_url`, in a comment, under an unknown key.
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let mut from = 0;
        while let Some(scheme) = line[from..].find("://").map(|scheme| scheme + from) {
            let end = line[scheme..].find(['"', '\'', ' ', '\n', '\r', '`']).map_or(line.len(), |end| scheme + end);
            if let Some(password) = password_range(&line[scheme..end]) {
                hide(text, line_start + scheme + password.start..line_start + scheme + password.end, &mut hidden);
            }
            from = scheme + 3;
        }
        line_start += line.len();
    }
    text.char_indices().map(|(at, letter)| if hidden[at] { star(letter) } else { letter }).collect()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// A star of the same length in bytes, so that spans still fit.
pub(super) fn star(letter: char) -> char {
    match letter.len_utf8() {
        1 => '*',
        2 => '×',
        3 => '＊',
        _ => '🞯',
    }
}

/// The value that follows a key ending at `at`: after `=` (or `:`, or only space before a quote: the usual slips).
fn value_after(text: &str, at: usize) -> Option<std::ops::Range<usize>> {
    let skip = |from: usize| from + text[from..].len() - text[from..].trim_start_matches([' ', '\t']).len();
    let key_end = if text[at..].starts_with(['"', '\'']) { at + 1 } else { at };
    let after = skip(key_end);
    let start = if text[after..].starts_with(['=', ':']) {
        let equals = text[after..].len() - text[after..].trim_start_matches(['=', ':']).len();
        skip(after + equals)
    } else if after > key_end && text[after..].starts_with(['"', '\'']) {
        after
    } else {
        return None;
    };
    let rest = &text[start..];
    let end_of_line = rest.find('\n').unwrap_or(rest.len());
    for quotes in ["\"\"\"", "'''"] {
        if let Some(inner) = rest.strip_prefix(quotes) {
            return Some(start + 3..start + inner.find(quotes).map_or(rest.len(), |end| end + 3));
        }
    }
    let line = start..start + end_of_line;
    let Some(quote) = rest.chars().next().filter(|letter| *letter == '"' || *letter == '\'') else {
        // Not a string: a slip, and the secret is somewhere on the line.
        return Some(line);
    };
    let mut escaped = false;
    let end = rest[1..end_of_line].char_indices().find_map(|(at, letter)| {
        let closes = letter == quote && !escaped;
        escaped = letter == '\\' && !escaped && quote == '"';
        closes.then_some(at + 1)
    });
    // A quote within a password closes the text too early: what follows must look like the end of a value.
    let end = end.filter(|end| {
        let after = rest[end + 1..end_of_line].trim();
        let paired = ['"', '\''].iter().all(|quote| after.matches(*quote).count() % 2 == 0);
        after.is_empty() || (after.starts_with(['#', ',', '}']) && paired)
    });
    Some(start + 1..end.map_or(line.end, |end| start + end))
}

/// Marks a range as hidden, references excepted.
fn hide(text: &str, range: std::ops::Range<usize>, hidden: &mut [bool]) {
    let end = range.end.min(text.len());
    let mut at = range.start.min(end);
    while at < end {
        let rest = &text[at..end];
        let reference = rest.strip_prefix("${").and_then(|inner| inner.find('}')).filter(|close| {
            let name = &rest[2..2 + close];
            name.starts_with("file:")
                || name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        });
        if let Some(close) = reference {
            at += close + 3;
            continue;
        }
        let letter = rest.chars().next().map_or(1, char::len_utf8);
        if !text.as_bytes()[at].is_ascii_whitespace() {
            hidden[at..at + letter].fill(true);
        }
        at += letter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resolve(text: &str) -> Result<String, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "from-file\r\n").unwrap();
        std::fs::write(folder.path().join("blank"), "\n").unwrap();
        std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).unwrap();
        let variables = [("TOKEN", "t0k"), ("NOTHING", ""), ("ODD", "${TOKEN}")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        References { variables: &variables, folder: folder.path(), files: &Files::default(), stand_ins: false }
            .resolve(text)
    }

    #[test]
    fn references_are_replaced_once() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${TOKEN}", "t0k"),
            ("a-${TOKEN}-b-${TOKEN}", "a-t0k-b-t0k"),
            ("${file:key}", "from-file"),
            ("${file: key }", "from-file"),
            ("$${TOKEN}", "${TOKEN}"),
            ("${ODD}", "${TOKEN}"),
            ("cost $5", "cost $5"),
        ] {
            assert_eq!(resolve(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_bad_reference_is_named() {
        let problems =
            resolve("${TOKN} ${NOTHING} ${file:none} ${file:blank} ${file:binary} ${file:.} ${a b} ${").unwrap_err();
        let expected = [
            "`TOKN`, which is not set: set it, or did you mean `TOKEN`?",
            "`NOTHING`, which is empty",
            "`none`, which does not exist",
            "`blank`, which is empty",
            "`binary`, which is not text",
            "not a small file",
            "names no variable",
            "without its `}`",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.contains(expected), "{problem}");
        }
        let secret = resolve("${sk_live_51H-very/secret}").unwrap_err();
        assert!(!secret[0].contains("live"), "{secret:?}");
    }

    #[test]
    fn secrets_that_were_set_wrongly_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "'hunter2'\n").unwrap();
        let variables = [("TOKEN", "\"hunter2\""), ("SPACED", " hunter2")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let references =
            References { variables: &variables, folder: folder.path(), files: &Files::default(), stand_ins: false };
        for (text, name, word) in [
            ("Bearer ${TOKEN}", "environment variable `TOKEN`", "quotation marks"),
            ("${SPACED}", "environment variable `SPACED`", "blank"),
            ("${file:key}", "file `key`", "quotation marks"),
        ] {
            let problems = references.resolve_secret(text).unwrap_err();
            assert!(problems[0].contains(name) && problems[0].contains(word), "{problems:?}");
            assert!(!problems[0].contains("hunter2"), "{problems:?}");
            assert!(references.resolve(text).is_ok(), "other texts may hold anything");
        }
    }

    #[test]
    fn references_in_other_notations_are_recognised() {
        for (text, name) in [
            ("$API_KEY", Some(Some("API_KEY"))),
            ("{{ env_var('API_KEY') }}", Some(Some("API_KEY"))),
            ("{{ env_var(\"API_KEY\", 'x') }}", Some(Some("API_KEY"))),
            ("{{ secrets.API_KEY }}", Some(Some("API_KEY"))),
            ("{{ hunter2 }}", Some(None)),
            ("%API_KEY%", Some(Some("API_KEY"))),
            ("env:API_KEY", Some(Some("API_KEY"))),
            ("$ecret", None),
            ("hunter2", None),
            ("$5", None),
        ] {
            assert_eq!(foreign_reference(text).as_ref().map(|name| name.as_deref()), name, "{text}");
        }
    }

    #[test]
    fn passwords_in_addresses_are_recognised() {
        for text in [
            "postgres://u:pw@h/db",
            "postgres://u:p/w@h/db",
            "postgres://u:p@w@h/db",
            "host=h password=pw",
            "host=h Password = 'pw'",
            "postgres://h/db?password=pw",
        ] {
            assert!(contains_password(text), "{text}");
        }
        for text in [
            "postgres://h/db",
            "postgres://u@h/db",
            "postgres://u:${PW}@h/db",
            "postgres://u:@h/db",
            "postgres://h:5432/db?user=a@b",
            "host=h password=${PW}",
            "postgres://h/db?password=${PW}",
            "https://proxy.example.com:8443/amplitude",
        ] {
            assert!(!contains_password(text), "{text}");
        }
    }

    #[test]
    fn secrets_never_survive_blanking() {
        for (text, expected) in [
            ("api_key = \"hunter2\"\nregion = \"eu\"", "api_key = \"*******\"\nregion = \"eu\""),
            ("\"api_key\"= 'hunter2' # x", "\"api_key\"= '*******' # x"),
            ("password = \"hun\"ter2\" # x", "password = \"********* * *"),
            ("api_kye=hunter2", "api_kye=*******"),
            ("api_key = \"hunter2", "api_key = \"*******"),
            ("api_key \"hunter2\"", "api_key \"*******\""),
            ("api_key : \"hunter2\"", "api_key : \"*******\""),
            ("api_key == \"hunter2\"", "api_key == \"*******\""),
            ("w = { token = \"hunter2\", path = \"x\" }", "w = { token = \"*******\", path = \"x\" }"),
            ("password = \"\"\"\nhunter2\n\"\"\"\na = 1", "password = \"\"\"\n*******\n\"\"\"\na = 1"),
            ("password = \"hu\\\"nter2\" # a", "password = \"*********\" # a"),
            ("password = \"hünter2\" # a", "password = \"*×*****\" # a"),
            ("api_key = \"${KEY}\"", "api_key = \"${KEY}\""),
            ("url = \"postgres://u:${PW}@h\"", "url = \"*************${PW}**\""),
            ("endpoint = \"postgres://u:hunter2@h\"", "endpoint = \"postgres://u:*******@h\""),
            ("[destinations.api_key]\npath = \"keys/a\"", "[destinations.api_key]\npath = \"keys/a\""),
            ("type = \"postgres\"\npath = \"w.duckdb\"", "type = \"postgres\"\npath = \"w.duckdb\""),
            ("token = { \"hunter2\"", "token = * *********"),
            ("tokens = [\"hunter2\"]", "tokens = ***********"),
        ] {
            assert_eq!(blank(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn blanking_keeps_offsets(text in "(api_key|url|x|=|\"|'|\\$\\{|\\}|ü|€|🦀|://|@|:|\n| |a|\\[|\\\\){0,30}", any in ".*") {
            for text in [text, any] {
                let blanked = blank(&text);
                prop_assert_eq!(blanked.len(), text.len());
                prop_assert!(text.char_indices().map(|(at, _)| at).eq(blanked.char_indices().map(|(at, _)| at)));
            }
        }
    }
}
