//! What did one run do, in counts that add up, and how did the sending go?

use axum::extract::{Path, RawQuery};
use axum::response::Response;
use maud::{Markup, html};

use super::chart::{Bar, Chart, Unit, bars};
use super::guards::stopped;
use super::page::{Here, Page, crumbs, facts};
use super::said;
use super::sync::begins;
use super::table::{Shape, number, table, text};
use super::values;
use super::visit::{Params, Visit};
use super::words::{
    advice, bytes, group_link, long, outcome, plural, prose, sentence, shown, shown_line, span, status, sync_path,
    thousands, time, time_relative, with_query,
};
use crate::ledger::RunStatus;
use crate::service::api::{ServiceError, ServiceResult};
use crate::service::views::{Progress, QueuedRunView, RunDetail, RunView, SaidView};
use crate::sync::report::{Counts, Detail, Tally};
use crate::sync::timeline::Timeline;

/// `GET /runs/{run}`, `?outcome=` and `?from=` for what it said, `?joined=` after an order that another one had made.
pub(super) async fn page(visit: Visit, Path(run): Path<String>, query: RawQuery) -> Response {
    let page = build(&visit, &run, &Params::of_query(&query)).await;
    visit.respond(page)
}

async fn build(visit: &Visit, id: &str, params: &Params) -> ServiceResult<Page> {
    let detail = match visit.service.run(id).await {
        Ok(detail) => detail,
        Err(refused @ ServiceError::NotFound(_)) => return not_yet(visit, id, params, refused).await,
        Err(refused) => return Err(refused),
    };
    let run = &detail.run;
    let going = run.status == RunStatus::Running;
    if detail.progress.as_ref().is_some_and(|progress| progress.phase == "waiting")
        && let Some((waiting, behind)) = waiting(visit, &run.sync, id).await
    {
        return Ok(waits(visit, &run.sync, &waiting, behind, params));
    }
    let sync = sync_path(&run.sync);
    let told = said::section(visit, run, params).await?;
    let body = html! {
        (crumbs(&[("/", "Overview"), (&sync, &run.sync)], "Run"))
        div id="head" data-live {
            h1 { "Run of " bdi { (shown_line(&run.sync)) } " " (status(run.status).badge()) }
            (head(visit, run))
        }
        (joined(params))
        @if let Some(progress_now) = &detail.progress {
            section id="progress-section" class="card" aria-labelledby="progress-h" data-live {
                h2 id="progress-h" { "Progress" }
                (progress("progress", progress_now))
            }
        }
        @if going { (stop(visit, run, detail.progress.as_ref())) } @else { (after(visit, &detail).await) }
        @if let Some(counts) = &run.counts { (sums(&run.sync, counts, run.status)) }
        @if !going { (requests(&detail.detail, run.counts.as_ref())) }
        @if !detail.rejected.is_empty() { (rejections(visit, &run.sync, &detail.rejected)) }
        (told)
    };
    let title = format!("Run of {}: {}", run.sync, status(run.status).word);
    Ok(Page::new(title, Here::Elsewhere, body).live(going))
}

fn joined(params: &Params) -> Markup {
    html! {
        @if params.flag("joined") {
            p class="notice plain" role="status" {
                "An equal run was already waiting; it has not read the source yet, so it will do."
            }
        }
    }
}

/// The order of a run that has not begun, and whether a run of its own sync is before it.
async fn waiting(visit: &Visit, sync: &str, id: &str) -> Option<(QueuedRunView, bool)> {
    let activity = visit.service.sync(sync).await.ok()?.sync.activity?;
    let behind = activity.running.is_some();
    Some((activity.waiting.filter(|waiting| waiting.run == id)?, behind))
}

/// A run without a record: it waits, or is about to begin.
async fn not_yet(visit: &Visit, id: &str, params: &Params, refused: ServiceError) -> ServiceResult<Page> {
    for sync in visit.service.syncs(0).await? {
        let Some(activity) = &sync.activity else { continue };
        if let Some(waiting) = activity.waiting.as_ref().filter(|waiting| waiting.run == id) {
            return Ok(waits(visit, &sync.sync, waiting, activity.running.is_some(), params));
        }
        if let Some(running) = activity.running.as_ref().filter(|running| running.run == id) {
            let path = sync_path(&sync.sync);
            let body = html! {
                (crumbs(&[("/", "Overview"), (&path, &sync.sync)], "Run"))
                h1 { "Run of " bdi { (shown_line(&sync.sync)) } " " (status(RunStatus::Running).badge()) }
                section id="progress-section" class="card" aria-labelledby="progress-h" data-live {
                    h2 id="progress-h" { "Progress" }
                    (progress("progress", running))
                }
            };
            return Ok(Page::new(format!("Run of {}", sync.sync), Here::Elsewhere, body).live(true));
        }
    }
    Err(refused)
}

