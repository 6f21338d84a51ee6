//! The mapping of a sync, on its page.

use maud::{Markup, html};

use super::layout::definition_list;
use super::table::{NarrowLayout, table, text};
use super::text::{long, shown, shown_line};
use crate::service::views::MappingView;

/// The section with the mapping's settings and traits.
pub(super) fn section(mapping: &MappingView) -> Markup {
    let rows: Vec<Vec<Markup>> = (mapping.traits.iter())
        .map(|mapped| {
            vec![
                html! { bdi { (shown_line(&mapped.name)) } },
                html! { code { (long(&mapped.from)) } },
                match &mapped.kind {
                    Some(kind) => html! { (shown_line(kind)) },
                    None => html! { span class="soft" { "inferred" } },
                },
                html! {
                    (shown_line(&mapped.op))
                    @if mapped.always { " " span class="soft" { "sent with every change" } }
                },
                html! { (shown_line(&mapped.on_null)) },
            ]
        })
        .collect();
    let columns = [text("Trait"), text("Source"), text("Type"), text("Operator"), text("On null")];
    let mut pairs = vec![("File", html! { code { (shown_line(&mapping.file)) } })];
    let lines = mapping.model.lines().count();
    if lines > 1 || mapping.model.contains(' ') {
        pairs.push(("Model", html! { pre tabindex="0" aria-label="Model" { (shown(&mapping.model)) } }));
    } else {
        pairs.push(("Model", html! { code { (shown(&mapping.model)) } }));
    }
    if let Some(filter) = &mapping.filter {
        pairs.push(("Where", html! { code { (shown(filter)) } }));
    }
    pairs.push(("Key", html! { code { (shown_line(&mapping.key)) } }));
    if let Some(cursor) = &mapping.cursor {
        pairs.push(("Cursor", html! { code { (shown_line(cursor)) } }));
    }
    let policy = html! {
        ul class="plain" {
            @for (name, value) in &mapping.policy { li { code { (shown_line(name)) " = " (shown_line(value)) } } }
        }
    };
    pairs.push(("Policy", policy));
    html! {
        section id="mapping" aria-labelledby="mapping-h" {
            h2 id="mapping-h" { "Mapping" }
            (definition_list(&pairs))
            (table("traits", "The source of each trait", NarrowLayout::Cards, &columns, &rows))
        }
    }
}
