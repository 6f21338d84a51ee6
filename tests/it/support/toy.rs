//! A destination and a network small enough to predict: bodies are lines of `key|trait,trait`, and a function answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use groupcast::delivery::{ChangeRequest, DeliveryOutcome, Settle, SettledChange};
use groupcast::destination::{
    self, AddressedChange, Blame, Destination, Element, Features, Part, RequestLimits, Route, UserRule, Verdict,
};
use groupcast::error::{Error, Kind, Result};
use groupcast::io::Clock;
use groupcast::io::http::CallLimits;
use groupcast::io::http::Transport;
use groupcast::io::http::{Applied, NoResponse, Request, Response};
use groupcast::model::{Change, OnNull, Op};
use groupcast::secret::Secret;
use parking_lot::{Mutex, MutexGuard};

use super::clock::SimulatedClock;

/// A destination that takes set traits in parts of `per_part` on route 0, and each removal alone on route 1.
pub(crate) struct Toy {
    pub(crate) limits: RequestLimits,
    pub(crate) per_part: usize,
    pub(crate) repeatable: bool,
}

impl Default for Toy {
    fn default() -> Toy {
        let limits = RequestLimits {
            elements_max: 10,
            traits_max: 1_000,
            body_bytes_max: 100_000,
            element_bytes_max: 10_000,
            envelope_bytes: 2,
            separator_bytes: 1,
        };
        Toy { limits, per_part: 100, repeatable: true }
    }
}

impl Destination for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn features(&self) -> Features {
        Features {
            ops: &[Op::Set],
            on_null: &[OnNull::Unset],
            delete: false,
            exact_numbers: true,
            objects: true,
            gzip: false,
            user: UserRule::Never,
        }
    }

    fn limits(&self, route: Route) -> RequestLimits {
        RequestLimits { elements_max: if route == 0 { self.limits.elements_max } else { 1 }, ..self.limits }
    }

    fn parts(&self, change: &AddressedChange) -> Result<Vec<Part>, String> {
        if change.key.starts_with("local") {
            return Err("refused without a request".to_owned());
        }
        let sets: Vec<_> = change.change.set.iter().collect();
        let sets = sets.chunks(self.per_part).map(|chunk| Part {
            route: 0,
            change: Change {
                set: chunk.iter().map(|(name, value)| ((*name).clone(), (*value).clone())).collect(),
                ..Change::default()
            }
            .into(),
        });
        let unsets = change.change.unset.iter().map(|name| Part {
            route: 1,
            change: Change { unset: BTreeSet::from([name.clone()]), ..Change::default() }.into(),
        });
        Ok(sets.chain(unsets).collect())
    }

    fn repeatable(&self, _: Route) -> bool {
        self.repeatable
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        let names: Vec<&str> = part.change.set.keys().chain(&part.change.unset).map(String::as_str).collect();
        format!("{}|{}", addressed.key, names.join(",")).into_bytes().into()
    }

    fn request(&self, route: Route, elements: &[&Element], _: destination::Attempt) -> Request {
        let mut body = b"[".to_vec();
        body.extend(elements.iter().map(|element| element.bytes.as_slice()).collect::<Vec<_>>().join(&b'\n'));
        body.push(b']');
        Request { method: "POST", url: format!("toy:{route}"), headers: Vec::new(), body, gzip: false }
    }

    fn interpret(&self, _: Route, _: usize, response: &Response) -> Verdict {
        let reason = format!("HTTP {}", response.status);
        match response.status {
            200 => Verdict::ACCEPTED,
            207 => {
                let body = String::from_utf8_lossy(&response.body).into_owned();
                let elements =
                    body.split(',').filter_map(|at| at.parse().ok()).map(|at| (at, reason.clone())).collect();
                Verdict::RejectedSome { elements }
            }
            400 => Verdict::Rejected { reason, applied: Applied::No },
            401 => Verdict::Stop { reason, advice: "check the key".to_owned(), blame: Blame::Us, applied: Applied::No },
            402 | 403 => {
                let blame = if response.status == 402 { Blame::Credentials } else { Blame::Unclear };
                Verdict::Stop { reason, advice: "check the door".to_owned(), blame, applied: Applied::No }
            }
            302 => {
                let advice = "check the address".to_owned();
                Verdict::Stop { reason, advice, blame: Blame::Unclear, applied: Applied::Maybe }
            }
            413 => Verdict::TooLarge { reason },
            429 | 503 => {
                let after =
                    response.header("retry-after").and_then(|value| value.parse().ok()).map(Duration::from_secs);
                Verdict::Retry { reason, after, applied: Applied::No }
            }
            _ => Verdict::Retry { reason, after: None, applied: Applied::Maybe },
        }
    }

    fn masked(&self, request: &Request) -> Request {
        request.clone()
    }

    fn secrets(&self) -> Vec<Secret> {
        Vec::new()
    }
}

/// One attempt, as the network sees it.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// How many attempts came before.
    pub(crate) number: usize,
    /// How often these very bytes came before.
    pub(crate) repeated: usize,
    pub(crate) at: Duration,
    pub(crate) url: String,
    pub(crate) bytes: usize,
    /// Keys and trait names.
    pub(crate) elements: Vec<(String, Vec<String>)>,
}

impl Attempt {
    pub(crate) fn keys(&self) -> Vec<&str> {
        self.elements.iter().map(|(key, _)| key.as_str()).collect()
    }
}

/// What the network does with an attempt.
pub(crate) struct Answer {
    pub(crate) after: Duration,
    pub(crate) apply: bool,
    pub(crate) response: Result<Response, NoResponse>,
}

