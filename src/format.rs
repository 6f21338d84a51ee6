//! Formatting of numbers, durations, and text from outside: the one place that decides what may reach a terminal, a log or a
//! page. Pure.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

/// `12,345,678`.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `4.2 MB`.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

/// The duration in whole seconds, in the largest unit that divides it: `45m`, `1d`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(604_800, "w"), (86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds > 0 && seconds.is_multiple_of(*length));
    let (length, unit) = unit.unwrap_or((1, "s"));
    format!("{}{unit}", seconds / length)
}

/// The first characters of a text, and `…` if there are more.
pub fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Two texts, each cut so that where they first differ is in both.
pub fn cut_both(old: &str, new: &str, chars_max: usize) -> [String; 2] {
    let same = old.chars().zip(new.chars()).take_while(|(old, new)| old == new).count();
    let fits = old.chars().count().max(new.chars().count()) <= chars_max;
    // A quarter of it before the difference shows where in the text it is.
    let before = chars_max / 4;
    if fits || same + before <= chars_max {
        return [cut(old, chars_max), cut(new, chars_max)];
    }
    [old, new].map(|text| {
        let start = text.char_indices().nth(same.saturating_sub(before)).map_or(text.len(), |(start, _)| start);
        format!("…{}", cut(&text[start..], chars_max))
    })
}

/// `text` on one line, with everything escaped that a terminal or a line reader would interpret, or that is invisible: see
/// [`is_unsafe`].
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if is_unsafe(char) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    Cow::Owned(out)
}

/// Whether a character could end a line, move a cursor, change the writing direction, or be invisible: the one list for logs,
/// terminal and console. The joiners U+200C and U+200D are allowed: Persian, Indic scripts and emoji need them.
pub fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char,
            // Separators of lines and paragraphs; marks, embeddings, overrides and isolates of writing direction.
            '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Separators, spaces, letters and tags that show nothing.
            | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}'
            | '\u{2060}'..='\u{2065}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// A line of JSON with every [unsafe](is_unsafe) character escaped as JSON escapes it; JSON's writer itself does so with
/// the first 32 only. Outside of strings JSON has none of them.
pub fn json_line(json: String) -> String {
    if !json.contains(is_unsafe) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 8);
    for char in json.chars() {
        if is_unsafe(char) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(char);
        }
    }
    out
}

/// `text` for a terminal: lines, and the colours and weights that we write ourselves, pass; any other escape sequence or
/// [unsafe](is_unsafe) character is escaped. Text from data is escaped earlier, by [`one_line`]; this is the safety net.
pub fn for_terminal(text: &str) -> Cow<'_, str> {
    if !text.contains(|char| is_unsafe(char) && char != '\n') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let style = if char == '\u{1b}' { style_sequence(rest) } else { None };
        let taken = &rest[..style.unwrap_or(char.len_utf8())];
        if style.is_some() || matches!(char, '\n' | '\t') || !is_unsafe(char) {
            out.push_str(taken);
        } else {
            out.push_str(&one_line(taken));
        }
        rest = &rest[taken.len()..];
    }
    Cow::Owned(out)
}

