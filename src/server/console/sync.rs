//! How does one sync stand, what did it do, what does its mapping say, and what can be ordered?

use axum::extract::Path;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::guards::{readings, stopped};
use super::history::{charts, runs_table};
use super::overview::{fire_time, last_trouble, since};
use super::page::{Here, Page, crumbs, facts};
use super::run::progress;
use super::table::{Shape, table, text};
use super::visit::Visit;
use super::words::{
    Mark, distance, long, plural, relative, run_path, shown, shown_line, state, status, sync_path, thousands, time,
    with_query,
};
use crate::ledger::RunStatus;
use crate::service::api::ServiceResult;
use crate::service::views::{MappingView, State, SyncDetail, SyncView};

/// Runs in the table; the charts show more.
const RUNS_SHOWN: usize = 12;

/// `GET /syncs/{sync}`.
pub(super) async fn page(visit: Visit, Path(sync): Path<String>) -> Response {
    let page = build(&visit, &sync).await;
    visit.respond(page)
}

async fn build(visit: &Visit, name: &str) -> ServiceResult<Page> {
    let detail = visit.service.sync(name).await?;
    let (sync, now) = (&detail.sync, visit.now);
    let activity = sync.activity.as_ref();
    let last = sync.last_run.as_ref();
    let guarded = last.filter(|run| run.status == RunStatus::Guarded);
    let seen = detail.last.as_ref().map(|last| last.guards.as_slice()).unwrap_or_default();
    let busy = activity.is_some_and(|activity| activity.running.is_some() || activity.waiting.is_some());
    let body = html! {
        (crumbs(&[("/", "Overview")], &sync.sync))
        div id="head" data-live {
            h1 { bdi { (shown_line(&sync.sync)) } " " (badges(sync)) }
            p class="soft" {
                bdi { (shown_line(&sync.source)) } " → " bdi { (shown_line(&sync.destination)) } " ("
                (shown_line(&sync.destination_type)) "), group type " bdi { (shown_line(&sync.group_type)) }
            }
        }
        (orders(visit, sync, detail.mapping.cursor.is_some()))
        (went_wrong(visit, sync))
        @if let Some(run) = guarded {
            (stopped(visit, &sync.sync, run.error.as_deref(), seen, detail.mapping.cursor.is_some()))
        }
        div id="now" data-live { (under_way(visit, sync)) }
        section id="standing" aria-labelledby="standing-h" data-live {
            h2 id="standing-h" { "How it stands" }
            (standing(now, sync))
        }
        (search(&sync.sync, None))
        section id="history" aria-labelledby="history-h" data-live {
            h2 id="history-h" { "Runs" }
            @if detail.runs.is_empty() {
                p class="empty" { "It never ran. Look at the plan, then press “Run now”." }
            } @else {
                (charts(now, &detail.runs))
                @let latest = &detail.runs[..detail.runs.len().min(RUNS_SHOWN)];
                (runs_table(now, "runs", "The latest runs, the newest first", latest, false))
                p { a href=(with_query("/runs", &[("sync", &sync.sync)])) { "All its runs" } }
            }
        }
        section id="guards" aria-labelledby="guards-h" {
            h2 id="guards-h" { "Guards" }
            @if detail.last.is_some() { (readings("readings", seen)) }
            @else if detail.runs.is_empty() { p class="soft" { "The guards read nothing before the first run." } }
            @else { p class="soft" { "No run has come as far as the guards yet." } }
        }
        (mapping(&detail))
    };
    Ok(Page::new(name, Here::Elsewhere, body).live(busy))
}

/// What the daemon does about a sync, and where no daemon does, what its mapping says.
pub(super) fn stands(sync: &SyncView) -> Mark {
    state(match &sync.activity {
        Some(activity) => activity.state,
        None if !sync.enabled => State::Disabled,
        None if sync.schedule.is_some() => State::Scheduled,
        None => State::Manual,
    })
}

/// When a run that waits begins.
pub(super) fn begins(visit: &Visit, behind_its_own: bool) -> &'static str {
    match (visit.about.stopping, behind_its_own) {
        (true, _) => "The daemon is stopping: it begins after the next start.",
        (false, true) => "It begins when the run under way has ended.",
        (false, false) => "It begins as soon as there is room.",
    }
}

