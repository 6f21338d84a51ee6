//! Queries: requests that change nothing, one at a time, retried a few times after transient failures. Used before a run
//! ([`prepare`]) and by commands that read back; changes travel by [`super::Delivery`].

use std::time::Duration;

use parking_lot::Mutex;

use super::pace::{self, Bucket};
use crate::destination::Destination;
use crate::destination::readback::{ReadBack, ReadBackQuery};
use crate::destination::registry::DESTINATION_TYPES;
use crate::error::{Error, Kind, Result};
use crate::io::http::{CallLimits, Request, Response, Transport};
use crate::io::{Clock, Random};

const ATTEMPTS_MAX: u32 = 5;
/// Longest one response may take, and be: a page of groups with all their traits.
pub(super) const LIMITS: CallLimits = CallLimits { timeout: Duration::from_secs(30), body_bytes_max: 32 * 1024 * 1024 };
/// Longest wait before a retry; a vendor that asks for a longer one is not queried again.
const WAIT_MAX: Duration = Duration::from_secs(90);

/// Sends a request until its response is neither a throttle (429) nor a failure of the server (408, 5xx).
///
/// Errors ([`Kind::Destination`]): there is no such response.
pub async fn query(
    destination: &str,
    request: &Request,
    transport: &dyn Transport,
    clock: &dyn Clock,
    random: &Random,
) -> Result<Response> {
    let mut attempt = 1;
    loop {
        let (what, after) = match transport.send(request, LIMITS).await {
            Ok(response) if response.status == 408 || response.status == 429 || response.status >= 500 => {
                (format!("HTTP {}", response.status), response.retry_after())
            }
            Ok(response) if response.truncated && (200..300).contains(&response.status) => {
                let what = format!("a response of {destination} is longer than {} bytes", LIMITS.body_bytes_max);
                return Err(Error::new(Kind::Destination, what)
                    .advise("report it: no documented response is that long")
                    .at(format!("{} {}", request.method, request.url)));
            }
            Ok(response) => return Ok(response),
            Err(no_response) => (no_response.what, None),
        };
        let wait = pace::wait(attempt, after, |max| random.up_to(max));
        if attempt == ATTEMPTS_MAX || wait > WAIT_MAX {
            return Err(Error::new(Kind::Destination, format!("{destination} is unavailable: {what}"))
                .advise("check its URL and this machine's network, or try again later")
                .at(format!("{} {}", request.method, request.url)));
        }
        clock.sleep(wait).await;
        attempt += 1;
    }
}

/// Sends a destination's setup requests, so that changes can be encoded.
///
/// Errors ([`Kind::Destination`], [`Kind::Config`]): no response, or one that makes sending impossible.
pub async fn prepare(
    destination: &mut dyn Destination,
    transport: &dyn Transport,
    clock: &dyn Clock,
    random: &Random,
) -> Result<()> {
    while let Some(request) = destination.setup_request() {
        let response = query(destination.name(), &request, transport, clock, random).await?;
        destination.set_up(&response)?;
    }
    Ok(())
}

/// Reads back: one query after the other, no faster than the destination allows.
pub struct ReadBackClient<'a> {
    destination: &'a dyn Destination,
    /// The requests, and what their responses say.
    pub readback: &'a dyn ReadBack,
    transport: &'a dyn Transport,
    clock: &'a dyn Clock,
    random: &'a Random,
    bucket: Mutex<Bucket>,
}

impl<'a> ReadBackClient<'a> {
    /// A client of a destination that is [prepared](prepare).
    ///
    /// Errors ([`Kind::Config`]): it cannot be read back.
    pub fn new(
        destination: &'a dyn Destination,
        transport: &'a dyn Transport,
        clock: &'a dyn Clock,
        random: &'a Random,
    ) -> Result<ReadBackClient<'a>> {
        let name = destination.name();
        let readback = destination.readback().ok_or_else(|| {
            let able = DESTINATION_TYPES.iter().filter_map(|of| Some((of.name(), of.readback_settings()?)));
            let able: Vec<String> = able.map(|(name, settings)| format!("`{name}` with {settings}")).collect();
            Error::new(Kind::Config, format!("a destination of type `{name}` cannot be read back as it is configured"))
                .advise(format!("what can be read back is {}", able.join(" or ")))
        })?;
        let bucket = Mutex::new(readback.pace().map_or_else(|| Bucket::new(None), Bucket::paced));
        Ok(ReadBackClient { destination, readback, transport, clock, random, bucket })
    }

    /// Sends a query. `None` when there is nothing to read: the destination has no groups of this type yet.
    ///
    /// Errors ([`Kind::Destination`]): no response.
    pub async fn query(&self, query: ReadBackQuery<'_>) -> Result<Option<Response>> {
        let Some(request) = self.readback.request(query) else { return Ok(None) };
        let wait = self.bucket.lock().take(self.clock.elapsed());
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
        self::query(self.destination.name(), &request, self.transport, self.clock, self.random).await.map(Some)
    }
}
