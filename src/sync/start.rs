//! The start of a run: its id, its target, and whether that is still the one it was.

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, Utc};

use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::io::Random;
use crate::ledger::{PreviousRun, RunStart};
use crate::mapping::Mapping;

/// A new run's id: its time, and a suffix to distinguish runs. Ids sort after `latest`, the greatest so far,
/// also when the clock was set back or several runs begin at once: the last run is found by them.
pub fn run_id(now: DateTime<Utc>, latest: Option<&str>, random: &Random) -> String {
    let time = |id: &str| {
        let time = NaiveDateTime::parse_from_str(id.split('-').next()?, RUN_TIME).ok()?;
        time.and_utc().checked_add_signed(TimeDelta::milliseconds(1))
    };
    // Years of other than four digits would sort wrongly; no clock that shows one is right.
    let now = if (1970..10_000).contains(&now.year()) { now } else { DateTime::UNIX_EPOCH };
    let at = latest.and_then(time).map_or(now, |after| after.max(now));
    format!("{}-{:04x}", at.format(RUN_TIME), random.up_to(0xffff))
}

/// The format of the time in a run's id.
const RUN_TIME: &str = "%Y%m%dT%H%M%S%.3fZ";

/// Where a run sent its groups, and as which type, from [`RunStart::mapping`]; none where an older version recorded it.
pub fn target_of(mapping: &str) -> Option<(String, String)> {
    let about: serde_json::Value = serde_json::from_str(mapping).ok()?;
    Some((about[3][0].as_str()?.to_owned(), about[3][1].as_str()?.to_owned()))
}

impl Session<'_> {
    /// What the run is about: a cursor of an earlier run goes on only if all of this is the same.
    fn about(&self) -> String {
        let Mapping { source, incremental, .. } = self.mapping;
        let cursor = incremental.as_ref().map(|incremental| &incremental.cursor);
        serde_json::json!([self.fingerprint, source, cursor, self.target()]).to_string()
    }

    /// Whom the documents of this sync are sent to.
    pub(super) fn target(&self) -> [&str; 2] {
        [&self.mapping.destination, &self.mapping.group_type]
    }

    /// What is known was sent to one destination as groups of one type. With another of either it would be taken for
    /// what the new one holds, and nothing would be sent there.
    pub(super) async fn check_target(&self) -> Result<()> {
        let sync = &self.mapping.name;
        let Some(last) = self.ledger.history().runs(Some(sync), None, 1).await?.pop() else { return Ok(()) };
        let Some((destination, group_type)) = target_of(&last.mapping) else { return Ok(()) };
        let (destination, group_type) = (destination.as_str(), group_type.as_str());
        if self.target() == [destination, group_type] || self.ledger.history().group_counts(sync).await?.is_empty() {
            return Ok(());
        }
        let [now_to, now_as] = self.target();
        let what = format!(
            "`{sync}` was sent to `{destination}` as `{group_type}` so far, and the mapping now says `{now_to}` as `{now_as}`"
        );
        Err(Error::new(Kind::Config, what).advise(format!(
            "to send everything there, forget what the old one holds: `groupcast ledger reset {sync} --forget`; if only \
             the name changed, keep it: `groupcast ledger adopt {sync}`; to feed both, copy the mapping to another file"
        )))
    }

    pub(super) async fn begin(&self) -> Result<(RunStart, PreviousRun)> {
        let start = self.start().await?;
        let previous = self.ledger.begin(&start).await?;
        Ok((start, previous))
    }

    pub(super) async fn start(&self) -> Result<RunStart> {
        let now = self.clock.now();
        let run = match &self.origin.run {
            Some(run) => run.clone(),
            None => {
                let latest = self.ledger.history().runs(None, None, 1).await?.pop();
                run_id(now, latest.as_ref().map(|run| run.run.as_str()), self.random)
            }
        };
        Ok(RunStart {
            sync: self.mapping.name.clone(),
            run,
            mapping: self.about(),
            traits: self.mapping.traits.iter().map(|mapped| mapped.name.clone()).collect(),
            started_at: now,
            started_by: self.origin.started_by.clone(),
            partial: self.options.is_partial(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_runs_only_ever_grow() {
        let random = Random::seeded(7);
        let now = DateTime::from_timestamp(1_800_000_000, 123_000_000).unwrap();
        let mut latest = run_id(now, None, &random);
        assert!(latest.starts_with("20270115T080000.123Z-"), "{latest}");
        // At one time, and with the clock set back by a year.
        for now in [now, now, now - TimeDelta::days(365), now] {
            let next = run_id(now, Some(&latest), &random);
            assert!(next > latest, "{next} after {latest}");
            latest = next;
        }
        let later = now + TimeDelta::seconds(5);
        assert!(run_id(later, Some(&latest), &random).starts_with("20270115T080005.123Z-"));
        assert!(run_id(now, Some("run-0007"), &random).starts_with("20270115T080000.123Z-"), "nobody's id");
        // A clock that was ahead once, and one that shows no possible time.
        let ahead = run_id(now + TimeDelta::days(30_000), Some(&latest), &random);
        assert!(ahead > latest && run_id(now, Some(&ahead), &random) > ahead);
        for impossible in [DateTime::<Utc>::MAX_UTC, DateTime::<Utc>::MIN_UTC] {
            assert!(run_id(impossible, Some(&ahead), &random) > ahead);
        }
    }
}
