//! A receiver of webhooks as an operator would write one: checks the signature, remembers ids, keeps groups.

use std::collections::BTreeSet;

use groupcast::destination::AddressedChange;
use groupcast::model::Change;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::stand_in::{Answer, Api, Groups, Received, carry_out};

#[derive(Default)]
pub(crate) struct Hook {
    /// The method and target it listens to.
    pub(crate) at: (String, String),
    /// The secret that requests must be signed with.
    pub(crate) secret: Option<String>,
    /// What `authorization` must be.
    pub(crate) authorization: Option<String>,
    /// Whether it ignores ids it has seen.
    pub(crate) remembers: bool,
    /// Larger bodies are answered with 413.
    pub(crate) body_bytes_max: usize,
    /// Groups that make a whole request fail.
    pub(crate) poison: BTreeSet<String>,
    /// Whether such a failure is a 200 with `{"ok":false}`.
    pub(crate) fails_in_a_200: bool,
    pub(crate) groups: Groups,
    pub(crate) ids: BTreeSet<String>,
    /// Changes that were ignored because their id was known.
    pub(crate) repetitions: usize,
}

impl Hook {
    pub(crate) fn new(method: &str, target: &str) -> Hook {
        Hook { at: (method.to_owned(), target.to_owned()), body_bytes_max: 1_000_000, ..Hook::default() }
    }

    /// The recipe of docs/destinations.md, from a receiver's side.
    fn is_signed(&self, request: &Received) -> bool {
        let Some(secret) = &self.secret else { return true };
        let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
        let signed = [header("x-groupcast-timestamp").as_bytes(), b".", &request.body].concat();
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(&signed);
        let hex = header("x-groupcast-signature").strip_prefix("v1=").unwrap_or_default();
        let bytes: Option<Vec<u8>> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(hex.get(at * 2..at * 2 + 2)?, 16).ok()).collect();
        header("x-groupcast-timestamp").parse::<i64>().is_ok() && mac.verify_slice(&bytes.unwrap_or_default()).is_ok()
    }

    fn carry_out(&mut self, mut line: Value) {
        let fields = line.as_object_mut().unwrap();
        let mut text = |name: &str| fields.remove(name).unwrap().as_str().unwrap().to_owned();
        let (id, key, group_type, at) = (text("id"), text("key"), text("group_type"), text("at"));
        assert!(group_type == "company" && at.ends_with('Z') && id.len() == 36, "{group_type} {at} {id}");
        fields.remove("user");
        if self.remembers && !self.ids.insert(id) {
            self.repetitions += 1;
            return;
        }
        let change: Change = serde_json::from_value(line).unwrap();
        carry_out(&mut self.groups, &AddressedChange { key, change: change.into(), ..AddressedChange::default() });
    }
}

impl Api for Hook {
    fn take(&mut self, request: &Received) -> Answer {
        if (&request.method, &request.target) != (&self.at.0, &self.at.1) {
            return Answer::new(404, "nobody here");
        }
        if !self.is_signed(request) {
            return Answer::new(401, "bad signature");
        }
        if self.authorization.is_some() && request.headers.get("authorization") != self.authorization.as_ref() {
            return Answer::new(403, "who are you?");
        }
        if request.body.len() > self.body_bytes_max {
            return Answer::new(413, "too much");
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let changes = match body.get("changes") {
            Some(changes) => changes.as_array().unwrap().clone(),
            None => vec![body],
        };
        if changes.iter().any(|change| self.poison.contains(change["key"].as_str().unwrap())) {
            let status = if self.fails_in_a_200 { 200 } else { 422 };
            return Answer::new(status, json!({"ok": false}));
        }
        changes.into_iter().for_each(|change| self.carry_out(change));
        Answer::new(200, json!({"ok": true}))
    }
}
