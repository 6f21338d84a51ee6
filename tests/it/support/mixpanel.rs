//! What would Mixpanel's group profile API do? Its documented rules, with strict validation and without, and the
//! profiles.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Number, Value, json};

use super::stand_in::{Answer, Api, Received};

/// Group key and id → properties.
pub(crate) type Profiles = BTreeMap<(String, String), Map<String, Value>>;

#[derive(Default)]
pub(crate) struct Mixpanel {
    /// The token of the one project there is; updates with another one are taken and go nowhere.
    pub(crate) token: String,
    /// Larger bodies are answered with 413.
    pub(crate) body_bytes_max: usize,
    /// Groups whose updates are never valid.
    pub(crate) poison: BTreeSet<String>,
    /// Whether one bad update is reported as the failure of all of them, in a 200.
    pub(crate) fails_in_a_200: bool,
    pub(crate) profiles: Profiles,
}

/// One update, checked.
struct Update {
    token: String,
    profile: (String, String),
    operation: (String, Value),
}

impl Mixpanel {
    pub(crate) fn new(token: &str) -> Mixpanel {
        Mixpanel { token: token.to_owned(), body_bytes_max: 10_000_000, ..Mixpanel::default() }
    }

    /// The properties of the groups of one key, by id.
    pub(crate) fn groups(&self, group_key: &str) -> BTreeMap<String, Map<String, Value>> {
        let of_key = self.profiles.iter().filter(|((key, _), _)| key == group_key);
        of_key.map(|((_, id), properties)| (id.clone(), properties.clone())).collect()
    }

    fn check(&self, update: &Value) -> Result<Update, String> {
        if update.to_string().len() > 1_000_000 {
            return Err("the update is larger than 1 MB".to_owned());
        }
        let mut fields = update.as_object().ok_or("not an object")?.clone();
        let mut text = |name: &str| match fields.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text),
            _ => Err(format!("{name} is missing or empty")),
        };
        let (token, key, id) = (text("$token")?, text("$group_key")?, text("$group_id")?);
        let mut operations = fields.into_iter();
        let (Some((operator, value)), None) = (operations.next(), operations.next()) else {
            return Err("an update has one operation".to_owned());
        };
        let sound = match (operator.as_str(), &value) {
            ("$set" | "$set_once", Value::Object(properties)) => !properties.is_empty() && properties.len() <= 255,
            ("$union", Value::Object(lists)) => lists.values().all(|list| {
                list.as_array().is_some_and(|items| {
                    !items.is_empty() && items.iter().all(|item| item.is_string() || item.is_number())
                })
            }),
            ("$unset", Value::Array(names)) => !names.is_empty() && names.iter().all(Value::is_string),
            ("$delete", Value::String(nothing)) => nothing.is_empty(),
            _ => false,
        };
        if !sound || self.poison.contains(&id) {
            return Err(format!("{operator} is not valid"));
        }
        Ok(Update { token, profile: (key, id), operation: (operator, value) })
    }

    fn carry_out(&mut self, Update { token, profile, operation: (operator, value) }: Update) {
        if token != self.token {
            return;
        }
        if operator == "$delete" {
            self.profiles.remove(&profile);
            return;
        }
        let held = self.profiles.entry(profile).or_default();
        match value {
            Value::Array(names) => {
                names.iter().filter_map(Value::as_str).for_each(|name| drop(held.remove(name)));
            }
            Value::Object(properties) => {
                for (name, value) in properties {
                    match (operator.as_str(), held.get_mut(&name)) {
                        ("$set", _) | ("$set_once", None) => drop(held.insert(name, kept(value))),
                        ("$union", None) => drop(held.insert(name, united(Vec::new(), value))),
                        ("$union", Some(Value::Array(items))) => {
                            let items = std::mem::take(items);
                            held.insert(name, united(items, value));
                        }
                        // `$set_once` of what is set, `$union` with what is no list: nothing happens, silently.
                        _ => {}
                    }
                }
            }
            _ => unreachable!("checked before"),
        }
    }
}

fn united(mut items: Vec<Value>, more: Value) -> Value {
    for item in more.as_array().unwrap().iter().map(|item| kept(item.clone())) {
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Value::Array(items)
}

/// A value as it is kept: numbers as doubles, strings cut after 255 bytes.
fn kept(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let double: f64 = number.to_string().parse().unwrap();
            Value::Number(Number::from_string_unchecked(double.to_string()))
        }
        Value::String(text) => {
            let end = (0..=text.len().min(255)).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            Value::from(&text[..end])
        }
        Value::Array(items) => items.into_iter().map(kept).collect(),
        Value::Object(members) => members.into_iter().map(|(name, member)| (name, kept(member))).collect(),
        other => other,
    }
}

impl Api for Mixpanel {
    fn take(&mut self, request: &Received) -> Answer {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        if (request.method.as_str(), path) != ("POST", "/groups") {
            return Answer::new(404, "not found");
        }
        if request.body.len() > self.body_bytes_max {
            return Answer::new(413, "request too large");
        }
        let strict = query.split('&').any(|flag| flag == "strict=1");
        let verbose = query.split('&').any(|flag| flag == "verbose=1");
        let simple = |success: bool, error: Value| match verbose {
            true => Answer::new(200, json!({"status": u8::from(success), "error": error})),
            false => Answer::new(200, u8::from(success)),
        };
        let parsed: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let Some(updates) = parsed.as_array().filter(|updates| (1..=2_000).contains(&updates.len())) else {
            return simple(false, json!("data, missing or empty"));
        };
        let (mut right, mut wrong) = (Vec::new(), Vec::new());
        for (index, update) in updates.iter().enumerate() {
            match self.check(update) {
                Ok(update) => right.push(update),
                Err(message) => wrong.push(json!({"index": index, "message": message})),
            }
        }
        if self.fails_in_a_200 && !wrong.is_empty() {
            return simple(false, json!("some data objects are not valid"));
        }
        let imported = right.len();
        right.into_iter().for_each(|update| self.carry_out(update));
        if !strict {
            // What is wrong among what is right is dropped without a word.
            return simple(imported > 0, if imported > 0 { Value::Null } else { json!("no valid data") });
        }
        if wrong.is_empty() {
            return Answer::new(200, json!({"code": 200, "num_records_imported": imported, "status": "OK"}));
        }
        let error = "Some data points in the request failed validation.";
        let body = json!({"code": 400, "error": error, "status": "Bad Request", "num_records_imported": imported,
            "failed_records": wrong});
        Answer::new(400, body)
    }
}
