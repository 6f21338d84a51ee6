//! Numbers and times on pages.

use chrono::{DateTime, Datelike, SecondsFormat, TimeDelta, Utc};
use maud::{Markup, html};

pub(super) use crate::format::{bytes, thousands};

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

/// The time between two times, rounded to what matters: `12 min`, `1 h 34 min`, `11 h`, `3 d`.
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

/// [`relative`], which the script keeps up to date.
pub(super) fn age(now: DateTime<Utc>, at: DateTime<Utc>) -> Markup {
    html! { span data-age=(at.to_rfc3339_opts(SecondsFormat::Millis, true)) { (relative(now, at)) } }
}

/// `22 Nov 02:00:05`, with the year where it is not this one.
pub(super) fn clock(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let format = if at.year() == now.year() { "%-d %b %H:%M:%S" } else { "%-d %b %Y %H:%M:%S" };
    at.format(format).to_string()
}

/// A time for people and machines: exact in UTC, and how far away.
pub(super) fn time(now: DateTime<Utc>, at: DateTime<Utc>) -> Markup {
    let exact = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    html! {
        time datetime=(exact) title=(exact) data-form="second" { (clock(now, at)) " UTC" }
        " " span class="soft" { (age(now, at)) }
    }
}

/// A time in a list: how far away first, then to the minute.
pub(super) fn time_relative(now: DateTime<Utc>, at: DateTime<Utc>) -> Markup {
    let exact = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    html! {
        span class="when" { (age(now, at)) }
        " " time class="soft" datetime=(exact) title=(exact) data-form="minute" { (minute(now, at)) " UTC" }
    }
}

/// `22 Nov 02:00`, with the year where it is not this one.
pub(super) fn minute(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let format = if at.year() == now.year() { "%-d %b %H:%M" } else { "%-d %b %Y %H:%M" };
    at.format(format).to_string()
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
}
