//! The verdict on a response of a server that speaks Segment's protocol.

use super::Segment;
use crate::destination::shared::error_message::error_message;
use crate::destination::shared::status;
use crate::destination::{Destination, Verdict};
use crate::io::http::{Applied, Response};
use chrono::DateTime;
use std::time::Duration;

/// Whether a 400 is about the request's size.
pub(super) fn speaks_of_size(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase();
    ["too large", "too big", "exceeds max", "exceeded max", "size limit", "maximum size"]
        .iter()
        .any(|phrase| text.contains(phrase))
}

/// How long the response asks us to wait: the longer of `Retry-After` and `X-RateLimit-Reset`, which holds seconds, or, where
/// a proxy follows the other custom, a Unix time, read against the response's own `Date`.
pub(super) fn asked(response: &Response) -> Option<Duration> {
    const YEAR_SECONDS: u64 = 31_536_000;
    let reset = response.header("x-ratelimit-reset").and_then(|value| value.trim().parse::<u64>().ok());
    let reset = reset.and_then(|value| {
        if value < YEAR_SECONDS {
            return Some(Duration::from_secs(value));
        }
        let now = DateTime::parse_from_rfc2822(response.header("date")?.trim()).ok()?;
        Some(Duration::from_secs(value.saturating_sub(u64::try_from(now.timestamp()).ok()?)))
    });
    response.retry_after().max(reset)
}

impl Segment {
    pub(super) fn error_message(&self, response: &Response) -> String {
        error_message(response, &self.secrets().iter().collect::<Vec<_>>())
    }

    pub(super) fn verdict(&self, response: &Response) -> Verdict {
        let reason = self.error_message(response);
        match response.status {
            400 if !self.preset.whole_batch_fails && speaks_of_size(&response.body) => {
                return Verdict::TooLarge { reason };
            }
            // The official clients repeat both; 460 is a load balancer's "the client went away".
            410 | 460 => return Verdict::Retry { reason, after: asked(response), applied: Applied::Maybe },
            _ => {}
        }
        let vendor = self.preset.vendor;
        let credentials = format!("check `write_key`: it must be {}, of an enabled source", self.preset.key_is);
        let plan = format!("check the {vendor} plan: it asks for payment");
        let expected: Vec<String> = self.success.iter().map(u16::to_string).collect();
        let address = match response.status {
            200..=299 if !self.success.contains(&response.status) => format!(
                "`base_url` and `preset` ({vendor} responds with {} to what it accepts; `success_status` sets another status)",
                expected.join(" or ")
            ),
            _ => "`base_url` and `preset`".to_owned(),
        };
        let api = status::DocumentedApi {
            vendor,
            statuses: &self.success,
            body: &|body| self.preset.acknowledges.acknowledgement(body),
            address: &address,
            credentials: &credentials,
            plan: &plan,
            after: asked(response),
        };
        status::classify(response, reason, &api)
    }
}
