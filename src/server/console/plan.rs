//! The plan of a sync: what a run would do now, group by group, old → new. Made on demand, because it reads the source.

use axum::extract::{Path, RawQuery};
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::context::PageContext;
use super::diff::change;
use super::format::{plural, thousands};
use super::guards::accept;
use super::layout::{NavItem, PageContent, breadcrumbs};
use super::links::{group_link, label_after, sync_path, with_query};
use super::params::Params;
use super::table::{NarrowLayout, number, table, text};
use super::text::{prose, sentence, short, shown, shown_line};
use super::{actions, respond};
use crate::service::api::ServiceResult;
use crate::service::views::{PlanRequest, PlanView, PlannedChange, TraitExample, TraitSummary};
use crate::sync::{GroupKeys, RunOptions};

/// Changes shown by default, and at most: a page of a thousand groups is a few megabytes.
const SHOW: u64 = 50;
const SHOW_MAX: u64 = 1_000;

/// The sign before a group or a trait, its colour, and its meaning.
const SIGNS: [(&str, &str, &str); 4] =
    [("+", "add", "added"), ("~", "swap", "changed"), ("-", "cut", "removed"), ("!", "stop", "rejected")];

/// `GET /syncs/{sync}/plan`, `?full=`, `?retry_rejected=`, `?group=`, `?show=`.
pub(super) async fn page(context: PageContext, Path(sync): Path<String>, query: RawQuery) -> Response {
    let page = build(&context, &sync, &Params::of_query(&query)).await;
    respond::page(&context, page)
}

async fn build(context: &PageContext, sync: &str, params: &Params) -> ServiceResult<PageContent> {
    let options = actions::options(params, params)?;
    let show = params.number("show", SHOW).clamp(1, SHOW_MAX);
    let request = PlanRequest::showing(options.clone(), usize::try_from(show).unwrap_or(usize::MAX));
    let plan = context.service.plan(sync, request).await?;
    let path = sync_path(sync);
    let body = html! {
        (breadcrumbs(&[("/", "Overview"), (&path, sync)], "Plan"))
        h1 { "Plan of " bdi { (shown_line(sync)) } }
        p class="soft" {
            "What a run would do now"
            @if let Some(groups) = &options.group {
                @match groups.iter().next().filter(|_| groups.iter().len() == 1) {
                    Some(group) => { " for the group " bdi { (short(group)) } },
                    None => { " for " (plural(groups.iter().len() as u64, "group")) },
                }
            }
            @if plan.full { ", from the whole model" }
            @else if options.group.is_none() { ", from the rows changed since the last run" }
            ". Nothing is sent or written."
        }
        (summary(&plan))
        (traits(&plan.traits))
        @if let Some(guard) = &plan.guard { (would_stop(context, &path, &options, guard)) }
        (run_form(context, &path, &options, plan.guard.is_none()))
        section aria-labelledby="changes-h" {
            h2 id="changes-h" { "Changes" }
            @if plan.changes.is_empty() {
                p class="empty" { "No changes: every group is up to date." }
            } @else {
                p class="soft" {
                    @for (sign, tone, word) in SIGNS {
                        span class={ "key " (tone) } { span class="sign" { (sign) } " " (word) } " "
                    }
                }
                @for planned in &plan.changes { (one(sync, planned)) }
            }
            @if plan.hidden > 0 {
                @let more = (show * 4).min(SHOW_MAX);
                p {
                    "… and " (plural(plan.hidden, "more group")) ". "
                    @if more > show {
                        a href=(with_query(&format!("{path}/plan"), &pairs(&options, &more.to_string()))) rel="nofollow" {
                            "Show up to " (thousands(more))
                        }
                    } @else {
                        "On the command line, " code { "groupcast plan --show all" } " lists all."
                    }
                }
            }
        }
    };
    Ok(PageContent::new(format!("Plan of {sync}"), NavItem::Elsewhere, body))
}

/// The query of the same plan with `show` changes.
fn pairs<'a>(options: &'a RunOptions, show: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut pairs = vec![("show", show)];
    pairs.extend(options.flags().map(|flag| (flag.name, "1")));
    pairs.extend(groups(options));
    pairs
}

fn groups(options: &RunOptions) -> Vec<(&str, &str)> {
    options.group.iter().flat_map(GroupKeys::iter).map(|group| ("group", group)).collect()
}

