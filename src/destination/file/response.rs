//! The verdict on a write to a file.

use super::File;
use crate::destination::Verdict;
use crate::io::http::{Applied, Response};

impl File {
    pub(super) fn verdict(&self, response: &Response) -> Verdict {
        let mut reason = String::from_utf8_lossy(&response.body).into_owned();
        if reason.trim().is_empty() {
            reason = format!("status {}", response.status);
        }
        match response.status {
            200..=299 => Verdict::ACCEPTED,
            // The transport takes back what a failed write left behind, so nothing was applied.
            400..=499 => Verdict::stop(reason, "check the path and its permissions"),
            507 => Verdict::stop(reason, "make room on the disk"),
            _ => Verdict::Retry { reason, after: None, applied: Applied::Maybe },
        }
    }
}
