//! Which spellings of dates, times and numbers in text have one meaning only? Those that CRMs, Java, Excel and databases
//! write are read; what two people would read differently (`06/05/2024`, `1,234`) is not.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, Utc};

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
    let (day, clock) = text.split_once(['T', 't']).or_else(|| text.split_once(' '))?;
    match plain_date(day) {
        Some(day) if clock_of(clock).is_some() => Some(day),
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
            return Some((&text[..text.len() - word.len()], Some(0)));
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

/// The digits of a number that is written with marks between its thousands. Only where both marks stand is it certain which
/// is which: `1,234.50` and `1.234,50`; `1,234` alone may be either.
pub(super) fn number(text: &str) -> Option<String> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix(['-', '+', '−']) {
        Some(rest) => (if text.starts_with('+') { "" } else { "-" }, rest),
        None => ("", text),
    };
    for (thousands, decimal) in [(',', '.'), ('.', ','), ('\'', '.'), ('’', '.')] {
        let Some((whole, fraction)) = digits.split_once(decimal) else { continue };
        let groups: Vec<&str> = whole.split(thousands).collect();
        let sound = groups.len() > 1
            && (1..=3).contains(&groups[0].len())
            && groups[1..].iter().all(|group| group.len() == 3)
            && !fraction.is_empty()
            && groups.iter().chain([&fraction]).all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        if sound {
            return Some(format!("{sign}{}.{fraction}", groups.concat()));
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
    fn numbers_with_both_marks_are_certain() {
        for (text, expected) in [
            ("1,234.50", Some("1234.50")),
            ("1.234,50", Some("1234.50")),
            ("-12.345.678,9", Some("-12345678.9")),
            ("1'234.50", Some("1234.50")),
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
