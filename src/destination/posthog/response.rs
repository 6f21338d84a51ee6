//! The verdict on a response of PostHog.

use super::{CAPTURE, PostHog, capture, capture_v1, rest};
use crate::destination::shared::error_message::error_message;
use crate::destination::shared::status::{self, Acknowledgement, ResponseBody};
use crate::destination::{Destination, Element, Route, Verdict};
use crate::io::http::Response;

/// What is the same in every way in, given what the body of an acknowledgement (200) says.
pub(super) fn usual_api<'a>(
    response: &Response,
    body: &'a dyn Fn(&ResponseBody) -> Acknowledgement,
    address: &'a str,
    credentials: &'a str,
) -> status::DocumentedApi<'a> {
    let plan = "look at the project's billing: PostHog accepts nothing more until then";
    status::DocumentedApi {
        vendor: "PostHog",
        statuses: &[200],
        body,
        address,
        credentials,
        plan,
        after: response.retry_after(),
    }
}

impl PostHog {
    pub(super) fn error_message(&self, response: &Response) -> String {
        error_message(response, &self.secrets().iter().collect::<Vec<_>>())
    }

    pub(super) fn verdict(&self, route: Route, response: &Response) -> Verdict {
        let reason = self.error_message(response);
        match route {
            // Without its events nothing is known of any of them.
            CAPTURE if self.is_v1() => capture_v1::interpret(&[], response, reason, &self.api_key),
            CAPTURE => capture::interpret(response, reason),
            _ => rest::interpret(route, response, reason),
        }
    }

    pub(super) fn verdict_per_element(&self, route: Route, elements: &[&Element], response: &Response) -> Verdict {
        match route {
            CAPTURE if self.is_v1() => {
                capture_v1::interpret(elements, response, self.error_message(response), &self.api_key)
            }
            _ => self.interpret(route, elements.len(), response),
        }
    }
}
