//! How are numbers, times and foreign texts written on a page?

use chrono::{DateTime, Datelike, SecondsFormat, TimeDelta, Utc};
use maud::{Markup, html};

use crate::ledger::RunStatus;
use crate::service::views::State;
use crate::service::views::words::is_unsafe;

/// Characters of a text shown in a list before the rest goes behind a click.
const SHORT_CHARS_MAX: usize = 100;
/// Characters of a text shown at all: a page with a hundred documents stays at a few megabytes.
const FULL_CHARS_MAX: usize = 20_000;

/// `12,345,678`.
pub(super) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// "1 group", "2 groups".
pub(super) fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// A number for an axis: `950`, `1.5 k`, `20 M`.
pub(super) fn compact(value: f64) -> String {
    let scaled = |by: f64, unit: &str| {
        let text = format!("{:.1}", value / by);
        format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match value {
        value if value >= 1e9 => scaled(1e9, "G"),
        value if value >= 1e6 => scaled(1e6, "M"),
        value if value >= 1e4 => scaled(1e3, "k"),
        value => thousands(value.round() as u64),
    }
}

/// `12.5 %`.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

/// `4.2 MB`.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

/// A span of seconds in at most two units: `250 ms`, `1.5 s`, `12 s`, `3 min 20 s`, `2 h`, `4 d 3 h`.
pub(super) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if (0.0005..0.9995).contains(&seconds) {
        return format!("{:.0} ms", seconds * 1_000.0);
    }
    if seconds < 9.95 && seconds.fract() > 0.05 && seconds.fract() < 0.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let two = |large: u64, unit: &str, small: u64, lesser: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {lesser}"),
    };
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => two(whole / 60, "min", whole % 60, "s"),
        3_600..86_400 => two(whole / 3_600, "h", whole % 3_600 / 60, "min"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
    }
}