/// How the last run went wrong; what a guard stopped has a section of its own.
fn went_wrong(visit: &Visit, sync: &SyncView) -> Markup {
    let guarded = sync.last_run.as_ref().is_some_and(|run| run.status == RunStatus::Guarded);
    html! {
        @if let Some(trouble) = last_trouble(visit.now, sync).filter(|_| !guarded) {
            section id="trouble" class={ "notice " (trouble.tone) } aria-label="Last run" { (trouble.told(sync, None)) }
        }
    }
}

/// The badges of a sync's heading: what the daemon does about it, and how its last run ended when that was not well.
fn badges(sync: &SyncView) -> Markup {
    let stopped = sync.last_run.as_ref().map(|run| status(run.status)).filter(|mark| mark.tone == "bad");
    html! {
        (stands(sync).badge())
        @if let Some(mark) = stopped { " " (mark.badge()) }
    }
}

/// The next run, in a cell.
pub(super) fn next_run(now: DateTime<Utc>, sync: &SyncView) -> Markup {
    let activity = sync.activity.as_ref();
    match (activity.map(|activity| activity.state), &sync.schedule) {
        (Some(State::Paused), _) => html! { span class="soft" { "paused" } },
        (Some(State::Disabled), _) => html! { span class="soft" { "disabled" } },
        (Some(State::BackingOff), _) if activity.is_some_and(|activity| activity.next_try_at.is_some()) => {
            let at = activity.and_then(|activity| activity.next_try_at).unwrap_or(now);
            html! { span class="when" { (relative(now, at)) } div class="soft" { "tried again" } }
        }
        (_, None) => html! { span class="soft" { "by hand" } },
        (_, Some(schedule)) => match schedule.next.first() {
            Some(fire) => fire_time(now, fire, &schedule.timezone),
            None => html! { span class="soft" { (shown_line(&schedule.written)) } },
        },
    }
}

fn orders(visit: &Visit, sync: &SyncView, incremental: bool) -> Markup {
    let path = sync_path(&sync.sync);
    let paused = sync.activity.as_ref().is_some_and(|activity| activity.state == State::Paused);
    let run = format!("{path}/run");
    html! {
        div class="orders" role="group" aria-label="Orders" {
            (visit.order(&run, html! {}, html! { button class="primary" { "Run now" } }))
            a class="button" href={ (path) "/plan" } rel="nofollow" data-slow="Reading the source…" { "Plan" }
            @if incremental {
                (visit.order(&run, html! { input type="hidden" name="full" value="1"; },
                    html! { button { "Run in full" } }))
            }
            @if sync.standing.rejected > 0 {
                (visit.order(&run, html! { input type="hidden" name="retry_rejected" value="1"; },
                    html! { button { "Retry " (thousands(sync.standing.rejected)) " rejected" } }))
            }
            @if paused {
                (visit.order(&format!("{path}/resume"), html! {}, html! { button { "Resume" } }))
            } @else if sync.enabled {
                (visit.order(&format!("{path}/pause"), html! {}, html! { button { "Pause" } }))
            }
        }
    }
}

fn under_way(visit: &Visit, sync: &SyncView) -> Markup {
    let running = sync.activity.as_ref().and_then(|activity| activity.running.as_ref());
    let waiting = sync.activity.as_ref().and_then(|activity| activity.waiting.as_ref());
    html! {
        @if let Some(running) = running {
            section class="card" aria-labelledby="running-h" {
                h2 id="running-h" { a href=(run_path(&running.run)) { "Run under way" } " "
                    span class="soft" { "started " (relative(visit.now, running.started_at)) " by "
                        (shown_line(&running.started_by)) } }
                (progress("progress", running))
            }
        }
        @if let Some(waiting) = waiting {
            section class="card" aria-labelledby="waiting-h" {
                h2 id="waiting-h" { a href=(run_path(&waiting.run)) { "A run waits" } " "
                    span class="soft" { (since(visit.now, waiting.since)) } }
                p { (begins(visit, running.is_some())) }
            }
        }
    }
}

