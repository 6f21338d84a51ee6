//! The verdict on a response: what it means for the elements of its request.

use std::time::Duration;

use crate::io::http::Applied;

/// What a response means for the elements of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every element was accepted.
    Accepted {
        /// The vendor's warning, if there is one.
        warning: Option<String>,
    },
    /// The request was rejected because of something in it. Several elements: bisect. One: it is rejected.
    Rejected {
        /// The vendor's error message, secrets masked.
        reason: String,
        /// Whether some of it may have been applied all the same.
        applied: Applied,
    },
    /// The response has a verdict for single elements.
    PerElement {
        /// The verdicts, by index.
        verdicts: Vec<(usize, ElementVerdict)>,
        /// The vendor's warning about those that it accepted.
        warning: Option<String>,
        /// The verdict on the others, if there are any; never `PerElement`.
        rest: Box<Verdict>,
    },
    /// These elements (by index) were rejected, and nothing else was accepted either: resend the rest.
    RejectedSome {
        /// Index and the vendor's error message.
        elements: Vec<(usize, String)>,
    },
    /// The request was too large. Several elements: split. One: it is rejected.
    TooLarge {
        /// The vendor's error message.
        reason: String,
    },
    /// Not now. Send the same elements again.
    Retry {
        /// The vendor's error message.
        reason: String,
        /// The shortest wait that the vendor asks for.
        after: Option<Duration>,
        /// Whether the request may have been applied all the same.
        applied: Applied,
    },
    /// The destination, or something before it, rejects us rather than the data, as far as one response can show:
    /// nothing more is sent in this run, unless `blame` leaves a doubt and other requests are accepted.
    Stop {
        /// The vendor's error message.
        reason: String,
        /// The operator's next step.
        advice: String,
        /// How certain it is that no group could be delivered.
        blame: Blame,
        /// Whether the request may have been applied all the same.
        applied: Applied,
    },
}

/// The final verdict on one element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementVerdict {
    /// It was accepted.
    Accepted,
    /// It was rejected, and had no effect.
    Rejected {
        /// The vendor's error message.
        reason: String,
    },
    /// It may or may not have an effect.
    Unclear {
        /// Why.
        reason: String,
    },
}

/// Who is to blame for a response that is not about the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Certainly us: the vendor's own message about the key, a plan, a quota, a proxy's login. No group could be delivered.
    Us,
    /// Our credentials, unless other requests are accepted.
    Credentials,
    /// Us, or something in this very request: a firewall rejects single texts like this, and a wrong address rejects
    /// everything like this. Only other requests show which.
    Unclear,
}

impl Verdict {
    /// Every element was accepted, without a warning.
    pub const ACCEPTED: Verdict = Verdict::Accepted { warning: None };

    /// Nothing was accepted, and no group could be: see [`Blame::Us`].
    pub(super) fn stop(reason: String, advice: impl Into<String>) -> Verdict {
        Verdict::Stop { reason, advice: advice.into(), blame: Blame::Us, applied: Applied::No }
    }

    /// Something in the request was rejected, and nothing of it applied.
    pub(super) fn rejected(reason: String) -> Verdict {
        Verdict::Rejected { reason, applied: Applied::No }
    }
}
