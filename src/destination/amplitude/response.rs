//! The verdict on a response of Amplitude.

use super::{Amplitude, THROTTLED};
use crate::destination::Verdict;
use crate::destination::shared::error_message::error_message;
use crate::destination::shared::status::{self, Acknowledgement, ResponseBody};
use crate::io::http::Response;
use serde_json::Value;
use std::time::Duration;

/// The Group Identify API's acknowledgement: the word `success`, whatever its content type, or JSON with the code 200 as
/// the sister APIs write it.
pub(super) fn says_success(body: &ResponseBody) -> Acknowledgement {
    let word = body.json.as_str().unwrap_or(&body.text).eq_ignore_ascii_case("success");
    let code = body.member("code").and_then(Value::as_u64) == Some(200);
    Acknowledgement::accepted_if(word || code && !body.mentions_error())
}

/// Whether a 429 is about the day rather than about now, as the HTTP V2 API's page describes it for both.
pub(super) fn quota_is_used_up(body: &[u8]) -> bool {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    ["exceeded_daily_quota_users", "exceeded_daily_quota_devices"].iter().any(|key| match &answer[*key] {
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    })
}

/// The verdict on a response, given what its API's acknowledgement says. After a 429 nothing is sent for `throttled` at least.
pub(super) fn by_status(
    response: &Response,
    reason: String,
    throttled: Duration,
    body: &dyn Fn(&ResponseBody) -> Acknowledgement,
) -> Verdict {
    if response.status == 400 && speaks_of_the_key(&response.body) {
        return Verdict::stop(
            reason,
            "check the key and the region (a US key on the EU host, or the other way round, produces this response)",
        );
    }
    if response.status == 429 && quota_is_used_up(&response.body) {
        return Verdict::stop(
            reason,
            "run again tomorrow: the daily quota at Amplitude is used up; ask Amplitude for a larger one",
        );
    }
    let asked = response.retry_after();
    let api = status::DocumentedApi {
        vendor: "Amplitude",
        statuses: &[200],
        body,
        address: "`base_url`",
        credentials: "check `api_key` and `region`",
        plan: "check that the Amplitude plan includes the Accounts add-on",
        after: if response.status == 429 { Some(asked.unwrap_or_default().max(throttled)) } else { asked },
    };
    status::classify(response, reason, &api)
}

/// Whether a 400 is about the API key rather than the data: `Invalid API key: …`, `invalid_api_key`, `missing api_key`.
pub(super) fn speaks_of_the_key(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase().replace(['_', '-'], " ");
    [
        "invalid api key",
        "missing api key",
        "unknown api key",
        "api key is invalid",
        "api key is missing",
        "api key not found",
    ]
    .iter()
    .any(|phrase| text.contains(phrase))
}

impl Amplitude {
    pub(super) fn verdict(&self, response: &Response) -> Verdict {
        by_status(response, error_message(response, &[&self.api_key]), THROTTLED, &says_success)
    }
}
