//! The log of a run.

use maud::{Markup, html};

use super::badge::Badge;
use super::context::PageContext;
use super::format::{plural, time};
use super::table::{NarrowLayout, table, text};
use super::text::long;
use crate::delivery::{LogLevel, LogLines};

/// The section with the lines; none for a run of which nothing was logged.
pub(super) fn section(context: &PageContext, log: &LogLines) -> Markup {
    if log.is_empty() {
        return html! {};
    }
    let rows: Vec<Vec<Markup>> = (log.lines.iter())
        .map(|line| {
            vec![
                time(context.now, line.at),
                level(line.level).html(),
                html! {
                    span class="message" { (long(&line.text)) }
                    @if let Some(times) = line.times { " " span class="soft" { (plural(times, "time")) " in a row" } }
                },
            ]
        })
        .collect();
    let before = usize::try_from(log.before_dropped).unwrap_or(rows.len()).min(rows.len());
    let (first, last) = rows.split_at(if log.dropped > 0 { before } else { rows.len() });
    let columns = [text("When"), text("Level"), text("What happened")];
    html! {
        section id="log" aria-labelledby="log-h" {
            h2 id="log-h" { "Log" }
            p class="soft" {
                "What was out of the ordinary: at most the first 50 and the last 150 lines, kept as long as the record of the "
                "run. The daemon's own log has the rest."
            }
            (table("log-table", "Lines of this run", NarrowLayout::Cards, &columns, first))
            @if log.dropped > 0 {
                p class="soft" { "… " (plural(log.dropped, "line")) " not kept …" }
                (table("log-end-table", "The last lines of this run", NarrowLayout::Cards, &columns, last))
            }
        }
    }
}

fn level(level: LogLevel) -> Badge {
    let (tone, sign) = match level {
        LogLevel::Info => ("plain", "·"),
        LogLevel::Warning => ("warn", "!"),
        LogLevel::Error => ("bad", "✕"),
    };
    Badge { tone, sign, word: level.name() }
}
