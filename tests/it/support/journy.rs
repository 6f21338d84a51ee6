//! What would journy.io's REST API do? Its documented rules for accounts, the sliding hour's quota included.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use groupcast::io::Clock;
use serde_json::{Map, Value, json};

use super::clock::SimulatedClock;
use super::stand_in::{Answer, Api, Received};

const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) struct Journy {
    pub(crate) api_key: String,
    /// Whether the key was disabled.
    pub(crate) disabled: bool,
    /// Requests in any hour.
    pub(crate) quota: usize,
    /// Whether the answers say when the quota moves.
    pub(crate) tells_reset: bool,
    pub(crate) accounts: BTreeMap<String, Map<String, Value>>,
    clock: Arc<SimulatedClock>,
    taken_at: VecDeque<Duration>,
}

impl Journy {
    pub(crate) fn new(api_key: &str) -> Journy {
        Journy {
            api_key: api_key.to_owned(),
            disabled: false,
            quota: 5_000,
            tells_reset: false,
            accounts: BTreeMap::new(),
            clock: Arc::default(),
            taken_at: VecDeque::new(),
        }
    }

    /// Counts its hours by this clock.
    pub(crate) fn keep_time(&mut self, clock: Arc<SimulatedClock>) {
        self.clock = clock;
    }

    fn answer(&mut self, request: &Received) -> Answer {
        let message = |status: u16, text: &str| {
            Answer::new(status, json!({"meta": {"requestId": "r", "status": status}, "message": text}))
        };
        if request.headers.get("x-api-key") != Some(&self.api_key) {
            return message(401, "You are not authorized to perform this action.");
        }
        if self.disabled {
            return message(403, "This API key is disabled.");
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let wrong = |field: &str, problem: &str| {
            let errors = json!({"fields": {field: problem}, "parameters": {}});
            Answer::new(400, json!({"message": "The parameters are not correct.", "errors": errors}))
        };
        let Some(id) = body.pointer("/identification/accountId").and_then(Value::as_str).filter(|id| !id.is_empty())
        else {
            return wrong("identification.accountId", "is required");
        };
        match (request.method.as_str(), request.target.as_str()) {
            ("DELETE", "/accounts") => match self.accounts.remove(id) {
                Some(_) => message(200, "The account was deleted."),
                None => message(404, "The account does not exist."),
            },
            ("POST", "/accounts/upsert") => {
                let nothing = Map::new();
                let properties = body["properties"].as_object().unwrap_or(&nothing);
                for (name, value) in properties {
                    let texts = |items: &Vec<Value>| {
                        items.iter().all(|item| item.as_str().is_some_and(|text| !text.is_empty()))
                    };
                    if value.is_object() || value.as_array().is_some_and(|items| !texts(items)) {
                        return wrong(&format!("properties.{name}"), "must be a scalar or a list of texts");
                    }
                    // What their own support does by hand; stands for every rule nobody documents.
                    if value == "forbidden" {
                        return wrong(&format!("properties.{name}"), "is not allowed");
                    }
                }
                let account = self.accounts.entry(id.to_owned()).or_default();
                for (name, value) in properties {
                    match value {
                        Value::Null => drop(account.remove(name)),
                        value => drop(account.insert(name.clone(), value.clone())),
                    }
                }
                message(201, "The account was saved.")
            }
            _ => message(404, "There is no such endpoint."),
        }
    }
}

impl Api for Journy {
    fn take(&mut self, request: &Received) -> Answer {
        let now = self.clock.elapsed();
        while self.taken_at.front().is_some_and(|at| *at + HOUR <= now) {
            self.taken_at.pop_front();
        }
        let mut answer = if self.taken_at.len() >= self.quota {
            Answer::new(429, json!({"message": "Too many requests."}))
        } else {
            self.taken_at.push_back(now);
            self.answer(request)
        };
        let remaining = self.quota - self.taken_at.len();
        answer.headers.push(("X-RateLimit-Limit", self.quota.to_string()));
        answer.headers.push(("X-RateLimit-Remaining", remaining.to_string()));
        if self.tells_reset && remaining == 0 {
            let first = self.taken_at.front().map_or(now, |at| *at + HOUR);
            answer.headers.push(("X-RateLimit-Reset", (first - now).as_secs().to_string()));
        }
        answer
    }
}
