//! What would ThriveStack do? The Group API's documented rules: an array that is taken or refused as a whole.

use serde_json::{Value, json};

use super::group_server::{Answer, Groups, Received, Rules, answer};

pub(crate) struct Vendor {
    key: String,
    /// Whether it takes the one object of the first documentation instead of an array.
    single: bool,
    pub(crate) groups: Groups,
    /// The user that each group was last said with.
    pub(crate) users: std::collections::BTreeMap<String, String>,
    /// What it says with every success.
    pub(crate) warnings: Vec<Value>,
    /// A group that makes a request a 400.
    pub(crate) poison: Option<String>,
    /// A group that makes a request a 200 that is no success.
    pub(crate) sour: Option<String>,
    answers: u64,
}

impl Vendor {
    pub(crate) fn new(key: &str, single: bool) -> Vendor {
        Vendor {
            key: key.to_owned(),
            single,
            groups: Groups::new(),
            users: Default::default(),
            warnings: Vec::new(),
            poison: None,
            sour: None,
            answers: 0,
        }
    }

    fn says(&mut self, status: u16, message: &str) -> Answer {
        self.answers += 1;
        let id = format!("resp-{}", self.answers);
        let mut body = json!({"success": status == 200, "response_id": id, "message": message});
        if status == 200 && !self.warnings.is_empty() {
            body["warnings"] = Value::Array(self.warnings.clone());
        }
        answer(status, body.to_string())
    }
}

fn sound(group: &Value) -> bool {
    const KEYS: [&str; 5] = ["group_id", "user_id", "traits", "timestamp", "context"];
    let filled = |key: &str| group[key].as_str().is_some_and(|text| !text.is_empty());
    let moment = group["timestamp"].as_str().is_some_and(|text| chrono::DateTime::parse_from_rfc3339(text).is_ok());
    // The documentation of 2025 required both.
    let legacy = group["traits"]["group_type"].is_string() && group["context"]["group_id"] == group["group_id"];
    group.as_object().is_some_and(|object| object.keys().all(|key| KEYS.contains(&key.as_str())))
        && filled("group_id")
        && filled("user_id")
        && moment
        && legacy
}

impl Rules for Vendor {
    fn take(&mut self, request: &Received) -> Answer {
        if request.method != "POST" || request.path != "/api/group" {
            return answer(404, "not found");
        }
        if request.header("x-api-key") != self.key {
            return self.says(401, "invalid api key");
        }
        let parsed: Option<Value> = serde_json::from_slice(&request.body).ok();
        let groups = match (parsed, self.single) {
            (Some(Value::Array(groups)), false) => groups,
            (Some(group @ Value::Object(_)), true) => vec![group],
            _ => return self.says(400, "invalid request body"),
        };
        if groups.len() > 1_000 || request.body.len() > 2_000_000 {
            return self.says(400, "too many group events or payload too large");
        }
        if !groups.iter().all(sound) {
            return self.says(400, "missing required fields");
        }
        let holds =
            |id: &Option<String>| id.as_ref().is_some_and(|id| groups.iter().any(|one| one["group_id"] == **id));
        if holds(&self.poison) {
            return self.says(400, "invalid traits");
        }
        if holds(&self.sour) {
            return answer(200, r#"{"success":false,"response_id":"resp-sour","message":"could not be processed"}"#);
        }
        for group in groups {
            let id = group["group_id"].as_str().unwrap_or_default().to_owned();
            let traits = group["traits"].as_object().cloned().unwrap_or_default();
            self.users.insert(id.clone(), group["user_id"].as_str().unwrap_or_default().to_owned());
            self.groups.entry(id).or_default().extend(traits);
        }
        self.says(200, "accepted")
    }
}
