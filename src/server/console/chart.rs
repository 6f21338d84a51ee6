//! Charts: figures in, inline SVG out. Pure.
//!
//! A page may carry no inline style, and its width is not known here. So heights are pixels and widths are shares of the
//! whole, and what is written beside a plot is HTML: it keeps its size on a phone. Every page that shows a chart has
//! the same figures as a table too.

use maud::{Markup, html};

use super::format::{compact, span, thousands};

/// Height of a plot, in pixels.
const HEIGHT: f64 = 112.0;
/// A figure that is not zero is at least this high, in pixels: three rejected groups of a million must be seen.
const VISIBLE_MIN: f64 = 3.0;
/// Bars are no wider than if there were this many.
const SLOTS_MIN: usize = 12;
/// Gridlines above zero, at most; their labels are set at equal distances.
const STEPS_MAX: f64 = 4.0;

/// One bar: what is below, what is stacked on it, and what they mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    /// The figure. Without one, a cross is drawn.
    pub(super) value: Option<f64>,
    /// The figure stacked on it.
    pub(super) stacked: f64,
    /// The tooltip.
    pub(super) title: String,
}

/// What the vertical axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AxisUnit {
    /// Things.
    Count,
    /// Seconds.
    Seconds,
}

/// A chart of bars.
pub(super) struct Chart<'a> {
    /// Unique on the page.
    pub(super) id: &'a str,
    /// What it shows.
    pub(super) title: &'a str,
    /// A sentence for screen readers.
    pub(super) summary: String,
    /// What the bars are, and what is stacked on them.
    pub(super) series: (&'a str, Option<&'a str>),
    /// The meaning of a cross.
    pub(super) cross: &'a str,
    /// What is counted.
    pub(super) unit: AxisUnit,
    /// The bars, the oldest first.
    pub(super) bars: &'a [Bar],
    /// Labels below: left, in the middle, right.
    pub(super) labels: Vec<String>,
    /// Whether the bars share the whole width, as slots of time do; else they are the latest of many, at the right.
    pub(super) whole: bool,
}

/// A top for the axis that is a round number, and into how many equal steps it is cut.
pub(super) fn nice_top(max: f64, unit: AxisUnit) -> (f64, u32) {
    const CLOCK: [f64; 14] =
        [10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 10_800.0, 21_600.0, 43_200.0];
    let least = match unit {
        AxisUnit::Count => 1.0,
        AxisUnit::Seconds => 0.1,
    };
    let fits = |step: &f64| max / step <= STEPS_MAX;
    let mut step = None;
    if unit == AxisUnit::Seconds && max > 4.0 * 5.0 {
        step = CLOCK.into_iter().find(fits);
    }
    let mut decade = least;
    while step.is_none() {
        // Ends: every round multiplies by ten, and `max` is finite.
        step = [decade, 2.0 * decade, 5.0 * decade].into_iter().find(fits);
        decade *= 10.0;
    }
    let step = step.unwrap_or(least);
    // A sum of tenths may miss a whole number by a hair.
    let steps = (max / step - 1e-9).ceil().max(1.0);
    (step * steps, steps as u32)
}

/// The position of a bar: left edge and width, in percent of the plot.
fn slot(index: usize, count: usize, whole: bool) -> (f64, f64) {
    let slots = if whole { count.max(1) } else { count.max(SLOTS_MIN) };
    let width = 100.0 / slots as f64;
    // The latest is at the right edge.
    ((index + slots - count) as f64 * width, width)
}

fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn percent(value: f64) -> String {
    format!("{}%", short(value))
}

/// Height in pixels of a figure under `top`.
fn height(value: f64, top: f64, room: f64) -> f64 {
    if value > 0.0 { (value / top * room).max(VISIBLE_MIN) } else { 0.0 }
}

