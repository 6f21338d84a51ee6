//! Sending rejected, pending or unconfirmed groups again: which ones, and what a person confirms before a run does it. The
//! run is one of [`RunOptions`](crate::sync::RunOptions) as every other.

use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;
use maud::{Markup, html};

use super::context::PageContext;
use super::error_messages::RejectedFilter;
use super::format::{plural, thousands};
use super::layout::{NavItem, PageContent, breadcrumbs};
use super::links::{group_link, segment, sync_path, with_query};
use super::params::Params;
use super::respond;
use super::text::shown_line;
use crate::error::{Error, Kind};
use crate::service::api::{ServiceError, ServiceResult};
use crate::service::views::MappingView;
use crate::sync::GroupKeys;

/// Bytes of keys, as they are written in a form, that one confirmation carries: what fits the body of a request.
const KEYS_BYTES_MAX: usize = 96 * 1024;
/// Groups read at a time.
const PAGE: u64 = 500;
/// Groups that the confirmation names.
const NAMED: usize = 20;
/// Groups of which a plan is offered: its address has to have room for them.
const PLANNED: usize = 10;

/// The box that selects a group for the form with this id.
pub(super) fn select_box(form: &str, key: &str) -> Markup {
    // A form changes line breaks, so keys are percent-encoded.
    html! {
        label class="pick" {
            input type="checkbox" name="key" value=(segment(key)) form=(form);
            span class="hidden" { "Select " (shown_line(key)) }
        }
    }
}

/// The form that the boxes belong to.
pub(super) fn of_selected(context: &PageContext, form: &str, sync: &str) -> Markup {
    html! {
        form id=(form) method="post" action=(path(sync)) {
            input type="hidden" name="csrf" value=(context.session.csrf);
            input type="hidden" name="of" value="selected";
            button { "Retry selected…" }
        }
        button type="button" data-select=(form) hidden { "Select all shown" }
    }
}

/// The form for every rejected group that matches.
pub(super) fn of_matching(context: &PageContext, sync: &str, filter: &[(&str, &str)], button: Markup) -> Markup {
    let fields = html! {
        input type="hidden" name="of" value="matching";
        @for (name, value) in filter { input type="hidden" name=(name) value=(value); }
    };
    context.post_form(&path(sync), fields, html! { button { (button) } })
}

/// The form for every rejected group of a sync.
pub(super) fn of_all(context: &PageContext, sync: &str, button: Markup) -> Markup {
    let fields = html! { input type="hidden" name="of" value="all"; };
    context.post_form(&path(sync), fields, html! { button { (button) } })
}

/// The keys that a form has.
pub(super) fn keys(form: &Params) -> impl Iterator<Item = String> {
    form.all("key").filter_map(|key| Some(form_urlencoded::parse(key.as_bytes()).next()?.0.into_owned()))
}

fn path(sync: &str) -> String {
    format!("{}/retry", sync_path(sync))
}

/// `POST /syncs/{sync}/retry`: shows what would be sent again, and starts nothing.
pub(super) async fn page(context: PageContext, Path(sync): Path<String>, form: Bytes) -> Response {
    let page = build(&context, &sync, &Params::read(&form)).await;
    respond::page(&context, page)
}

async fn build(context: &PageContext, sync: &str, form: &Params) -> ServiceResult<PageContent> {
    // Fails where there is no such sync.
    let detail = context.service.sync(sync).await?;
    let (rejected, warning) = (detail.sync.groups.rejected, accumulating(&detail.mapping));
    let (selected, more) = match form.one("of") {
        Some("all") => return Ok(confirm_all(context, sync, rejected, &warning)),
        Some("matching") => matching(context, sync, form).await?,
        _ => (GroupKeys::new(keys(form)).map_err(ServiceError::Invalid)?, false),
    };
    let Some(selected) = selected else {
        let error = Error::new(Kind::Config, "no group is selected");
        return Err(ServiceError::Invalid(error.advise("go back, and tick the groups to send again")));
    };
    Ok(confirm(context, sync, (&selected, more), &warning))
}

/// What becomes of traits that accumulate, if there are any.
fn accumulating(mapping: &MappingView) -> Markup {
    let traits: Vec<&str> = (mapping.traits.iter())
        .filter(|mapped| ["add", "append", "prepend"].contains(&mapped.op.as_str()))
        .map(|mapped| mapped.name.as_str())
        .collect();
    html! {
        @if !traits.is_empty() {
            div class="notice warn" { p {
                "These traits accumulate: "
                @for (at, name) in traits.iter().enumerate() { @if at > 0 { ", " } code { (shown_line(name)) } }
                ". Where an earlier request got no response, they are set to the warehouse's value: check the destination first."
            } }
        }
    }
}

