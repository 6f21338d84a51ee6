//! Cost against size, both logarithmic, as an SVG: straight lines at 45° are costs in proportion.

use std::fmt::Write;

use crate::scenarios::Point;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Least distance between two names.
const LABEL: f64 = 14.0;

/// A line of the plot.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) colour: &'static str,
    pub(crate) is_dashed: bool,
    /// Accounts, and seconds for so many.
    pub(crate) points: Vec<(u64, f64)>,
}

/// What `scale` measured.
pub(crate) fn of_scale(points: &[Point]) -> Vec<Line> {
    let line = |name, colour, of: fn(&Point) -> f64| Line {
        name,
        colour,
        is_dashed: false,
        points: points.iter().map(|point| (point.rows, of(point))).collect(),
    };
    vec![
        line("first send, to a file", "#0969da", |point| point.first_send.median.seconds),
        line("ledger adopt", "#8250df", |point| point.adopt.median.seconds),
        line("no change", "#1a7f37", |point| point.no_change.median.seconds),
    ]
}

/// The powers of ten around these figures.
fn decades(figures: impl Iterator<Item = f64>) -> (i32, i32) {
    let logs: Vec<f64> = figures.filter(|figure| *figure > 0.0).map(f64::log10).collect();
    let least = logs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if logs.is_empty() { (0, 1) } else { (least.floor() as i32, (most.ceil() as i32).max(least.floor() as i32 + 1)) }
}

/// The text of an SVG file.
pub(crate) fn svg(heading: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (x_least, x_most) = decades(points().map(|(rows, _)| *rows as f64));
    let (y_least, y_most) = decades(points().map(|(_, seconds)| *seconds));
    let x =
        |rows: f64| LEFT + (rows.log10() - f64::from(x_least)) / f64::from(x_most - x_least) * (WIDTH - LEFT - RIGHT);
    let y = |seconds: f64| {
        HEIGHT - BOTTOM - (seconds.log10() - f64::from(y_least)) / f64::from(y_most - y_least) * (HEIGHT - TOP - BOTTOM)
    };
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{text}");
    };
    line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">"
    ));
    line(format_args!("<title>Seconds against accounts, both logarithmic</title>"));
    line(format_args!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"));
    line(format_args!("<text x=\"{LEFT}\" y=\"22\" font-weight=\"bold\">{heading}</text>"));
    for power in x_least..=x_most {
        let at = x(10f64.powi(power));
        let (top, bottom, label) = (TOP, HEIGHT - BOTTOM, amount(10f64.powi(power)));
        line(format_args!("<line x1=\"{at:.1}\" y1=\"{top}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#d0d7de\"/>"));
        line(format_args!("<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", bottom + 18.0));
    }
    for power in y_least..=y_most {
        let at = y(10f64.powi(power));
        let right = WIDTH - RIGHT;
        line(format_args!("<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#d0d7de\"/>"));
        let label = amount(10f64.powi(power));
        line(format_args!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label} s</text>", LEFT - 8.0, at + 4.0));
    }
    let mut labelled: Vec<f64> = Vec::new();
    for Line { name, colour, is_dashed, points } in lines {
        let at = |&(rows, seconds): &(u64, f64)| (x(rows as f64), y(seconds));
        let path: Vec<String> = points.iter().map(at).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dashes = if *is_dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        line(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
            path.join(" ")
        ));
        for point in points {
            let (x, y) = at(point);
            let (rows, took) = (groupcast::format::thousands(point.0), point.1);
            line(format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{name}, {rows}: {took:.2} s</title></circle>"
            ));
        }
        if let Some((x, mut y)) = points.last().map(at) {
            // Names of lines that end side by side stand below one another.
            while labelled.iter().any(|other| (other - y).abs() < LABEL) {
                y += LABEL / 2.0;
            }
            labelled.push(y);
            line(format_args!("<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>", x + 10.0, y + 4.0));
        }
    }
    line(format_args!("</svg>"));
    out
}

/// A power of ten: `0.01`, `10`, `10 k`, `1 M`.
fn amount(figure: f64) -> String {
    match figure {
        large if large >= 1e6 => format!("{:.0} M", large / 1e6),
        large if large >= 1e3 => format!("{:.0} k", large / 1e3),
        large if large >= 1.0 => format!("{large:.0}"),
        small => format!("{small}"),
    }
}
