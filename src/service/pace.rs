//! The pace of a run from its recent past: what it did in the last seconds says more about the next ones than the mean since
//! its start, which still contains the slow beginning, or the fast one before a destination throttled it.

use std::collections::VecDeque;
use std::time::Duration;

/// How far back the average reaches …
const WINDOW: Duration = Duration::from_secs(10);
/// … and over how many steps at least: a slow destination acknowledges a batch every few seconds, and one more or less in
/// the window would make the figure jump.
const STEPS_MIN: usize = 5;
/// The pace is unknown before so long.
const MEASURED_MIN: Duration = Duration::from_secs(1);

/// A moving average of how much is done per second.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// When how much was done, whenever that changed; the oldest is where the average begins.
    steps: VecDeque<(Duration, u64)>,
    now: Duration,
}

impl Pace {
    /// Takes in that so much is done at `at`, a time that only grows.
    pub fn record(&mut self, at: Duration, done: u64) {
        self.now = at;
        if self.steps.back().is_none_or(|(_, before)| *before != done) {
            self.steps.push_back((at, done));
        }
        while self.steps.len() > STEPS_MIN + 1
            && self.steps.get(1).is_some_and(|(second, _)| at.saturating_sub(*second) >= WINDOW)
        {
            self.steps.pop_front();
        }
    }

    /// How much is done per second; unknown at first.
    pub fn per_second(&self) -> Option<f64> {
        let ((began, before), (_, done)) = self.steps.front().zip(self.steps.back())?;
        let took = self.now.saturating_sub(*began);
        (took >= MEASURED_MIN && done > before).then(|| (done - before) as f64 / took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records `per_second` for each of so many seconds, in ten steps each.
    fn go(pace: &mut Pace, from: &mut (f64, f64), seconds: u32, per_second: f64) {
        for _ in 0..seconds * 10 {
            *from = (from.0 + 0.1, from.1 + per_second / 10.0);
            pace.record(Duration::from_secs_f64(from.0), from.1 as u64);
        }
    }

    fn assert_near(pace: &Pace, expected: f64) {
        let figure = pace.per_second().unwrap();
        assert!((figure - expected).abs() < expected * 0.03, "{figure} is not {expected}");
    }

    #[test]
    fn the_recent_pace_counts_and_not_the_mean_since_the_start() {
        let (mut pace, mut at) = (Pace::default(), (0.0, 0.0));
        pace.record(Duration::ZERO, 0);
        assert_eq!(pace.per_second(), None);
        go(&mut pace, &mut at, 60, 100.0);
        assert_near(&pace, 100.0);
        go(&mut pace, &mut at, 12, 5_000.0);
        assert_near(&pace, 5_000.0);
        go(&mut pace, &mut at, 12, 50.0);
        assert_near(&pace, 50.0);
        assert!(pace.steps.len() < 110, "only the window is kept");
    }

    #[test]
    fn a_batch_every_few_seconds_is_a_steady_pace() {
        let mut pace = Pace::default();
        pace.record(Duration::ZERO, 0);
        for second in 1..=120 {
            pace.record(Duration::from_secs(second), second / 4 * 1_000);
            if second > 30 {
                let figure = pace.per_second().unwrap();
                assert!((195.0..=255.0).contains(&figure), "{figure} after {second} s");
            }
        }
    }

    #[test]
    fn a_halt_makes_the_pace_fall() {
        let (mut pace, mut at) = (Pace::default(), (0.0, 0.0));
        go(&mut pace, &mut at, 20, 1_000.0);
        let before = pace.per_second().unwrap();
        pace.record(Duration::from_secs(40), 20_000);
        assert!(pace.per_second().unwrap() < before / 20.0);
    }
}
