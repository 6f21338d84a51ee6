//! Which spellings of dates, times and numbers in text have one meaning only? Those that CRMs, Java, Excel and databases
//! write are read; what two people would read differently (`06/05/2024`, `1,234`) is not.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, Utc};
use serde_json::Value;

/// Dates whose order cannot be mistaken: the year first, or the month by name.
const DATES: [&str; 10] = [
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y%m%d",
    "%d %b %Y",
    "%d-%b-%Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d.%b.%Y",
];
/// Times of a day.
const TIMES: [&str; 6] = ["%H:%M:%S%.f", "%H:%M", "%I:%M:%S%.f %p", "%I:%M %p", "%H%M%S%.f", "%H:%M:%S,%f"];

/// The day that a text names; a time behind it is left out.
pub(super) fn date(text: &str) -> Option<NaiveDate> {
    let text = text.trim();
    if let Some(day) = plain_date(text) {
        return Some(day);
    }
    // A day with a time is that day, in the zone it is written in.
    let split = text.split_once(['T', 't']).or_else(|| text.split_once(' '));
    match split.and_then(|(day, clock)| Some((plain_date(day)?, clock))) {
        Some((day, clock)) if clock_of(clock).is_some() => Some(day),
        _ => moment(text).map(|at| at.date_naive()),
    }
}

fn plain_date(text: &str) -> Option<NaiveDate> {
    // `%Y` also takes years of one digit, and signs: a year has four.
    let year = |date: &NaiveDate| (1000..=9999).contains(&chrono::Datelike::year(date));
    DATES.iter().find_map(|form| {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let compact = *form != "%Y%m%d" || (text.len() == 8 && digits == 8);
        NaiveDate::parse_from_str(text, form).ok().filter(year).filter(|_| compact)
    })
}

/// A clock and its offset from UTC in seconds, if it has one.
fn clock_of(text: &str) -> Option<(chrono::NaiveTime, Option<i32>)> {
    // Java's ZonedDateTime names the zone behind the offset.
    let text = match text.split_once('[') {
        Some((before, zone)) if zone.ends_with(']') => before,
        Some(_) => return None,
        None => text,
    };
    let text = text.trim();
    let (clock, offset) = split_offset(text)?;
    let clock = clock.trim().to_ascii_uppercase();
    let time = TIMES.iter().find_map(|form| {
        let compact = *form != "%H%M%S%.f" || (clock.len() >= 6 && !clock.contains(':'));
        chrono::NaiveTime::parse_from_str(&clock, form).ok().filter(|_| compact)
    })?;
    Some((time, offset))
}

/// The clock, and the offset behind it: `Z`, `UTC`, `GMT`, `+02`, `+0200`, `+02:00`, `GMT+0200`.
fn split_offset(text: &str) -> Option<(&str, Option<i32>)> {
    let upper = text.to_ascii_uppercase();
    for word in ["UTC", "GMT", "Z"] {
        if upper.ends_with(word) {
            let before = text[..text.len() - word.len()].trim_end();
            // Go writes both.
            let before =
                ["+0000", "+00:00", "-0000"].iter().find_map(|zero| before.strip_suffix(zero)).unwrap_or(before);
            return Some((before, Some(0)));
        }
    }
    let Some(sign) = text.rfind(['+', '-', '−']) else { return Some((text, None)) };
    let digits: String = text[sign..].chars().skip(1).filter(|letter| *letter != ':').collect();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || ![2, 4, 6].contains(&digits.len()) {
        return None;
    }
    let part = |at: usize| digits.get(at..at + 2).map_or(Some(0), |two| two.parse::<i32>().ok());
    let (hours, minutes, seconds) = (part(0)?, part(2)?, part(4)?);
    if hours > 18 || minutes > 59 || seconds > 59 {
        return None;
    }
    let all = hours * 3_600 + minutes * 60 + seconds;
    let before = text[..sign].trim_end();
    let before = ["UTC", "GMT"]
        .iter()
        .find_map(|word| before.to_ascii_uppercase().ends_with(word).then(|| &before[..before.len() - word.len()]))
        .unwrap_or(before);
    Some((before, Some(if text[sign..].starts_with('+') { all } else { -all })))
}

