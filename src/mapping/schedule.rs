//! Is a schedule's text sound: its cron expression, its zone, its jitter? Crons disagree about numbers of weekdays and
//! about a day of the month beside a day of the week; what is ambiguous is refused here rather than guessed.

use std::str::FromStr;
use std::time::Duration;

use chrono::DateTime;

use super::When;
use super::diagnostic::did_you_mean;
use crate::time_zone::{self, Zone};

/// The shortest interval of `every`.
pub const EVERY_MIN: Duration = Duration::from_secs(60);
/// How many moments of a cron expression are looked at to find its shortest interval.
const INTERVALS_LOOKED_AT: usize = 500;

/// The IANA zone of this name. The error is a fragment with the remedy.
pub fn zone(text: &str) -> Result<Zone, String> {
    let text = text.trim();
    if let Some(zone) = Zone::named(text) {
        return Ok(zone);
    }
    // An abbreviation is near to other abbreviations, which mean something else.
    let is_long = text.len() > 5;
    let meant = time_zone::suggestion(text).or_else(|| did_you_mean(text, time_zone::names()).filter(|_| is_long));
    Err(match meant {
        Some(meant) => format!("not a time zone: did you mean `{meant}`?"),
        None => "not a time zone: write an IANA name like `Europe/Berlin` or `UTC`".to_owned(),
    })
}

/// Whether runs would still keep their moments apart. The error is a fragment with the remedy.
pub fn jitter(jitter: Duration, when: &When) -> Result<(), String> {
    let interval = match when {
        When::Every(interval) => Some(*interval),
        When::Cron(text) => cron(text).ok().and_then(|moments| shortest_interval(&moments)),
        When::After(_) => {
            return Err("of no use beside `after`: remove it, the run follows the other one at once".to_owned());
        }
    };
    match interval {
        Some(interval) if jitter.saturating_mul(2) >= interval => Err(format!(
            "too long for runs that are {} apart: stay below half of that",
            crate::format::duration(interval)
        )),
        _ => Ok(()),
    }
}

/// The shortest time between two moments, on a clock without daylight saving; none for a single moment.
fn shortest_interval(moments: &cron::Schedule) -> Option<Duration> {
    let from = DateTime::from_timestamp(1_767_225_600, 0)?;
    let moments: Vec<_> = moments.after(&from).take(INTERVALS_LOOKED_AT).collect();
    let between = |pair: &[DateTime<chrono::Utc>]| pair[1].signed_duration_since(pair[0]).to_std().ok();
    moments.windows(2).filter_map(between).min()
}

/// A cron expression of 5 fields (minute hour day month weekday), 6 (seconds first), 7 (and a year), or `@hourly`,
/// `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`. In 5 fields weekdays count from Sunday = 0
/// (7 is Sunday too); in 6 and 7 they must be names. The error is a fragment with the remedy.
pub fn cron(text: &str) -> Result<cron::Schedule, String> {
    let expression = expand(text.trim())?;
    let schedule = cron::Schedule::from_str(&expression)
        .map_err(|_| "not a cron expression: write five fields like `0 2 * * *`, or `@daily`".to_owned())?;
    // Two looks from fixed days, so that the verdict does not depend on today: 30 February never comes.
    let from = DateTime::from_timestamp(1_767_225_600, 0).ok_or("no first day of 2026")?;
    if schedule.after(&from).next().is_none() {
        return Err("a schedule that never comes round".to_owned());
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
        return Err("not a cron expression: write five fields like `0 2 * * *`, or `@daily`".to_owned());
    }
    // A step of nothing would never advance.
    if fields.iter().any(|field| steps_by_zero(field)) {
        return Err("a cron field with a step of 0".to_owned());
    }
    if ![&fields[3], &fields[5]].iter().any(|field| *field == "*" || *field == "?") {
        return Err(
            "a day of the month together with a weekday: some crons take both, some either; make one of them `*`"
                .to_owned(),
        );
    }
    if fields[5].split(['/', '#']).next().is_some_and(|days| days.contains(|letter: char| letter.is_ascii_digit())) {
        if !unix {
            return Err("a weekday by number beside seconds: crons disagree on which day it is; write `MON` to `SUN`"
                .to_owned());
        }
        fields[5] = weekdays(&fields[5])?;
    }
    Ok(fields.join(" "))
}

fn steps_by_zero(field: &str) -> bool {
    field.split(',').any(|item| item.split_once('/').is_some_and(|(_, step)| step.parse() == Ok(0_u32)))
}

/// Unix weekday numbers as a list of names, since the cron crate counts from Sunday = 1.
fn weekdays(field: &str) -> Result<String, String> {
    const NAMES: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let wrong = || "a weekday that is not 0 to 7 or SUN to SAT".to_owned();
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
            return Err("a range of weekdays that runs backwards: write it in two, like `5-6,0`".to_owned());
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
        cron(text).unwrap().after(&from).next().unwrap().to_rfc3339()
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
            ("", "five fields"),
            ("0 2 * *", "five fields"),
            ("nightly", "five fields"),
            ("@reboot", "five fields"),
            ("61 2 * * *", "five fields"),
            ("*/0 * * * *", "step of 0"),
            ("0 2 1 * 1", "make one of them `*`"),
            ("0 0 2 * * 2", "write `MON`"),
            ("0 2 * * 8", "0 to 7"),
            ("0 2 * * 5-1", "backwards"),
            ("0 2 30 2 *", "never comes"),
            ("0 0 2 1 1 ? 2020", "never comes"),
        ] {
            let error = cron(text).map(|_| ()).unwrap_err();
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
            ("+01:00", "write an IANA name"),
            ("Middle-earth", "write an IANA name"),
        ] {
            let error = zone(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn jitter_stays_below_half_the_shortest_interval() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let cron = |text: &str| When::Cron(text.to_owned());
        for (most, when) in [
            (29, cron("0 * * * *")),
            (4, cron("0,10 2 * * *")),
            (719, cron("@daily")),
            (22, When::Every(minutes(45))),
            (1_000_000, cron("0 0 2 1 1 ? 2027")),
        ] {
            assert_eq!(jitter(minutes(most), &when), Ok(()), "{when}");
            let too_long = jitter(minutes(most + 1), &when);
            assert_eq!(too_long.is_ok(), most == 1_000_000, "{when}: {too_long:?}");
        }
        assert!(jitter(minutes(1), &When::After("other".to_owned())).unwrap_err().contains("of no use"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-*/?,@0-9A-Z#]{1,5}( [-*/?,0-9A-ZL#]{1,5}){3,6}", any in ".*") {
            let _ = cron(&text);
            let _ = cron(&any);
        }
    }
}
