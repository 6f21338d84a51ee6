//! The request log of a run: it keeps the last requests of groups that were not delivered, for people. Whatever goes wrong with it
//! is a remark of the run and no failure.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::session::Session;
use crate::delivery::ChangeRequest;
use crate::ledger::ChangeOutcome;
use crate::ledger::kept_requests::{
    BYTES_MAX, GroupLine, KeptLine, KeptRequests, REQUESTS_MAX, RequestLine, RequestOfGroup,
};

/// A group whose requests are to be kept.
pub(super) struct LoggedGroup {
    pub(super) key: String,
    pub(super) outcome: ChangeOutcome,
    pub(super) requests: Vec<ChangeRequest>,
}

/// The request log of a run.
pub(super) struct RequestLog {
    /// None where there is no place for them.
    kept: Option<KeptRequests>,
    sync: String,
    run: String,
    written: Mutex<Written>,
}

/// Bytes of the parts that are kept of one request, so that a request with many large groups leaves room for others.
const PARTS_BYTES_MAX: usize = 256 * 1024;

/// What the log has written.
#[derive(Default)]
struct Written {
    /// The requests by number, with the bytes of the parts that were kept of them.
    requests: HashMap<u64, usize>,
    bytes: usize,
    /// Why it could not go on.
    failure: Option<String>,
}

impl RequestLog {
    /// The log of the session's run `run`.
    pub(super) fn new(session: &Session<'_>, run: &str) -> RequestLog {
        RequestLog {
            kept: session.ledger.history().kept_requests().cloned(),
            sync: session.mapping.name.clone(),
            run: run.to_owned(),
            written: Mutex::default(),
        }
    }

    /// Keeps the requests of groups whose outcomes were recorded at `at`, as long as there is room: the first of a run are kept.
    pub(super) async fn add(&self, at: DateTime<Utc>, groups: Vec<LoggedGroup>) {
        let Some(kept) = self.kept.clone().filter(|kept| kept.keeps() && !groups.is_empty()) else { return };
        let mut written = std::mem::take(&mut *self.written.lock());
        if written.failure.is_some() || written.bytes > BYTES_MAX {
            *self.written.lock() = written;
            return;
        }
        let (sync, run) = (self.sync.clone(), self.run.clone());
        // Masking a long body takes milliseconds.
        let appended = tokio::task::spawn_blocking(move || {
            let mut lines = String::new();
            for group in groups {
                let before = lines.len();
                write_lines(&mut lines, &mut written.requests, (&run, at), group);
                written.bytes += lines.len() - before;
                if written.bytes > BYTES_MAX {
                    break;
                }
            }
            if let Err(error) = kept.append(&sync, &lines) {
                written.failure = Some(error.to_string());
            }
            written
        });
        let failed = |panic| Written { failure: Some(format!("{panic}")), ..Written::default() };
        *self.written.lock() = appended.await.unwrap_or_else(failed);
    }

    /// Brings what is kept back within its limits. Returns what went wrong with the log, to be remarked.
    pub(super) async fn finish(self, now: DateTime<Utc>) -> Option<String> {
        let RequestLog { kept, sync, written, .. } = self;
        let (kept, Written { requests, failure, .. }) = (kept?, written.into_inner());
        let tidied = tokio::task::spawn_blocking(move || {
            if !requests.is_empty() {
                kept.trim(&sync, now)?;
            }
            kept.forget_old(now)
        });
        let tidied = tidied.await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
        let why = failure.or_else(|| tidied.err().map(|error| error.to_string()))?;
        Some(format!("the requests of groups that were not delivered could not be kept beside the ledger: {why}"))
    }
}

/// Writes a group, after those of its requests that were not written before.
fn write_lines(
    lines: &mut String,
    written: &mut HashMap<u64, usize>,
    (run, at): (&str, DateTime<Utc>),
    LoggedGroup { key, outcome, requests }: LoggedGroup,
) {
    let mut of_group = Vec::with_capacity(requests.len());
    for ChangeRequest { request, part } in requests {
        let number = request.number;
        if !written.contains_key(&number) {
            if written.len() == REQUESTS_MAX {
                continue;
            }
            let exchange = request.exchange.masked();
            let line = RequestLine { run: run.to_owned(), number, groups: request.changes, exchange };
            lines.push_str(&KeptLine::Request(Box::new(line)).text());
        }
        let parts_bytes = written.entry(number).or_default();
        let part = part.filter(|_| *parts_bytes < PARTS_BYTES_MAX).map(|part| request.exchange.masked_part(&part));
        *parts_bytes += part.as_ref().map_or(0, |part| part.text.len());
        of_group.push(RequestOfGroup { number, part });
    }
    if !of_group.is_empty() {
        let line = GroupLine { run: run.to_owned(), key, at, outcome, requests: of_group };
        lines.push_str(&KeptLine::Group(line).text());
    }
}
