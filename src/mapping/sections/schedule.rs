//! `schedule`: when a sync runs.

use std::time::Duration;

use toml::de::DeValue;

use crate::mapping::cron;
use crate::mapping::reader::{Entry, Report, Section, join};
use crate::time_zone::Zone;

/// The keys of a schedule.
pub(crate) const SCHEDULE: [&str; 7] = ["cron", "every", "after", "timezone", "jitter", "catch_up", "overlap"];
const WHEN: [&str; 3] = ["cron", "every", "after"];
/// When a sync runs, as written. [`crate::scheduler`] gives it meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// What it waits for.
    pub when: When,
    /// The zone of a cron expression; the config's, or UTC, when absent.
    pub timezone: Option<Zone>,
    /// The most that a run may start after its moment.
    pub jitter: Duration,
    /// What happens about scheduled times that were missed.
    pub catch_up: CatchUp,
    /// What happens about a moment that comes while the sync still runs.
    pub overlap: Overlap,
}

/// What a schedule waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// A cron expression of 5 to 7 fields, or `@daily` and its kin; checked by `schedule::cron`.
    Cron(String),
    /// So much time since the last run began.
    Every(Duration),
    /// The end of another sync's run.
    After(String),
}

impl std::fmt::Display for When {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            When::Cron(text) => out.write_str(text),
            When::Every(interval) => write!(out, "every {}", crate::format::duration(*interval)),
            When::After(other) => write!(out, "after {other}"),
        }
    }
}

/// What happens about missed moments.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, strum::IntoStaticStr, strum::VariantArray, strum::VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum CatchUp {
    /// One run makes up for all of them.
    #[default]
    Once,
    /// Nothing; the next moment counts.
    Skip,
}

/// What happens about a moment during a run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, strum::IntoStaticStr, strum::VariantArray, strum::VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum Overlap {
    /// Nothing.
    #[default]
    Skip,
    /// One run follows the current one, however many moments passed.
    Queue,
}

/// Reads `schedule`; none when it has mistakes.
pub(crate) fn read(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<Schedule> {
    let table = match entry.value {
        DeValue::String(_) => {
            return Some(Schedule {
                when: When::Cron(cron(entry, report)?),
                timezone: None,
                jitter: Duration::ZERO,
                catch_up: CatchUp::default(),
                overlap: Overlap::default(),
            });
        }
        DeValue::Table(table) => Section { table, at: entry.at.clone() },
        _ => {
            entry.mistyped("a cron expression or a table with `cron`, `every` or `after`", report);
            return None;
        }
    };
    table.expect_keys(&SCHEDULE, report);
    let when = when(&table, report);
    let timezone = match table.get("timezone") {
        None => None,
        Some(entry) if table.has("cron") => {
            let text = entry.text(report)?;
            Some(entry.noted(cron::zone(text), report)?)
        }
        Some(entry) => {
            let what = "`timezone` is of no use without `cron`";
            report.push(report.error(&entry.at, what).help("remove it: an interval is the same in every zone"));
            return None;
        }
    };
    let catch_up = table.get("catch_up").map(|entry| entry.choice::<CatchUp>(report));
    let overlap = table.get("overlap").map(|entry| entry.choice::<Overlap>(report));
    let when = when?;
    let jitter = match table.get("jitter") {
        None => Duration::ZERO,
        Some(entry) => {
            let jitter = entry.duration(report)?;
            entry.noted(self::jitter(jitter, &when), report)?;
            jitter
        }
    };
    Some(Schedule {
        when,
        timezone,
        jitter,
        catch_up: catch_up.unwrap_or(Some(CatchUp::default()))?,
        overlap: overlap.unwrap_or(Some(Overlap::default()))?,
    })
}

/// The one of `cron`, `every` and `after` that is there.
fn when(table: &Section<'_>, report: &mut Report<'_>) -> Option<When> {
    let ways: Vec<Entry<'_>> = table.entries().into_iter().filter(|entry| WHEN.contains(&entry.key)).collect();
    match ways.as_slice() {
        [] => {
            let missing = report.error(&table.at, "`schedule` has no `cron`, `every` or `after`");
            let path = WHEN.map(|key| join("schedule", key)).into_iter().find(|path| report.was_meant(path));
            let help = "write `cron = \"0 2 * * *\"`, `every = \"45m\"` or `after = \"other-sync\"`";
            report.push_missing(&path.unwrap_or_default(), missing.help(help));
            None
        }
        [entry] => match entry.key {
            "cron" => cron(entry, report).map(When::Cron),
            "every" => {
                let interval = entry.duration(report)?;
                if interval < cron::EVERY_MIN {
                    let what = "`every` is shorter than a minute";
                    report.push(report.error(&entry.at, what).help("write at least `\"1m\"`"));
                    return None;
                }
                Some(When::Every(interval))
            }
            _ => entry.name(report).map(When::After),
        },
        [first, second, ..] => {
            let what = format!("`schedule` has both `{}` and `{}`", first.key, second.key);
            report.push(report.error(&second.at, what).help("keep one of them"));
            None
        }
    }
}

fn cron(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = entry.text(report)?;
    entry.noted(cron::parse(text), report).map(|_| text.trim().to_owned())
}

/// How many scheduled times are read to find the shortest interval.
const INTERVALS_MAX: usize = 500;

/// Whether runs would still be apart. The error follows the setting's name.
fn jitter(jitter: Duration, when: &When) -> Result<(), String> {
    let interval = match when {
        When::Every(interval) => Some(*interval),
        When::Cron(text) => cron::parse(text).ok().and_then(|times| shortest_interval(&times)),
        When::After(_) => {
            return Err("has no effect beside `after`: remove it, the run follows the other one at once".to_owned());
        }
    };
    match interval {
        Some(interval) if jitter.saturating_mul(2) >= interval => Err(format!(
            "is too long for runs that are {} apart: stay below half of that",
            crate::format::duration(interval)
        )),
        _ => Ok(()),
    }
}

/// The shortest time between two scheduled times, on a clock without daylight saving; none for a single one.
fn shortest_interval(times: &::cron::Schedule) -> Option<Duration> {
    let from = chrono::DateTime::from_timestamp(1_767_225_600, 0)?;
    let times: Vec<_> = times.after(&from).take(INTERVALS_MAX).collect();
    let between = |pair: &[chrono::DateTime<chrono::Utc>]| pair[1].signed_duration_since(pair[0]).to_std().ok();
    times.windows(2).filter_map(between).min()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(jitter(minutes(1), &When::After("other".to_owned())).unwrap_err().contains("has no effect"));
    }
}
