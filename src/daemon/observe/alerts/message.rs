//! The messages of alerts: their fields, their text, and their formats for webhooks. Pure.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::Error;
use crate::ledger::RunStatus;
use crate::service::views::words::{self, one_line};
use crate::sync::report::Counts;

/// Longest error text in a message: a vendor's error message can have 2 KB, and an alert is read on a phone.
const ERROR_CHARS_MAX: usize = 800;
/// Longest text of a message. Discord takes 2,000 characters, Slack and Mattermost more.
const TEXT_CHARS_MAX: usize = 1_900;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertEvent {
    /// Runs fail, or fail in another way than before.
    Failed,
    /// A guard stops runs.
    GuardStopped,
    /// More groups are rejected than the threshold allows.
    Rejected,
    /// A scheduled run is overdue for longer than the threshold allows.
    Late,
    /// The ledger's file was moved or cannot be written: no run of any sync starts.
    LedgerUnusable,
    /// The mapping of a sync has mistakes.
    MappingInvalid,
    /// The problem is over.
    Recovered,
}

/// A sync whose mapping has mistakes.
pub struct Mistaken {
    /// The sync.
    pub sync: String,
    /// The mistakes.
    pub error: Error,
    /// Whether its last good mapping is in use.
    pub runs: bool,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertFormat {
    /// An object with `text`, as Slack's incoming webhooks take it; Mattermost, Rocket.Chat and Discord (with `/slack` at
    /// the end of the address) take the same.
    Slack,
    /// The [`AlertMessage`] itself.
    Json,
}

/// One change of state. As JSON, this is the body of the format `json`: one flat object, every key always there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertMessage {
    /// What changed.
    pub event: AlertEvent,
    /// The sync; empty for what concerns all syncs.
    pub sync: String,
    /// Its destination.
    pub destination: String,
    /// The run that brought the change, if one did.
    pub run: Option<String>,
    /// Its status.
    pub status: Option<RunStatus>,
    /// Why it failed.
    pub error: Option<String>,
    /// The failure's kind.
    pub error_kind: Option<String>,
    /// The guard that stopped it.
    pub guard: Option<String>,
    /// The next step for a person.
    pub advice: Option<String>,
    /// Every count of that run.
    pub counts: Option<Counts>,
    /// Rejected groups, of this run and earlier ones.
    pub rejected: Option<u64>,
    /// Since when there is a problem: the first bad run, or the scheduled time that was missed.
    pub bad_since: DateTime<Utc>,
    /// Runs since then that did not succeed.
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

impl AlertMessage {
    /// Adds the title and the text, which is made of the other fields.
    pub(super) fn with_title(mut self, title: String) -> AlertMessage {
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

    /// The ledger lets no run start, or lets them start again.
    pub(super) fn ledger(problem: Option<&Error>, since: DateTime<Utc>, now: DateTime<Utc>) -> AlertMessage {
        let title = match problem {
            Some(_) => "no run starts: the ledger is unusable".to_owned(),
            None => {
                let bad = words::lasting((now - since).to_std().unwrap_or_default());
                format!("runs start again: the ledger is usable, after {bad}")
            }
        };
        let event = if problem.is_some() { AlertEvent::LedgerUnusable } else { AlertEvent::Recovered };
        AlertMessage { bad_since: since, ..AlertMessage::without_run(event, "", problem, now) }.with_title(title)
    }

    /// The mapping of a sync has mistakes now.
    pub(super) fn mapping_invalid(mistaken: &Mistaken, now: DateTime<Utc>) -> AlertMessage {
        let sync = &mistaken.sync;
        let effect = if mistaken.runs { "its last valid version stays in use" } else { "the sync does not run" };
        AlertMessage::without_run(AlertEvent::MappingInvalid, sync, Some(&mistaken.error), now)
            .with_title(one_line(&format!("{sync}: the mapping has mistakes; {effect}")).into_owned())
    }

    /// The mapping of a sync has no mistakes any more, or was removed.
    pub(super) fn mapping_valid(sync: &str, since: DateTime<Utc>, now: DateTime<Utc>) -> AlertMessage {
        let bad = words::lasting((now - since).to_std().unwrap_or_default());
        let title = format!("{sync}: the mapping was corrected or removed after {bad}");
        AlertMessage { bad_since: since, ..AlertMessage::without_run(AlertEvent::Recovered, sync, None, now) }
            .with_title(one_line(&title).into_owned())
    }

    /// A message that no run brought.
    pub(super) fn without_run(
        event: AlertEvent,
        sync: &str,
        problem: Option<&Error>,
        now: DateTime<Utc>,
    ) -> AlertMessage {
        AlertMessage {
            event,
            sync: sync.to_owned(),
            destination: String::new(),
            run: None,
            status: None,
            error: problem.map(ToString::to_string),
            error_kind: problem.map(|error| error.kind().name().to_owned()),
            guard: None,
            advice: problem.and_then(Error::advice).map(str::to_owned),
            counts: None,
            rejected: None,
            bad_since: now,
            failed_runs: 0,
            at: now,
            title: String::new(),
            text: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The body in a format.
    pub fn body(&self, format: AlertFormat) -> Vec<u8> {
        let body = match format {
            AlertFormat::Slack => json!({"text": slack(&self.text)}).to_string(),
            // Nothing in it has keys that are not texts, which is all that can go wrong.
            AlertFormat::Json => serde_json::to_string(self).unwrap_or_default(),
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
/// made by a vendor's text; Mattermost and Discord also take a bare `@everyone`, which an invisible space breaks.
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
                let mentions = ["everyone", "here", "channel", "all"].iter().any(|word| after.starts_with(word));
                out.push_str(if mentions { "@\u{200b}" } else { "@" });
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

    fn message() -> AlertMessage {
        AlertMessage {
            event: AlertEvent::Failed,
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
        .with_title("accounts → crm: runs fail".to_owned())
    }

    #[test]
    fn slack_gets_a_text_without_mentions() {
        let body: Value = serde_json::from_slice(&message().body(AlertFormat::Slack)).unwrap();
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
        let body: Value = serde_json::from_slice(&message.body(AlertFormat::Json)).unwrap();
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
        assert_eq!(serde_json::from_value::<AlertMessage>(body).unwrap(), message);
    }

    #[test]
    fn long_errors_are_cut() {
        let mut long = message();
        long.error = Some("ä".repeat(5_000));
        let text = long.with_title("title".to_owned()).text;
        assert!(text.chars().count() < 1_000 && text.contains("ä…\nNext step"), "{text}");
        assert_eq!(cut("äöü", 3), "äöü");
    }
}