/// The first rejected groups that match, as many as one run can be limited to, and whether there are more.
async fn matching(context: &PageContext, sync: &str, form: &Params) -> ServiceResult<(Option<GroupKeys>, bool)> {
    let filter = RejectedFilter::of(form);
    let (mut found, mut bytes, mut more) = (Vec::new(), 0, false);
    let mut after: Option<String> = None;
    while !more {
        let groups = context.service.rejected(Some(sync), after.as_deref(), PAGE).await?;
        let Some(last) = groups.last() else { break };
        after = Some(last.key.clone());
        for group in groups.iter().filter(|group| filter.matches(group)) {
            bytes += "&key=".len() + segment(&group.key).len();
            more = found.len() == GroupKeys::MAX || bytes > KEYS_BYTES_MAX;
            if more {
                break;
            }
            found.push(group.key.clone());
        }
        if groups.len() < PAGE as usize {
            break;
        }
    }
    Ok((GroupKeys::new(found).map_err(ServiceError::Invalid)?, more))
}

fn confirm(context: &PageContext, sync: &str, (selected, more): (&GroupKeys, bool), warning: &Markup) -> PageContent {
    let count = plural(selected.iter().len() as u64, "group");
    let fields = html! {
        input type="hidden" name="retry_rejected" value="1";
        @for key in selected.iter() { input type="hidden" name="key" value=(segment(key)); }
    };
    let mut planned = vec![("retry_rejected", "1")];
    planned.extend(selected.iter().map(|key| ("group", key)));
    let body = html! {
        (head(sync, &count))
        p {
            "A run reads these groups from the source and sends them again: a rejected one although its row did not change, "
            "one that is pending or unconfirmed as any run would. A group that is rejected again stays rejected, with its new "
            "error message."
        }
        (warning)
        @if more {
            p class="notice plain" {
                "There are more: one run can be limited to so many. Retry the others when it has finished, or all rejected "
                "groups of the sync at once."
            }
        }
        ul class="keys" {
            @for key in selected.iter().take(NAMED) { li { (group_link(sync, key)) } }
            @if selected.iter().len() > NAMED {
                li class="soft" { "… and " (thousands((selected.iter().len() - NAMED) as u64)) " more" }
            }
        }
        div class="actions" role="group" aria-label="Actions" {
            (context.post_form(&format!("{}/run", sync_path(sync)), fields, html! {
                button class="primary" { "Retry " (count) }
            }))
            @if selected.iter().len() <= PLANNED {
                a class="button" href=(with_query(&format!("{}/plan", sync_path(sync)), &planned)) rel="nofollow"
                    data-slow="Reading the source…" { "Plan" }
            }
            (back(sync))
        }
    };
    PageContent::new(format!("Retry {count} of {sync}"), NavItem::Rejected, body)
}

fn confirm_all(context: &PageContext, sync: &str, rejected: u64, warning: &Markup) -> PageContent {
    let count = plural(rejected, "rejected group");
    let body = html! {
        (head(sync, &count))
        p {
            "A run reads the whole model and sends every rejected group again although its row did not change, and with them "
            "whatever else changed. A group that is rejected again stays rejected, with its new error message."
        }
        (warning)
        div class="actions" role="group" aria-label="Actions" {
            (context.post_form(&format!("{}/run", sync_path(sync)),
                html! { input type="hidden" name="retry_rejected" value="1"; },
                html! { button class="primary" { "Retry " (count) } }))
            a class="button" href=(with_query(&format!("{}/plan", sync_path(sync)), &[("retry_rejected", "1")])) rel="nofollow"
                data-slow="Reading the source…" { "Plan" }
            (back(sync))
        }
    };
    PageContent::new(format!("Retry {count} of {sync}"), NavItem::Rejected, body)
}

fn head(sync: &str, count: &str) -> Markup {
    html! {
        (breadcrumbs(&[("/", "Overview"), (&sync_path(sync), sync)], "Retry"))
        h1 { "Retry " (count) " of " bdi { (shown_line(sync)) } "?" }
    }
}

fn back(sync: &str) -> Markup {
    html! { a class="button" href=(with_query("/rejected", &[("sync", sync)])) { "Cancel" } }
}
