//! Secrets: passwords, API keys, connection strings with a password. They print as `***`, and are masked in texts of others
//! (error messages, echoes) in every form: as they are, escaped, encoded, or cut.
//!
//! Ours rather than `secrecy`: wiping one copy from memory would not help, since the settings' table, encoded headers and
//! request bodies hold others; and finding a known secret in a text, the larger half of this module, no crate does.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};

/// What a secret is shown as.
const MASK: &str = "***";
/// Shorter secrets are not looked for: they would be found in ordinary words.
const BYTES_MIN: usize = 4;
/// The same for encoded forms, of which a few letters may be anything.
const ENCODED_BYTES_MIN: usize = 6;
/// How many escapes may be around each other: HTML in JSON in a query.
const LAYERS_MAX: usize = 3;

/// Text that prints as `***` everywhere; [`Secret::expose`] is the only way to it.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that hands it to a server.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` with every occurrence of this secret replaced by `***`; for words that come back from a server.
    pub fn mask(&self, text: &str) -> String {
        mask(text, &[self])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(MASK)
    }
}

/// `text` with every occurrence of these secrets replaced by `***`, in whatever form it came back: in other capitals,
/// escaped for JSON, HTML or an address (also one in the other), in base64 or hexadecimal digits, and cut off at the end.
pub fn mask(text: &str, secrets: &[&Secret]) -> String {
    let needles: Vec<Needle> = secrets.iter().flat_map(|secret| needles(secret.expose())).collect();
    if needles.is_empty() || text.is_empty() {
        return text.to_owned();
    }
    let mut found: Vec<(usize, usize)> = Vec::new();
    for view in views(text) {
        for needle in &needles {
            found.extend(view.find(needle).into_iter().map(|range| match needle.base64 {
                // What is around it was encoded with it: its first and last letters are there.
                true => whole_run(text.as_bytes(), range),
                false => range,
            }));
        }
    }
    replaced(text, found)
}

/// `text` without credentials that no setting of ours holds: the values of `Authorization` and `Proxy-Authorization`
/// headers, and what comes before the host of an address.
pub fn mask_credentials(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let lower = text.to_ascii_lowercase();
    for (at, word) in lower.match_indices("authorization") {
        let from = at + word.len();
        let separators = bytes[from..].iter().take(8).take_while(|byte| b" \t\"'\\:=>".contains(byte)).count();
        if !bytes[from..from + separators].iter().any(|byte| b":=".contains(byte)) {
            continue;
        }
        let mut start = from + separators;
        let scheme = ["basic", "bearer", "digest", "negotiate", "ntlm", "token", "apikey"]
            .iter()
            .find(|scheme| lower[start..].strip_prefix(**scheme).is_some_and(|rest| rest.starts_with([' ', '+', '%'])));
        let value_min = if scheme.is_some() { 1 } else { 8 };
        start += scheme.map_or(0, |scheme| scheme.len() + 1);
        let length = bytes[start..].iter().take_while(|byte| !b" \t\r\n\"'<,;\\".contains(byte)).count();
        if length >= value_min {
            found.push((start, start + length));
        }
    }
    for (at, separator) in text.match_indices("://") {
        let start = at + separator.len();
        let authority = bytes[start..].iter().take_while(|byte| !b"/ \t\r\n\"'<>".contains(byte)).count();
        if let Some(end) = text[start..start + authority].rfind('@') {
            found.push((start, start + end));
        }
    }
    replaced(text, found)
}

/// A form of a secret that is looked for, in lower case.
struct Needle {
    bytes: Vec<u8>,
    base64: bool,
}

/// The forms that cannot be undone letter by letter, and the secret itself.
fn needles(secret: &str) -> Vec<Needle> {
    let plain = |bytes: Vec<u8>| Needle { bytes: bytes.to_ascii_lowercase(), base64: false };
    let trimmed = secret.trim();
    let mut all = Vec::new();
    if trimmed.len() >= BYTES_MIN {
        all.push(plain(trimmed.as_bytes().to_vec()));
        if trimmed.len() != secret.len() {
            all.push(plain(secret.as_bytes().to_vec()));
        }
    }
    if trimmed.len() >= ENCODED_BYTES_MIN {
        all.push(plain(hex::encode(trimmed).into_bytes()));
        for before in 0..3 {
            let inner = base64_inside(trimmed.as_bytes(), before);
            let of_addresses = inner.iter().map(|letter| match letter {
                b'+' => b'-',
                b'/' => b'_',
                letter => *letter,
            });
            for bytes in [of_addresses.collect(), inner.clone()] {
                if bytes.len() >= ENCODED_BYTES_MIN {
                    all.push(Needle { base64: true, ..plain(bytes) });
                }
            }
        }
    }
    all
}

