//! What surrounds every page: head, navigation, banners, footer?

use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::visit::Visit;
use super::words::{plural, shown, shown_line, time};

/// Where in the navigation a page is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Here {
    /// `/`.
    Overview,
    /// `/runs`.
    Runs,
    /// `/rejected`.
    Rejected,
    /// Below one of those, or before the login.
    Elsewhere,
}

/// A page's own part.
pub(super) struct Page {
    title: String,
    here: Here,
    /// Whether its elements marked `data-live` change by themselves.
    live: bool,
    body: Markup,
}

impl Page {
    pub(super) fn new(title: impl Into<String>, here: Here, body: Markup) -> Page {
        Page { title: title.into(), here, live: false, body }
    }

    /// Says that the page's elements with an id and `data-live` change while a run is under way.
    pub(super) fn live(mut self, live: bool) -> Page {
        self.live = live;
        self
    }
}

/// A page within its frame.
pub(super) fn framed(visit: &Visit, page: &Page) -> Markup {
    let about = &visit.about;
    let link = |here: Here, path: &str, name: &str| {
        html! { li { a href=(path) aria-current=[(page.here == here).then_some("page")] { (name) } } }
    };
    let content = html! {
        header class="top" {
            div class="inner" {
                a class="brand" href="/" { (mark()) "Groupcast" }
                nav aria-label="Main" {
                    ul {
                        (link(Here::Overview, "/", "Overview"))
                        (link(Here::Runs, "/runs", "Runs"))
                        (link(Here::Rejected, "/rejected", "Rejected"))
                    }
                }
                @if visit.session.logged_in {
                    (visit.order("/logout", html! {}, html! { button class="quiet" { "Log out" } }))
                }
            }
        }
        main id="main" tabindex="-1" {
            @if about.stopping {
                section class="notice warn" aria-label="Stopping" {
                    p {
                        strong { "The daemon is stopping. " }
                        @match about.running {
                            0 => "No run is under way; nothing new begins.",
                            running => {
                                (plural(running as u64, "run")) " under way may still end; nothing new begins."
                            }
                        }
                    }
                }
            }
            @if let Some(problem) = &about.ledger_problem {
                section class="notice bad" aria-label="Ledger problem" {
                    p {
                        strong { "No run starts: the ledger cannot be used. " }
                        (shown_line(problem)) ". Runs start again by themselves once this is mended."
                    }
                }
            }
            @if let Some(problems) = &about.config_problems {
                section class="notice bad" aria-label="Config problems" {
                    p {
                        strong { "The config on disk cannot be used. " }
                        "The daemon goes on with the one read " (time(visit.now, about.config_read_at))
                        ". Correct the files; they are read again by themselves."
                    }
                    pre tabindex="0" aria-label="Problems" { (shown(problems)) }
                }
            }
            (page.body)
        }
        footer {
            p {
                "Groupcast " (shown_line(&about.version)) " · started " (time(visit.now, about.started_at))
                " · config read " (time(visit.now, about.config_read_at))
            }
            p { (about.running) " of at most " (about.parallel_runs) " runs at a time · schedules without a zone: "
                (shown_line(&about.timezone)) " · time zones by the tz database " (shown_line(&about.tzdata)) }
        }
    };
    document(&format!("{} · Groupcast", shown_line(&page.title)), page.live, &content)
}

/// A whole document around its body.
pub(super) fn document(title: &str, live: bool, body: &Markup) -> Markup {
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
                script src=(assets::script_path()) defer {}
            }
            body data-refresh=[live.then_some("2000")] {
                a class="skip" href="#main" { "Skip to the content" }
                (body)
            }
        }
    }
}

/// The program's sign: rows on the left, groups on the right.
pub(super) fn mark() -> Markup {
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

/// Where a page is, from the overview down; the last one is the page itself.
pub(super) fn crumbs(steps: &[(&str, &str)], last: &str) -> Markup {
    html! {
        nav class="crumbs" aria-label="Breadcrumb" {
            ol {
                @for (path, name) in steps { li { a href=(path) { bdi { (shown_line(name)) } } } }
                li aria-current="page" { bdi { (shown_line(last)) } }
            }
        }
    }
}

/// Names and values beside each other.
pub(super) fn facts(pairs: &[(&str, Markup)]) -> Markup {
    html! {
        dl class="facts" {
            @for (name, value) in pairs { div { dt { (name) } dd { (value) } } }
        }
    }
}
