//! What did the guards see, and how is one accepted? Never by a script: by opening, reading, ticking and pressing.

use maud::{Markup, html};

use super::table::{Shape, number, table, text};
use super::visit::Visit;
use super::words::{Mark, percent, shown, sync_path, thousands};
use crate::sync::guard::{NAMES, Reading};

/// The readings as a table.
pub(super) fn readings(id: &str, readings: &[Reading]) -> Markup {
    if readings.is_empty() {
        return html! { p class="soft" { "The last run came to no comparison, so the guards read nothing." } };
    }
    let rows: Vec<Vec<Markup>> = readings.iter().map(row).collect();
    let columns = [text("Guard"), text("Looks at"), number("Reading"), number("Passes"), text("Verdict")];
    table(id, "What the guards saw in the last run", Shape::Cards, &columns, &rows)
}

fn row(reading: &Reading) -> Vec<Markup> {
    let verdict = match (reading.trips, reading.whole) {
        (true, _) => Mark { tone: "bad", sign: "■", word: "stops a run" },
        (false, 0) => Mark { tone: "plain", sign: "–", word: "nothing to compare" },
        (false, _) => Mark { tone: "good", sign: "✓", word: "passes" },
    };
    vec![
        html! { code { (shown(&reading.guard)) } },
        html! { (shown(&reading.what)) },
        html! { (figure(reading)) },
        match (reading.share_max, reading.guard.as_str()) {
            (Some(share), _) => html! { "up to " (percent(share)) },
            (None, "empty") => html! { "any but none" },
            (None, _) => html! { "none" },
        },
        verdict.badge(),
    ]
}

/// `480 of 1,200 (40 %)`.
fn figure(reading: &Reading) -> String {
    let bound = if reading.exact { "" } else { "at most " };
    let (part, whole) = (thousands(reading.part), thousands(reading.whole));
    match (reading.whole, reading.share_max) {
        (0, _) => format!("{bound}{part}"),
        // Rows beside known groups: neither is a part of the other.
        _ if reading.guard == "empty" => part,
        (_, None) => format!("{bound}{part} of {whole}"),
        (count, Some(_)) => format!("{bound}{part} of {whole} ({})", percent(reading.part as f64 / count as f64)),
    }
}

/// The guard an error names.
fn named(error: &str) -> Option<&'static str> {
    let (_, rest) = error.split_once("guard `")?;
    let (name, _) = rest.split_once('`')?;
    NAMES.into_iter().find(|known| *known == name)
}

/// A run was stopped: with which figures, and how to let the next one pass.
pub(super) fn stopped(
    visit: &Visit,
    sync: &str,
    error: Option<&str>,
    readings: &[Reading],
    incremental: bool,
) -> Markup {
    let more = html! {
        @if incremental {
            label class="box" {
                input type="checkbox" name="full" value="1";
                span { "and read the whole model, as the mapping is incremental" }
            }
        }
    };
    html! {
        section id="guard" class="notice bad" aria-labelledby="guard-h" {
            h2 id="guard-h" { span aria-hidden="true" { "■ " } "Stopped by a guard: nothing was sent" }
            @if let Some(error) = error { p class="message" { (shown(error)) } }
            p {
                "If these figures are wrong, correct the model and run again. If they are right, accept the guard for "
                "one run. "
                a href={ (sync_path(sync)) "/plan" } rel="nofollow" data-slow="Reading the source…" {
                    "See what a run would do"
                }
            }
            (accept(visit, &format!("{}/run", sync_path(sync)), error, readings, &more))
        }
    }
}

/// Opens, shows the figures, and takes a run's order only with the box ticked that names what stopped it.
pub(super) fn accept(visit: &Visit, action: &str, error: Option<&str>, readings: &[Reading], more: &Markup) -> Markup {
    let stopper = error.and_then(named);
    let mut tripped: Vec<(&str, String)> = (readings.iter())
        .filter(|reading| reading.trips)
        .map(|reading| (reading.guard.as_str(), format!("{}: {}", reading.what, figure(reading))))
        .collect();
    if let Some(name) = stopper.filter(|name| tripped.iter().all(|(known, _)| known != name)) {
        tripped.push((name, "its figures are in the message above".to_owned()));
    }
    let fields = html! {
        fieldset {
            legend { "I looked at the figures. For one run, accept:" }
            @for (name, figures) in &tripped {
                label class="box" {
                    input type="checkbox" name="accept" value=(name)
                        required[stopper.is_none_or(|stopper| stopper == *name)];
                    span { code { (shown(name)) } " – " (shown(figures)) }
                }
            }
            (more)
        }
    };
    html! {
        @if !tripped.is_empty() {
            details class="accept" {
                summary { "Accept and run…" }
                (visit.order(action, fields, html! { button class="danger" { "Accept once and run" } }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_is_read_from_the_error_only_if_there_is_such_a_guard() {
        assert_eq!(
            named("sync a: stopped by the guard `rows-dropped` before anything was sent: 1"),
            Some("rows-dropped")
        );
        assert_eq!(named("stopped by the guard `<script>` before"), None);
        assert_eq!(named("no guard here"), None);
    }

    #[test]
    fn readings_say_of_how_many_and_how_much_passes() {
        let reading = |whole, share_max, exact| {
            let (guard, what) = ("removed".to_owned(), "known groups".to_owned());
            Reading { guard, what, part: 480, whole, share_max, exact, trips: true }
        };
        assert_eq!(figure(&reading(1_200, Some(0.2), true)), "480 of 1,200 (40 %)");
        assert_eq!(figure(&reading(1_200, Some(0.2), false)), "at most 480 of 1,200 (40 %)");
        assert_eq!(figure(&reading(1_200, None, true)), "480 of 1,200");
        assert_eq!(figure(&reading(0, Some(0.2), true)), "480");
    }
}
