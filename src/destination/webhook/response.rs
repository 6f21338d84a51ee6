//! The verdict on a response of the receiver.

use super::Webhook;
use super::success::Failure;
use crate::destination::shared::error_message::error_message;
use crate::destination::shared::status;
use crate::destination::{Blame, Destination, Verdict};
use crate::io::http::{Applied, Response};
use std::fmt::Write;

/// What a page of HTML with a 2xx means.
pub(super) fn page(reason: String) -> Verdict {
    let advice = "check `url`: the response is a web page, so something else may be responding there; if this is how \
                  your receiver responds, set `success = \"200\"`";
    let reason = format!("{reason} (a web page)");
    Verdict::Stop { reason, advice: advice.to_owned(), blame: Blame::Unclear, applied: Applied::Maybe }
}

impl Webhook {
    pub(super) fn error_message(&self, response: &Response) -> String {
        error_message(response, &self.secrets().iter().collect::<Vec<_>>())
    }

    pub(super) fn verdict(&self, response: &Response) -> Verdict {
        let mut reason = self.error_message(response);
        const REFUSED: &str =
            "check `auth_header`, `secret_path` and `signing_secret`: the receiver rejects the credentials";
        let stop = |advice: &str, blame| Verdict::Stop {
            reason: reason.clone(),
            advice: advice.to_owned(),
            blame,
            applied: Applied::No,
        };
        match response.status {
            200..=299 => match self.success.failure(response) {
                None if self.success.takes_a_page() || !status::is_page(response) => return Verdict::ACCEPTED,
                None => return page(reason),
                Some(_) if status::is_page(response) => return page(reason),
                Some(Failure { rule, said }) => {
                    let _ = write!(reason, " ({rule})");
                    return Verdict::Rejected { reason, applied: if said { Applied::No } else { Applied::Maybe } };
                }
            },
            404 | 410 => {
                let advice = "check `url` and `secret_path`: there is no receiver at this address (any more)";
                return stop(advice, Blame::Unclear);
            }
            405 => return stop("check `method` and `url`: the receiver does not accept this method", Blame::Unclear),
            _ => {}
        }
        let api = status::DocumentedApi {
            vendor: "the receiver",
            statuses: &[],
            body: &|_| status::Acknowledgement::Undocumented,
            address: "`url`",
            credentials: REFUSED,
            plan: "look at the receiver: it asks for payment",
            after: response.retry_after(),
        };
        status::classify(response, reason, &api)
    }
}
