//! The guards of a run: their readings, and the form that accepts one. Never by a script: by opening, reading, ticking and
//! pressing.

use maud::{Markup, html};

use super::badge::Badge;
use super::context::PageContext;
use super::format::{percent, thousands};
use super::links::sync_path;
use super::table::{NarrowLayout, number, table, text};
use super::text::shown;
use crate::service::views::RunView;
use crate::sync::guard::Reading;

/// The readings of a sync's last run as a table.
pub(super) fn readings(readings: &[Reading]) -> Markup {
    if readings.is_empty() {
        return html! { p class="soft" { "The last run ended before the guards were evaluated." } };
    }
    let rows: Vec<Vec<Markup>> = readings.iter().map(row).collect();
    let columns = [text("Guard"), text("Checks"), number("Reading"), number("Limit"), text("Result")];
    table("readings", "Guard readings of the last run", NarrowLayout::Cards, &columns, &rows)
}

/// The section of a run with its readings, beside those of the run before it.
pub(super) fn section(readings: &[Reading], before: Option<&[Reading]>) -> Markup {
    if readings.is_empty() {
        return html! {};
    }
    let before = before.unwrap_or_default();
    let rows = readings.iter().map(|reading| {
        let mut row = row(reading);
        let earlier = before.iter().find(|earlier| earlier.guard == reading.guard);
        // Before the result, which is of this run.
        row.insert(
            3,
            html! {
                @match earlier {
                    Some(earlier) => (figure(earlier)),
                    None => span class="soft" { "–" },
                }
            },
        );
        row
    });
    let rows: Vec<Vec<Markup>> = rows.collect();
    let columns =
        [text("Guard"), text("Checks"), number("This run"), number("Previous run"), number("Limit"), text("Result")];
    html! {
        section id="readings-section" aria-labelledby="readings-h" {
            h2 id="readings-h" { "Guards" }
            (table("readings", "Guard readings of this run and of the one before it", NarrowLayout::Cards, &columns, &rows))
        }
    }
}

fn row(reading: &Reading) -> Vec<Markup> {
    let result = match (reading.trips, reading.whole) {
        (true, _) => Badge { tone: "bad", sign: "■", word: "stops the run" },
        (false, 0) => Badge { tone: "plain", sign: "–", word: "nothing to compare" },
        (false, _) => Badge { tone: "good", sign: "✓", word: "passes" },
    };
    vec![
        html! { code { (shown(&reading.guard)) } },
        html! { (shown(&reading.what)) },
        html! { (figure(reading)) },
        match (reading.share_max, reading.guard.as_str()) {
            (Some(share), _) => html! { "up to " (percent(share)) },
            (None, "empty") => html! { "at least 1" },
            (None, _) => html! { "0" },
        },
        result.html(),
    ]
}

/// `480 of 1,200 (40 %)`.
fn figure(reading: &Reading) -> String {
    let bound = if reading.exact { "" } else { "at most " };
    let (part, whole) = (thousands(reading.part), thousands(reading.whole));
    match (reading.whole, reading.share_max) {
        (0, _) => format!("{bound}{part}"),
        // Rows beside synced groups: neither is a part of the other.
        _ if reading.guard == "empty" => part,
        (_, None) => format!("{bound}{part} of {whole}"),
        (count, Some(_)) => format!("{bound}{part} of {whole} ({})", percent(reading.part as f64 / count as f64)),
    }
}

/// The section of a run that a guard stopped: the figures, and the form to accept them.
pub(super) fn stopped_by_guard(
    context: &PageContext,
    run: &RunView,
    readings: &[Reading],
    incremental: bool,
) -> Markup {
    let more = html! {
        @if incremental {
            label class="box" {
                input type="checkbox" name="full" value="1";
                span { "full run: read the whole model, as the mapping is incremental" }
            }
        }
    };
    html! {
        section id="guard" class="notice bad" aria-labelledby="guard-h" {
            h2 id="guard-h" { span aria-hidden="true" { "■ " } "Stopped by a guard: nothing was sent" }
            @if let Some(error) = &run.error { p class="message" { (shown(error)) } }
            p {
                "If these figures are wrong, correct the model and run again. If they are right, accept the guard for "
                "one run. "
                a href={ (sync_path(&run.sync)) "/plan" } rel="nofollow" data-slow="Reading the source…" {
                    "View the plan"
                }
            }
            (accept(context, &format!("{}/run", sync_path(&run.sync)), run.guard.as_deref(), readings, &more))
        }
    }
}

/// Shows the figures when opened, and starts a run only with the box ticked that names the guard.
pub(super) fn accept(
    context: &PageContext,
    action: &str,
    stopped_by: Option<&str>,
    readings: &[Reading],
    more: &Markup,
) -> Markup {
    let mut tripped: Vec<(&str, String)> = (readings.iter())
        .filter(|reading| reading.trips)
        .map(|reading| (reading.guard.as_str(), format!("{}: {}", reading.what, figure(reading))))
        .collect();
    if let Some(name) = stopped_by.filter(|name| tripped.iter().all(|(known, _)| known != name)) {
        tripped.push((name, "see the message above for the figures".to_owned()));
    }
    let fields = html! {
        fieldset {
            legend { "I have checked the figures. Accept for one run:" }
            @for (name, figures) in &tripped {
                label class="box" {
                    input type="checkbox" name="accept" value=(name)
                        required[stopped_by.is_none_or(|stopped_by| stopped_by == *name)];
                    span { code { (shown(name)) } ": " (shown(figures)) }
                }
            }
            (more)
        }
    };
    html! {
        @if !tripped.is_empty() {
            details class="accept" {
                summary { "Accept and run…" }
                (context.post_form(action, fields, html! { button class="danger" { "Accept once and run" } }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_say_of_how_many_and_how_much_passes() {
        let reading = |whole, share_max, exact| {
            let (guard, what) = ("removed".to_owned(), "synced groups".to_owned());
            Reading { guard, what, part: 480, whole, share_max, exact, trips: true, message: None, advice: None }
        };
        assert_eq!(figure(&reading(1_200, Some(0.2), true)), "480 of 1,200 (40 %)");
        assert_eq!(figure(&reading(1_200, Some(0.2), false)), "at most 480 of 1,200 (40 %)");
        assert_eq!(figure(&reading(1_200, None, true)), "480 of 1,200");
        assert_eq!(figure(&reading(0, Some(0.2), true)), "480");
    }
}
