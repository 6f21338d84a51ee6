//! The verdict on a response: what it means for the elements of its request.

use std::time::Duration;

use crate::io::http::Applied;

/// What a response means for the elements of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every element was taken.
    Accepted {
        /// What the vendor remarked all the same.
        warning: Option<String>,
    },
    /// The request was refused because of something in it. Several elements: bisect. One: it is rejected.
    Rejected {
        /// The vendor's words, secrets masked.
        reason: String,
        /// Whether some of it may have been applied all the same.
        applied: Applied,
    },
    /// The vendor told of each element what became of it.
    PerElement {
        /// What became of these, by index.
        verdicts: Vec<(usize, ElementVerdict)>,
        /// What the vendor remarked about those that it took.
        warning: Option<String>,
        /// What the response means for the others, if there are any; never the like of this.
        rest: Box<Verdict>,
    },
    /// These elements (by index) were refused, and nothing else was taken either: resend the rest.
    RejectedSome {
        /// Index and the vendor's words.
        elements: Vec<(usize, String)>,
    },
    /// The request was too large. Several elements: split. One: it is rejected.
    TooLarge {
        /// The vendor's words.
        reason: String,
    },
    /// Not now. Send the same elements again.
    Retry {
        /// The vendor's words.
        reason: String,
        /// How long the vendor wants us to wait at least.
        after: Option<Duration>,
        /// Whether the request may have been applied all the same.
        applied: Applied,
    },
    /// The destination, or something before it, refuses us rather than the data, as far as one response can tell:
    /// nothing more is sent in this run, unless `blame` leaves a doubt and other requests are accepted.
    Stop {
        /// The vendor's words.
        reason: String,
        /// The operator's next step.
        advice: String,
        /// How certain it is that no group could be delivered.
        blame: Blame,
        /// Whether the request may have been applied all the same.
        applied: Applied,
    },
}

/// What became of one element for good, where the vendor tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementVerdict {
    /// It was taken.
    Accepted,
    /// It was refused, and had no effect.
    Rejected {
        /// The vendor's words.
        reason: String,
    },
    /// It may or may not have an effect.
    Unclear {
        /// Why.
        reason: String,
    },
}

/// Whom a response blames that is not about the data by its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Certainly us: the vendor's own words about the key, a plan, a quota, a proxy's login. No group could be delivered.
    Us,
    /// Our credentials, unless other requests are accepted.
    Credentials,
    /// Us, or something in this very request: a firewall refuses single texts like this, and a wrong address refuses
    /// everything like this. Only other requests tell.
    Unclear,
}

impl Verdict {
    /// Every element was taken, without a remark.
    pub const ACCEPTED: Verdict = Verdict::Accepted { warning: None };

    /// Nothing was taken, and no group could be: see [`Blame::Us`].
    pub(super) fn stop(reason: String, advice: impl Into<String>) -> Verdict {
        Verdict::Stop { reason, advice: advice.into(), blame: Blame::Us, applied: Applied::No }
    }

    /// Something in the request was refused, and nothing of it applied.
    pub(super) fn rejected(reason: String) -> Verdict {
        Verdict::Rejected { reason, applied: Applied::No }
    }
}
