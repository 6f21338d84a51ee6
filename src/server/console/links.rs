//! Paths of the console's pages, and links to them.

use maud::{Markup, html};

use super::text::{short, shown_line};

/// A segment of a path, percent-encoded.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.') {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A path with a query.
pub(super) fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    if pairs.is_empty() {
        return path.to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{path}?{query}")
}

/// The path of a sync's page.
pub(super) fn sync_path(sync: &str) -> String {
    format!("/syncs/{}", segment(sync))
}

/// The path of a destination's page.
pub(super) fn destination_path(destination: &str) -> String {
    format!("/destinations/{}", segment(destination))
}

/// The path of a run's page.
pub(super) fn run_path(run: &str) -> String {
    format!("/runs/{}", segment(run))
}

/// The path of a group's page.
pub(super) fn group_path(sync: &str, key: &str) -> String {
    with_query(&format!("{}/groups", sync_path(sync)), &[("key", key)])
}

/// The path that starts a run of a group.
pub(super) fn run_of_group(sync: &str, key: &str) -> String {
    with_query(&format!("{}/run", sync_path(sync)), &[("group", key)])
}

/// A link to a group, its key shortened.
pub(super) fn group_link(sync: &str, key: &str) -> Markup {
    html! { a href=(group_path(sync, key)) title=(shown_line(key)) { bdi { (short(key)) } } }
}

/// A button that copies a text, which the script shows. The text is percent-encoded: it may have any character.
pub(super) fn copy_button(text: &str, what: &str) -> Markup {
    html! { button type="button" class="quiet copy" data-copy=(segment(text)) hidden { "Copy" span class="hidden" { " " (what) } } }
}

/// What a group is called, as it follows its key.
pub(super) fn label_after(label: Option<&str>) -> Markup {
    html! { @if let Some(label) = label { " " bdi title=(shown_line(label)) { (short(label)) } } }
}

/// A link to a run, by its id.
pub(super) fn run_link(run: &str) -> Markup {
    html! { a href=(run_path(run)) { (shown_line(run)) } }
}

/// The form that opens a group by its key.
pub(super) fn group_search(sync: &str, key: Option<&str>) -> Markup {
    html! {
        form class="search" role="search" method="get" action={ (sync_path(sync)) "/groups" } {
            label for="key" { "Open a group by its key" }
            div class="joined" {
                input id="key" name="key" type="text" required autocomplete="off" autocapitalize="none"
                    spellcheck="false" value=[key];
                button { "Open" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_texts_survive_a_link() {
        assert_eq!(segment("a/b ü?"), "a%2Fb%20%C3%BC%3F");
        assert_eq!(group_path("s", "a&b=\"<\0"), "/syncs/s/groups?key=a%26b%3D%22%3C%00");
    }
}
