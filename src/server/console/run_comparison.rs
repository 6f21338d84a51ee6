//! A run beside the one before it.

use maud::{Markup, html};

use super::context::PageContext;
use super::format::{span, thousands, time_relative};
use super::links::run_path;
use super::runs::{changed, rejected};
use super::table::{NarrowLayout, number, table, text};
use crate::service::api::ServiceResult;
use crate::service::views::{RunDetail, RunView};
use crate::sync::report::Counts;

/// How far back a run with counts is looked for.
const RUNS: u64 = 10;

/// The last run before a run that has counts, too.
pub(super) async fn previous(context: &PageContext, run: &RunView) -> ServiceResult<Option<RunDetail>> {
    let earlier = context.service.runs(Some(&run.sync), Some(&run.run), RUNS).await?;
    match earlier.iter().find(|earlier| earlier.counts.is_some()) {
        Some(previous) => context.service.run(&previous.run).await.map(Some),
        None => Ok(None),
    }
}

/// The section for a run that has counts, beside an earlier one.
pub(super) fn section(context: &PageContext, run: &RunView, previous: Option<&RunView>) -> Markup {
    let found = previous.and_then(|previous| Some((previous, run.counts.as_ref()?, previous.counts.as_ref()?)));
    let Some((previous, counts, before)) = found else { return html! {} };
    let row = |name: &str, of: fn(&Counts) -> u64| {
        let (now, then) = (of(counts), of(before));
        vec![
            html! { (name) },
            html! { (thousands(now)) },
            html! { (thousands(then)) },
            html! { (difference(now, then)) },
        ]
    };
    let mut rows = vec![
        row("Rows", |counts| counts.rows),
        row("Changed", changed),
        row("Rejected", rejected),
        row("Pending or unconfirmed", Counts::unfinished),
        row("Requests", |counts| counts.requests),
        row("Retries", |counts| counts.retries),
    ];
    if let (Some(now), Some(then)) = (run.seconds(), previous.seconds()) {
        rows.push(vec![
            html! { "Duration" },
            html! { (span(now)) },
            html! { (span(then)) },
            html! { (slower(now, then)) },
        ]);
        rows.push(vec![
            html! { "Rows per second" },
            html! { (per_second(counts.rows, now)) },
            html! { (per_second(before.rows, then)) },
            html! {},
        ]);
    }
    let columns = [text("Figure"), number("This run"), number("Previous run"), number("Difference")];
    html! {
        section aria-labelledby="comparison-h" {
            h2 id="comparison-h" { "Compared with the previous run" }
            p class="soft" { a href=(run_path(&previous.run)) { "The previous run" } " started "
                (time_relative(context.now, previous.started_at)) }
            (table("comparison", "This run and the one before it", NarrowLayout::Scroll, &columns, &rows))
        }
    }
}

fn difference(now: u64, then: u64) -> String {
    match now.cmp(&then) {
        std::cmp::Ordering::Less => format!("−{}", thousands(then - now)),
        std::cmp::Ordering::Equal => "=".to_owned(),
        std::cmp::Ordering::Greater => format!("+{}", thousands(now - then)),
    }
}

fn slower(now: f64, then: f64) -> String {
    let sign = if now < then { "−" } else { "+" };
    if (now - then).abs() < 0.05 { "=".to_owned() } else { format!("{sign}{}", span((now - then).abs())) }
}

fn per_second(count: u64, seconds: f64) -> String {
    if seconds < 0.001 { "–".to_owned() } else { thousands((count as f64 / seconds).round() as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_a_sign() {
        assert_eq!([difference(5, 7), difference(7, 7), difference(1_507, 7)], ["−2", "=", "+1,500"]);
        assert_eq!([slower(1.0, 3.0), slower(1.0, 1.01), slower(70.0, 10.0)], ["−2 s", "=", "+1 min"]);
        assert_eq!([per_second(10, 0.0), per_second(3_000, 2.0)], ["–", "1,500"]);
    }
}
