//! The verdict on a response of journy.io.

use super::{DELETE, EPOCH_SECONDS_MIN, Journy, THROTTLED, WINDOW};
use crate::destination::shared::error_message::error_message;
use crate::destination::shared::status::{self, Acknowledgement, ResponseBody};
use crate::destination::{Route, Verdict};
use crate::io::http::Response;
use chrono::DateTime;
use serde_json::Value;
use std::time::Duration;

/// Whether a body has the form of journy.io's responses: a `message`, and a `meta`.
pub(super) fn describes(body: &ResponseBody) -> bool {
    body.member("message").is_some_and(Value::is_string) || body.member("meta").is_some_and(Value::is_object)
}

/// Whether a rejection is about the key's header rather than the account.
pub(super) fn blames_the_key(response: &Response) -> bool {
    let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let headers = answer.pointer("/errors/parameters/header").and_then(Value::as_object);
    headers.is_some_and(|headers| headers.keys().any(|name| name.eq_ignore_ascii_case("x-api-key")))
}

impl Journy {
    /// The vendor's error message about a rejection: its message and the fields it names, else the body as it is.
    pub(super) fn error_message(&self, response: &Response) -> String {
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let fields = answer.pointer("/errors/fields").and_then(Value::as_object);
        let named = fields.into_iter().flatten().map(|(field, problem)| {
            let problem = problem.as_str().map_or_else(|| problem.to_string(), str::to_owned);
            format!("{field}: {problem}")
        });
        let message = answer.get("message").and_then(Value::as_str).filter(|message| !message.is_empty());
        let parts: Vec<String> = message.map(str::to_owned).into_iter().chain(named).collect();
        if parts.is_empty() {
            return error_message(response, &[&self.api_key]);
        }
        error_message(&Response { body: parts.join("; ").into_bytes(), ..response.clone() }, &[&self.api_key])
    }

    pub(super) fn verdict(&self, route: Route, response: &Response) -> Verdict {
        let reason = self.error_message(response);
        const KEY: &str =
            "check `api_key`: it must be enabled and have the permission TrackData (journy.io → Connections)";
        match response.status {
            400 if blames_the_key(response) => return Verdict::stop(reason, KEY),
            // Newer specifications name it for a disabled key; a firewall's has another form.
            403 if ResponseBody::of(response).member("meta").is_some() => return Verdict::stop(reason, KEY),
            // What is to be deleted is not there. Any other 404 to a deletion is one of something else at this address.
            404 if route == DELETE && ResponseBody::of(response).member("meta").is_some() => return Verdict::ACCEPTED,
            _ => {}
        }
        let asked = response.retry_after();
        let api = status::DocumentedApi {
            vendor: "journy.io",
            // 201 is what the specification names; its introduction calls every 2xx a success.
            statuses: &[200, 201],
            body: &|body| match route {
                // No body is documented for a deletion.
                DELETE if body.text.is_empty() => Acknowledgement::Accepted(None),
                _ => Acknowledgement::accepted_if(describes(body) && !body.reports_failure() && !body.mentions_error()),
            },
            address: "`base_url`",
            credentials: KEY,
            plan: "check the journy.io plan: it asks for payment",
            // Of an empty quota `pause` takes care; this is for a 429 that does not mention it.
            after: if response.status == 429 { asked.or(Some(THROTTLED)) } else { asked },
        };
        status::classify(response, reason, &api)
    }

    pub(super) fn pause_after(&self, response: &Response) -> Option<Duration> {
        if response.header("x-ratelimit-remaining")?.trim() != "0" {
            return None;
        }
        let until_reset = || {
            let seconds: f64 =
                response.header("x-ratelimit-reset")?.trim().parse().ok().filter(|at: &f64| at.is_finite())?;
            if seconds < EPOCH_SECONDS_MIN {
                return Duration::try_from_secs_f64(seconds).ok();
            }
            // A time, read against the response's own clock.
            let now = DateTime::parse_from_rfc2822(response.header("date")?.trim()).ok()?.timestamp();
            Duration::try_from_secs_f64((seconds - now as f64).max(0.0)).ok()
        };
        Some(until_reset().or_else(|| response.retry_after()).unwrap_or(WINDOW).min(WINDOW))
    }
}