fn waits(visit: &Visit, sync: &str, waiting: &QueuedRunView, behind: bool, params: &Params) -> Page {
    let path = sync_path(sync);
    let options = &waiting.options;
    let body = html! {
        (crumbs(&[("/", "Overview"), (&path, sync)], "Run"))
        h1 { "Run of " bdi { (shown_line(sync)) } " " (super::words::state(crate::service::views::State::Waiting).badge()) }
        (joined(params))
        p { "It waits since " (time(visit.now, waiting.since)) ". " (begins(visit, behind)) }
        @if options.full || options.retry_rejected || !options.accept.is_empty() || options.group.is_some() {
            ul {
                @if options.full { li { "reads the whole model" } }
                @if options.retry_rejected { li { "tries rejected groups again" } }
                @for guard in &options.accept { li { "accepts the guard " code { (shown_line(guard)) } } }
                @if let Some(group) = &options.group { li { "only the group " (group_link(sync, group)) } }
            }
        }
        div class="orders" role="group" aria-label="Orders" {
            (visit.order(&format!("{}/cancel", super::words::run_path(&waiting.run)),
                html! { input type="hidden" name="waited_for" value=(sync); },
                html! { button { "Take it back" } }))
        }
    };
    Page::new(format!("Run of {sync}"), Here::Elsewhere, body).live(true)
}

fn head(visit: &Visit, run: &RunView) -> Markup {
    let mut pairs = vec![("Started", time(visit.now, run.started_at))];
    if let Some(at) = run.ended_at {
        pairs.push(("Ended", time(visit.now, at)));
    }
    if let Some(seconds) = run.seconds() {
        pairs.push(("Took", html! { (span(seconds)) }));
    }
    if !run.started_by.is_empty() {
        pairs.push(("Started by", html! { (shown_line(&run.started_by)) }));
    }
    pairs.push(("Id", html! { code { (shown_line(&run.run)) } }));
    facts(&pairs)
}

/// How far a run is.
pub(super) fn progress(id: &str, at: &Progress) -> Markup {
    let phase = match at.phase.as_str() {
        "starting" => "Starting",
        "reading" => "Reading the source",
        "sending" => "Sending",
        "stopping" => "Stopping: waits for what is in flight",
        other => other,
    };
    html! {
        div class="progress" {
            label for=(id) { (shown_line(phase)) }
            @match at.candidates {
                Some(candidates) if candidates > 0 => {
                    span { (thousands(at.settled)) " of " (plural(candidates, "group")) " settled" }
                    progress id=(id) max=(candidates) value=(at.settled.min(candidates)) {}
                }
                _ => {
                    span { (plural(at.rows_read, "row")) " read" }
                    progress id=(id) {}
                }
            }
            span class="soft" {
                (plural(at.rows_read, "row")) ", " (plural(at.requests, "request"))
                @if at.retries > 0 { ", " (thousands(at.retries)) " of them repeats" }
            }
        }
    }
}

fn stop(visit: &Visit, run: &RunView, at: Option<&Progress>) -> Markup {
    let stopping = at.is_some_and(|at| at.phase == "stopping");
    html! {
        div class="orders" role="group" aria-label="Orders" {
            (visit.order(&format!("{}/cancel", super::words::run_path(&run.run)), html! {}, html! {
                button class=[stopping.then_some("danger")] {
                    (if stopping { "Abandon what is in flight" } else { "Stop this run" })
                }
            }))
            a class="button" href=(super::words::run_path(&run.run)) { "Refresh" }
        }
        p class="soft" {
            @if stopping { "What is abandoned counts as unknown and is said again in full by the next run." }
            @else { "What was answered is recorded, the rest is said by the next run." }
        }
    }
}