/// The length of a sequence at the start of `text` that sets a colour or a weight, or ends them.
fn style_sequence(text: &str) -> Option<usize> {
    let codes = text.strip_prefix("\u{1b}[")?;
    let end = codes.find(|char: char| !(char.is_ascii_digit() || char == ';'))?;
    let ours = |code: &str| matches!(code.parse(), Ok(0..=4 | 22 | 30..=37 | 39 | 90..=97_u8)) || code.is_empty();
    let style = codes[end..].starts_with('m') && codes[..end].split(';').all(ours);
    style.then_some("\u{1b}[".len() + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_one_line() {
        assert!(matches!(one_line("plain, also äöü 🙂"), Cow::Borrowed(_)));
        let hostile = "a\nb\r\tc\u{1b}[2Jd\u{9b}e\u{2028}f\u{202e}g\u{7f}";
        assert_eq!(one_line(hostile), "a\\nb\\r\\tc\\u{1b}[2Jd\\u{9b}e\\u{2028}f\\u{202e}g\\u{7f}");
    }

    #[test]
    fn what_acts_or_hides_is_escaped_everywhere() {
        for (char, escaped, json) in [
            ('\u{1b}', "\\u{1b}", "\\u001b"),
            ('\u{7}', "\\u{7}", "\\u0007"),
            ('\r', "\\r", "\\r"),
            ('\u{7f}', "\\u{7f}", "\\u007f"),
            ('\u{9b}', "\\u{9b}", "\\u009b"),
            ('\u{ad}', "\\u{ad}", "\\u00ad"),
            ('\u{61c}', "\\u{61c}", "\\u061c"),
            ('\u{200b}', "\\u{200b}", "\\u200b"),
            ('\u{200e}', "\\u{200e}", "\\u200e"),
            ('\u{200f}', "\\u{200f}", "\\u200f"),
            ('\u{2028}', "\\u{2028}", "\\u2028"),
            ('\u{2029}', "\\u{2029}", "\\u2029"),
            ('\u{202a}', "\\u{202a}", "\\u202a"),
            ('\u{202e}', "\\u{202e}", "\\u202e"),
            ('\u{2060}', "\\u{2060}", "\\u2060"),
            ('\u{2066}', "\\u{2066}", "\\u2066"),
            ('\u{2069}', "\\u{2069}", "\\u2069"),
            ('\u{3164}', "\\u{3164}", "\\u3164"),
            ('\u{feff}', "\\u{feff}", "\\ufeff"),
            ('\u{e0041}', "\\u{e0041}", "\\udb40\\udc41"),
        ] {
            let text = format!("a{char}b");
            assert_eq!(one_line(&text), format!("a{escaped}b"));
            assert_eq!(for_terminal(&text), format!("a{escaped}b"));
            let line = json_line(serde_json::Value::from(text.as_str()).to_string());
            assert_eq!(line, format!("\"a{json}b\""));
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text, "it reads back as it was");
        }
        // What languages and emoji are written with stays.
        for text in ["می\u{200c}خواهم", "👩\u{200d}👩\u{200d}👧", "שלום", "a\u{301}", "日本語", "ﷺ"]
        {
            assert_eq!((one_line(text), for_terminal(text)), (text.into(), text.into()));
        }
    }

    #[test]
    fn a_cut_shows_where_two_texts_differ() {
        assert_eq!(cut("ééé", 3), "ééé");
        assert_eq!(cut("éééé", 3), "ééé…");
        assert_eq!(cut_both("free", "pro", 8), ["free", "pro"]);
        assert_eq!(cut_both("free and more of it", "pro", 8), ["free and…", "pro"]);
        let long = "a".repeat(100);
        assert_eq!(cut_both(&format!("{long}1"), &format!("{long}23"), 8), ["…aa1", "…aa23"]);
        assert_eq!(cut_both(&long, &format!("{long}{long}"), 8), ["…aa", "…aaaaaaaa…"]);
    }

    #[test]
    fn a_terminal_gets_lines_and_colours_and_nothing_else() {
        for (text, expected) in [
            ("\u{1b}[1m\u{1b}[31mred\u{1b}[0m\n", "\u{1b}[1m\u{1b}[31mred\u{1b}[0m\n"),
            ("\u{1b}[1;91mred\u{1b}[m", "\u{1b}[1;91mred\u{1b}[m"),
            ("\u{1b}[2J\u{1b}[H", "\\u{1b}[2J\\u{1b}[H"),
            ("\u{1b}[8mhidden\u{1b}[31", "\\u{1b}[8mhidden\\u{1b}[31"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("one\ttwo\r\n", "one\ttwo\\r\n"),
        ] {
            assert_eq!(for_terminal(text), expected);
        }
    }
}
