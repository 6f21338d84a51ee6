//! How is a destination asked something that changes nothing? One request at a time, repeated a few times when it fails
//! in passing. Used before a run ([`prepare`]) and by commands that read back; changes travel by [`super::Delivery`].

use std::time::Duration;

use parking_lot::Mutex;

use super::pace::{self, Bucket};
use crate::destination::Destination;
use crate::destination::readback::{ReadBack, ReadBackQuery};
use crate::error::{Error, Kind, Result};
use crate::io::http::Transport;
use crate::io::http::{CallLimits, Request, Response};
use crate::io::{Clock, Random};

const ATTEMPTS_MAX: u32 = 5;
/// Longest one response may take, and be.
const LIMITS: CallLimits = CallLimits { timeout: Duration::from_secs(30), body_bytes_max: super::READ_BYTES_MAX };
/// Longest wait before asking again; a vendor that wants a longer one is not asked again.
const WAIT_MAX: Duration = Duration::from_secs(90);

/// Asks until there is an answer that is neither a throttle (429) nor a server's failure (408, 5xx).
///
/// Errors ([`Kind::Destination`]): there is no such answer.
pub async fn ask(
    destination: &str,
    request: &Request,
    transport: &dyn Transport,
    clock: &dyn Clock,
    random: &Random,
) -> Result<Response> {
    let mut attempt = 1;
    loop {
        let (what, asked) = match transport.send(request, LIMITS).await {
            Ok(response) if response.status == 408 || response.status == 429 || response.status >= 500 => {
                (format!("status {}", response.status), response.retry_after())
            }
            Ok(response) if response.truncated && (200..300).contains(&response.status) => {
                let what = format!("a response of {destination} is longer than {} bytes", LIMITS.body_bytes_max);
                return Err(Error::new(Kind::Destination, what)
                    .advise("report it: no documented response is that long")
                    .at(format!("{} {}", request.method, request.url)));
            }
            Ok(response) => return Ok(response),
            Err(silent) => (silent.what, None),
        };
        let wait = pace::wait(attempt, asked, |max| random.up_to(max));
        if attempt == ATTEMPTS_MAX || wait > WAIT_MAX {
            return Err(Error::new(Kind::Destination, format!("{destination} does not answer a question: {what}"))
                .advise("look at its address and this machine's network, or try again later")
                .at(format!("{} {}", request.method, request.url)));
        }
        clock.sleep(wait).await;
        attempt += 1;
    }
}

/// Asks what a destination must know before anything can be said.
///
/// Errors ([`Kind::Destination`], [`Kind::Config`]): no answer, or one that makes sending impossible.
pub async fn prepare(
    destination: &mut dyn Destination,
    transport: &dyn Transport,
    clock: &dyn Clock,
    random: &Random,
) -> Result<()> {
    while let Some(request) = destination.setup_request() {
        let response = ask(destination.name(), &request, transport, clock, random).await?;
        destination.set_up(&response)?;
    }
    Ok(())
}

/// Reads back: one question after the other, no faster than the destination allows.
pub struct ReadBackClient<'a> {
    destination: &'a dyn Destination,
    /// How it is asked, and how its answers are read.
    pub readback: &'a dyn ReadBack,
    transport: &'a dyn Transport,
    clock: &'a dyn Clock,
    random: &'a Random,
    bucket: Mutex<Bucket>,
}

impl<'a> ReadBackClient<'a> {
    /// Readies questions to a destination that is prepared.
    ///
    /// Errors ([`Kind::Config`]): it cannot be asked.
    pub fn new(
        destination: &'a dyn Destination,
        transport: &'a dyn Transport,
        clock: &'a dyn Clock,
        random: &'a Random,
    ) -> Result<ReadBackClient<'a>> {
        let name = destination.name();
        let readback = destination.readback().ok_or_else(|| {
            Error::new(Kind::Config, format!("{name}, as it is configured, cannot be asked what it holds")).advise(
                "`posthog` can be, with `personal_api_key` and `project_id`; other vendors' APIs only take group traits",
            )
        })?;
        let bucket = Mutex::new(readback.pace().map_or_else(|| Bucket::new(None), Bucket::paced));
        Ok(ReadBackClient { destination, readback, transport, clock, random, bucket })
    }

    /// Asks. `None` when there is nothing to ask about.
    ///
    /// Errors ([`Kind::Destination`]): no answer.
    pub async fn ask(&self, question: ReadBackQuery<'_>) -> Result<Option<Response>> {
        let Some(request) = self.readback.request(question) else { return Ok(None) };
        let wait = self.bucket.lock().take(self.clock.elapsed());
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
        ask(self.destination.name(), &request, self.transport, self.clock, self.random).await.map(Some)
    }
}