/// The letters of base64 that a text alone decides where so many bytes (modulo 3) come before it.
fn base64_inside(text: &[u8], before: usize) -> Vec<u8> {
    let mut letters = BASE64_STANDARD.encode([&[0_u8; 2][..before], text].concat()).into_bytes();
    letters.truncate((before + text.len()) * 8 / 6);
    letters.split_off((before * 8).div_ceil(6))
}

/// The run of base64 letters around a range.
fn whole_run(text: &[u8], (mut start, mut end): (usize, usize)) -> (usize, usize) {
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
    while start > 0 && belongs(text[start - 1]) {
        start -= 1;
    }
    while end < text.len() && belongs(text[end]) {
        end += 1;
    }
    (start, end)
}

/// A text with some escapes undone, and where each of its bytes is in the original. In lower case.
struct View {
    bytes: Vec<u8>,
    /// Start and end of what represents a byte.
    places: Vec<(usize, usize)>,
}

/// The text as it is, and with one to [`LAYERS_MAX`] layers of escapes undone, once with `+` for a space.
fn views(text: &str) -> Vec<View> {
    let plain = View { bytes: text.as_bytes().to_vec(), places: (0..text.len()).map(|at| (at, at + 1)).collect() };
    let mut all = Vec::new();
    let mut begin = |first: View| {
        let mut view = first;
        for _ in 0..LAYERS_MAX {
            let next = view.unescaped();
            let same = next.bytes.len() == view.bytes.len();
            all.push(view);
            view = next;
            if same {
                return;
            }
        }
        all.push(view);
    };
    if text.contains('+') {
        let bytes = plain.bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        begin(View { bytes, places: plain.places.clone() });
    }
    begin(plain);
    for view in &mut all {
        view.bytes.make_ascii_lowercase();
    }
    all
}

impl View {
    /// With one layer of escapes undone.
    fn unescaped(&self) -> View {
        let (mut bytes, mut places) = (Vec::with_capacity(self.bytes.len()), Vec::with_capacity(self.bytes.len()));
        let mut at = 0;
        while at < self.bytes.len() {
            let (letter, length) = match escape(&self.bytes[at..]) {
                Some((letter, length)) => (letter, length),
                None => (char::MAX, 1),
            };
            let place = (self.places[at].0, self.places[at + length - 1].1);
            if letter == char::MAX {
                bytes.push(self.bytes[at]);
                places.push(place);
            } else if letter < '\u{100}' && self.bytes[at] == b'%' {
                // A byte, perhaps one of several that make a letter.
                bytes.push(letter as u8);
                places.push(place);
            } else {
                let mut buffer = [0; 4];
                for byte in letter.encode_utf8(&mut buffer).bytes() {
                    bytes.push(byte);
                    places.push(place);
                }
            }
            at += length;
        }
        View { bytes, places }
    }

    /// Where a needle is in the original, the whole or its beginning where the text breaks off in the middle of it.
    fn find(&self, needle: &Needle) -> Vec<(usize, usize)> {
        let wanted = &needle.bytes;
        let shortest = if needle.base64 { ENCODED_BYTES_MIN } else { BYTES_MIN };
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.bytes.len() {
            let rest = &self.bytes[at..];
            let length = rest.iter().zip(wanted).take_while(|(there, wanted)| there == wanted).count();
            let after = &rest[length..];
            let cut = after.is_empty() || after.starts_with(b"...") || after.starts_with("…".as_bytes());
            if length == wanted.len() || length >= shortest.min(wanted.len()) && cut {
                found.push((self.places[at].0, self.places[at + length - 1].1));
                at += length;
            } else {
                at += 1;
            }
        }
        found
    }
}

/// What an escape at the start of these bytes represents, and its length: `%2F`, `\u002f`, `\x2f`, `\/`, `&#47;`, `&#x2F;`,
/// `&amp;`.
fn escape(bytes: &[u8]) -> Option<(char, usize)> {
    let hex = |digits: &[u8]| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    match bytes {
        [b'%', high, low, ..] => Some((char::from_u32(hex(&[*high, *low])?)?, 3)),
        [b'\\', b'u' | b'U', a, b, c, d, ..] => Some((char::from_u32(hex(&[*a, *b, *c, *d])?)?, 6)),
        [b'\\', b'x' | b'X', high, low, ..] => Some((char::from_u32(hex(&[*high, *low])?)?, 4)),
        [b'\\', letter @ (b'"' | b'\'' | b'\\' | b'/'), ..] => Some((char::from(*letter), 2)),
        [b'&', ..] => {
            let end = bytes.iter().take(12).position(|byte| *byte == b';')?;
            let name = std::str::from_utf8(&bytes[1..end]).ok()?;
            let number = name.strip_prefix('#').map(|digits| match digits.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => digits.parse().ok(),
            });
            let letter = match number {
                Some(number) => char::from_u32(number?)?,
                None => match name.to_ascii_lowercase().as_str() {
                    "amp" => '&',
                    "lt" => '<',
                    "gt" => '>',
                    "quot" => '"',
                    "apos" => '\'',
                    "sol" => '/',
                    "bsol" => '\\',
                    "plus" => '+',
                    "equals" => '=',
                    "colon" => ':',
                    "semi" => ';',
                    "num" => '#',
                    "percnt" => '%',
                    "lowbar" => '_',
                    "dollar" => '$',
                    "commat" => '@',
                    _ => return None,
                },
            };
            Some((letter, end + 1))
        }
        _ => None,
    }
}