/// The point in time that a text names; one without a zone is UTC.
pub(super) fn timestamp(text: &str) -> Option<DateTime<Utc>> {
    moment(text.trim()).map(|at| at.to_utc())
}

fn moment(text: &str) -> Option<DateTime<FixedOffset>> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at);
    }
    // Mails and HTTP: `Mon, 06 May 2024 07:08:09 +0200`.
    if let Ok(at) = DateTime::parse_from_rfc2822(text) {
        return Some(at);
    }
    // .NET's JSON: milliseconds since 1970, by which the offset changes nothing.
    if let Some(inner) = text.strip_prefix("/Date(").and_then(|rest| rest.strip_suffix(")/")) {
        let end = inner.rfind(['+', '-']).filter(|at| *at > 0).unwrap_or(inner.len());
        return DateTime::from_timestamp_millis(inner[..end].parse().ok()?).map(|at| at.fixed_offset());
    }
    // C's and Java's: `Mon May  6 07:08:09 2024`, with `UTC` before the year.
    let words: Vec<&str> = text.split_whitespace().collect();
    if let [_, month, day, clock, zone @ .., year] = words.as_slice()
        && year.len() == 4
        && matches!(zone, [] | ["UTC" | "GMT" | "Z"])
        && let Ok(at) = NaiveDateTime::parse_from_str(&format!("{month} {day} {year} {clock}"), "%b %d %Y %H:%M:%S")
    {
        return Some(at.and_utc().fixed_offset());
    }
    // Digits alone: `20240506070809`.
    if text.len() == 14
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && let Some(day) = plain_date(&text[..8])
    {
        let clock = chrono::NaiveTime::parse_from_str(&text[8..], "%H%M%S").ok()?;
        return Some(day.and_time(clock).and_utc().fixed_offset());
    }
    // Go's `time.String` may end in the reading of a monotonic clock.
    let text = text.split_once(" m=").map_or(text, |(before, _)| before);
    // JavaScript's Date: `Mon May 06 2024 07:08:09 GMT+0200 (Central European Summer Time)`.
    let plain = text.split_once(" (").map_or(text, |(before, _)| before);
    if let Ok(at) = DateTime::parse_from_str(plain, "%a %b %d %Y %H:%M:%S GMT%z") {
        return Some(at);
    }
    if let Some(day) = plain_date(text) {
        return day.and_hms_opt(0, 0, 0).map(|at| at.and_utc().fixed_offset());
    }
    // The day may hold blanks (`6 May 2024 07:08`): the clock begins at the first word with a colon.
    let split = match text.split_once(['T', 't']).filter(|(day, _)| plain_date(day).is_some()) {
        Some(split) => split,
        None => {
            let colon = text.find(':')?;
            let start = text[..colon].rfind([' ', ','])?;
            (text[..start].trim_end_matches([' ', ',']), &text[start + 1..])
        }
    };
    let (clock, offset) = clock_of(split.1)?;
    let local = NaiveDateTime::new(plain_date(split.0)?, clock);
    let offset = FixedOffset::east_opt(offset.unwrap_or(0))?;
    local.and_local_timezone(offset).single()
}

/// Marks between thousands: a comma or a point, which may as well be the decimal mark, and those that are never one.
const THOUSANDS: [char; 8] = [',', '.', '\'', '’', ' ', '\u{a0}', '\u{202f}', '\u{2009}'];