/// The distance between two times, as exactly as one cares: `12 min`, `1 h 34 min`, `11 h`, `3 d`.
pub(super) fn distance(apart: TimeDelta) -> String {
    let seconds = apart.num_seconds().unsigned_abs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..36_000 if seconds % 3_600 >= 60 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `3 h ago`, `in 12 min`, `just now`.
pub(super) fn relative(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let apart = now.signed_duration_since(at);
    match apart.num_seconds() {
        -4..=4 => "just now".to_owned(),
        5.. => format!("{} ago", distance(apart)),
        _ => format!("in {}", distance(apart)),
    }
}

/// `22 Nov 02:00:05`, with the year where it is not this one.
pub(super) fn clock(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let format = if at.year() == now.year() { "%-d %b %H:%M:%S" } else { "%-d %b %Y %H:%M:%S" };
    at.format(format).to_string()
}

/// A time for people and machines: the moment in UTC and how far away it is.
pub(super) fn time(now: DateTime<Utc>, at: DateTime<Utc>) -> Markup {
    let exact = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    html! {
        time datetime=(exact) title=(exact) { (clock(now, at)) " UTC" }
        " " span class="soft" { (relative(now, at)) }
    }
}

/// The same with the distance first, for lists in which that is what one looks for; to the minute.
pub(super) fn time_relative(now: DateTime<Utc>, at: DateTime<Utc>) -> Markup {
    let exact = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    html! {
        span class="when" { (relative(now, at)) }
        " " time class="soft" datetime=(exact) title=(exact) { (minute(now, at)) " UTC" }
    }
}

/// `22 Nov 02:00`, with the year where it is not this one.
pub(super) fn minute(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let format = if at.year() == now.year() { "%-d %b %H:%M" } else { "%-d %b %Y %H:%M" };
    at.format(format).to_string()
}

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

/// A foreign text in whole: as it is when short, else behind a click.
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

/// A path's segment, percent-encoded.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.') {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A path with a query.
pub(super) fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    if pairs.is_empty() {
        return path.to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{path}?{query}")
}

/// Where a sync's page is.
pub(super) fn sync_path(sync: &str) -> String {
    format!("/syncs/{}", segment(sync))
}

/// Where a run's page is.
pub(super) fn run_path(run: &str) -> String {
    format!("/runs/{}", segment(run))
}

/// Where a group's page is.
pub(super) fn group_path(sync: &str, key: &str) -> String {
    with_query(&format!("{}/groups", sync_path(sync)), &[("key", key)])
}

/// A link to a group, its key shortened.
pub(super) fn group_link(sync: &str, key: &str) -> Markup {
    html! { a href=(group_path(sync, key)) title=(shown_line(key)) { bdi { (short(key)) } } }
}

/// Our own words as markup: what stands in backticks is code.
pub(super) fn prose(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// How something stands: a colour's name, a sign and a word, so that no one depends on the colour.
pub(super) struct Mark {
    pub(super) tone: &'static str,
    pub(super) sign: &'static str,
    pub(super) word: &'static str,
}

impl Mark {
    /// As a badge.
    pub(super) fn badge(&self) -> Markup {
        html! { span class={ "badge " (self.tone) } { span aria-hidden="true" { (self.sign) } " " (self.word) } }
    }
}

/// How a run ended.
pub(super) fn status(status: RunStatus) -> Mark {
    let (tone, sign, word) = match status {
        RunStatus::Running => ("busy", "●", "running"),
        RunStatus::Delivered => ("good", "✓", "delivered"),
        RunStatus::SomeRejected => ("warn", "!", "some rejected"),
        RunStatus::Incomplete => ("warn", "!", "incomplete"),
        RunStatus::Guarded => ("bad", "■", "stopped by a guard"),
        RunStatus::Failed => ("bad", "✕", "failed"),
        RunStatus::Died => ("bad", "✕", "died"),
    };
    Mark { tone, sign, word }
}

/// What the daemon does about a sync.
pub(super) fn state(state: State) -> Mark {
    let (tone, sign, word) = match state {
        State::Running => ("busy", "●", "running"),
        State::Waiting => ("busy", "○", "waiting"),
        State::Paused => ("warn", "‖", "paused"),
        State::BackingOff => ("bad", "↻", "backing off"),
        State::Scheduled => ("plain", "○", "scheduled"),
        State::Manual => ("plain", "○", "by hand"),
        State::Disabled => ("plain", "–", "disabled"),
    };
    Mark { tone, sign, word }
}

/// What became of a group.
pub(super) fn outcome(name: &str) -> Markup {
    let (tone, sign, word) = match name {
        "delivered" => ("good", "✓", "delivered"),
        "adopted" => ("plain", "✓", "adopted"),
        "same" => ("plain", "=", "same"),
        "rejected" => ("bad", "✕", "rejected"),
        "partly_rejected" => ("bad", "✕", "partly rejected"),
        "not_sent" => ("warn", "–", "not sent"),
        "unknown" => ("warn", "?", "unknown"),
        other => return html! { span class="badge plain" { (shown_line(other)) } },
    };
    Mark { tone, sign, word }.badge()
}

/// What to do about a failure of this kind, where nothing better is known.
pub(super) fn advice(kind: Option<&str>) -> &'static str {
    match kind {
        Some("config") => "Edit the file the message names, then run `groupcast check`.",
        Some("source") => {
            "Look at the source: credentials, permissions, the model's SQL. `groupcast check --connect` tries it."
        }
        Some("source_busy") => {
            "Nothing, unless it goes on: the source was busy or out of reach, and it is tried again."
        }
        Some("destination") => {
            "Look at the destination's settings: key, region, project. `groupcast check --connect` tries them."
        }
        Some("ledger") => "Look at the disk that holds the ledger: free space and permissions.",
        Some("ledger_busy") => "End the other process that has the ledger open.",
        Some("guard") => {
            "Look at the figures: accept the guard once if they are right, else look at the job that fills the model."
        }
        Some("interrupted") => "Nothing: the next run says what is left.",
        Some("bug") => "Report it with this page: it is nothing you did. Run it again meanwhile.",
        _ => "Look at the daemon's log around that time, then run it again.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_are_short_and_right() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(plural(1, "group"), "1 group");
        for (value, text) in [(0.0, "0"), (9_500.0, "9,500"), (15_000.0, "15 k"), (2.5e6, "2.5 M"), (4e9, "4 G")] {
            assert_eq!(compact(value), text);
        }
        for (seconds, text) in [
            (0.0, "0 s"),
            (0.25, "250 ms"),
            (1.42, "1.4 s"),
            (9.99, "10 s"),
            (59.6, "1 min"),
            (200.0, "3 min 20 s"),
            (7_500.0, "2 h 5 min"),
            (90_000.0, "1 d 1 h"),
        ] {
            assert_eq!(span(seconds), text, "{seconds}");
        }
        assert_eq!((percent(0.125), percent(0.4)), ("12.5 %".to_owned(), "40 %".to_owned()));
        assert_eq!(bytes(4_200_000), "4.2 MB");
    }

    #[test]
    fn times_say_how_far_away_they_are() {
        let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(relative(now, at("2026-11-22T09:00:00Z")), "3 h ago");
        assert_eq!(relative(now, at("2026-11-22T10:26:00Z")), "1 h 34 min ago");
        assert_eq!(relative(now, at("2026-11-22T12:12:30Z")), "in 12 min");
        assert_eq!(relative(now, at("2026-11-22T11:59:58Z")), "just now");
        assert_eq!(relative(now, at("2026-11-12T12:00:00Z")), "10 d ago");
        assert!(time(now, at("2025-11-12T12:00:00Z")).into_string().contains("12 Nov 2025"));
    }

    #[test]
    fn foreign_texts_cannot_hide_or_reorder_and_survive_a_link() {
        assert_eq!(shown_line("a\u{202e}b\0c\nd\u{200b}"), "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}");
        assert_eq!(shown("a\nb\t"), "a\nb\u{fffd}");
        assert_eq!(shown_line(" a b\u{a0}"), "␣a b␣");
        assert_eq!((shown_line("  "), shown_line("\u{a0}\u{3164}")), ("␣␣".to_owned(), "␣\u{fffd}".to_owned()));
        assert_eq!(short(&format!("{}  b", "x".repeat(99))), format!("{}␣…", "x".repeat(99)));
        assert_eq!(segment("a/b ü?"), "a%2Fb%20%C3%BC%3F");
        assert_eq!(group_path("s", "a&b=\"<\0"), "/syncs/s/groups?key=a%26b%3D%22%3C%00");
        let huge = "x".repeat(FULL_CHARS_MAX + 7);
        assert!(long(&huge).into_string().contains("… and 7 more characters"));
        assert!(!long("short").into_string().contains("details"));
    }
}
