//! How is the schedule of a mapping written, and what is said when it is not?

use std::time::Duration;

use toml::de::DeValue;

use super::reader::{Entry, Report, Section, join};
use super::{CatchUp, Overlap, Schedule, When, schedule};

const SCHEDULE: [&str; 7] = ["cron", "every", "after", "timezone", "jitter", "catch_up", "overlap"];
const WHEN: [&str; 3] = ["cron", "every", "after"];
const CATCH_UP: [(&str, CatchUp); 2] = [("once", CatchUp::Once), ("skip", CatchUp::Skip)];
const OVERLAP: [(&str, Overlap); 2] = [("skip", Overlap::Skip), ("queue", Overlap::Queue)];

/// Reads `schedule`; none when it has mistakes.
pub(super) fn read(entry: &Entry<'_>, report: &mut Report<'_>) -> Option<Schedule> {
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
    table.expect_keys(&SCHEDULE, &|_| None, report);
    let when = when(&table, report);
    let timezone = match table.get("timezone") {
        None => None,
        Some(entry) if table.has("cron") => {
            let text = entry.text(report)?;
            Some(entry.noted(schedule::zone(text), report)?)
        }
        Some(entry) => {
            let what = "`timezone` is of no use without `cron`";
            report.push(report.error(&entry.at, what).help("remove it: an interval is the same in every zone"));
            return None;
        }
    };
    let catch_up = table.get("catch_up").map(|entry| entry.choice(&CATCH_UP, report));
    let overlap = table.get("overlap").map(|entry| entry.choice(&OVERLAP, report));
    let when = when?;
    let jitter = match table.get("jitter") {
        None => Duration::ZERO,
        Some(entry) => {
            let jitter = entry.duration(report)?;
            entry.noted(schedule::jitter(jitter, &when), report)?;
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
                if interval < schedule::EVERY_MIN {
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
    entry.noted(schedule::cron(text), report).map(|_| text.trim().to_owned())
}