/// The digits of a number that is written with marks between its thousands, or with a typographer's minus. Where only one
/// comma or point stands, it is not certain what it is: `1,234` may be either.
pub(super) fn number(text: &str) -> Option<String> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix(['-', '+', '−']) {
        Some(rest) => (if text.starts_with('+') { "" } else { "-" }, rest),
        None => ("", text),
    };
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if text.starts_with('−') && are_digits(&digits.replacen('.', "", 1)) {
        return Some(format!("{sign}{digits}"));
    }
    THOUSANDS.iter().find_map(|thousands| {
        let decimals = [',', '.'];
        let mut parts = digits.splitn(2, |letter| letter != *thousands && decimals.contains(&letter));
        let (whole, fraction) = (parts.next()?, parts.next());
        let groups: Vec<&str> = whole.split(*thousands).collect();
        let certain = fraction.is_some() || groups.len() > 2 || !decimals.contains(thousands);
        let sound = groups.len() > 1
            && (1..=3).contains(&groups[0].len())
            && groups[1..].iter().all(|group| group.len() == 3)
            && groups.iter().chain(&fraction).all(|part| are_digits(part));
        (certain && sound).then(|| match fraction {
            Some(fraction) => format!("{sign}{}.{fraction}", groups.concat()),
            None => format!("{sign}{}", groups.concat()),
        })
    })
}

/// The elements of PostgreSQL's text of an array (`{pro,"a b",NULL}`), each as text; arrays of arrays nest.
pub(super) fn array(text: &str) -> Option<Vec<Value>> {
    let mut rest = text.trim().strip_prefix('{')?;
    let elements = elements(&mut rest, 0)?;
    rest.trim().is_empty().then_some(elements)
}

/// Most dimensions an array has (`MAXDIM` of the server).
const DIMENSIONS_MAX: usize = 6;

/// What follows an opening brace, up to its closing one.
fn elements(rest: &mut &str, depth: usize) -> Option<Vec<Value>> {
    let mut found = Vec::new();
    *rest = rest.trim_start();
    if let Some(after) = rest.strip_prefix('}') {
        *rest = after;
        return Some(found);
    }
    loop {
        *rest = rest.trim_start();
        if let Some(inner) = rest.strip_prefix('{') {
            *rest = inner;
            if depth + 1 >= DIMENSIONS_MAX {
                return None;
            }
            found.push(Value::Array(elements(rest, depth + 1)?));
        } else {
            found.push(element(rest)?);
        }
        *rest = rest.trim_start();
        let next = rest.chars().next()?;
        *rest = &rest[next.len_utf8()..];
        match next {
            ',' => {}
            '}' => return Some(found),
            _ => return None,
        }
    }
}

