//! Does a secret look as if it was set wrongly: in quotation marks, with blanks around it, still a placeholder, of another
//! kind? The report names the variable or file and never shows the value.

use crate::destination::registry::{self, DESTINATION_TYPES};

/// What is odd about a value that was looked up for a secret or an address: `what: help`, fits after the name of where it
/// came from.
pub(crate) fn in_value(value: &str) -> Option<&'static str> {
    // A byte order mark is a blank here: editors leave it at the start of a file.
    let blank = |letter: char| letter.is_whitespace() || letter == '\u{feff}' || letter == '\u{200b}';
    let trimmed = value.trim_matches(blank);
    if trimmed.is_empty() {
        // What is empty is told by those who need it.
        return None;
    }
    let quoted = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('„', '“'), ('‘', '’'), ('«', '»')]
        .into_iter()
        .any(|(open, close)| trimmed.chars().count() > 1 && trimmed.starts_with(open) && trimmed.ends_with(close));
    if quoted {
        return Some(
            "is in quotation marks: set it without them (docker's `--env-file`, systemd and Kubernetes take quotation \
             marks for a part of the value)",
        );
    }
    if trimmed.len() != value.len() {
        return Some("has a blank or a line break around it: set it without (`printf %s` instead of `echo`)");
    }
    if value.contains(['\n', '\r']) {
        return Some("has several lines: set one");
    }
    if value.chars().any(char::is_control) {
        return Some("contains a control character: set it again, without what was copied along");
    }
    is_placeholder(value).then_some("is still a placeholder: set the real one")
}

/// Words that stand where a secret is to be put, in lower case without what separates them.
const PLACEHOLDERS: [&str; 18] = [
    "changeme",
    "changethis",
    "changeit",
    "replaceme",
    "replacethis",
    "fillme",
    "fillmein",
    "insertkeyhere",
    "todo",
    "tbd",
    "fixme",
    "placeholder",
    "apikey",
    "apikeyhere",
    "writekey",
    "null",
    "undefined",
    "none",
];

fn is_placeholder(value: &str) -> bool {
    let plain: String = value.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let only = |letter: char| !plain.is_empty() && plain.chars().all(|other| other == letter);
    let bracketed = |open: char, close: char| {
        value.split(open).skip(1).any(|rest| {
            // `<your key>`, `[YOUR-PASSWORD]`: words, which a generated secret has none of.
            rest.split_once(close).is_some_and(|(inside, _)| {
                let lower = inside.to_lowercase();
                let words = ["your", "password", "key", "token", "secret", "user", "host", "project", "database"];
                inside.len() < 60 && words.iter().any(|word| lower.contains(word))
            })
        })
    };
    let filling = value.len() > 2 && plain.is_empty() && value.chars().all(|letter| value.starts_with(letter));
    filling
        || PLACEHOLDERS.contains(&plain.as_str())
        || is_worded(value)
        || only('x')
        || bracketed('<', '>')
        || bracketed('[', ']')
        || (value.starts_with("${") && value.ends_with('}'))
        || value.starts_with("{{")
}

/// `your-api-key`, `YOUR_WRITE_KEY`: words with something between them.
fn is_worded(value: &str) -> bool {
    let lower = value.to_lowercase();
    lower.strip_prefix("your").is_some_and(|rest| rest.starts_with(['_', '-', ' ', '.']))
}

/// What the keys of services that are no destinations begin with.
const FOREIGN_PREFIXES: [(&str, &str); 8] = [
    ("sk_live_", "a secret key of Stripe"),
    ("sk_test_", "a secret key of Stripe"),
    ("xoxb-", "a token of Slack"),
    ("xoxp-", "a token of Slack"),
    ("ghp_", "a token of GitHub"),
    ("github_pat_", "a token of GitHub"),
    ("AKIA", "an access key of AWS"),
    ("eyJhbGciOi", "a JSON web token"),
];

/// What a key is, where its setting takes only keys of another vendor. `kind` is the destination's type, `key` the setting.
pub(crate) fn of_another_kind(kind: &str, key: &str, value: &str) -> Option<&'static str> {
    let own = registry::find(kind)?.own_keys().iter().find(|own| own.setting == key)?;
    let of_vendors = DESTINATION_TYPES.iter().flat_map(|of| of.key_prefixes());
    let mut foreign = of_vendors.chain(&FOREIGN_PREFIXES).filter(|(prefix, _)| own.prefix != Some(*prefix));
    foreign.find(|(prefix, _)| value.starts_with(prefix)).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_were_set_wrongly_are_told_apart() {
        for (value, word) in [
            ("\"abc123\"", "quotation marks"),
            ("'abc123'", "quotation marks"),
            ("“abc123”", "quotation marks"),
            (" 'abc123'\n", "quotation marks"),
            ("\"postgres://u:p@h/db\"", "quotation marks"),
            (" abc123", "blank"),
            ("abc123 ", "blank"),
            ("abc123\n", "line break"),
            ("abc123\r\n", "line break"),
            ("\u{feff}abc123", "blank"),
            ("\u{a0}abc123", "blank"),
            ("abc\n123", "several lines"),
            ("abc\u{1b}[0m123", "control"),
            ("changeme", "placeholder"),
            ("CHANGE_ME", "placeholder"),
            ("change-me!", "placeholder"),
            ("<your key>", "placeholder"),
            ("your-api-key", "placeholder"),
            ("YOUR_WRITE_KEY", "placeholder"),
            ("xxxxxxxx", "placeholder"),
            ("xxx-xxx", "placeholder"),
            ("...", "placeholder"),
            ("TODO", "placeholder"),
            ("undefined", "placeholder"),
            ("${API_KEY}", "placeholder"),
            ("{{ api_key }}", "placeholder"),
            ("postgres://postgres:[YOUR-PASSWORD]@db.example.com/postgres", "placeholder"),
            ("postgres://u:<password>@h/db", "placeholder"),
        ] {
            assert!(in_value(value).is_some_and(|odd| odd.contains(word)), "{value:?}: {:?}", in_value(value));
        }
        for value in [
            "abc123",
            "K3y-7f1d2c9a4b8e6f05",
            "it's a \"quoted\" word",
            "a'",
            "\"",
            "Bearer abc123",
            "host=h password='a b'",
            "postgres://u:p@h/db",
            "postgres://u@[::1]:5432/db",
            "yourkshire2024",
            "correct horse battery staple",
            "none-of-your-business",
            "https://hooks.example.com/T000/B000/xxxxx1",
            "key",
            "swordfish",
            "<a>b",
        ] {
            assert_eq!(in_value(value), None, "{value:?}");
        }
    }

    #[test]
    fn keys_of_another_kind_are_named() {
        for (kind, key, value, what) in [
            ("posthog", "api_key", "phx_abc", Some("a personal API key of PostHog")),
            ("posthog", "api_key", "phc_abc", None),
            ("posthog", "personal_api_key", "phc_abc", Some("a project API key of PostHog")),
            ("posthog", "personal_api_key", "phx_abc", None),
            ("segment", "write_key", "sgp_abc", Some("a token for Segment's public API")),
            ("mixpanel", "token", "phc_abc", Some("a project API key of PostHog")),
            ("amplitude", "api_key", "0123456789abcdef0123456789abcdef", None),
            ("webhook", "auth_header", "ghp_abc", None),
        ] {
            assert_eq!(of_another_kind(kind, key, value), what, "{kind} {key} {value}");
        }
    }
}
