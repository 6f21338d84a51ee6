//! What would Segment do, and RudderStack, Customer.io, Dittofeed, Accoil and Jitsu? Their real rules, silent drops included.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::group_server::{Answer, Groups, Received, Rules, answer};

/// The protocol's speakers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Segment,
    RudderStack,
    CustomerIo,
    Dittofeed,
    Accoil,
    Jitsu,
}

/// A source at one of them.
pub(crate) struct Vendor {
    kind: Kind,
    /// The `Authorization` header (Jitsu: the `X-Write-Key`) that it knows.
    shown: String,
    pub(crate) groups: Groups,
    /// Group id of every message that was accepted and dropped, and why.
    pub(crate) dropped: Vec<(String, &'static str)>,
    /// The clock that the memory of message ids goes by.
    pub(crate) hour: u64,
    seen: BTreeMap<String, u64>,
    /// Groups that a validation we do not know of refuses.
    pub(crate) poison: BTreeSet<String>,
    /// Largest body.
    pub(crate) body_bytes_max: usize,
}

/// What a message is dropped for.
const TOO_LARGE: &str = "message above 32 KB";
const TOO_MANY: &str = "batch above 2,500";
const NOBODY: &str = "neither userId nor anonymousId";
const DUPLICATE: &str = "messageId seen within 24 hours";
const WRONG_KEY: &str = "unknown write key";

impl Vendor {
    pub(crate) fn new(kind: Kind, shown: &str) -> Vendor {
        let body_bytes_max = match kind {
            Kind::RudderStack => 4_000 * 1_024,
            Kind::Dittofeed => 5 * 1_024 * 1_024,
            _ => 500 * 1_024,
        };
        Vendor {
            kind,
            shown: shown.to_owned(),
            groups: Groups::new(),
            dropped: Vec::new(),
            hour: 0,
            seen: BTreeMap::new(),
            poison: BTreeSet::new(),
            body_bytes_max,
        }
    }

    /// Merges a message's traits; a null replaces like any value.
    fn apply(&mut self, message: &Value) {
        let group = self.groups.entry(id(message)).or_default();
        if let Some(traits) = message["traits"].as_object() {
            group.extend(traits.clone());
        }
    }

