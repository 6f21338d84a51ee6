//! Events by capture v1 (`POST /i/v1/analytics/events`), which has a result for each event.
//!
//! The events are those of `/batch/`. What differs is around them: the key travels in a header, with an id of the request
//! and the number of the attempt, and the response names each event by its `uuid`.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::capture::time;
use super::{Element, Verdict, usual_api};
use crate::destination::Attempt;
use crate::destination::shared::dedup_id;
use crate::destination::shared::status::{self, Acknowledgement, ElementStatus, ResponseBody};
use crate::io::http::Response;
use crate::secret::Secret;

/// Below the host. Servers that have it respond 405 to a GET of it.
pub(super) const PATH: &str = "i/v1/analytics/events";

const HEAD: &str = r#"{"created_at":""#;
const BATCH: &str = r#"","batch":["#;
const TAIL: &str = "]}";

/// What is around the events of a body.
pub(super) fn envelope_bytes() -> usize {
    HEAD.len() + time(DateTime::UNIX_EPOCH).len() + BATCH.len() + TAIL.len()
}

pub(super) fn body(elements: &[&Element], created_at: DateTime<Utc>) -> Vec<u8> {
    let events: Vec<&[u8]> = elements.iter().map(|element| element.bytes.as_slice()).collect();
    let events = events.join(&b',');
    [HEAD.as_bytes(), time(created_at).as_bytes(), BATCH.as_bytes(), &events, TAIL.as_bytes()].concat()
}

pub(super) fn headers(api_key: &str, attempt: Attempt) -> Vec<(&'static str, String)> {
    let id = attempt.request.to_be_bytes();
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(&id);
    vec![
        ("content-type", "application/json".to_owned()),
        ("authorization", format!("Bearer {api_key}")),
        ("posthog-sdk-info", concat!("groupcast/", env!("CARGO_PKG_VERSION")).to_owned()),
        ("posthog-attempt", attempt.number.to_string()),
        ("posthog-request-id", dedup_id::uuid(digest)),
        ("posthog-request-timestamp", time(attempt.at)),
    ]
}

/// Whether a server whose response to a GET of [`PATH`] has this status has it.
pub(super) fn is_there(status: u16) -> bool {
    matches!(status, 400 | 401 | 405 | 411 | 415)
}

/// `{"results":{uuid:{"result":"ok|warning|drop|limited|retry","details":…}}}`, or an error as
/// `{"error","error_description","error_uri"}`.
pub(super) fn interpret(elements: &[&Element], response: &Response, reason: String, key: &Secret) -> Verdict {
    let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let error = answer.get("error").and_then(Value::as_str).unwrap_or_default();
    let foreign = |_: &ResponseBody| Acknowledgement::Undocumented;
    let api = usual_api(
        response,
        &foreign,
        "`base_url`",
        "check `api_key`: it is the project API key (`phc_…`), not a personal one",
    );
    let over_quota = "raise the project's billing limit in PostHog (Billing → RequestLimits), then run again: nothing was \
                      recorded as delivered";
    match (response.status, error) {
        (200, "") => {
            let results = answer.get("results").and_then(Value::as_object);
            let Some(results) = results.filter(|_| !elements.is_empty()) else {
                return status::classify(response, reason, &api);
            };
            let of_each = elements
                .iter()
                .map(|element| results.get(&element.id).map_or(ElementStatus::Undocumented, |said| of_one(said, key)));
            status::classify_per_element(
                response,
                reason,
                of_each.collect(),
                &status::DocumentedApi { plan: over_quota, ..api },
            )
        }
        (402 | 429, "billing_limit_exceeded") => Verdict::stop(reason, over_quota),
        // About how it was sent, so that it is the same for every event.
        (400, "missing_required_headers" | "invalid_header_value" | "request_decoding_error") => {
            let advice =
                "look at the proxy or gateway before PostHog: it removes or changes headers or bodies on their way";
            Verdict::stop(reason, advice)
        }
        (415, _) => {
            Verdict::stop(reason, "set `gzip = false` at the destination: the server does not decompress bodies")
        }
        _ => status::classify(response, reason, &api),
    }
}

/// The result of one event.
fn of_one(said: &Value, key: &Secret) -> ElementStatus {
    let word = said.get("result").and_then(Value::as_str).unwrap_or_default();
    let details = said.get("details").and_then(Value::as_str).unwrap_or_default();
    let shown: String = key.mask(details).chars().filter(|char| !char.is_control()).take(200).collect();
    let words = if shown.is_empty() { word.to_owned() } else { format!("{word}: {shown}") };
    match word {
        "ok" => ElementStatus::Accepted(None),
        // Events without person processing do not change groups.
        "warning" if details == "person_processing_disabled" => {
            ElementStatus::Unclear(format!("PostHog accepted the event and may ignore it ({words})"))
        }
        "warning" => ElementStatus::Accepted(Some(format!("PostHog's warning about accepted events: {words}"))),
        "limited" => ElementStatus::Blocked(format!("PostHog accepted no event: over the quota ({words})")),
        "drop" if ["billing", "quota", "limit"].iter().any(|word| details.contains(word)) => {
            ElementStatus::Blocked(format!("PostHog dropped the event: over the quota ({words})"))
        }
        "drop" => ElementStatus::Rejected(format!("PostHog dropped the event ({words})")),
        "retry" => ElementStatus::RetryLater(format!("PostHog did not keep the event ({words})")),
        _ => ElementStatus::Undocumented,
    }
}
