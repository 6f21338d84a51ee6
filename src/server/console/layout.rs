//! The layout around every page: head, navigation, notices, footer.

use chrono::SecondsFormat;
use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::context::PageContext;
use super::format::{plural, time};
use super::text::{shown, shown_line};

/// The item of the navigation that a page belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NavItem {
    /// `/`.
    Overview,
    /// `/runs`.
    Runs,
    /// `/rejected`.
    Rejected,
    /// Below one of those, or before the login.
    Elsewhere,
}

/// How a page is refreshed.
#[derive(Clone, Copy)]
enum Refresh {
    /// When something has changed.
    OnChange,
    /// Every two seconds too, for progress.
    Often,
}

/// A page's own part.
pub(super) struct PageContent {
    title: String,
    item: NavItem,
    /// Whether and how the script refreshes it.
    refresh: Option<Refresh>,
    body: Markup,
}

impl PageContent {
    pub(super) fn new(title: impl Into<String>, item: NavItem, body: Markup) -> PageContent {
        PageContent { title: title.into(), item, refresh: None, body }
    }

    /// Refreshes the page when something has changed, and often while it is `busy`: what it shows is in progress.
    pub(super) fn live(mut self, busy: bool) -> PageContent {
        self.refresh = Some(if busy { Refresh::Often } else { Refresh::OnChange });
        self
    }
}

/// A page with everything around it.
pub(super) fn layout(context: &PageContext, page: &PageContent) -> Markup {
    let about = &context.about;
    let link = |item: NavItem, path: &str, name: &str| {
        html! { li { a href=(path) aria-current=[(page.item == item).then_some("page")] { (name) } } }
    };
    let content = html! {
        header class="top" {
            div class="inner" {
                a class="brand" href="/" { (logo()) "Groupcast" }
                nav aria-label="Main" {
                    ul {
                        (link(NavItem::Overview, "/", "Overview"))
                        (link(NavItem::Runs, "/runs", "Runs"))
                        (link(NavItem::Rejected, "/rejected", "Rejected"))
                    }
                }
                @if context.session.logged_in {
                    (context.post_form("/logout", html! {}, html! { button class="quiet" { "Log out" } }))
                }
            }
        }
        main id="main" tabindex="-1" data-now=(context.now.to_rfc3339_opts(SecondsFormat::Millis, true))
            data-refresh=[page.refresh.map(|refresh| match refresh {
                Refresh::OnChange => "change",
                Refresh::Often => "often",
            })]
            data-version=[context.version] data-zone=(shown_line(&about.timezone)) {
            (notices(context))
            (page.body)
        }
        footer {
            p {
                "Groupcast " (shown_line(&about.version))
                @if let Some(target) = &about.target { " · target " (shown_line(target)) }
                " · started " (time(context.now, about.started_at))
                " · configuration loaded " (time(context.now, about.config_read_at))
            }
            p { (about.running) " of " (about.parallel_runs) " parallel runs in use · default time zone: "
                (shown_line(&about.timezone)) " · time zone data: " (shown_line(&about.tzdata)) }
            (preferences())
        }
    };
    html_document(&format!("{} · Groupcast", shown_line(&page.title)), &content)
}

/// What the script keeps in the browser; without a script there is nothing to choose.
fn preferences() -> Markup {
    let choice = |name: &str, label: &str, values: &[(&str, &str)]| {
        html! {
            label class="field" { span { (label) }
                select data-preference=(name) { @for (value, text) in values { option value=(value) { (text) } } }
            }
        }
    };
    html! {
        div class="prefs" hidden {
            (choice("theme", "Theme", &[("auto", "as the system"), ("light", "light"), ("dark", "dark")]))
            (choice("zone", "Times", &[("viewer", "in my time zone"), ("utc", "in UTC"), ("schedule", "of the schedules")]))
            (choice("keys", "Keyboard shortcuts", &[("on", "on (? lists them)"), ("off", "off")]))
        }
    }
}

/// What concerns every sync, above every page.
fn notices(context: &PageContext) -> Markup {
    let about = &context.about;
    html! {
        @if about.stopping {
            section class="notice warn" aria-label="Shutting down" {
                p {
                    strong { "The daemon is shutting down. " }
                    @match about.running {
                        0 => "No run is in progress, and no run starts.",
                        running => { (plural(running as u64, "run")) " in progress may still finish; no run starts." }
                    }
                }
            }
        }
        @if let Some(problem) = &about.ledger_problem {
            section class="notice bad" aria-label="Ledger problem" {
                p {
                    strong { "No run starts: the ledger is unavailable. " }
                    (shown_line(problem)) ". Runs start again automatically once this is fixed."
                }
            }
        }
        @if let Some(problems) = &about.config_problems {
            section class="notice bad" aria-label="Configuration errors" {
                p {
                    strong { "The configuration on disk has errors. " }
                    @if about.sync_errors.is_empty() {
                        "The daemon continues with the one loaded " (time(context.now, about.config_read_at)) ". "
                    } @else {
                        (plural(about.sync_errors.len() as u64, "sync")) " in error; the others run. "
                    }
                    "Correct the files; they are reloaded automatically."
                }
                pre tabindex="0" aria-label="Errors" { (shown(problems)) }
            }
        }
    }
}

/// A whole HTML document around its body.
pub(super) fn html_document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="same-origin";
                meta name="robots" content="noindex, nofollow";
                title { (title) }
                link rel="icon" href=(assets::ICON);
                link rel="stylesheet" href=(assets::style_path());
                // Not deferred: it sets the theme before anything is painted.
                script src=(assets::script_path()) {}
            }
            body {
                a class="skip" href="#main" { "Skip to content" }
                (body)
            }
        }
    }
}

/// The logo: rows on the left, groups on the right.
pub(super) fn logo() -> Markup {
    html! {
        svg class="mark" aria-hidden="true" width="22" height="22" viewBox="0 0 22 22" {
            rect x="1" y="3" width="8" height="3" rx="1" {}
            rect x="1" y="9.5" width="8" height="3" rx="1" {}
            rect x="1" y="16" width="8" height="3" rx="1" {}
            circle cx="16.5" cy="6" r="3" {}
            circle cx="16.5" cy="16" r="3" {}
        }
    }
}

/// The path from the overview down to a page; the last step is the page itself.
pub(super) fn breadcrumbs(steps: &[(&str, &str)], last: &str) -> Markup {
    html! {
        nav class="breadcrumbs" aria-label="Breadcrumb" {
            ol {
                @for (path, name) in steps { li { a href=(path) { bdi { (shown_line(name)) } } } }
                li aria-current="page" { bdi { (shown_line(last)) } }
            }
        }
    }
}

/// Names and values beside each other.
pub(super) fn definition_list(pairs: &[(&str, Markup)]) -> Markup {
    html! {
        dl class="definitions" {
            @for (name, value) in pairs { div { dt { (name) } dd { (value) } } }
        }
    }
}
