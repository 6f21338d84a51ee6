//! Cron expressions and time zones as people write them. Crons disagree about numbers of weekdays and about a day of the
//! month beside a day of the week; what is ambiguous is an error here rather than a guess.

use std::str::FromStr;
use std::time::Duration;

use chrono::DateTime;

use super::diagnostic::did_you_mean;
use crate::time_zone::{self, Zone};

/// The shortest interval of `every`.
pub const EVERY_MIN: Duration = Duration::from_secs(60);

/// The names for expressions, without their sign.
const NAMED: [&str; 5] = ["hourly", "daily", "weekly", "monthly", "yearly"];

/// The IANA zone of this name. The error follows the setting's name: what is wrong, and the conversion after a colon.
pub fn zone(text: &str) -> Result<Zone, String> {
    let text = text.trim();
    if let Some(zone) = Zone::named(text) {
        return Ok(zone);
    }
    // An abbreviation is near to other abbreviations, which mean something else.
    let is_long = text.len() > 5;
    let meant = time_zone::suggestion(text).or_else(|| did_you_mean(text, time_zone::names()).filter(|_| is_long));
    Err(match meant {
        Some(meant) => format!("is not a time zone: did you mean `{meant}`?"),
        None => "is not a time zone: write an IANA name like `Europe/Berlin` or `UTC`".to_owned(),
    })
}

/// A cron expression of 5 fields (minute hour day month weekday), 6 (seconds first), 7 (and a year), or `@hourly`,
/// `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`. In 5 fields weekdays count from Sunday = 0
/// (7 is Sunday too); in 6 and 7 they must be names. The error follows the setting's name, as for [`zone`].
pub fn parse(text: &str) -> Result<cron::Schedule, String> {
    let expression = expand(text.trim())?;
    let schedule = cron::Schedule::from_str(&expression)
        .map_err(|_| "is not a cron expression: write five fields like `0 2 * * *`, or `@daily`".to_owned())?;
    // From a fixed day, so that the result does not depend on today: 30 February never comes.
    let from = DateTime::from_timestamp(1_767_225_600, 0).ok_or("no first day of 2026")?;
    if schedule.after(&from).next().is_none() {
        return Err("has no scheduled time: such a date does not exist, or is over".to_owned());
    }
    Ok(schedule)
}

fn expand(text: &str) -> Result<String, String> {
    match text.to_ascii_lowercase().as_str() {
        "@midnight" => return Ok("@daily".to_owned()),
        "@annually" => return Ok("@yearly".to_owned()),
        short @ ("@hourly" | "@daily" | "@weekly" | "@monthly" | "@yearly") => return Ok(short.to_owned()),
        _ => {}
    }
    let mut fields: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let unix = fields.len() == 5;
    if unix {
        fields.insert(0, "0".to_owned());
    }
    if !(6..=7).contains(&fields.len()) {
        let what = match text.starts_with('@') || text.is_empty() || text.chars().all(char::is_alphabetic) {
            true => "is not a cron expression".to_owned(),
            false => format!("has {} field{}, 5 expected", fields.len(), if fields.len() == 1 { "" } else { "s" }),
        };
        let lower = text.to_lowercase();
        let advice = match did_you_mean(lower.trim_start_matches('@'), NAMED) {
            _ if lower.starts_with("every") => "for an interval write `{ every = \"5m\" }`".to_owned(),
            Some(meant) if what.starts_with("is not") => format!("did you mean `@{meant}`?"),
            _ => "write minute, hour, day, month and weekday like `0 2 * * *`, or `@daily`".to_owned(),
        };
        return Err(format!("{what}: {advice}"));
    }
    // A step of nothing would never advance.
    if fields.iter().any(|field| steps_by_zero(field)) {
        return Err("has a field with a step of 0: write at least `*/1`".to_owned());
    }
    if ![&fields[3], &fields[5]].iter().any(|field| *field == "*" || *field == "?") {
        return Err("has both a day of the month and a weekday, which crons combine differently: make one of them `*`"
            .to_owned());
    }
    if fields[5].split(['/', '#']).next().is_some_and(|days| days.contains(|letter: char| letter.is_ascii_digit())) {
        if !unix {
            return Err(
                "has seconds and a weekday by number, which crons count differently: write `MON` to `SUN`".to_owned()
            );
        }
        fields[5] = weekdays(&fields[5])?;
    }
    if let Some(wrong) = unknown_name(&fields) {
        return Err(wrong);
    }
    out_of_range(&fields).map_or_else(|| Ok(fields.join(" ")), Err)
}

