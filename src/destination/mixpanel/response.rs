//! The verdict on a response of Mixpanel.

use super::{Mixpanel, json};
use crate::destination::Verdict;
use crate::destination::shared::error_message::error_message;
use crate::destination::shared::status::{self, Acknowledgement, ResponseBody};
use crate::io::http::{Applied, Response};
use crate::secret::Secret;
use serde_json::Value;

/// The updates that a response names as wrong, with the vendor's error message.
pub(super) fn failed_records(
    answer: Option<&Value>,
    elements: usize,
    status: u16,
    secrets: &[&Secret],
) -> Vec<(usize, String)> {
    let records = answer.and_then(|answer| answer.get("failed_records")).and_then(Value::as_array);
    let failed = |record: &Value| {
        let index = usize::try_from(record.get("index")?.as_u64()?).ok().filter(|index| *index < elements)?;
        let text = |name| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let said = match (text("field"), text("message")) {
            ("", "") => json(record),
            ("", message) => message.to_owned(),
            (field, message) => format!("{field}: {message}"),
        };
        // In the form of any other rejection, and as carefully.
        Some((index, error_message(&Response { status, body: said.into_bytes(), ..Response::default() }, secrets)))
    };
    records.into_iter().flatten().filter_map(failed).collect()
}

/// Whether a rejection is about the project's token rather than the data.
pub(super) fn speaks_of_the_token(body: &[u8]) -> bool {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let records = answer.get("failed_records").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if records.iter().any(|record| record.get("field").is_some_and(|field| field == "$token")) {
        return true;
    }
    let error = answer.get("error").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    ["invalid token", "invalid project token", "token is invalid", "token, missing", "missing token", "unknown token"]
        .iter()
        .any(|phrase| error.contains(phrase))
}

impl Mixpanel {
    /// What the body of a 200 says: `1`, `{"status":1,"error":null}` (`verbose=1`) or
    /// `{"code":200,"num_records_imported":n,"status":"OK"}` (`strict=1`) are acknowledgements; `0`, a status of 0, an
    /// error, records that failed and a count that is too small are refusals.
    pub(super) fn success(&self, elements: usize, status: u16, body: &ResponseBody) -> Acknowledgement {
        let failed = failed_records(Some(&body.json), elements, status, &[&self.token]);
        if !failed.is_empty() {
            return Acknowledgement::RejectedSome(failed);
        }
        let said = match &body.json {
            Value::Object(members) => match (members.get("status"), members.get("code")) {
                (Some(said), _) => said,
                (None, Some(code)) if code.as_u64() == Some(200) => &Value::Bool(true),
                (None, _) => return Acknowledgement::Undocumented,
            },
            Value::Number(_) => &body.json,
            _ => return Acknowledgement::Undocumented,
        };
        let success = match said {
            // `code` says it in place of the status, and the count must say so, too.
            Value::Bool(true) if body.member("num_records_imported").is_some() => true,
            Value::Number(status) if status.as_u64() == Some(1) => true,
            Value::Number(status) if status.as_u64() == Some(0) => false,
            Value::String(status) => match status.to_lowercase().as_str() {
                "1" => true,
                // Never without the count.
                "ok" if body.member("num_records_imported").is_some() => true,
                "0" => false,
                _ => return Acknowledgement::Undocumented,
            },
            _ => return Acknowledgement::Undocumented,
        };
        let error = body.member("error").is_some_and(|error| !error.is_null() && error != "");
        match body.member("num_records_imported").and_then(Value::as_u64) {
            Some(count) if count < elements as u64 => {
                Acknowledgement::Rejected(if count == 0 { Applied::No } else { Applied::Maybe })
            }
            _ if success && !error => Acknowledgement::Accepted(None),
            _ => Acknowledgement::Rejected(Applied::No),
        }
    }

    pub(super) fn verdict(&self, elements: usize, response: &Response) -> Verdict {
        let reason = error_message(response, &[&self.token]);
        const TOKEN: &str = "check `token` (Mixpanel: Settings → Project → Project Token) and `region`";
        match response.status {
            200..=299 | 400..=499 if speaks_of_the_token(&response.body) => {
                return Verdict::stop(reason, TOKEN);
            }
            400 => {
                let parsed: Option<Value> = serde_json::from_slice(&response.body).ok();
                let failed = failed_records(parsed.as_ref(), elements, response.status, &[&self.token]);
                if !failed.is_empty() {
                    return Verdict::RejectedSome { elements: failed };
                }
            }
            _ => {}
        }
        let api = status::DocumentedApi {
            vendor: "Mixpanel",
            statuses: &[200],
            body: &|body| self.success(elements, response.status, body),
            address: "`base_url`",
            credentials: TOKEN,
            plan: "check that the Mixpanel plan includes Group Analytics",
            after: response.retry_after(),
        };
        status::classify(response, reason, &api)
    }
}
