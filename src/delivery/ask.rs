//! How is a destination asked something that changes nothing? One request at a time, repeated a few times when it fails
//! in passing. Used before a run ([`prepare`]) and by commands that read back; changes travel by [`super::Delivery`].

use std::time::Duration;

use super::pace;
use crate::destination::{Destination, Reply, Request};
use crate::env::{Clock, Random, Transport};
use crate::error::{Error, Kind, Result};

const ATTEMPTS_MAX: u32 = 5;
/// Longest one answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
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
) -> Result<Reply> {
    let mut attempt = 1;
    loop {
        let (what, asked) = match transport.send(request, TIMEOUT).await {
            Ok(reply) if reply.status == 408 || reply.status == 429 || reply.status >= 500 => {
                (format!("status {}", reply.status), crate::destination::reply::retry_after(&reply))
            }
            Ok(reply) => return Ok(reply),
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
    while let Some(request) = destination.question() {
        let reply = ask(destination.name(), &request, transport, clock, random).await?;
        destination.learn(&reply)?;
    }
    Ok(())
}
