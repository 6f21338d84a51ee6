//! What does an alert say, and how is it written for whom? Pure.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::Error;
use crate::ledger::RunStatus;
use crate::service::views::words::{self, one_line};
use crate::sync::report::Counts;

/// Longest error text in a message: a vendor's words can have 2 KB, and an alert is read on a phone.
const ERROR_CHARS_MAX: usize = 800;
/// Longest text of a message. Discord takes 2,000 characters, Slack and Mattermost more.
const TEXT_CHARS_MAX: usize = 1_900;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Runs fail, or fail in another way than before.
    Failed,
    /// A guard stops runs.
    GuardStopped,
    /// More groups are rejected than the threshold lets pass.
    Rejected,
    /// A scheduled run is overdue for longer than the threshold lets pass.
    Late,
    /// The ledger's file was moved or cannot be written: no run of any sync starts.
    LedgerUnusable,
    /// It is well again.
    Recovered,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An object with `text`, as Slack's incoming webhooks take it; Mattermost, Rocket.Chat and Discord (with `/slack` at
    /// the end of the address) take the same.
    Slack,
    /// The [`Message`] itself.
    Json,
}

/// One change of state. As JSON, this is the body of the format `json`: one flat object, every key always there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// What changed.
    pub event: Event,
    /// The sync; empty for what concerns all of them.
    pub sync: String,
    /// Its destination.
    pub destination: String,
    /// The run that brought the change; none when a run is late.
    pub run: Option<String>,
    /// How that run ended.
    pub status: Option<RunStatus>,
    /// Why it failed.
    pub error: Option<String>,
    /// The failure's kind.
    pub error_kind: Option<String>,
    /// The guard that stopped it.
    pub guard: Option<String>,
    /// What a person does next.
    pub advice: Option<String>,
    /// Every count of that run.
    pub counts: Option<Counts>,
    /// Rejected groups, now and held back from earlier.
    pub rejected: Option<u64>,
    /// Since when it was not well: the first bad run, or the moment that was missed.
    pub bad_since: DateTime<Utc>,
    /// Runs since then that did not end well.
    pub failed_runs: u32,
    /// When this was noticed.
    pub at: DateTime<Utc>,
    /// The change in a line.
    pub title: String,
    /// Everything in a few lines.
    pub text: String,
    /// The program's version.
    pub version: String,
}

impl Message {
    /// Puts title and text together; the rest must be there.
    pub(super) fn worded(mut self, title: String) -> Message {
        let mut lines = vec![title.clone()];
        if let Some(error) = &self.error {
            lines.push(cut(&one_line(error), ERROR_CHARS_MAX));
        }
        if let Some(advice) = &self.advice {
            lines.push(format!("Next step: {}", one_line(advice)));
        }
        if let Some(run) = &self.run {
            let counts = self.counts.as_ref().map_or_else(String::new, |counts| format!(": {}", words::counts(counts)));
            lines.push(format!("Run {run}{counts}"));
        }
        self.title = title;
        self.text = cut(&lines.join("\n"), TEXT_CHARS_MAX);
        self
    }