/// `text` with these ranges, which may overlap, replaced by [`MASK`].
fn replaced(text: &str, mut ranges: Vec<(usize, usize)>) -> String {
    ranges.sort_unstable();
    let mut out = String::with_capacity(text.len());
    let mut shown = 0;
    let mut ranges = ranges.into_iter().peekable();
    while let Some((start, mut end)) = ranges.next() {
        while let Some((_, more)) = ranges.next_if(|(next, _)| *next <= end) {
            end = end.max(more);
        }
        // Only whole letters are left over: a range may begin or end inside one.
        let start = (0..=start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        out.push_str(text.get(shown..start).unwrap_or_default());
        out.push_str(MASK);
        shown = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    }
    out.push_str(text.get(shown..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "k3y/7&1d+\"2c é";

    fn masked(text: &str) -> String {
        Secret::new(KEY).mask(text)
    }

    #[test]
    fn a_secret_is_found_in_any_form() {
        let json = serde_json::to_string(KEY).unwrap();
        let html = KEY.replace('&', "&amp;").replace('"', "&quot;").replace('/', "&#x2F;");
        let form: String = form_urlencoded::byte_serialize(KEY.as_bytes()).collect();
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02X}")).collect();
        let unicode: String = KEY.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
        let forms = [
            KEY.to_owned(),
            KEY.to_uppercase().replace('É', "é"),
            json.trim_matches('"').to_owned(),
            json.trim_matches('"').replace('/', "\\/").replace('&', "\\u0026"),
            html.clone(),
            html.replace('&', "\\u0026"),
            form.clone(),
            form.to_lowercase(),
            form.replace('+', "%20"),
            form.replace('%', "%25"),
            hex,
            unicode,
        ];
        for form in forms {
            assert_eq!(masked(&format!("bad key {form}, sorry {form}")), "bad key ***, sorry ***", "{form}");
        }
    }

    #[test]
    fn base64_is_found_whatever_stands_around_the_secret() {
        let key = Secret::new("phc_abcdefghijk");
        // `phc_abcdefghijk:`, `:phc_abcdefghijk`, `user:phc_abcdefghijk`, `ab:phc_abcdefghijk`, and as addresses write it.
        for encoded in [
            "cGhjX2FiY2RlZmdoaWprOg==",
            "OnBoY19hYmNkZWZnaGlqaw==",
            "dXNlcjpwaGNfYWJjZGVmZ2hpams=",
            "YWI6cGhjX2FiY2RlZmdoaWpr",
        ] {
            assert_eq!(key.mask(&format!("Basic {encoded}; sorry")), "Basic ***; sorry", "{encoded}");
        }
        let odd = Secret::new("~~~???>>>");
        assert_eq!(odd.mask("x fn5-Pz8_Pj4- y"), "x *** y");
        assert_eq!(odd.mask("x fn5+Pz8/Pj4+ y"), "x *** y");
    }

    #[test]
    fn a_secret_that_breaks_off_is_a_secret() {
        let key = Secret::new("phc_abcdefghijk");
        assert_eq!(key.mask("your key phc_abcd"), "your key ***");
        assert_eq!(key.mask("your key phc_abcdef..."), "your key ***...");
        assert_eq!(key.mask("your key phc_abcdef…"), "your key ***…");
        assert_eq!(key.mask("phc_ is how keys begin"), "phc_ is how keys begin");
        assert_eq!(Secret::new("abc").mask("abc"), "abc", "too short to be looked for");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in ["", "bad request: 100% wrong & <b>sorry</b> \\ é 日本", "+++", "&;&#;&#x;%%%\\u12\\x"] {
            assert_eq!(masked(text), text);
        }
        assert_eq!(Secret::new("日本語のキー").mask("x 日本語のキー y"), "x *** y");
    }

    #[test]
    fn credentials_of_others_are_hidden() {
        for (text, shown) in [
            ("Proxy-Authorization: Basic dXNlcjpwYXNz", "Proxy-Authorization: Basic ***"),
            ("{\"authorization\":\"Bearer abc.def\"}", "{\"authorization\":\"Bearer ***\"}"),
            ("authorization=supersecretvalue&x=1", "authorization=***"),
            ("GET http://user:p%40ss@proxy:3128/ failed", "GET http://***@proxy:3128/ failed"),
            ("Authorization required", "Authorization required"),
            ("authorization: no", "authorization: no"),
            ("see https://example.com/a@b", "see https://example.com/a@b"),
        ] {
            assert_eq!(mask_credentials(text), shown);
        }
    }
}
