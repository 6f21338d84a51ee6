//! What came out of a test's run, by the kinds of expectation.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use crate::destination::Destination;
use crate::model::{Change, Document, document};
use crate::sync::decide::{Action, Decision};
use crate::sync::guard::Reading;
use crate::sync::requests::{self, RequestView};

/// What came out.
pub(super) struct Observed {
    /// What the destination holds of each group once everything that is sent is acknowledged.
    documents: Map<String, Value>,
    changes: Map<String, Value>,
    rejected: Map<String, Value>,
    requests: Vec<Value>,
    /// The guard that stops the run.
    pub(super) guard: Option<Reading>,
}

impl Observed {
    pub(super) fn starting_from(before: &[(String, Document)]) -> Observed {
        let documents = before.iter().map(|(key, document)| (key.clone(), Value::Object(document.0.clone()))).collect();
        Observed { documents, changes: Map::new(), rejected: Map::new(), requests: Vec::new(), guard: None }
    }

    /// Takes a page of decisions in.
    pub(super) fn add(&mut self, destination: &dyn Destination, page: &[Decision], now: DateTime<Utc>) {
        for decision in page {
            let key = decision.key.clone();
            match &decision.action {
                Action::Reject { reason, .. } => drop(self.rejected.insert(key, reason.as_str().into())),
                Action::Unchanged { after } => {
                    let document = after.clone().map(|after| after.document(&Change::default()));
                    self.hold(key, document);
                }
                Action::Send { change, after } => {
                    let document = after.clone().map(|after| after.document(change));
                    self.changes.insert(key.clone(), json!(change.as_ref()));
                    self.hold(key, document);
                }
                Action::SendPlain { document } => {
                    let document = Document::from_text(&document.text).unwrap_or_default();
                    self.changes.insert(key.clone(), json!({ "set": document.0 }));
                    self.hold(key, Some(document));
                }
            }
        }
        self.requests.extend(requests::of_page(destination, page, now).iter().map(request));
    }

    fn hold(&mut self, key: String, document: Option<Document>) {
        match document {
            Some(document) => drop(self.documents.insert(key, Value::Object(document.0))),
            None => drop(self.documents.remove(&key)),
        }
    }

    /// By kind of expectation. A run that a guard stops sends nothing.
    pub(super) fn into_json(self) -> Value {
        json!({
            "traits": self.documents,
            "documents": self.documents,
            "changes": self.changes,
            "requests": self.requests,
            "rejected": self.rejected,
            "guard": self.guard.as_ref().map(|guard| &guard.guard),
            "guard_message": self.guard.as_ref().and_then(|guard| guard.message.as_ref()),
        })
    }
}

/// A request as it is compared: method, path with its query, and the body as JSON.
fn request(view: &RequestView) -> Value {
    let path = match url::Url::parse(&view.url) {
        Ok(url) if url.has_host() => match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        },
        _ => view.url.clone(),
    };
    json!({ "method": view.method, "path": path, "body": body(&view.body) })
}

/// A body as JSON: of a form the values by name, of JSON lines a list, and anything else as text.
pub(super) fn body(text: &str) -> Value {
    let json =
        |text: &str| serde_json::from_str::<Value>(text).ok().and_then(|value| document::canonicalize(value).ok());
    if let Some(value) = json(text) {
        return value;
    }
    let lines = || text.lines().map(json).collect::<Option<Vec<Value>>>();
    if let Some(lines) = lines().filter(|lines| !lines.is_empty()) {
        return Value::Array(lines);
    }
    let is_form =
        !text.is_empty() && text.split('&').all(|pair| pair.contains('=') && !pair.contains([' ', '\n', '{']));
    if is_form {
        let value = |text: &str| json(text).filter(|value| value.is_array() || value.is_object());
        let pairs = form_urlencoded::parse(text.as_bytes());
        return Value::Object(
            pairs
                .map(|(name, text)| (name.into_owned(), value(&text).unwrap_or_else(|| text.as_ref().into())))
                .collect(),
        );
    }
    Value::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_compared_as_what_they_mean() {
        for (text, expected) in [
            ("{\"b\": 1.50, \"a\": 1}", json!({"a": 1, "b": 1.5})),
            ("{\"a\": 1}\n{\"a\": 2}\n", json!([{"a": 1}, {"a": 2}])),
            ("api_key=k&identification=%5B%7B%22a%22%3A1%7D%5D", json!({"api_key": "k", "identification": [{"a": 1}]})),
            ("hello = world", json!("hello = world")),
            ("", json!("")),
        ] {
            assert_eq!(body(text).to_string(), expected.to_string(), "{text}");
        }
    }
}