/// A chart with its axes, legend and labels.
pub(super) fn bars(chart: &Chart) -> Markup {
    let Chart { id, title, summary, series, cross, unit, bars, labels, whole } = chart;
    let max = bars.iter().map(|bar| bar.value.unwrap_or(0.0) + bar.stacked).fold(0.0, f64::max);
    let max = if max.is_finite() { max } else { 0.0 };
    let (top, steps) = nice_top(max, *unit);
    let label = |value: f64| match unit {
        AxisUnit::Count => compact(value),
        AxisUnit::Seconds => span(value),
    };
    let crossed = bars.iter().any(|bar| bar.value.is_none());
    html! {
        figure class="chart" {
            figcaption {
                span class="chart-title" { (title) }
                ul class="legend" {
                    li { span class="swatch one" aria-hidden="true" {} (series.0) }
                    @if let Some(second) = series.1 {
                        li { span class="swatch two" aria-hidden="true" {} (second) }
                    }
                    @if crossed { li { span class="swatch cross" aria-hidden="true" { "×" } (cross) } }
                }
            }
            @if bars.is_empty() {
                p class="soft" { "No data yet." }
            } @else {
                div class="plot-area" {
                    div class="ticks" aria-hidden="true" {
                        @for step in (0..=steps).rev() {
                            span { (label(top * f64::from(step) / f64::from(steps))) }
                        }
                    }
                    svg class="plot" role="img" aria-labelledby={ (id) "-title " (id) "-desc" } width="100%"
                        height=(short(HEIGHT)) {
                        title id={ (id) "-title" } { (title) }
                        desc id={ (id) "-desc" } { (summary) }
                        @for step in 0..=steps {
                            @let y = short(HEIGHT - HEIGHT * f64::from(step) / f64::from(steps));
                            line class=(if step == 0 { "axis" } else { "grid" }) x1="0" x2="100%" y1=(y) y2=(y) {}
                        }
                        @for (index, bar) in bars.iter().enumerate() {
                            (one_bar(bar, slot(index, bars.len(), *whole), top))
                        }
                    }
                    div class="labels" aria-hidden="true" { @for label in labels { span { (label) } } }
                }
            }
        }
    }
}

fn one_bar(bar: &Bar, (left, width): (f64, f64), top: f64) -> Markup {
    let Some(value) = bar.value else {
        return html! {
            text class="cross" x=(percent(left + width / 2.0)) y=(short(HEIGHT - 4.0)) text-anchor="middle" {
                title { (bar.title) } "×"
            }
        };
    };
    // A hair of room between bars, and none where they are hairs themselves.
    let gap = if width > 1.5 { width * 0.12 } else { 0.0 };
    let (x, width) = (percent(left + gap), percent(width - 2.0 * gap));
    let above = height(bar.stacked, top, HEIGHT);
    let below = height(value, top, HEIGHT).min(HEIGHT - above);
    html! {
        g {
            title { (bar.title) }
            @if below > 0.0 {
                rect class="one" x=(x) width=(width) y=(short(HEIGHT - below)) height=(short(below)) {}
            }
            @if above > 0.0 {
                rect class="two" x=(x) width=(width) y=(short(HEIGHT - below - above)) height=(short(above)) {}
            }
        }
    }
}

