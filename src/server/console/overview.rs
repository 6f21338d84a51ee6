//! What is broken, what runs now, what is next? The page for three in the morning.

use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::chart::sparkline;
use super::history::changed;
use super::page::{Here, Page};
use super::run::progress;
use super::sync::{next_run, stands};
use super::table::{Shape, number, table, text};
use super::visit::Visit;
use super::words::{
    advice, distance, plural, prose, relative, run_path, shown, shown_line, status, sync_path, thousands, time,
    time_relative, with_query,
};
use crate::ledger::RunStatus;
use crate::service::api::{SCHEDULED_TIMES, ServiceResult};
use crate::service::views::{FireView, State, SyncView};

/// Runs in a sparkline.
const SPARK_RUNS: u64 = 16;
/// Times shown under "next".
const NEXT_SHOWN: usize = 5;
/// What the table says of itself.
const LAG: &str = "Lag is the time since a run last ended with everything delivered, or all but rejected groups.";
/// A run that is due begins within moments; only later is it worth a word.
const OVERDUE_GRACE: TimeDelta = TimeDelta::minutes(2);

/// `GET /`.
pub(super) async fn page(visit: Visit) -> Response {
    visit.respond(build(&visit).await)
}

async fn build(visit: &Visit) -> ServiceResult<Page> {
    let syncs = visit.service.syncs(SCHEDULED_TIMES).await?;
    if syncs.is_empty() {
        return Ok(Page::new("Overview", Here::Overview, nothing_yet()));
    }
    let mut latest = visit.service.latest_runs(SPARK_RUNS).await?;
    let mut rows = Vec::with_capacity(syncs.len());
    for (index, sync) in syncs.iter().enumerate() {
        // The newest come first; a chart goes the other way.
        let mut runs = latest.remove(&sync.sync).unwrap_or_default();
        runs.retain(|run| run.status != RunStatus::Running);
        runs.reverse();
        let figures: Vec<Option<u64>> = runs.iter().map(|run| run.counts.as_ref().map(changed)).collect();
        rows.push(row(visit, sync, &sparkline(&format!("spark-{index}"), "Changed groups", &figures)));
    }
    let mut broken: Vec<(&SyncView, Trouble)> = syncs
        .iter()
        .flat_map(|sync| troubles(visit.now, sync).into_iter().map(move |trouble| (sync, trouble)))
        .collect();
    // What is broken before what is worth a look; within that by name.
    broken.sort_by_key(|(_, trouble)| trouble.tone != "bad");
    let busy = syncs.iter().any(|sync| matches!(activity(sync), Some(State::Running | State::Waiting)));
    let body = html! {
        h1 { "Overview" }
        (attention(&broken))
        div class="two" {
            (running(visit, &syncs))
            (next(visit, &syncs))
        }
        section id="all" aria-labelledby="all-h" data-live {
            h2 id="all-h" { "All syncs" }
            (table("syncs", LAG, Shape::Cards,
                &[text("Sync"), text("State"), text("Last run"), text("Next run"), number("Lag"),
                    text("Changed per run"), number("Known groups")],
                &rows))
        }
    };
    Ok(Page::new("Overview", Here::Overview, body).live(busy))
}

fn nothing_yet() -> Markup {
    html! {
        h1 { "Overview" }
        section class="empty" aria-label="No syncs yet" {
            p { strong { "There are no syncs yet." } }
            ol {
                li { code { "groupcast init" } " writes a config and a mapping to start from." }
                li { "Edit them: the source, the destination, which column becomes which trait." }
                li {
                    code { "groupcast check" } " tells what is still wrong. The daemon takes the files over by itself."
                }
            }
        }
    }
}

fn activity(sync: &SyncView) -> Option<State> {
    sync.activity.as_ref().map(|activity| activity.state)
}

