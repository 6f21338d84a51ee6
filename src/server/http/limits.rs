//! The limits on what a client may request: every number with its reason. Tests use smaller ones.

use std::time::Duration;

use crate::service::url::PLAN_BYTES_MAX;

/// The path to which plans are sent that a run is to follow.
pub(super) const PLANS: &str = "/api/v1/plans";

/// What the body of a request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BodyLimits {
    /// Its bytes.
    pub(super) bytes: usize,
    /// How long it may take to arrive.
    pub(super) time: Duration,
}

impl HttpLimits {
    /// The limits of a body that is sent to this path.
    pub(super) fn of_body(&self, path: &str) -> BodyLimits {
        match path == PLANS {
            true => BodyLimits { bytes: self.plan_bytes, time: self.response },
            false => BodyLimits { bytes: self.body_bytes, time: self.body },
        }
    }
}

/// What clients may request. At the default limits all connections together hold at most 256 × (16 KiB of headers + 128
/// KiB of body) = 36 MiB of what clients sent, and one plan of 16 MiB.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at a time; for a further one, the connection that has been idle for the longest is closed. A console
    /// tab opens at most six, so 256 are forty people, and a quarter of the usual 1,024 open files of a process.
    pub connections: usize,
    /// How long a connection may be idle before it can be closed for a further one. A request follows its connection
    /// immediately; a thousand slow clients that connect together are through in half a second.
    pub idle_min: Duration,
    /// How long the head of a request may take to arrive, and how long a connection may be idle between two. Ten seconds
    /// is a hundred round trips to the far side of the earth.
    pub head: Duration,
    /// Bytes of a request's head. Browsers send one or two thousand; proxies allow eight to sixteen.
    pub head_bytes: usize,
    /// Header fields of a request; browsers send about twenty.
    pub head_fields: usize,
    /// How long a body may take to arrive.
    pub body: Duration,
    /// Bytes of a body. The largest valid one is a run request with the keys of a thousand groups, of a hundred bytes each.
    pub body_bytes: usize,
    /// Bytes of a plan to run: half a million changes of 35 bytes. One such body is read at a time.
    pub plan_bytes: usize,
    /// How long a client may read nothing of its response. Responses wait in memory until they are read.
    pub write: Duration,
    /// How long a response may take. The ledger responds in milliseconds, in seconds while it is being compacted.
    pub response: Duration,
    /// How long a plan may take: it reads the whole model, minutes for millions of rows.
    pub plan: Duration,
    /// How long requests in flight may take once the daemon shuts down.
    pub grace: Duration,
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            connections: 256,
            idle_min: Duration::from_millis(100),
            head: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            head_fields: 64,
            body: Duration::from_secs(10),
            body_bytes: 128 * 1024,
            plan_bytes: PLAN_BYTES_MAX,
            write: Duration::from_secs(30),
            response: Duration::from_secs(60),
            plan: Duration::from_secs(600),
            grace: Duration::from_secs(5),
        }
    }
}
