//! Which headers does an operator ask for? Lines of `Name: value`, checked, with names that live as long as the program.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Kind, Result};

/// A configured header.
pub(super) struct Header {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) secret: bool,
}

/// Headers that belong to the connection, or tell the body's length or form: wrong ones would garble the request.
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

/// Words in a header's name that say that its value is secret.
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
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    match names.get(name.as_str()) {
        Some(known) => known,
        None => {
            let kept: &'static str = name.leak();
            names.insert(kept);
            kept
        }
    }
}

/// The headers of a configured text. `secret` tells which key it is the text of; no error repeats a value.
pub(super) fn read(text: &str, secret: bool) -> Result<Vec<Header>> {
    let key = if secret { "auth_header" } else { "headers" };
    let mut all = Vec::new();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (at, line) in lines {
        let wrong = |what: &str| {
            Error::new(Kind::Config, format!("line {} of `{key}` {what}", at + 1))
                .advise("write one `Name: value` per line")
        };
        let (name_text, value) = line.split_once(':').ok_or_else(|| wrong("has no colon"))?;
        let Some(name) = name(name_text) else { return Err(wrong("names no header that can be set")) };
        let value = value.trim();
        if value.is_empty() || !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
            return Err(wrong("has no value, or one with characters that no header can have"));
        }
        if !secret && SECRET_WORDS.iter().any(|word| name.contains(word)) {
            return Err(Error::new(Kind::Config, format!("`headers` holds `{name}`, whose value looks like a secret"))
                .advise(format!("move it to `auth_header = \"{name}: ${{…}}\"`, which is never shown")));
        }
        all.push(Header { name, value: value.to_owned(), secret });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_headers() {
        let all = read("\n  X-Team: data \n\nx-env: a: b\n", false).unwrap();
        let pairs: Vec<_> = all.iter().map(|header| (header.name, header.value.as_str())).collect();
        assert_eq!(pairs, [("x-team", "data"), ("x-env", "a: b")]);
        assert!(std::ptr::eq(all[0].name, name("X-TEAM").unwrap()), "kept once");
        assert!(read("Authorization: Bearer hunter2", true).unwrap()[0].secret);
    }

    #[test]
    fn wrong_lines_are_told_without_their_value() {
        for (text, secret, words) in [
            ("Bearer hunter2", true, "line 1 of `auth_header` has no colon"),
            ("a: b\nhost: hunter2", false, "line 2 of `headers` names no header"),
            ("two words: hunter2", false, "names no header"),
            ("x-team:", false, "has no value"),
            ("x-team: hunter2 \u{1f980}", false, "no header can have"),
            ("X-Api-Key: hunter2", false, "holds `x-api-key`, whose value looks like a secret"),
        ] {
            let error = read(text, secret).err().unwrap();
            assert!(error.what().contains(words), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