/// Changes per run in a line's height, the oldest first; none for a run without a result.
pub(super) fn sparkline(id: &str, what: &str, figures: &[Option<u64>]) -> Markup {
    const WIDTH: f64 = 112.0;
    const HEIGHT: f64 = 24.0;
    const SLOTS: usize = 16;
    let shown = &figures[figures.len().saturating_sub(SLOTS)..];
    let known = || shown.iter().flatten().copied();
    let top = known().max().unwrap_or(0).max(1) as f64;
    let step = WIDTH / SLOTS as f64;
    let failed = shown.len() - known().count();
    let latest = shown.last().copied().flatten().map_or_else(|| "without a result".to_owned(), thousands);
    html! {
        @if figures.is_empty() {
            span class="soft" { "no runs" }
        } @else {
            svg class="spark" role="img" aria-labelledby={ (id) "-desc" } width=(short(WIDTH)) height=(short(HEIGHT)) {
                title id={ (id) "-desc" } {
                    (what) " in the last " (shown.len()) (if shown.len() == 1 { " run" } else { " runs" }) ": latest "
                    (latest) ", at most " (thousands(known().max().unwrap_or(0)))
                    @if failed > 0 { ", " (failed) " without a result" }
                }
                line class="axis" x1="0" x2=(short(WIDTH)) y1=(short(HEIGHT - 0.5)) y2=(short(HEIGHT - 0.5)) {}
                @for (index, figure) in shown.iter().enumerate() {
                    @let x = (index + SLOTS - shown.len()) as f64 * step;
                    @match figure {
                        Some(0) => {}
                        Some(figure) => {
                            @let high = height(*figure as f64, top, HEIGHT - 1.0);
                            rect class="one" x=(short(x + 1.0)) width=(short(step - 2.0))
                                y=(short(HEIGHT - 1.0 - high)) height=(short(high)) {}
                        }
                        None => {
                            text class="cross" x=(short(x + step / 2.0)) y=(short(HEIGHT - 4.0)) text-anchor="middle" {
                                "×"
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (max, unit, top, steps) in [
            (0.0, AxisUnit::Count, 1.0, 1),
            (1.0, AxisUnit::Count, 1.0, 1),
            (3.0, AxisUnit::Count, 3.0, 3),
            (7.0, AxisUnit::Count, 8.0, 4),
            (12.0, AxisUnit::Count, 15.0, 3),
            (100.0, AxisUnit::Count, 100.0, 2),
            (1_204.0, AxisUnit::Count, 1_500.0, 3),
            (3_999_999.0, AxisUnit::Count, 4_000_000.0, 4),
            (0.0, AxisUnit::Seconds, 0.1, 1),
            (0.35, AxisUnit::Seconds, 0.4, 4),
            (45.0, AxisUnit::Seconds, 45.0, 3),
            (130.0, AxisUnit::Seconds, 180.0, 3),
            (4_000.0, AxisUnit::Seconds, 5_400.0, 3),
            (1e6, AxisUnit::Seconds, 1e6, 2),
        ] {
            let (got, cut) = nice_top(max, unit);
            assert!((got - top).abs() < 1e-9 && cut == steps, "{max} {unit:?}: {got} in {cut}");
        }
    }

    fn chart(bars: &[Bar]) -> String {
        let labels = vec!["old".to_owned(), "new".to_owned()];
        let series = ("changed", Some("rejected"));
        let (id, title, summary) = ("c", "Changes", "two runs".to_owned());
        super::bars(&Chart {
            id,
            title,
            summary,
            series,
            cross: "no result",
            unit: AxisUnit::Count,
            bars,
            labels,
            whole: false,
        })
        .into_string()
    }

    #[test]
    fn bars_are_as_high_as_their_figures_and_small_ones_are_seen() {
        let bar = |value, stacked| Bar { value, stacked, title: "<b>".to_owned() };
        let html = chart(&[bar(Some(1_000_000.0), 0.0), bar(Some(500_000.0), 3.0), bar(None, 0.0)]);
        // The top is a million: the first fills the plot, the second half of it with three pixels on top.
        assert!(html.contains(r#"<rect class="one" x="76%" width="6.33%" y="0" height="112">"#), "{html}");
        assert!(html.contains(r#"y="56" height="56">"#), "{html}");
        assert!(html.contains(r#"<rect class="two" x="84.33%" width="6.33%" y="53" height="3">"#), "{html}");
        assert!(html.contains(r#"<text class="cross" x="95.83%""#), "{html}");
        assert!(html.contains("no result") && html.contains("&lt;b&gt;") && !html.contains("<b>"), "{html}");
        assert!(html.contains("<span>1 M</span><span>500 k</span><span>0</span>"), "{html}");
        assert!(html.contains(r#"aria-labelledby="c-title c-desc""#) && html.contains("two runs"));
    }

    #[test]
    fn no_run_and_runs_without_changes_have_a_chart_too() {
        assert!(chart(&[]).contains("No data yet"));
        let html = chart(&[Bar { value: Some(0.0), stacked: 0.0, title: String::new() }]);
        assert!(html.contains("<span>1</span><span>0</span>") && !html.contains("<rect"), "{html}");
        assert!(!html.contains("NaN") && !html.contains("inf"));
        let many: Vec<Bar> =
            (0..120).map(|at| Bar { value: Some(f64::from(at)), stacked: 0.0, title: String::new() }).collect();
        assert_eq!(chart(&many).matches("<rect").count(), 119);
    }

    #[test]
    fn a_sparkline_has_its_figures_as_text() {
        let html = sparkline("s", "Changes", &[Some(4), None, Some(0), Some(2)]).into_string();
        assert!(html.contains("last 4 runs: latest 2, at most 4, 1 without a result"), "{html}");
        assert!(html.contains(r#"height="23""#) && html.contains(r#"height="11.5""#), "{html}");
        assert_eq!(html.matches("×").count(), 1);
        assert!(sparkline("s", "Changes", &[]).into_string().contains("no runs"));
        let long: Vec<Option<u64>> = (1..40).map(Some).collect();
        assert_eq!(sparkline("s", "Changes", &long).into_string().matches("<rect").count(), 16);
    }
}