/// What went wrong with a run that has ended, and what can be done.
async fn after(visit: &Visit, detail: &RunDetail) -> Markup {
    let run = &detail.run;
    // A mapping may have been deleted since; then there is nothing to order.
    let sync = visit.service.sync(&run.sync).await.ok();
    let incremental = sync.as_ref().is_some_and(|sync| sync.mapping.cursor.is_some());
    let latest = sync.as_ref().and_then(|sync| sync.sync.last_run.as_ref()).is_some_and(|last| last.run == run.run);
    let again = format!("{}/run", sync_path(&run.sync));
    let mark = status(run.status);
    html! {
        @if run.status == RunStatus::Guarded && latest {
            (stopped(visit, &run.sync, run.error.as_deref(), &detail.detail.guards, incremental))
        } @else if let Some(error) = &run.error {
            section class={ "notice " (mark.tone) } aria-label="Error" {
                p class="message" { (shown(error)) }
                p { strong { "What to do: " }
                    @if run.status == RunStatus::Guarded { "Nothing here: a later run took place." }
                    @else if run.status == RunStatus::Died {
                        "Ask why the process ended. The next run takes up what it left; groups whose outcome it did not "
                        "learn are unconfirmed until then, and said again in full."
                    }
                    @else if let Some(advice) = &detail.detail.advice { (prose(&sentence(advice))) }
                    @else { (prose(advice(run.error_kind.as_deref()))) }
                }
            }
        } @else if run.status == RunStatus::Died {
            section class="notice bad" aria-label="Error" {
                p {
                    "The process ended during this run. The next run takes up what it left; what it sent and did not "
                    "learn the outcome of is said again in full."
                }
            }
        }
        @if latest && matches!(run.status, RunStatus::Failed | RunStatus::Died | RunStatus::Incomplete | RunStatus::SomeRejected) {
            div class="orders" role="group" aria-label="Orders" {
                (visit.order(&again, html! {}, html! { button class="primary" { "Run again" } }))
                @if run.status == RunStatus::SomeRejected {
                    (visit.order(&again, html! { input type="hidden" name="retry_rejected" value="1"; },
                        html! { button { "Retry the rejected" } }))
                }
            }
        }
    }
}

/// The counts as an equation.
fn sums(sync: &str, counts: &Counts, ended: RunStatus) -> Markup {
    let finished = matches!(ended, RunStatus::Delivered | RunStatus::SomeRejected);
    let term = |class: &str, count: u64, what: &str| {
        html! { span class={ "term " (class) } { b { (thousands(count)) } " " span { (what) } } }
    };
    let sign = |sign: &str| html! { span class="sign" { (sign) } };
    let tally = |tally: &Tally| {
        html! {
            (term("good", tally.delivered, "delivered")) (sign("+"))
            (term("bad", tally.rejected, "rejected")) (sign("+"))
            (term("warn", tally.not_sent, "not sent")) (sign("+"))
            (term("warn", tally.unknown, "unknown"))
        }
    };
    let refused_now = counts.said.rejected.saturating_sub(counts.held + counts.invalid_keys);
    html! {
        section aria-labelledby="counts-h" {
            h2 id="counts-h" { "Counts" }
            p class="sum" {
                (term("whole", counts.rows, if counts.rows == 1 { "row" } else { "rows" })) (sign("="))
                (term("", counts.unchanged, "unchanged")) (sign("+")) (tally(&counts.said))
            }
            @if !counts.add_up() {
                p class="notice bad" {
                    strong { "These counts do not add up. " } "That is a bug of ours: report it with this page."
                }
            }
            @if counts.said.rejected > 0 {
                p class="soft" {
                    "Of the rejected: " (thousands(refused_now)) " by this run, " (thousands(counts.held))
                    " rejected earlier and not tried again, " (thousands(counts.invalid_keys)) " without a usable key. "
                    @if counts.held > 0 { a href=(with_query("/rejected", &[("sync", sync)])) { "See them" } }
                }
            }
            @if counts.missing > 0 {
                h3 { "Groups that left the model" }
                @if counts.removed.total() > 0 {
                    p class="sum" {
                        (term("whole", counts.removed.total(), "to remove")) (sign("=")) (tally(&counts.removed))
                    }
                }
                p class="soft" {
                    (plural(counts.missing, "known group")) " not in the model"
                    @if counts.removed.total() == 0 && finished { "; the policy keeps them" }
                    "."
                }
            }
            p {
                (plural(counts.traits_set, "trait")) " set and " (thousands(counts.traits_unset)) " unset; "
                (plural(counts.new, "group")) " never known before; " (plural(counts.requests, "request"))
                @if counts.retries > 0 { ", " (thousands(counts.retries)) " of them repeats" }
                "."
            }
        }
    }
}

