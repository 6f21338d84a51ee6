//! Text on pages: foreign texts made harmless and short, and our own prose with code in it.

use maud::{Markup, html};

use super::format::plural;
use crate::format::is_unsafe;

/// Characters of a text shown in a list before the rest is collapsed.
const SHORT_CHARS_MAX: usize = 100;
/// Characters of a text shown at all: a page with a hundred documents stays at a few megabytes.
const FULL_CHARS_MAX: usize = 20_000;

/// A foreign text as it may be shown: control characters and those that reorder or hide text become visible.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|char| if char != '\n' && is_unsafe(char) { '\u{fffd}' } else { char }).collect()
}

/// [`shown`] on one line. Space around a text is made visible: ` acme` and `acme` are two groups.
pub(super) fn shown_line(text: &str) -> String {
    let inner = text.trim();
    let before = text.len() - text.trim_start().len();
    let around = |at: usize| at < before || at >= before + inner.len();
    let one = |(at, char): (usize, char)| match char {
        char if is_unsafe(char) => '\u{fffd}',
        char if char.is_whitespace() && around(at) => '␣',
        char => char,
    };
    text.char_indices().map(one).collect()
}

/// Characters without a separator that a table has room for.
const WORD_CHARS_MAX: usize = 24;

/// A name of ours, in a table: it breaks at its separators, and inside a word only where a word is longer than a column.
pub(super) fn name(text: &str) -> Markup {
    let text = shown_line(text);
    let separator = |char: char| matches!(char, '_' | '.' | '/' | '-' | ' ' | ':');
    let long = text.split(separator).any(|word| word.chars().count() > WORD_CHARS_MAX);
    html! {
        bdi class=[(!long).then_some("words")] {
            @for part in text.split_inclusive(['_', '.', '/']) { (part) wbr; }
        }
    }
}

/// An advice, which errors keep as a fragment, as a sentence.
pub(super) fn sentence(text: &str) -> String {
    let text = shown(text);
    let mut chars = text.chars();
    let first: String = chars.next().map(|char| char.to_ascii_uppercase()).into_iter().collect();
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

/// A foreign text cut to what fits a line.
pub(super) fn short(text: &str) -> String {
    let mut out: String = shown_line(&text.chars().take(SHORT_CHARS_MAX).collect::<String>());
    if text.chars().nth(SHORT_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

/// A foreign text in whole: as it is when short, else collapsed.
pub(super) fn long(text: &str) -> Markup {
    if text.chars().nth(SHORT_CHARS_MAX).is_none() && !text.contains('\n') {
        return html! { bdi { (shown_line(text)) } };
    }
    let full = shown(&text.chars().take(FULL_CHARS_MAX).collect::<String>());
    let beyond = text.chars().skip(FULL_CHARS_MAX).count() as u64;
    html! {
        details class="long" {
            summary { bdi { (short(text)) } }
            pre tabindex="0" { (full) @if beyond > 0 { "… and " (plural(beyond, "more character")) } }
        }
    }
}

/// Our own prose: what is in backticks is code.
pub(super) fn prose(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_texts_cannot_hide_or_reorder() {
        assert_eq!(shown_line("a\u{202e}b\0c\nd\u{200b}"), "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}");
        assert_eq!(shown("a\nb\t"), "a\nb\u{fffd}");
        assert_eq!(shown_line(" a b\u{a0}"), "␣a b␣");
        assert_eq!((shown_line("  "), shown_line("\u{a0}\u{3164}")), ("␣␣".to_owned(), "␣\u{fffd}".to_owned()));
        assert_eq!(short(&format!("{}  b", "x".repeat(99))), format!("{}␣…", "x".repeat(99)));
        let huge = "x".repeat(FULL_CHARS_MAX + 7);
        assert!(long(&huge).into_string().contains("… and 7 more characters"));
        assert!(!long("short").into_string().contains("details"));
        assert_eq!(
            name("crm.big_accounts").into_string(),
            "<bdi class=\"words\">crm.<wbr>big_<wbr>accounts<wbr></bdi>"
        );
        assert!(!name(&"x".repeat(25)).into_string().contains("words"));
    }
}
