//! The comparison phase of a run: reads the model once, whole or from a cursor on, and compares it with the synced state.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::decide::Decider;
use super::mirror::{MirrorReport, MirrorRun, MirroredRows};
use super::reader::{Reader, Rows};
use super::session::{Event, Session};
use super::unchanged::Memory;
use crate::error::{Error, Kind, Result};
use crate::ledger::{CompareOptions, Comparison, Cursor, MissingScope, PreviousRun, RunStart};
use crate::mapping::OnMissing;
use crate::mapping::compile::{self, Restriction};
use crate::mapping::plain::{self, PlainAssembly};
use crate::model::{ColumnType, Rules};
use crate::source::Ahead;

/// The result of the comparison phase: the candidates, ready to be decided and sent.
pub(super) struct ComparisonPhase {
    pub(super) run: String,
    pub(super) started_at: DateTime<Utc>,
    pub(super) previous: PreviousRun,
    pub(super) full: bool,
    pub(super) found: Comparison,
    pub(super) decider: Arc<Decider>,
    pub(super) cursor: Option<Cursor>,
    pub(super) ahead: Option<Ahead>,
    /// What the run owes its mirror.
    pub(super) mirror: Option<MirrorRun>,
    /// Why a run that wants a mirror has none.
    pub(super) without_mirror: Option<MirrorReport>,
}

/// What is known once the rows were compared.
struct Compared {
    found: Comparison,
    decider: Decider,
    cursor: Option<Cursor>,
    ahead: Option<Ahead>,
    full: bool,
    mirror: Option<MirrorRun>,
    without_mirror: Option<MirrorReport>,
}

