//! The verdict on a response of ThriveStack.

use super::{ThriveStack, WARNING_CHARS_MAX};
use crate::destination::Verdict;
use crate::destination::shared::error_message::error_message;
use crate::destination::shared::status::{self, Acknowledgement, ResponseBody};
use crate::io::http::{Applied, Response};
use crate::secret::Secret;
use serde_json::Value;

/// The response's `warnings`: texts, or objects with a message. Their ids differ from response to response and are left out,
/// so that equal warnings are counted together.
pub(super) fn warning(answer: &Value, key: &Secret) -> Option<String> {
    let warnings = answer.get("warnings")?.as_array()?;
    let text = |warning: &Value| match warning {
        Value::String(text) => text.clone(),
        Value::Object(members) => ["message", "warning", "description"]
            .iter()
            .find_map(|name| members.get(*name)?.as_str())
            .map_or_else(|| warning.to_string(), str::to_owned),
        other => other.to_string(),
    };
    let first = key.mask(&text(warnings.first()?)).replace(char::is_control, " ");
    let mut kept: String = first.chars().take(WARNING_CHARS_MAX).collect();
    if kept.len() < first.len() {
        kept.push('…');
    }
    Some(match warnings.len() {
        1 => kept,
        count => format!("{kept} (and {} more in the same response)", count - 1),
    })
}

impl ThriveStack {
    pub(super) fn verdict(&self, response: &Response) -> Verdict {
        let reason = error_message(response, &[&self.api_key]);
        let body = |body: &ResponseBody| match body.member("success") {
            Some(Value::Bool(true)) if !body.mentions_error() => {
                Acknowledgement::Accepted(warning(&body.json, &self.api_key))
            }
            Some(Value::Bool(false)) => Acknowledgement::Rejected(Applied::No),
            _ => Acknowledgement::Undocumented,
        };
        let api = status::DocumentedApi {
            vendor: "ThriveStack",
            statuses: &[200],
            body: &body,
            address: "`base_url`",
            credentials: "check `api_key`: it must be the environment's API key (Settings → API keys)",
            plan: "check the ThriveStack plan: it asks for payment",
            after: response.retry_after(),
        };
        status::classify(response, reason, &api)
    }
}
