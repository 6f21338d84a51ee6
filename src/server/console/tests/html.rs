//! Which tags and attributes does a page consist of? Enough of a parser for pages whose texts are escaped.

/// A start tag.
#[derive(Debug, Clone)]
pub(super) struct Tag {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
}

impl Tag {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A form with its fields' names and values.
#[derive(Debug, Clone)]
pub(super) struct Form {
    pub(super) action: String,
    pub(super) post: bool,
    pub(super) fields: Vec<(String, String)>,
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

/// Every start tag, in order. Panics on what a browser would have to repair.
pub(super) fn tags(html: &str) -> Vec<Tag> {
    let mut found = Vec::new();
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("a page starts with its doctype");
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let mut quoted = false;
        let end = rest.find(|char| {
            quoted ^= char == '"';
            char == '>' && !quoted
        });
        let inside = &rest[..end.expect("a tag ends")];
        rest = &rest[inside.len() + 1..];
        if inside.starts_with('/') {
            continue;
        }
        let (name, mut left) = inside.split_once(' ').unwrap_or((inside, ""));
        let mut attributes = Vec::new();
        while !left.trim().is_empty() {
            left = left.trim_start();
            let stop = left.find([' ', '=']).unwrap_or(left.len());
            let attribute = left[..stop].to_owned();
            left = &left[stop..];
            let mut value = String::new();
            if let Some(after) = left.strip_prefix("=\"") {
                let (text, more) = after.split_once('"').expect("a value ends");
                (value, left) = (unescaped(text), more);
            }
            assert!(!attributes.iter().any(|(known, _)| *known == attribute), "{attribute} twice in <{inside}>");
            attributes.push((attribute, value));
        }
        found.push(Tag { name: name.to_owned(), attributes });
    }
    found
}

/// Every form.
pub(super) fn forms(html: &str) -> Vec<Form> {
    let mut found: Vec<Form> = Vec::new();
    for part in html.split("<form ").skip(1) {
        let inside = part.split("</form>").next().unwrap();
        let all = tags(&format!("<!DOCTYPE html><form {inside}"));
        let form = &all[0];
        let fields = all.iter().filter(|tag| tag.name == "input");
        found.push(Form {
            action: form.get("action").unwrap().to_owned(),
            post: form.get("method") == Some("post"),
            fields: fields
                .filter_map(|tag| Some((tag.get("name")?.to_owned(), tag.get("value").unwrap_or("").to_owned())))
                .collect(),
        });
    }
    found
}