/// The first number of a field that is out of its range.
fn out_of_range(fields: &[String]) -> Option<String> {
    const RANGES: [(&str, u32, u32); 5] =
        [("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12)];
    fields.iter().zip(RANGES).find_map(|(field, (name, least, most))| {
        // A number after a slash is a step.
        let bounds = field.split(',').flat_map(|item| item.split('/').next().unwrap_or_default().split('-'));
        let mut numbers = bounds.filter_map(|bound| bound.parse::<u32>().ok());
        let wrong = numbers.find(|number| !(least..=most).contains(number))?;
        Some(format!("{name} {wrong} is out of range {least}–{most}"))
    })
}

/// The first word that names no month or weekday. The crate knows names in full, too.
fn unknown_name(fields: &[String]) -> Option<String> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let wrong = |field: &String, what: &str, known: &[&str], range: &str| {
        let mut words = field.split(|letter: char| !letter.is_alphabetic()).filter(|word| word.chars().count() > 1);
        let word = words.find(|word| !known.iter().any(|known| word.to_lowercase().starts_with(known)))?;
        Some(format!("has a {what} `{word}` that is not {range}"))
    };
    wrong(&fields[4], "month", &MONTHS, "JAN–DEC").or_else(|| wrong(&fields[5], "weekday", &DAYS, "SUN–SAT"))
}

fn steps_by_zero(field: &str) -> bool {
    field.split(',').any(|item| item.split_once('/').is_some_and(|(_, step)| step.parse() == Ok(0_u32)))
}

/// Unix weekday numbers as a list of names, since the cron crate counts from Sunday = 1.
fn weekdays(field: &str) -> Result<String, String> {
    const NAMES: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let wrong = || "has a weekday that is not 0–7 or SUN–SAT".to_owned();
    let number = |text: &str| -> Result<usize, String> {
        match text.parse::<usize>() {
            Ok(day @ 0..=7) => Ok(day),
            Ok(_) => Err(wrong()),
            Err(_) => NAMES.iter().position(|name| name.eq_ignore_ascii_case(text)).ok_or_else(wrong),
        }
    };
    let mut days = Vec::new();
    for item in field.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, step.parse::<usize>().ok().filter(|step| *step > 0).ok_or_else(wrong)?),
            None => (item, 1),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None if range == "*" => (0, 6),
            None if item.contains('/') => (number(range)?, 6),
            None => (number(range)?, number(range)?),
        };
        if first > last {
            return Err("has a range of weekdays that runs backwards: write it in two, like `5-6,0`".to_owned());
        }
        days.extend((first..=last).step_by(step).map(|day| NAMES[day % 7]));
    }
    Ok(days.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn next(text: &str) -> String {
        // Thursday, 1 January 2026.
        let from = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        parse(text).unwrap().after(&from).next().unwrap().to_rfc3339()
    }

    #[test]
    fn the_next_moment_is_the_one_a_person_means() {
        for (text, expected) in [
            ("0 2 * * *", "2026-01-01T02:00:00+00:00"),
            ("*/15 * * * *", "2026-01-01T00:15:00+00:00"),
            ("0 2 * * 0", "2026-01-04T02:00:00+00:00"),
            ("0 2 * * 7", "2026-01-04T02:00:00+00:00"),
            ("0 2 * * 1", "2026-01-05T02:00:00+00:00"),
            ("0 2 * * 1-5", "2026-01-01T02:00:00+00:00"),
            ("0 2 * * 6-7", "2026-01-03T02:00:00+00:00"),
            ("0 2 * * mon", "2026-01-05T02:00:00+00:00"),
            ("30 0 2 * * MON", "2026-01-05T02:00:30+00:00"),
            ("0 0 2 1 1 ? 2027", "2027-01-01T02:00:00+00:00"),
            ("@daily", "2026-01-02T00:00:00+00:00"),
            ("@Midnight", "2026-01-02T00:00:00+00:00"),
            ("@annually", "2027-01-01T00:00:00+00:00"),
        ] {
            assert_eq!(next(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_or_ambiguous_is_refused() {
        for (text, expected) in [
            ("", "is not a cron expression: write minute, hour"),
            ("0 2 * *", "has 4 fields, 5 expected"),
            ("5", "has 1 field, 5 expected"),
            ("0 0 2 * * * * *", "has 8 fields, 5 expected"),
            ("nightly", "is not a cron expression"),
            ("@reboot", "is not a cron expression"),
            ("@dayly", "did you mean `@daily`?"),
            ("Daily", "did you mean `@daily`?"),
            ("every 5 minutes", "`{ every = \"5m\" }`"),
            ("0 2 * * MON-FRO", "has a weekday `FRO` that is not SUN–SAT"),
            ("0 2 * FEBB,JN *", "has a month `JN` that is not JAN–DEC"),
            ("61 2 * * *", "minute 61 is out of range 0–59"),
            ("0 25 * * *", "hour 25 is out of range 0–23"),
            ("0 9-17,24 * * *", "hour 24 is out of range 0–23"),
            ("0 2 0 * *", "day 0 is out of range 1–31"),
            ("0 2 * 13 *", "month 13 is out of range 1–12"),
            ("0 2 * * x", "is not a cron expression"),
            ("*/0 * * * *", "step of 0"),
            ("0 2 1 * 1", "make one of them `*`"),
            ("0 0 2 * * 2", "write `MON`"),
            ("0 2 * * 8", "0–7"),
            ("0 2 * * 5-1", "backwards"),
            ("0 2 30 2 *", "has no scheduled time"),
            ("0 0 2 1 1 ? 2020", "has no scheduled time"),
        ] {
            let error = parse(text).map(|_| ()).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn zones_are_iana_names_and_near_ones_are_guessed() {
        assert_eq!(zone("Europe/Berlin"), Ok(Zone::named("Europe/Berlin").unwrap()));
        assert_eq!(zone("UTC"), Ok(Zone::utc()));
        for (text, expected) in [
            ("europe/berlin", "did you mean `Europe/Berlin`?"),
            ("Europe/Berln", "did you mean `Europe/Berlin`?"),
            ("Berlin", "did you mean `Europe/Berlin`?"),
            ("new york", "did you mean `America/New_York`?"),
            ("PST", "did you mean `America/Los_Angeles`?"),
            ("cest", "did you mean `Europe/Berlin`?"),
            ("+01:00", "write an IANA name"),
            ("Middle-earth", "write an IANA name"),
        ] {
            let error = zone(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-*/?,@0-9A-Z#]{1,5}( [-*/?,0-9A-ZL#]{1,5}){3,6}", any in ".*") {
            let _ = parse(&text);
            let _ = parse(&any);
        }
    }
}
