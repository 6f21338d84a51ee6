//! Sources and destinations: whether each can be reached, and how long it takes.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Examined, Health};
use crate::cli::check::PROBE_LIMITS;
use crate::config::{DestinationSettings, Project, SourceSettings};
use crate::error::{Error, Kind, Result};
use crate::io::http::{HttpClient, Response, Transport};
use crate::io::{Clock, SystemClock};
use crate::mapping::{From, Model};
use crate::service::open;

/// Longest that a source may take.
const SOURCE_MAX: Duration = Duration::from_secs(60);
/// How far a server's clock may be away from this machine's: tokens and signatures allow a few minutes.
const CLOCK_DIFFERENCE_MAX: TimeDelta = TimeDelta::minutes(2);

pub(super) async fn source(project: &Project, settings: &SourceSettings) -> Examined {
    let subject = format!("source {}", settings.name);
    let clock = SystemClock::start();
    let connected = tokio::time::timeout(SOURCE_MAX, connect(project, settings)).await.unwrap_or_else(|_| {
        Err(Error::new(Kind::Source, format!("no response within {} s", SOURCE_MAX.as_secs()))
            .advise("check its address and this machine's network"))
    });
    match connected {
        Ok(()) => Examined::ok(&subject, format!("{}, connected in {}", settings.kind, seconds(clock.elapsed()))),
        Err(error) => Examined::error(&subject, &error),
    }
}

/// The least that needs a connection.
async fn connect(project: &Project, settings: &SourceSettings) -> Result<()> {
    let mut source = open::source(settings, &project.settings).await?;
    let least = Model { from: From::Query("SELECT 1 AS one".to_owned()), filter: None };
    source.describe(&least).await.map(drop)
}

pub(super) async fn destination(project: &Project, settings: &DestinationSettings) -> Vec<Examined> {
    let subject = format!("destination {}", settings.name);
    match probe(project, settings).await {
        Ok(found) => found,
        Err(error) => vec![Examined::error(&subject, &error)],
    }
}

async fn probe(project: &Project, settings: &DestinationSettings) -> Result<Vec<Examined>> {
    let subject = format!("destination {}", settings.name);
    let mut mappings = project.mappings.iter().map(|file| &file.mapping);
    let group_type = mappings.find(|mapping| mapping.destination == settings.name).map(|mapping| &mapping.group_type);
    let destination = open::destination(settings, group_type.map_or("company", String::as_str))?;
    let Some(request) = destination.probe() else {
        return Ok(vec![Examined::ok(&subject, format!("{}, needs no network", settings.kind))]);
    };
    let clock = SystemClock::start();
    let response = match HttpClient::new()?.send(&request, PROBE_LIMITS).await {
        Ok(response) => response,
        Err(lost) => {
            let address = open::destination_type(settings)?.address_settings().join(" and ");
            let help = format!("check {address} of the destination, and this machine's network and proxy settings");
            let what = format!("{} is unavailable: {}", settings.kind, lost.what);
            return Ok(vec![Examined { help: Some(help), ..Examined::new(&subject, Health::Error, what) }]);
        }
    };
    let took = seconds(clock.elapsed());
    let reached = format!("{}, reached in {took} (credentials not verified)", settings.kind);
    let mut found = vec![Examined::ok(&subject, reached)];
    if let Some(difference) = difference(&response, clock.now()).filter(|found| found.abs() > CLOCK_DIFFERENCE_MAX) {
        let what = format!("{} s away from the clock of destination {}", difference.num_seconds(), settings.name);
        found.push(Examined::warning("clock", what, "set the machine's clock, best by a time service"));
    }
    Ok(found)
}

/// How far the server's clock is ahead of this machine's.
fn difference(response: &Response, now: DateTime<Utc>) -> Option<TimeDelta> {
    let (_, date) = response.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("date"))?;
    Some(DateTime::parse_from_rfc2822(date).ok()?.to_utc() - now)
}

fn seconds(took: Duration) -> String {
    format!("{:.2} s", took.as_secs_f64())
}
