//! The schedule of one sync: its cron expression, interval or followed sync, as a sequence of instants.
//!
//! A cron expression speaks of local times. In a time zone with daylight saving some local times do not exist and some
//! exist twice; a scheduled time that does not exist comes right after the gap, one that exists twice comes the first
//! time. So each local time comes exactly once, except that all the times inside a gap, and one right after it, are one.

use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::mapping::{CatchUp, Mapping, Overlap, When, cron};
use crate::time_zone::Zone;

/// The last year that the cron crate knows.
const YEAR_MAX: i32 = 2100;
/// More than any time zone was ever away from UTC, in seconds.
const OFFSET_MAX: i64 = 16 * 3_600;

/// The schedule of a sync.
#[derive(Debug, Clone)]
pub struct SyncSchedule {
    /// The sync's name; it seeds the jitter.
    pub sync: String,
    /// What starts its runs.
    pub trigger: Trigger,
    /// The most that a run may start after its scheduled time.
    pub jitter: Duration,
    /// What happens about missed times.
    pub catch_up: CatchUp,
    /// What happens about a scheduled time that comes during a run.
    pub overlap: Overlap,
}

/// What starts the runs of a schedule.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// The local times of a cron expression.
    Cron(Box<::cron::Schedule>, Zone),
    /// An interval since the last run started.
    Every(TimeDelta),
    /// The successful end of a run of this sync.
    After(String),
}

/// A scheduled time, and when its run starts: then, or a little later with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduledTime {
    /// The scheduled time.
    pub time: DateTime<Utc>,
    /// When the run is to start.
    pub starts_at: DateTime<Utc>,
}

impl SyncSchedule {
    /// The schedule of a mapping; none when it is disabled or manual. `zone` is for schedules that name no time zone.
    ///
    /// Errors: [`Kind::Bug`], the mapping was accepted with an invalid schedule.
    pub fn of(mapping: &Mapping, zone: Zone) -> Result<Option<SyncSchedule>> {
        let Some(written) = mapping.schedule.as_ref().filter(|_| mapping.enabled) else { return Ok(None) };
        let invalid = |problem: String| Error::new(Kind::Bug, format!("an invalid schedule was accepted: {problem}"));
        let trigger = match &written.when {
            When::Cron(text) => {
                Trigger::Cron(Box::new(cron::parse(text).map_err(invalid)?), written.timezone.unwrap_or(zone))
            }
            When::Every(interval) => {
                Trigger::Every(TimeDelta::from_std(*interval).map_err(|error| invalid(error.to_string()))?)
            }
            When::After(other) => Trigger::After(other.clone()),
        };
        Ok(Some(SyncSchedule {
            sync: mapping.name.clone(),
            trigger,
            jitter: written.jitter,
            catch_up: written.catch_up,
            overlap: written.overlap,
        }))
    }

    /// The first scheduled time after `after`, which for an interval is the start of the last run. None when there are no
    /// more, and for a sync that follows another one.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<ScheduledTime> {
        let time = match &self.trigger {
            Trigger::Cron(times, zone) => next_local(times, *zone, after)?,
            Trigger::Every(interval) => after.checked_add_signed(*interval)?,
            Trigger::After(_) => return None,
        };
        Some(self.with_jitter(time))
    }

    /// A scheduled time with the start of its run. The same sync and time always give the same start, so that a restart
    /// in between changes nothing; different syncs spread.
    pub(super) fn with_jitter(&self, time: DateTime<Utc>) -> ScheduledTime {
        let seconds = self.jitter.as_secs();
        if seconds == 0 {
            return ScheduledTime { time, starts_at: time };
        }
        let mut hash = Sha256::new();
        hash.update(self.sync.as_bytes());
        hash.update(time.timestamp().to_be_bytes());
        let drawn = hash.finalize().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let delay = i64::try_from(drawn % (seconds + 1)).ok().and_then(TimeDelta::try_seconds).unwrap_or_default();
        ScheduledTime { time, starts_at: time.checked_add_signed(delay).unwrap_or(time) }
    }
}

/// The first instant after `after` at which one of the local `times` comes in `zone`.
fn next_local(times: &::cron::Schedule, zone: Zone, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if after.year() > YEAR_MAX {
        return None;
    }
    let after = after.max(DateTime::UNIX_EPOCH);
    // Wall times are walked as if they were UTC, where each exists exactly once. `instant` never decreases along that
    // walk, so no wall time up to the current one can come later than now; some after it may have come already, in the
    // first pass of an hour that is now passed a second time.
    let wall = zone.from_utc_datetime(&after.naive_utc()).naive_local();
    let wall = wall.with_nanosecond(0)?.and_utc();
    times.after(&wall).map(|wall| instant(zone, wall.naive_utc())).find(|instant| *instant > after)
}

/// The instant of a wall time: the first one if there are two, the end of the gap if it does not exist.
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