/// One element that is no array: in quotation marks, or bare, where `NULL` is a null.
fn element(rest: &mut &str) -> Option<Value> {
    let quoted = rest.starts_with('"');
    let mut out = String::new();
    let mut letters = rest.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => out.push(letters.next()?.1),
            '"' if quoted => {
                *rest = &rest[at + 1..];
                return Some(Value::String(out));
            }
            ',' | '}' if !quoted => {
                *rest = &rest[at..];
                let bare = out.trim_end();
                return match bare {
                    "" => None,
                    _ if bare.eq_ignore_ascii_case("null") => Some(Value::Null),
                    _ => Some(Value::String(bare.to_owned())),
                };
            }
            '{' | '"' if !quoted => return None,
            letter => out.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_in_many_spellings() {
        for text in [
            "2024-05-06T07:08:09Z",
            "2024-05-06T07:08:09.000Z",
            "2024-05-06t07:08:09z",
            // Salesforce, Java's OffsetDateTime and ZonedDateTime, Python, PostgreSQL, MySQL, pandas
            "2024-05-06T07:08:09.000+0000",
            "2024-05-06T09:08:09+02:00",
            "2024-05-06T09:08:09+02",
            "2024-05-06T09:08:09.000+02:00[Europe/Berlin]",
            "2024-05-06 07:08:09",
            "2024-05-06 07:08:09+00",
            "2024-05-06 09:08:09+02",
            "2024-05-06 12:38:09+05:30",
            "2024-05-06 07:08:09 UTC",
            "2024-05-06 07:08:09.000000 +00:00",
            "2024-05-06T07:08:09",
            "2024/05/06 07:08:09",
            // ISO basic, mail, HTTP, JavaScript, SQL Server, Oracle, HubSpot
            "20240506T070809Z",
            "Mon, 06 May 2024 07:08:09 +0000",
            "Mon, 06 May 2024 07:08:09 GMT",
            "Mon May 06 2024 09:08:09 GMT+0200 (Central European Summer Time)",
            "06 May 2024 07:08:09",
            "6 May 2024 07:08:09",
            "May 6, 2024 7:08:09 AM",
            "May 6, 2024, 7:08:09 AM",
            "06-MAY-2024 07:08:09",
            // C and Java's Date, Go, .NET's JSON, digits alone
            "Mon May  6 07:08:09 2024",
            "Mon May 06 07:08:09 UTC 2024",
            "2024-05-06 07:08:09 +0000 UTC",
            "2024-05-06 07:08:09 +0000 UTC m=+0.000000001",
            "/Date(1714979289000)/",
            "/Date(1714979289000+0200)/",
            "20240506070809",
            " 2024-05-06 07:08:09 ",
        ] {
            let at = timestamp(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(at.to_rfc3339(), "2024-05-06T07:08:09+00:00", "{text}");
            assert_eq!(date(text).unwrap().to_string(), "2024-05-06", "{text}");
        }
        assert_eq!(timestamp("2024-05-06T07:08Z").unwrap().to_rfc3339(), "2024-05-06T07:08:00+00:00");
        assert_eq!(timestamp("2024-05-06").unwrap().to_rfc3339(), "2024-05-06T00:00:00+00:00");
        assert_eq!(timestamp("2024-05-06 07:08:09.123456+00").unwrap().timestamp_subsec_micros(), 123_456);
        for text in ["2024-05-06", "2024/05/06", "2024.05.06", "20240506", "6 May 2024", "06-May-2024", "May 6, 2024"] {
            assert_eq!(date(text).unwrap().to_string(), "2024-05-06", "{text}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_read() {
        for text in [
            "06/05/2024",
            "06.05.2024",
            "25/12/2024 10:00",
            "24-05-06",
            "2024-13-01",
            "2024-02-30",
            "1715000000",
            "45418",
            "2024-05-06 07:08:09 CEST",
            "Mon May 06 07:08:09 CEST 2024",
            "2024-05-06 07:08:09 +0200 CEST",
            "20240506070861",
            "99999999999999",
            "/Date(x)/",
            "2024-05-06 25:00:00",
            "2024-05-06 07:08:09+99",
            "infinity",
            "yesterday",
            "",
            "0000-00-00",
            "99",
            "2024-05",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn arrays_are_read_as_postgresql_writes_them() {
        for (text, expected) in [
            ("{}", Some(r#"[]"#)),
            (r#"{pro,"a b", NULL ,"NULL",""}"#, Some(r#"["pro","a b",null,"NULL",""]"#)),
            (r#"{"a\"b\\c",d\,e}"#, Some(r#"["a\"b\\c","d,e"]"#)),
            ("{{1,2},{3,NULL}}", Some(r#"[["1","2"],["3",null]]"#)),
            ("{a,}", None),
            ("{a", None),
            ("{a}b", None),
            ("a,b", None),
            ("{{{{{{{1}}}}}}}", None),
            (r#"{"a":1}"#, None),
        ] {
            assert_eq!(array(text).map(|items| Value::Array(items).to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn numbers_with_both_marks_are_certain() {
        for (text, expected) in [
            ("1,234.50", Some("1234.50")),
            ("1.234,50", Some("1234.50")),
            ("-12.345.678,9", Some("-12345678.9")),
            ("1'234.50", Some("1234.50")),
            ("1'234", Some("1234")),
            ("1,234,567", Some("1234567")),
            ("-1.234.567", Some("-1234567")),
            ("1 234,50", Some("1234.50")),
            ("1\u{a0}234\u{a0}567", Some("1234567")),
            ("1\u{202f}234.5", Some("1234.5")),
            ("−12.5", Some("-12.5")),
            ("1,234.567.890", None),
            ("1 23", None),
            ("1 234 5", None),
            ("1.2.3", None),
            ("(5)", None),
            ("5%", None),
            ("1,234", None),
            ("1.234", None),
            ("1,2345.0", None),
            ("1234,5", None),
            ("1,234.", None),
            ("1,23,456.0", None),
            ("", None),
            (",.", None),
        ] {
            assert_eq!(number(text).as_deref(), expected, "{text}");
        }
    }
}
