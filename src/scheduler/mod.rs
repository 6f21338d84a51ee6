//! When does a sync run? The moments a schedule names, each as an instant; [`timetable`] says which of them is due.
//!
//! Pure: no clock is read here, `now` is always an argument.
//!
//! A cron expression speaks of local times. In a zone with daylight saving some local times do not exist and some exist
//! twice; a moment that does not exist comes right after the gap, one that exists twice comes the first time. So each
//! named local time comes exactly once, except that all the moments inside a gap, and one right after it, are one.

pub mod timetable;

use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::mapping::{CatchUp, Mapping, Overlap, When, schedule};
use crate::time_zone::Zone;

/// The last year the cron crate knows.
const YEAR_MAX: i32 = 2100;
/// More than any zone was ever away from UTC, in seconds.
const OFFSET_MAX: i64 = 16 * 3_600;

/// A sync's schedule, ready to be asked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The sync's name; it seeds the jitter.
    pub sync: String,
    /// What it waits for.
    pub rule: Rule,
    /// The most that a run may start after its moment.
    pub jitter: Duration,
    /// What happens about missed moments.
    pub catch_up: CatchUp,
    /// What happens about a moment during a run.
    pub overlap: Overlap,
}

/// What a schedule waits for.
#[derive(Debug, Clone)]
pub enum Rule {
    /// The local times a cron expression names.
    Cron(Box<cron::Schedule>, Zone),
    /// So much time since the last run began.
    Every(TimeDelta),
    /// The good end of a run of this sync.
    After(String),
}

/// A moment the schedule names, and when the run starts: the same, or a little later with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fire {
    /// The scheduled moment.
    pub moment: DateTime<Utc>,
    /// When the run is to start.
    pub at: DateTime<Utc>,
}

impl Plan {
    /// The plan of a mapping; none when it is disabled or has no schedule. `zone` is for schedules that name none.
    ///
    /// Errors: [`Kind::Bug`], a mapping was let through whose schedule is not sound.
    pub fn of(mapping: &Mapping, zone: Zone) -> Result<Option<Plan>> {
        let Some(written) = mapping.schedule.as_ref().filter(|_| mapping.enabled) else { return Ok(None) };
        let unsound =
            |problem: String| Error::new(Kind::Bug, format!("an unsound schedule was let through: {problem}"));
        let rule = match &written.when {
            When::Cron(text) => {
                Rule::Cron(Box::new(schedule::cron(text).map_err(unsound)?), written.timezone.unwrap_or(zone))
            }
            When::Every(interval) => {
                Rule::Every(TimeDelta::from_std(*interval).map_err(|error| unsound(error.to_string()))?)
            }
            When::After(other) => Rule::After(other.clone()),
        };
        Ok(Some(Plan {
            sync: mapping.name.clone(),
            rule,
            jitter: written.jitter,
            catch_up: written.catch_up,
            overlap: written.overlap,
        }))
    }

    /// The first scheduled moment after `after`, which for an interval is the start of the last run. None when no
    /// moment is left, and for a sync that follows another one.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<Fire> {
        let moment = match &self.rule {
            Rule::Cron(moments, zone) => next_local(moments, *zone, after)?,
            Rule::Every(interval) => after.checked_add_signed(*interval)?,
            Rule::After(_) => return None,
        };
        Some(Fire { moment, at: self.jittered(moment) })
    }

    /// When the run of a moment starts. The same sync and moment always give the same, so that a restart between the
    /// moment and the start changes nothing; different syncs spread.
    fn jittered(&self, moment: DateTime<Utc>) -> DateTime<Utc> {
        let seconds = self.jitter.as_secs();
        if seconds == 0 {
            return moment;
        }
        let mut hash = Sha256::new();
        hash.update(self.sync.as_bytes());
        hash.update(moment.timestamp().to_be_bytes());
        let drawn = hash.finalize().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let delay = i64::try_from(drawn % (seconds + 1)).ok().and_then(TimeDelta::try_seconds).unwrap_or_default();
        moment.checked_add_signed(delay).unwrap_or(moment)
    }

    /// The zone in which its times are best shown; none where zones do not matter.
    pub fn zone(&self) -> Option<Zone> {
        match self.rule {
            Rule::Cron(_, zone) => Some(zone),
            Rule::Every(_) | Rule::After(_) => None,
        }
    }
}

/// The first instant after `after` at which one of the local `moments` comes in `zone`.
fn next_local(moments: &cron::Schedule, zone: Zone, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if after.year() > YEAR_MAX {
        return None;
    }
    let after = after.max(DateTime::UNIX_EPOCH);
    // Wall times are walked as if they were UTC, where each exists exactly once. `instant` never decreases along that
    // walk, so no wall time up to the current one can come later than now; some after it may have come already, in the
    // first pass of an hour that is now passed a second time.
    let wall = zone.from_utc_datetime(&after.naive_utc()).naive_local();
    let wall = wall.with_nanosecond(0)?.and_utc();
    moments.after(&wall).map(|wall| instant(zone, wall.naive_utc())).find(|instant| *instant > after)
}

/// The instant of a wall time: the first one if there are two, the end of the gap if there is none.
fn instant(zone: Zone, wall: NaiveDateTime) -> DateTime<Utc> {
    if let Some(instant) = zone.from_local_datetime(&wall).earliest() {
        return instant.with_timezone(&Utc);
    }
    // The clock jumps over `wall`: find the first second that shows a later time.
    let shows_later = |second: i64| {
        let at = DateTime::from_timestamp(second, 0).unwrap_or_default().naive_utc();
        at + zone.offset_from_utc_datetime(&at).fix() > wall
    };
    let (mut before, mut later) = (wall.and_utc().timestamp() - OFFSET_MAX, wall.and_utc().timestamp() + OFFSET_MAX);
    while later - before > 1 {
        let middle = before + (later - before) / 2;
        if shows_later(middle) {
            later = middle;
        } else {
            before = middle;
        }
    }
    DateTime::from_timestamp(later, 0).unwrap_or_default()
}

#[cfg(test)]
mod overdue;
#[cfg(test)]
mod tests;
