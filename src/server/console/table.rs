//! Tables that read on a phone and aloud. Roles are explicit because a table that becomes cards on a narrow screen is no
//! table to a browser any more.

use maud::{Markup, html};

/// What a table becomes on a narrow screen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NarrowLayout {
    /// One card per row, each cell with its column's name.
    Cards,
    /// A region that scrolls sideways by itself.
    Scroll,
}

/// A column.
pub(super) struct TableColumn {
    name: &'static str,
    number: bool,
}

/// A column of texts.
pub(super) const fn text(name: &'static str) -> TableColumn {
    TableColumn { name, number: false }
}

/// A column of numbers, aligned to the right.
pub(super) const fn number(name: &'static str) -> TableColumn {
    TableColumn { name, number: true }
}

/// A table; the first cell of a row names the row. `id` is unique on the page.
pub(super) fn table(
    id: &str,
    caption: &str,
    shape: NarrowLayout,
    columns: &[TableColumn],
    rows: &[Vec<Markup>],
) -> Markup {
    let class = match shape {
        NarrowLayout::Cards => "cards",
        NarrowLayout::Scroll => "wide",
    };
    let body = html! {
        table id=(id) class=(class) role="table" aria-labelledby={ (id) "-caption" } {
            caption id={ (id) "-caption" } { (caption) }
            thead role="rowgroup" {
                tr role="row" {
                    @for column in columns {
                        th scope="col" role="columnheader" class=[column.number.then_some("number")] { (column.name) }
                    }
                }
            }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" {
                        @for (index, (column, cell)) in columns.iter().zip(row).enumerate() {
                            @if index == 0 {
                                th scope="row" role="rowheader" data-label=(column.name) { (cell) }
                            } @else {
                                td role="cell" class=[column.number.then_some("number")] data-label=(column.name) {
                                    (cell)
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    match shape {
        NarrowLayout::Cards => body,
        NarrowLayout::Scroll => html! {
            div class="scroll" role="region" tabindex="0" aria-labelledby={ (id) "-caption" } { (body) }
        },
    }
}