    /// Drops or applies, and says yes either way.
    fn permissive(&mut self, messages: &[Value], known: bool) {
        for message in messages {
            let written = serde_json::to_string(message).unwrap().len();
            let fresh = match message["messageId"].as_str() {
                Some(id) => self.seen.get(id).is_none_or(|hour| self.hour - hour >= 24),
                None => true,
            };
            let why = match () {
                () if !known => WRONG_KEY,
                () if messages.len() > 2_500 => TOO_MANY,
                () if written > 32 * 1_024 => TOO_LARGE,
                () if !has_identity(message) && self.kind != Kind::Accoil => NOBODY,
                () if !fresh => DUPLICATE,
                () => {
                    if let Some(id) = message["messageId"].as_str() {
                        self.seen.insert(id.to_owned(), self.hour);
                    }
                    self.apply(message);
                    continue;
                }
            };
            self.dropped.push((id(message), why));
        }
    }
}

fn id(message: &Value) -> String {
    message["groupId"].as_str().unwrap_or_default().to_owned()
}

fn has_identity(message: &Value) -> bool {
    ["userId", "anonymousId"].iter().any(|key| message[*key].as_str().is_some_and(|id| !id.is_empty()))
}

impl Rules for Vendor {
    fn take(&mut self, request: &Received) -> Answer {
        let (path, header) = match self.kind {
            Kind::Segment | Kind::RudderStack | Kind::CustomerIo => ("/v1/batch", "authorization"),
            Kind::Dittofeed => ("/api/public/apps/batch", "authorization"),
            Kind::Accoil => ("/v2/group", "authorization"),
            Kind::Jitsu => ("/api/s/s2s/group", "x-write-key"),
        };
        let alone = self.kind == Kind::Segment && request.path == "/v1/group";
        if request.method != "POST" || !alone && request.path != path {
            return answer(404, "404 page not found");
        }
        let known = request.header(header) == self.shown;
        let large = request.body.len() > self.body_bytes_max;
        let parsed: Option<Value> = serde_json::from_slice(&request.body).ok();
        let parsed = parsed.filter(|_| request.header("content-type").starts_with("application/json"));
        let batch = match alone {
            true => parsed.clone().map(|message| vec![message]),
            false => parsed.as_ref().and_then(|body| body["batch"].as_array()).cloned(),
        };
        match (self.kind, parsed, batch) {
            (Kind::Segment, _, _) if large => answer(400, r#"{"success":false,"message":"Exceeds max request size"}"#),
            (Kind::Segment, _, None) => answer(400, r#"{"success":false,"message":"malformed JSON"}"#),
            (Kind::Segment, _, Some(batch)) => {
                self.permissive(&batch, known);
                answer(200, r#"{"success":true}"#)
            }
            (Kind::RudderStack, ..) if request.header("authorization").is_empty() => {
                answer(401, "failed to read writekey from header")
            }
            (Kind::RudderStack, ..) if !known => answer(401, "invalid write key"),
            (Kind::RudderStack, ..) if large => answer(413, "request size exceeds max limit"),
            (Kind::RudderStack, _, None) => answer(400, "invalid json"),
            (Kind::RudderStack, _, Some(batch)) if batch.is_empty() => answer(400, "empty batch payload"),
            (Kind::RudderStack, _, Some(batch)) => {
                if batch.iter().any(|message| !has_identity(message)) {
                    return answer(400, "request neither has anonymousId nor userId");
                }
                if batch.iter().any(|message| self.poison.contains(&id(message))) {
                    return answer(400, "invalid json");
                }
                batch.iter().for_each(|message| self.apply(message));
                answer(200, "OK")
            }
            (Kind::CustomerIo, _, batch) => {
                let strict = request.header("x-strict-mode") == "1";
                let batch = batch.unwrap_or_default();
                if strict && !known {
                    return answer(401, r#"{"error":"unauthorized"}"#);
                }
                let sound = |message: &Value| {
                    !id(message).is_empty() && serde_json::to_string(message).unwrap().len() <= 32 * 1_024
                };
                let bad = batch.iter().any(|message| !sound(message) || self.poison.contains(&id(message)));
                if strict && (large || bad || batch.is_empty()) {
                    return answer(400, r#"{"error":"validation failed"}"#);
                }
                if known && !bad && !large {
                    batch.iter().for_each(|message| self.apply(message));
                } else {
                    self.dropped.extend(batch.iter().map(|message| (id(message), WRONG_KEY)));
                }
                answer(200, r#"{"success":true}"#)
            }
            (Kind::Dittofeed, ..) if !known => answer(401, r#"{"message":"Invalid write key."}"#),
            (Kind::Dittofeed, ..) if large => answer(413, r#"{"code":"FST_ERR_CTP_BODY_TOO_LARGE"}"#),
            (Kind::Dittofeed, _, batch) => {
                let sound = |message: &Value| {
                    message["type"] == "group"
                        && message["messageId"].is_string()
                        && message["groupId"].is_string()
                        && has_identity(message)
                };
                let Some(batch) = batch.filter(|batch| batch.iter().all(sound)) else {
                    return answer(400, r#"{"statusCode":400,"code":"FST_ERR_VALIDATION","error":"Bad Request"}"#);
                };
                batch.iter().for_each(|message| self.apply(message));
                answer(204, "")
            }
            (Kind::Accoil, parsed, _) => {
                self.permissive(&[parsed.unwrap_or_default()], known);
                answer(202, "")
            }
            (Kind::Jitsu, ..) if !known => answer(401, r#"{"ok":false,"error":"invalid write key"}"#),
            (Kind::Jitsu, parsed, _) => {
                self.permissive(&[parsed.unwrap_or_default()], known);
                answer(200, r#"{"ok":true}"#)
            }
        }
    }
}