impl Session<'_> {
    /// Reads the source once and compares. Afterwards the source is released. `takes_plain`: whether plain values of traits
    /// with these names are needed as text only.
    pub(super) async fn phase(
        &self,
        start: RunStart,
        previous: PreviousRun,
        reader: &mut dyn Reader,
        takes_plain: impl Fn(&[&str]) -> bool + Send,
    ) -> Result<ComparisonPhase> {
        let interrupted = {
            let work = self.read_and_compare(&start, &previous, reader, takes_plain);
            tokio::pin!(work);
            tokio::select! {
                done = &mut work => Some(done),
                () = self.stopped() => None,
            }
        };
        let done = interrupted.unwrap_or_else(|| {
            reader.interrupt();
            Err(Error::new(Kind::Interrupted, "stopped before anything was sent"))
        });
        let released = reader.release().await;
        let Compared { found, decider, cursor, ahead, full, mirror, without_mirror } = done?;
        released?;
        self.monitor.note(Event::Compared(&found));
        let decider = Arc::new(decider);
        Ok(ComparisonPhase {
            run: start.run,
            started_at: start.started_at,
            previous,
            full,
            found,
            decider,
            cursor,
            ahead,
            mirror,
            without_mirror,
        })
    }

    async fn read_and_compare(
        &self,
        start: &RunStart,
        previous: &PreviousRun,
        reader: &mut dyn Reader,
        takes_plain: impl Fn(&[&str]) -> bool + Send,
    ) -> Result<Compared> {
        let mapping = self.mapping;
        let (restriction, full) = self.restriction(previous, start.started_at)?;
        let mut projection = compile::projection(mapping, restriction);
        let scope = CompareOptions {
            salt: self.fingerprint.to_owned(),
            missing: match (&self.options.group, full) {
                (Some(groups), _) => MissingScope::Only(groups.to_vec()),
                (None, true) => MissingScope::All,
                (None, false) => MissingScope::None,
            },
            retry_rejected: self.options.retry_rejected,
            act_on_missing: mapping.policy.on_missing != OnMissing::Keep,
        };
        let is_whole = full && projection.restriction.is_none() && projection.cursor.is_none();
        let mut without_mirror = None;
        let mirrored = self.read_through_mirror(reader, &projection, is_whole, &mut without_mirror).await?;
        // Who requests the whole model has a reason to.
        let memory = if is_whole && mirrored.is_none() && !self.options.full && reader.sums_rows() {
            Some(self.remembered(&scope).await?)
        } else {
            None
        };
        let unchanged = match &memory {
            Some(memory) => self.still_unchanged(memory, reader.summary(&projection)).await?,
            None => None,
        };
        let (found, kinds, (cursor, ahead)) = if let Some(mirrored) = &mirrored {
            let (incoming, kinds) = mirrored.rows.incoming();
            let found = self.ledger.compare(&mapping.name, incoming, &mirrored.options(scope)).await?;
            (mirrored.with_all(found), kinds, (None, None))
        } else if let Some(found) = unchanged {
            // No group is decided about, so what columns mean does not matter.
            (found, vec![ColumnType::Text; projection.columns.len()], (None, None))
        } else {
            projection.summed = memory.as_ref().is_some_and(Memory::wants_sums);
            let synced = if projection.summed { self.ledger.synced_summary(&mapping.name).await? } else { None };
            let rows = reader.read(&projection, &|rows| self.monitor.note(Event::Reading(rows))).await?;
            let (incoming, kinds) = rows.incoming();
            let (cursor, summary) = match &rows {
                Rows::Staged(staged) => ((staged.cursor.clone(), staged.ahead), staged.summary.clone()),
                Rows::Memory { .. } => ((None, None), None),
            };
            let found = self.ledger.compare(&mapping.name, incoming, &scope).await?;
            // A plan writes nothing.
            if let Some(memory) = memory.filter(|_| self.delivery.is_some()) {
                self.remember(memory, &found, summary.zip(synced)).await?;
            }
            (found, kinds, cursor)
        };
        let takes_plain = |plain: &PlainAssembly| takes_plain(&plain.names().collect::<Vec<_>>());
        let decider = Decider {
            plain: plain::assembly(mapping, &projection.columns, &kinds).filter(takes_plain),
            assembly: compile::assembly(mapping, &projection.columns, kinds),
            rules: Rules { overwrite_unknown: self.options.retry_rejected, ..compile::rules(mapping) },
            on_missing: mapping.policy.on_missing,
            retry_rejected: self.options.retry_rejected,
            at: start.started_at,
        };
        // Without new rows the cursor stays where it was.
        let cursor = cursor.map(Cursor::At).or_else(|| previous.cursor.clone());
        let full = full && self.options.group.is_none();
        let mirror = mirrored.map(MirroredRows::into_run);
        Ok(Compared { found, decider, cursor, ahead, full, mirror, without_mirror })
    }

    /// What a drop of rows is measured against.
    pub(super) fn rows_before(&self, phase: &ComparisonPhase) -> Option<u64> {
        phase.previous.rows.filter(|_| self.options.group.is_none())
    }

    /// Which part of the model's rows is read, and whether that is all of them.
    fn restriction(&self, previous: &PreviousRun, now: DateTime<Utc>) -> Result<(Option<Restriction>, bool)> {
        if let Some(groups) = &self.options.group {
            return Ok((Some(Restriction::Groups(groups.to_vec())), false));
        }
        let Some(incremental) = &self.mapping.incremental else { return Ok((None, true)) };
        // A time in the future was written by a clock that was ahead: how long ago that is cannot be told.
        let due = previous.full_read_at.is_none_or(|read_at| {
            now.signed_duration_since(read_at).to_std().map_or(true, |age| age >= incremental.full_every)
        });
        // Rejected groups, and those of a crashed run, may be before the cursor.
        let forced = self.options.full || self.options.retry_rejected || !previous.recovered.is_empty();
        match &previous.cursor {
            Some(Cursor::At(cursor)) if !due && !forced && !is_far_ahead(cursor, now) => {
                let from = cursor_minus(cursor, incremental.lookback)?;
                Ok((Some(Restriction::CursorFrom(from)), false))
            }
            _ => Ok((None, true)),
        }
    }
}