fn requests(detail: &Detail, counts: Option<&Counts>) -> Markup {
    let rows: Vec<Vec<Markup>> = (detail.by_status.iter())
        .map(|(status, attempts)| {
            let name = if *status == 0 { "no answer".to_owned() } else { status.to_string() };
            vec![html! { (name) }, html! { (thousands(*attempts)) }]
        })
        .collect();
    let waited = |ms: u64| html! { (span(ms as f64 / 1_000.0)) };
    html! {
        section aria-labelledby="requests-h" {
            h2 id="requests-h" { "Requests" }
            @if rows.is_empty() {
                p class="calm" { @if counts.is_some() { "No request was sent." } @else { "No record of requests." } }
            } @else {
                (timeline(&detail.timeline))
                div class="beside" {
                    (table("by-status", "Attempts by answer", Shape::Scroll,
                        &[text("HTTP status"), number("Attempts")], &rows))
                    (facts(&[
                        ("Body bytes, before compression", html! { (bytes(detail.bytes)) }),
                        ("Traits in acknowledged requests", html! { (thousands(detail.traits_sent)) }),
                        ("Waited for the rate limit", waited(detail.rate_wait_ms)),
                        ("Waited before repeats", waited(detail.retry_wait_ms)),
                    ]))
                }
                @if !detail.remarks.is_empty() {
                    h3 { "Warnings" }
                    ul { @for remark in &detail.remarks { li { (long(remark)) } } }
                }
                @if !detail.warnings.is_empty() {
                    h3 { "What the destination remarked" }
                    ul {
                        @for (warning, times) in &detail.warnings {
                            li { (long(warning)) " " span class="soft" { (plural(*times, "time")) } }
                        }
                    }
                }
            }
        }
    }
}

fn timeline(timeline: &Timeline) -> Markup {
    let slot = timeline.slot_ms as f64 / 1_000.0;
    let total: u64 = timeline.requests.iter().sum();
    let repeats: u64 = timeline.retries.iter().sum();
    let at = |index: usize| (timeline.requests[index], timeline.retries.get(index).copied().unwrap_or(0));
    let shown: Vec<Bar> = (0..timeline.requests.len())
        .map(|index| {
            let (all, again) = at(index);
            let from = moment(index as u64 * timeline.slot_ms);
            Bar {
                value: Some(all.saturating_sub(again) as f64),
                stacked: again as f64,
                title: format!("from {from}: {}, {} of them repeats", plural(all, "request"), thousands(again)),
            }
        })
        .collect();
    let rows: Vec<Vec<Markup>> = (0..timeline.requests.len())
        .filter(|index| at(*index).0 > 0)
        .map(|index| {
            let (all, again) = at(index);
            vec![
                html! { (moment(index as u64 * timeline.slot_ms)) },
                html! { (thousands(all)) },
                html! { (thousands(again)) },
            ]
        })
        .collect();
    let whole = span(timeline.requests.len() as f64 * slot);
    html! {
        (bars(&Chart {
            id: "timeline",
            title: &format!("Requests per {}", span(slot)),
            summary: format!("{} in {whole}, {} of them repeats.", plural(total, "request"), thousands(repeats)),
            series: ("first tries", Some("repeats")),
            cross: "",
            unit: Unit::Count,
            bars: &shown,
            labels: vec!["0 s".to_owned(), span(timeline.requests.len() as f64 * slot / 2.0), whole.clone()],
            whole: true,
        }))
        @if !rows.is_empty() {
            details class="figures" {
                summary { "The same as a table" }
                (table("timeline-table", "Requests over time", Shape::Scroll,
                    &[text("From"), number("Requests"), number("Repeats")], &rows))
            }
        }
    }
}

/// Where a slot begins, exactly: slots are multiples of a quarter of a second.
fn moment(ms: u64) -> String {
    format!("{} s", ms as f64 / 1_000.0)
}

fn rejections(visit: &Visit, sync: &str, rejected: &[SaidView]) -> Markup {
    let rows: Vec<Vec<Markup>> = (rejected.iter())
        .map(|said| {
            vec![
                group_link(sync, &said.key),
                html! { (outcome(&said.outcome)) },
                html! { span class="message" { (long(said.reason.as_deref().unwrap_or("no reason was given"))) } },
                html! { (time_relative(visit.now, said.at)) },
                html! {
                    details class="long" {
                        summary { (plural(said.change.traits_count() as u64, "trait")) }
                        (values::change(&said.change, None))
                    }
                },
            ]
        })
        .collect();
    let columns =
        [text("Group"), text("Outcome"), text("The destination's words"), text("When"), text("What was said")];
    html! {
        section aria-labelledby="rejections-h" {
            h2 id="rejections-h" { "Rejected groups" }
            (table("rejections", "Groups this run could not deliver", Shape::Cards, &columns, &rows))
        }
    }
}
