//! The scheduler: when a sync runs, and which run starts now.
//!
//! | module | what it is |
//! |---|---|
//! | [`cron`] | the scheduled times of one sync: cron expressions, intervals, time zones, jitter |
//! | [`timetable`] | which scheduled time of one sync is due: overlap, missed times, overdue runs |
//! | [`queue`] | which run of all syncs starts now: one per sync, a limit in all, queued runs first |
//! | [`backoff`] | how long a sync waits after failures and crashes |
//!
//! Pure: no clock is read, nothing is awaited or stored; `now` is always an argument, and the caller says what happens.

pub mod backoff;
pub mod cron;
mod entry;
pub mod queue;
pub mod timetable;

#[cfg(test)]
mod tests;