/// A cursor's text some time earlier. Understands integers (seconds are subtracted as they are) and ISO timestamps.
fn cursor_minus(cursor: &str, lookback: Duration) -> Result<String> {
    if let Ok(int) = cursor.parse::<i64>() {
        return Ok(int.saturating_sub(lookback.as_secs() as i64).to_string());
    }
    let lookback = chrono::TimeDelta::from_std(lookback).unwrap_or(chrono::TimeDelta::MAX);
    let is_date = chrono::NaiveDate::parse_from_str(cursor, "%Y-%m-%d").is_ok();
    let earlier = time_of(cursor).and_then(|(at, zoned)| {
        let from = at.checked_sub_signed(lookback)?;
        if is_date {
            // The first day that begins at or after it: not every warehouse compares a date with a time.
            let is_midnight = from.time() == chrono::NaiveTime::MIN;
            let day = if is_midnight { Some(from.date_naive()) } else { from.date_naive().succ_opt() };
            return Some(day?.format("%Y-%m-%d").to_string());
        }
        let zone = if zoned { "+00" } else { "" };
        Some(format!("{}{zone}", from.format("%Y-%m-%d %H:%M:%S%.6f")))
    });
    earlier.ok_or_else(|| {
        Error::new(Kind::Config, "the cursor column holds something that is no timestamp, date or integer")
            .advise("choose another `cursor` under [incremental], or run once with `--full`")
    })
}

/// A cursor that is a time, and whether it has a zone.
fn time_of(cursor: &str) -> Option<(DateTime<Utc>, bool)> {
    if let Ok(zoned) = DateTime::parse_from_str(cursor, "%Y-%m-%d %H:%M:%S%.f%#z") {
        return Some((zoned.to_utc(), true));
    }
    let naive = chrono::NaiveDateTime::parse_from_str(cursor, "%Y-%m-%d %H:%M:%S%.f").or_else(|_| {
        chrono::NaiveDate::parse_from_str(cursor, "%Y-%m-%d").map(|date| date.and_time(chrono::NaiveTime::MIN))
    });
    naive.ok().map(|naive| (naive.and_utc(), false))
}

/// Whether a checkpoint lies further in the future than zones and clocks explain. Nothing new would ever lie behind it:
/// earlier versions took such values over.
fn is_far_ahead(cursor: &str, now: DateTime<Utc>) -> bool {
    time_of(cursor).is_some_and(|(at, _)| at.signed_duration_since(now) > chrono::TimeDelta::days(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_of_the_far_future_are_told_apart() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        for (cursor, expected) in [
            ("9999-12-31 00:00:00.000000+00", true),
            ("9999-12-31", true),
            ("2027-01-17 09:00:00", true),
            ("2027-01-16 08:00:00+00", false),
            ("2027-01-15", false),
            ("99999999999", false),
            ("zebra", false),
        ] {
            assert_eq!(is_far_ahead(cursor, now), expected, "{cursor}");
        }
    }

    #[test]
    fn a_cursor_goes_back_in_its_own_notation() {
        let hour = Duration::from_secs(3600);
        assert_eq!(cursor_minus("7200", hour).unwrap(), "3600");
        assert_eq!(cursor_minus("2024-05-06 01:00:00.25", hour).unwrap(), "2024-05-06 00:00:00.250000");
        assert_eq!(cursor_minus("2024-05-06 01:00:00+00", hour).unwrap(), "2024-05-06 00:00:00.000000+00");
        assert_eq!(cursor_minus("2024-05-06", hour).unwrap(), "2024-05-06");
        assert_eq!(cursor_minus("2024-05-06", 24 * hour).unwrap(), "2024-05-05");
        assert!(cursor_minus("yesterday", hour).is_err());
    }
}