fn summary(plan: &PlanView) -> Markup {
    let figure = |tone: &str, sign: &str, count: u64, what: &str| {
        html! {
            li class=(tone) {
                span class="sign" aria-hidden="true" { (sign) } b { (thousands(count)) } " " (what)
            }
        }
    };
    let kept = plan.comparison.missing.saturating_sub(plan.comparison.missing_candidates);
    html! {
        ul class="tally" aria-label="Summary" {
            (figure("add", "+", plan.add, "to add"))
            (figure("swap", "~", plan.change, "to change"))
            (figure("cut", "-", plan.remove, "to remove"))
            (figure("", "=", plan.unchanged, "unchanged"))
            @if plan.rejected > 0 { (figure("stop", "!", plan.rejected, "rejected")) }
        }
        p {
            (plural(plan.traits_set, "trait")) " to set, " (thousands(plan.traits_unset)) " to unset, from "
            (plural(plan.comparison.rows, "row")) "."
            @if kept > 0 {
                " " (plural(kept, "synced group")) " missing from the model "
                (if kept == 1 { "is" } else { "are" }) " kept."
            }
        }
    }
}

/// What becomes of each trait over all groups, with a few of them.
fn traits(traits: &[TraitSummary]) -> Markup {
    let count = |count: u64| html! { @if count > 0 { (thousands(count)) } @else { span class="soft" { "–" } } };
    let example = |example: &TraitExample| {
        html! {
            span class="example" title=(shown_line(&example.key)) {
                @if let Some(before) = &example.before { del { bdi { (shown(before)) } } }
                @if example.before.is_some() && example.after.is_some() {
                    span class="arrow" aria-label="becomes" role="img" { "→" }
                }
                @if let Some(after) = &example.after { ins { bdi { (shown(after)) } } }
            }
        }
    };
    let rows: Vec<Vec<Markup>> = (traits.iter())
        .map(|of| {
            vec![
                html! { bdi title=(shown_line(&of.name)) { (short(&of.name)) } },
                count(of.added),
                count(of.changed),
                count(of.unset),
                html! { span class="examples" { @for one in &of.examples { (example(one)) } } },
            ]
        })
        .collect();
    if rows.is_empty() {
        return html! {};
    }
    let columns = [text("Trait"), number("Added"), number("Changed"), number("Unset"), text("Examples")];
    table("traits", "By trait", NarrowLayout::Cards, &columns, &rows)
}

fn would_stop(context: &PageContext, path: &str, options: &RunOptions, guard: &Value) -> Markup {
    let message = guard["message"].as_str();
    html! {
        section class="notice bad" aria-labelledby="guard-h" {
            h2 id="guard-h" { span aria-hidden="true" { "■ " } "A guard would stop this run" }
            @if let Some(message) = message { p class="message" { (shown(message)) } }
            @if let Some(advice) = guard["advice"].as_str() {
                p { strong { "Next step: " } (prose(&sentence(advice))) }
            }
            (accept(context, &run_path(path, options), guard["guard"].as_str(), &[], &hidden_fields(options)))
        }
    }
}

/// The path that starts the planned run.
fn run_path(path: &str, options: &RunOptions) -> String {
    with_query(&format!("{path}/run"), &groups(options))
}

/// The plan's options, for the run's form.
fn hidden_fields(options: &RunOptions) -> Markup {
    html! {
        @for flag in options.flags() { input type="hidden" name=(flag.name) value="1"; }
    }
}

fn run_form(context: &PageContext, path: &str, options: &RunOptions, passes: bool) -> Markup {
    html! {
        div class="actions" role="group" aria-label="Actions" {
            @if passes {
                (context.post_form(&run_path(path, options), hidden_fields(options), html! {
                    button class="primary" { "Run now" }
                }))
            }
            @if options.group.is_some() {
                @let again = with_query(&format!("{path}/plan"), &pairs(options, &SHOW.to_string()));
                a class="button" href=(again) rel="nofollow" data-slow="Reading the source…" { "Plan again" }
            } @else {
                form method="get" action={ (path) "/plan" } {
                    @for flag in RunOptions::FLAGS {
                        label class="box" {
                            input type="checkbox" name=(flag.name) value="1" checked[flag.is_on(options)];
                            span { (flag.label) }
                        }
                    }
                    button { "Plan again" }
                }
            }
        }
    }
}

fn one(sync: &str, planned: &PlannedChange) -> Markup {
    let (tone, sign, meaning) = match (&planned.rejection, planned.kind.as_str()) {
        (Some(_), _) => ("stop", "!", "rejected"),
        (None, "new") => ("add", "+", "new"),
        (None, "missing") => ("cut", "-", "missing from the model"),
        _ => ("swap", "~", "changed"),
    };
    html! {
        article class={ "planned " (tone) } {
            h3 {
                span class="sign" aria-hidden="true" { (sign) } " "
                @if planned.kind == "new" { bdi title=(shown_line(&planned.key)) { (short(&planned.key)) } }
                @else { (group_link(sync, &planned.key)) }
                (label_after(planned.label.as_deref()))
                " " span class="soft" {
                    (meaning)
                    @if !planned.certain && planned.rejection.is_none() { "; unconfirmed: resent in full" }
                }
            }
            @match &planned.rejection {
                Some(reason) => p class="message" { (shown(reason)) },
                None => (change(&planned.change, Some(&planned.before))),
            }
        }
    }
}