/// An answer at once; 200 applies.
pub(crate) fn status(status: u16) -> Answer {
    Answer { after: Duration::ZERO, apply: status == 200, response: Ok(Response { status, ..Response::default() }) }
}

/// An answer with `Retry-After`.
pub(crate) fn throttled(seconds: u64) -> Answer {
    let headers = vec![("retry-after".to_owned(), seconds.to_string())];
    Answer { response: Ok(Response { status: 429, headers, body: Vec::new(), ..Response::default() }), ..status(429) }
}

/// No answer.
pub(crate) fn lost(applied: Applied, apply: bool) -> Answer {
    Answer { after: Duration::ZERO, apply, response: Err(NoResponse { applied, what: "lost".to_owned() }) }
}

/// The network: everything applied and attempted, and whatever should never happen.
pub(crate) struct World {
    clock: Arc<SimulatedClock>,
    behave: Box<dyn Fn(&Attempt) -> Answer + Send + Sync>,
    state: Mutex<Seen>,
}

#[derive(Default)]
pub(crate) struct Seen {
    /// Traits that were applied, ever.
    pub(crate) applied: BTreeSet<String>,
    pub(crate) attempts: Vec<Attempt>,
    /// The status that each attempt was answered with, by its number; nothing where it was not answered.
    pub(crate) statuses: BTreeMap<usize, u16>,
    bodies: BTreeMap<Vec<u8>, usize>,
    in_flight: BTreeMap<String, usize>,
    /// Keys that were in flight twice.
    pub(crate) overlaps: Vec<String>,
    pub(crate) in_flight_max: usize,
    requests_in_flight: usize,
}

impl World {
    pub(crate) fn new(
        clock: Arc<SimulatedClock>,
        behave: impl Fn(&Attempt) -> Answer + Send + Sync + 'static,
    ) -> World {
        World { clock, behave: Box::new(behave), state: Mutex::default() }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.state.lock()
    }
}

/// Takes keys out of flight, also when the attempt is dropped.
struct Landing<'a>(&'a World, Vec<String>);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut seen = self.0.seen();
        seen.requests_in_flight -= 1;
        for key in &self.1 {
            *seen.in_flight.entry(key.clone()).or_default() -= 1;
        }
    }
}

#[async_trait]
impl Transport for World {
    async fn send(&self, request: &Request, _: CallLimits) -> Result<Response, NoResponse> {
        let text = String::from_utf8(request.body.clone()).unwrap();
        let elements: Vec<(String, Vec<String>)> = text[1..text.len() - 1]
            .split('\n')
            .map(|line| {
                let (key, names) = line.split_once('|').unwrap();
                (key.to_owned(), names.split(',').map(str::to_owned).collect())
            })
            .collect();
        let (attempt, _landing) = {
            let mut seen = self.seen();
            let repeated = seen.bodies.entry(request.body.clone()).or_default();
            *repeated += 1;
            let attempt = Attempt {
                repeated: *repeated - 1,
                number: seen.attempts.len(),
                at: self.clock.elapsed(),
                url: request.url.clone(),
                bytes: request.body.len(),
                elements,
            };
            seen.attempts.push(attempt.clone());
            seen.requests_in_flight += 1;
            seen.in_flight_max = seen.in_flight_max.max(seen.requests_in_flight);
            for (key, _) in &attempt.elements {
                let count = seen.in_flight.entry(key.clone()).or_default();
                *count += 1;
                if *count > 1 {
                    seen.overlaps.push(key.clone());
                }
            }
            let keys = attempt.elements.iter().map(|(key, _)| key.clone()).collect();
            (attempt, Landing(self, keys))
        };
        let answer = (self.behave)(&attempt);
        if !answer.after.is_zero() {
            self.clock.sleep(answer.after).await;
        }
        if answer.apply {
            self.seen().applied.extend(attempt.elements.iter().flat_map(|(_, names)| names.clone()));
        }
        if let Ok(response) = &answer.response {
            self.seen().statuses.insert(attempt.number, response.status);
        }
        answer.response
    }
}

/// Keeps the outcomes, call by call.
#[derive(Default)]
pub(crate) struct RecordedOutcomes {
    pub(crate) calls: Mutex<Vec<Vec<(usize, DeliveryOutcome)>>>,
    /// The call (from 0) that fails.
    pub(crate) fails_at: Option<usize>,
    /// The requests that were kept of each change.
    pub(crate) requests: Mutex<Vec<(usize, Vec<ChangeRequest>)>>,
}

impl RecordedOutcomes {
    /// The outcome of every change; panics when one has none or two.
    pub(crate) fn all(&self, count: usize) -> Vec<DeliveryOutcome> {
        let mut all = vec![None; count];
        for (index, outcome) in self.calls.lock().iter().flatten() {
            assert_eq!(all[*index].replace(outcome.clone()), None, "change {index} has two outcomes");
        }
        all.into_iter()
            .enumerate()
            .map(|(index, outcome)| outcome.unwrap_or_else(|| panic!("{index} has no outcome")))
            .collect()
    }
}

#[async_trait]
impl Settle for RecordedOutcomes {
    async fn settle(&self, settled: Vec<SettledChange>) -> Result<()> {
        assert!(!settled.is_empty(), "nothing to settle");
        let mut calls = self.calls.lock();
        if self.fails_at == Some(calls.len()) {
            return Err(Error::new(Kind::Ledger, "disk full"));
        }
        calls.push(settled.iter().map(|change| (change.index, change.outcome.clone())).collect());
        drop(calls);
        self.requests.lock().extend(settled.into_iter().map(|change| (change.index, change.requests)));
        Ok(())
    }
}