/// Something that needs a person, or is worth a look.
pub(super) struct Trouble {
    pub(super) tone: &'static str,
    sign: &'static str,
    what: String,
    words: Option<String>,
    next: String,
    link: Option<(String, &'static str)>,
}

impl Trouble {
    /// In words; with the sync's name where it leads to its page.
    pub(super) fn told(&self, sync: &SyncView, to_sync: Option<&str>) -> Markup {
        html! {
            p {
                span class="sign" aria-hidden="true" { (self.sign) } " "
                @if let Some(path) = to_sync {
                    a href=(path) { strong { bdi { (shown_line(&sync.sync)) } } } " – "
                }
                (self.what) "."
            }
            @if let Some(words) = &self.words { p class="message" { (shown(words)) } }
            p class="do" {
                (prose(&self.next)) " "
                @if let Some((path, name)) = &self.link {
                    a href=(path) { (name) span class="hidden" { ": " (shown_line(&sync.sync)) } }
                }
            }
        }
    }
}

/// How the last run of a sync went wrong.
pub(super) fn last_trouble(now: DateTime<Utc>, sync: &SyncView) -> Option<Trouble> {
    let run = sync.last_run.as_ref()?;
    let at = relative(now, run.ended_at.unwrap_or(run.started_at));
    let (tone, sign) = (status(run.status).tone, status(run.status).sign);
    let failures = sync.activity.as_ref().map_or(0, |activity| activity.failures);
    let often = if failures > 1 { format!(", the {} time in a row", ordinal(failures)) } else { String::new() };
    let tried_again = match sync.activity.as_ref().and_then(|activity| activity.next_try_at) {
        Some(at) => format!(" The next try is {}.", relative(now, at)),
        None if sync.schedule.is_none() && sync.enabled => " It runs by hand: nothing starts until you do.".to_owned(),
        None => String::new(),
    };
    let (what, next) = match run.status {
        RunStatus::Guarded => {
            let next = "Look at the figures; accept the guard once if they are right.".to_owned();
            (format!("A guard stopped it {at}; nothing was sent"), next)
        }
        RunStatus::Failed => {
            (format!("Failed {at}{often}"), format!("{}{tried_again}", advice(run.error_kind.as_deref())))
        }
        RunStatus::Died => {
            let next = format!("The next run takes up what it left; ask why the process ended.{tried_again}");
            (format!("Died {at}{often}"), next)
        }
        RunStatus::Incomplete => {
            let open = run.counts.as_ref().map_or(0, crate::sync::report::Counts::open);
            let next = format!("The next run says the rest.{tried_again}");
            (format!("Ended {at} with {} left to say", plural(open, "group")), next)
        }
        RunStatus::Running | RunStatus::Delivered | RunStatus::SomeRejected => return None,
    };
    let link = match run.status {
        RunStatus::Guarded => (format!("{}#guard", sync_path(&sync.sync)), "Look at the guard"),
        _ => (run_path(&run.run), "Look at the run"),
    };
    Some(Trouble { tone, sign, what, words: run.error.clone(), next, link: Some(link) })
}

/// What is wrong with a sync, the worst first.
fn troubles(now: DateTime<Utc>, sync: &SyncView) -> Vec<Trouble> {
    let mut found: Vec<Trouble> = last_trouble(now, sync).into_iter().collect();
    let waits = !matches!(activity(sync), Some(State::Running | State::Waiting | State::Paused | State::BackingOff));
    let overdue = sync.schedule.as_ref().and_then(|schedule| schedule.overdue_since);
    if let Some(since) = overdue.filter(|since| waits && sync.enabled && now - *since > OVERDUE_GRACE) {
        found.push(Trouble {
            tone: "warn",
            sign: "!",
            what: format!("Overdue for {}", distance(now - since)),
            words: None,
            next: "Other runs may hold its place; see what is running.".to_owned(),
            link: Some((sync_path(&sync.sync), "Look at the sync")),
        });
    }
    if sync.standing.rejected > 0 {
        found.push(Trouble {
            tone: "warn",
            sign: "!",
            what: format!("{} rejected", plural(sync.standing.rejected, "group")),
            words: None,
            next:
                "Read the destination's words, correct the rows or the mapping; a changed row is tried again by itself."
                    .to_owned(),
            link: Some((with_query("/rejected", &[("sync", &sync.sync)]), "See them")),
        });
    }
    found
}

fn ordinal(count: u32) -> String {
    let suffix = match (count % 100, count % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{}{suffix}", thousands(u64::from(count)))
}

fn attention(broken: &[(&SyncView, Trouble)]) -> Markup {
    html! {
        section id="attention" aria-labelledby="attention-h" data-live {
            h2 id="attention-h" { "Needs attention" }
            @if broken.is_empty() {
                p class="calm" { span aria-hidden="true" { "✓ " } "Nothing is broken." }
            } @else {
                ul class="troubles" {
                    @for (sync, trouble) in broken {
                        li class={ "notice " (trouble.tone) } { (trouble.told(sync, Some(&sync_path(&sync.sync)))) }
                    }
                }
            }
        }
    }
}

fn running(visit: &Visit, syncs: &[SyncView]) -> Markup {
    let active = || syncs.iter().filter_map(|sync| Some((sync, sync.activity.as_ref()?)));
    let under_way: Vec<_> = active().filter_map(|(sync, activity)| Some((sync, activity.running.as_ref()?))).collect();
    let waiting: Vec<_> = active().filter_map(|(sync, activity)| Some((sync, activity.waiting.as_ref()?))).collect();
    html! {
        section id="running" aria-labelledby="running-h" data-live {
            h2 id="running-h" { "Running now" }
            @if under_way.is_empty() && waiting.is_empty() {
                p class="calm" { "No run is under way." }
            }
            @for (index, (sync, now_running)) in under_way.iter().enumerate() {
                article class="card" {
                    h3 {
                        a href=(run_path(&now_running.run)) { bdi { (shown_line(&sync.sync)) } }
                        " " span class="soft" { "started " (relative(visit.now, now_running.started_at)) " by "
                            (shown_line(&now_running.started_by)) }
                    }
                    (progress(&format!("progress-{index}"), now_running))
                }
            }
            @for (sync, waits) in &waiting {
                article class="card" {
                    h3 {
                        a href=(run_path(&waits.run)) { bdi { (shown_line(&sync.sync)) } }
                        " " span class="soft" { "waiting for " (distance(visit.now - waits.since)) }
                    }
                }
            }
        }
    }
}

fn next(visit: &Visit, syncs: &[SyncView]) -> Markup {
    let starts = |sync: &&SyncView| !matches!(activity(sync), Some(State::Paused | State::Disabled)) && sync.enabled;
    let mut fires: Vec<(&SyncView, &FireView, &str)> = (syncs.iter().filter(starts))
        .filter_map(|sync| Some((sync, sync.schedule.as_ref()?)))
        .flat_map(|(sync, schedule)| schedule.next.iter().map(move |fire| (sync, fire, schedule.timezone.as_str())))
        .collect();
    fires.sort_by_key(|(_, fire, _)| fire.utc);
    fires.truncate(NEXT_SHOWN);
    html! {
        section id="next" aria-labelledby="next-h" data-live {
            h2 id="next-h" { "Next" }
            @if fires.is_empty() {
                p class="calm" { "No run has a time: syncs run by hand, after another one, or are paused." }
            } @else {
                ol class="plain next" {
                    @for (sync, fire, zone) in &fires {
                        li {
                            a href=(sync_path(&sync.sync)) { bdi { (shown_line(&sync.sync)) } } " "
                            (fire_time(visit.now, fire, zone))
                        }
                    }
                }
            }
        }
    }
}

/// A time to come: how far away, in the schedule's zone, and in UTC.
pub(super) fn fire_time(now: DateTime<Utc>, fire: &FireView, zone: &str) -> Markup {
    let local = DateTime::parse_from_rfc3339(&fire.local).map(|local| local.format("%a %-d %b %H:%M").to_string());
    html! {
        span class="when" { (relative(now, fire.utc)) } " "
        span class="soft" {
            time datetime=(fire.local) { (local.unwrap_or_else(|_| shown_line(&fire.local))) } " " (shown_line(zone))
            @if zone != "UTC" { " · " (fire.utc.format("%H:%M")) " UTC" }
        }
    }
}

fn row(visit: &Visit, sync: &SyncView, spark: &Markup) -> Vec<Markup> {
    let now = visit.now;
    let standing = &sync.standing;
    vec![
        html! {
            a href=(sync_path(&sync.sync)) { bdi { (shown_line(&sync.sync)) } }
            div class="soft" { bdi { (shown_line(&sync.source)) } " → " bdi { (shown_line(&sync.destination)) } }
        },
        stands(sync).badge(),
        match &sync.last_run {
            None => html! { span class="soft" { "never" } },
            Some(run) => html! {
                a class="quiet" href=(run_path(&run.run)) { (status(run.status).badge()) }
                div { (time_relative(now, run.ended_at.unwrap_or(run.started_at))) }
            },
        },
        next_run(now, sync),
        match sync.last_success_at {
            Some(at) => html! { span title={ "since " (at.to_rfc3339()) } { (distance(now - at)) } },
            None => html! { span class="soft" { "never" } },
        },
        spark.clone(),
        html! {
            (thousands(standing.known))
            @if standing.rejected > 0 { div class="soft" { (thousands(standing.rejected)) " rejected" } }
            @if standing.unconfirmed > 0 { div class="soft" { (thousands(standing.unconfirmed)) " unconfirmed" } }
        },
    ]
}

/// Since when something holds, for lists.
pub(super) fn since(now: DateTime<Utc>, at: DateTime<Utc>) -> Markup {
    html! { "since " (time(now, at)) }
}

#[cfg(test)]
mod tests {
    use super::ordinal;

    #[test]
    fn ordinals_have_their_endings() {
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 13, 21, 102, 111].map(ordinal).join(" "),
            "1st 2nd 3rd 4th 11th 12th 13th 21st 102nd 111th"
        );
    }
}
