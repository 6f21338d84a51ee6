//! The headers that an operator configures: checked, with names that live as long as the program.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::error::{Error, Kind, Result};

/// A configured header.
pub(super) struct Header {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) secret: bool,
}

/// Headers that belong to the connection, or describe the body's length or form: wrong ones would garble the request.
const OURS: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Words in a header's name by which its value is a secret.
const SECRET_WORDS: [&str; 8] = ["auth", "cookie", "key", "password", "secret", "session", "signature", "token"];

/// A header's name in lower case; nothing when it cannot be one.
pub(super) fn name(text: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let name = text.trim().to_ascii_lowercase();
    let sound = !name.is_empty() && name.bytes().all(allowed) && !OURS.contains(&name.as_str());
    sound.then(|| interned(name))
}

/// The same text for as long as the program runs: requests name headers by `&'static str`, since all other destinations
/// know theirs when they are compiled. Kept once per name, so a daemon that reads its settings again does not grow.
fn interned(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock();
    match names.get(name.as_str()) {
        Some(known) => known,
        None => {
            let kept: &'static str = name.leak();
            names.insert(kept);
            kept
        }
    }
}

/// The lines of `auth_header`. No error repeats a value.
pub(super) fn secret(text: &str) -> Result<Vec<Header>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(at, line): (usize, &str)| {
        let wrong = |what: &str| {
            Error::new(Kind::Config, format!("line {} of `auth_header` {what}", at + 1))
                .advise("write one `Name: value` per line")
        };
        let (name, value) = line.split_once(':').ok_or_else(|| wrong("has no colon"))?;
        header(name, value, true).map_err(wrong)
    };
    lines.map(read).collect()
}

/// The headers of the table `headers`, which must not look like secrets: they could is in the file as they are.
pub(super) fn plain(table: &toml::Table) -> Result<Vec<Header>> {
    let read = |(written, value): (&String, &toml::Value)| {
        let wrong = |what: &str| {
            Error::new(Kind::Config, format!("`{}` in `headers` {what}", written.escape_debug()))
                .advise("write it like `headers = { X-Team = \"data\" }`")
        };
        let toml::Value::String(value) = value else { return Err(wrong("is not a string")) };
        let header = header(written, value, false).map_err(wrong)?;
        if SECRET_WORDS.iter().any(|word| header.name.contains(word)) {
            let help = format!("move it to `auth_header = \"{}: ${{…}}\"`, which is never shown", header.name);
            return Err(wrong("looks like a secret").advise(help));
        }
        Ok(header)
    };
    table.iter().map(read).collect()
}

fn header(written: &str, value: &str, secret: bool) -> Result<Header, &'static str> {
    let Some(name) = name(written) else { return Err("is not the name of a header that can be set") };
    let value = value.trim();
    if value.is_empty() || !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
        return Err("has no value, or one with characters that no header can have");
    }
    Ok(Header { name, value: value.to_owned(), secret })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> toml::Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn settings_become_headers() {
        let pairs = |all: &[Header]| all.iter().map(|header| (header.name, header.value.clone())).collect::<Vec<_>>();
        let all = plain(&table("X-Team = ' data '\nx-env = 'a: b'")).unwrap();
        assert_eq!(pairs(&all), [("x-team", "data".to_owned()), ("x-env", "a: b".to_owned())]);
        assert!(std::ptr::eq(all[0].name, name("X-TEAM").unwrap()), "kept once");
        let all = secret("\n  Authorization: Bearer hunter2\n\nx-key:a:b\n").unwrap();
        assert_eq!(pairs(&all), [("authorization", "Bearer hunter2".to_owned()), ("x-key", "a:b".to_owned())]);
        assert!(all.iter().all(|header| header.secret));
    }

    #[test]
    fn wrong_headers_are_told_without_their_value() {
        for (error, words) in [
            (secret("Bearer hunter2"), "line 1 of `auth_header` has no colon"),
            (secret("a: b\nhost: hunter2"), "line 2 of `auth_header` is not the name of a header"),
            (plain(&table("\"two words\" = 'hunter2'")), "`two words` in `headers` is not the name of a header"),
            (plain(&table("x-team = ''")), "has no value"),
            (plain(&table("x-team = 'hunter2 \u{1f980}'")), "no header can have"),
            (plain(&table("x-team = \"hunter2\\r\\nx: y\"")), "no header can have"),
            (plain(&table("x-team = 1")), "is not a string"),
            (plain(&table("X-Api-Key = 'hunter2'")), "`X-Api-Key` in `headers` looks like a secret"),
        ] {
            let error = error.err().unwrap();
            assert!(error.what().contains(words), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