fn standing(now: DateTime<Utc>, sync: &SyncView) -> Markup {
    let groups = &sync.standing;
    let mut pairs = vec![
        ("Known groups", html! { (thousands(groups.known)) }),
        (
            "Unconfirmed",
            html! {
                (thousands(groups.unconfirmed))
                @if groups.unconfirmed > 0 { span class="soft" { " said again in full by the next run" } }
            },
        ),
        (
            "Rejected",
            html! {
                @if groups.rejected == 0 { "0" }
                @else { a href=(with_query("/rejected", &[("sync", &sync.sync)])) { (thousands(groups.rejected)) } }
            },
        ),
        (
            "Last success",
            match sync.last_success_at {
                Some(at) => time(now, at),
                None => html! { "never" },
            },
        ),
    ];
    if let Some(at) = sync.last_success_at {
        pairs.push(("Lag", html! { (distance(now - at)) }));
    }
    match &sync.schedule {
        None => pairs.push(("Schedule", html! { "none: runs start by hand" })),
        Some(schedule) => {
            let written = html! {
                code { (shown_line(&schedule.written)) } " " span class="soft" { (shown_line(&schedule.timezone)) }
            };
            pairs.push(("Schedule", written));
            if let Some(since) = schedule.overdue_since {
                pairs.push(("Overdue since", time(now, since)));
            }
            let state = sync.activity.as_ref().map(|activity| activity.state);
            if state == Some(State::Paused) {
                pairs.push(("Next runs", html! { "none until it is resumed" }));
            } else if !sync.enabled {
                pairs.push(("Next runs", html! { "none: the mapping says " code { "enabled = false" } }));
            } else if !schedule.next.is_empty() {
                pairs.push((
                    "Next runs",
                    html! {
                        ol class="plain" {
                            @for fire in &schedule.next { li { (fire_time(now, fire, &schedule.timezone)) } }
                        }
                    },
                ));
            }
        }
    }
    if let Some(activity) = &sync.activity {
        if let Some(at) = activity.paused_since {
            pairs.push(("Paused since", time(now, at)));
        }
        if activity.failures > 0 {
            pairs.push(("Failed in a row", html! { (plural(u64::from(activity.failures), "run")) }));
        }
        if let Some(at) = activity.next_try_at {
            pairs.push(("Next try", time(now, at)));
        }
    }
    facts(&pairs)
}

/// The box that opens a group by its key.
pub(super) fn search(sync: &str, key: Option<&str>) -> Markup {
    html! {
        form class="search" role="search" method="get" action={ (sync_path(sync)) "/groups" } {
            label for="key" { "Open a group by its key" }
            div class="joined" {
                input id="key" name="key" type="text" required autocomplete="off" autocapitalize="none"
                    spellcheck="false" value=[key];
                button { "Open" }
            }
        }
    }
}

fn mapping(detail: &SyncDetail) -> Markup {
    let mapping: &MappingView = &detail.mapping;
    let rows: Vec<Vec<Markup>> = (mapping.traits.iter())
        .map(|mapped| {
            vec![
                html! { bdi { (shown_line(&mapped.name)) } },
                html! { code { (long(&mapped.from)) } },
                match &mapped.kind {
                    Some(kind) => html! { (shown_line(kind)) },
                    None => html! { span class="soft" { "as it comes" } },
                },
                html! {
                    (shown_line(&mapped.op))
                    @if mapped.always { " " span class="soft" { "sent with every change" } }
                },
                html! { (shown_line(&mapped.on_null)) },
            ]
        })
        .collect();
    let columns = [text("Trait"), text("From column"), text("Type"), text("Operator"), text("A null means")];
    let mut pairs = vec![("File", html! { code { (shown_line(&mapping.file)) } })];
    let lines = mapping.model.lines().count();
    if lines > 1 || mapping.model.contains(' ') {
        pairs.push(("Model", html! { pre tabindex="0" aria-label="Model" { (shown(&mapping.model)) } }));
    } else {
        pairs.push(("Model", html! { code { (shown(&mapping.model)) } }));
    }
    if let Some(filter) = &mapping.filter {
        pairs.push(("Where", html! { code { (shown(filter)) } }));
    }
    pairs.push(("Key", html! { code { (shown_line(&mapping.key)) } }));
    if let Some(cursor) = &mapping.cursor {
        pairs.push(("Cursor", html! { code { (shown_line(cursor)) } }));
    }
    let policy = html! {
        ul class="plain" {
            @for (name, word) in &mapping.policy { li { code { (shown_line(name)) " = " (shown_line(word)) } } }
        }
    };
    pairs.push(("Policy", policy));
    html! {
        section id="mapping" aria-labelledby="mapping-h" {
            h2 id="mapping-h" { "Mapping" }
            (facts(&pairs))
            (table("traits", "Which trait comes from which column", Shape::Cards, &columns, &rows))
        }
    }
}