    /// That the ledger lets no run start, or does again.
    pub(super) fn ledger(problem: Option<&Error>, since: DateTime<Utc>, now: DateTime<Utc>) -> Message {
        let title = match problem {
            Some(_) => "no run starts: the ledger cannot be used".to_owned(),
            None => {
                let bad = words::lasting((now - since).to_std().unwrap_or_default());
                format!("runs start again: the ledger can be used, after {bad}")
            }
        };
        Message {
            event: if problem.is_some() { Event::LedgerUnusable } else { Event::Recovered },
            sync: String::new(),
            destination: String::new(),
            run: None,
            status: None,
            error: problem.map(ToString::to_string),
            error_kind: problem.map(|error| error.kind().name().to_owned()),
            guard: None,
            advice: problem.and_then(Error::advice).map(str::to_owned),
            counts: None,
            rejected: None,
            bad_since: since,
            failed_runs: 0,
            at: now,
            title: String::new(),
            text: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
        .worded(title)
    }

    /// The body in a format.
    pub fn body(&self, format: Format) -> Vec<u8> {
        let body = match format {
            Format::Slack => json!({"text": slack(&self.text)}).to_string(),
            // Nothing in it has keys that are not texts, which is all that can go wrong.
            Format::Json => serde_json::to_string(self).unwrap_or_default(),
        };
        body.into_bytes()
    }
}

/// At most `chars_max` characters.
fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Escaped as Slack's manual says: `&`, `<` and `>`, and nothing else. With `<` gone no link and no `<!channel>` can be
/// made up by a vendor's words; Mattermost and Discord also take a bare `@everyone`, which an invisible space breaks.
fn slack(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => {
                let after: String = rest.as_str().chars().take(8).flat_map(char::to_lowercase).collect();
                let calls = ["everyone", "here", "channel", "all"].iter().any(|word| after.starts_with(word));
                out.push_str(if calls { "@\u{200b}" } else { "@" });
            }
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn message() -> Message {
        Message {
            event: Event::Failed,
            sync: "accounts".to_owned(),
            destination: "crm".to_owned(),
            run: Some("r1".to_owned()),
            status: Some(RunStatus::Failed),
            error: Some("HTTP 500: <!channel> & @everyone\nforged line".to_owned()),
            error_kind: Some("destination".to_owned()),
            guard: None,
            advice: Some("check the destination".to_owned()),
            counts: Some(Counts { rows: 10_000, unchanged: 9_990, ..Counts::default() }),
            rejected: None,
            bad_since: DateTime::UNIX_EPOCH,
            failed_runs: 1,
            at: DateTime::UNIX_EPOCH,
            title: String::new(),
            text: String::new(),
            version: "0.1.0".to_owned(),
        }
        .worded("accounts → crm: runs fail".to_owned())
    }

    #[test]
    fn slack_gets_a_text_that_calls_nobody() {
        let body: Value = serde_json::from_slice(&message().body(Format::Slack)).unwrap();
        assert_eq!(body.as_object().unwrap().len(), 1);
        assert_eq!(
            body["text"],
            "accounts → crm: runs fail\n\
             HTTP 500: &lt;!channel&gt; &amp; @\u{200b}everyone\\nforged line\n\
             Next step: check the destination\n\
             Run r1: 10,000 rows, 9,990 unchanged"
        );
        assert_eq!(slack("a@example.com @Here @ALL"), "a@example.com @\u{200b}Here @\u{200b}ALL");
    }

    #[test]
    fn machines_get_one_flat_object_with_every_key() {
        let message = message();
        let body: Value = serde_json::from_slice(&message.body(Format::Json)).unwrap();
        let keys: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "advice",
                "at",
                "bad_since",
                "counts",
                "destination",
                "error",
                "error_kind",
                "event",
                "failed_runs",
                "guard",
                "rejected",
                "run",
                "status",
                "sync",
                "text",
                "title",
                "version"
            ]
        );
        assert_eq!(body["event"], "failed");
        assert_eq!(body["status"], "failed");
        assert_eq!(body["at"], "1970-01-01T00:00:00Z");
        assert_eq!(body["counts"]["rows"], 10_000);
        assert_eq!(body["error"], "HTTP 500: <!channel> & @everyone\nforged line", "as it is");
        assert_eq!(body["guard"], Value::Null);
        assert_eq!(serde_json::from_value::<Message>(body).unwrap(), message);
    }

    #[test]
    fn long_errors_are_cut() {
        let mut long = message();
        long.error = Some("ä".repeat(5_000));
        let text = long.worded("title".to_owned()).text;
        assert!(text.chars().count() < 1_000 && text.contains("ä…\nNext step"), "{text}");
        assert_eq!(cut("äöü", 3), "äöü");
    }
}
