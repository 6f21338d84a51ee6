//! What does a request say? Its address and body as JSON values, whatever the encoding.

use groupcast::io::http::Request;
use groupcast::model::document::canonicalize;
use serde_json::{Map, Value};

/// A request as values: the segments of its path, its query, its body.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trees(pub(super) Vec<Value>);

impl Trees {
    /// Fails when something in it cannot be read by its content type.
    pub(super) fn of(request: &Request) -> Result<Trees, String> {
        let mut trees = Vec::new();
        if request.url.starts_with("http") {
            let url = url::Url::parse(&request.url).map_err(|error| format!("an address that is none ({error})"))?;
            for segment in url.path_segments().into_iter().flatten() {
                trees.push(Value::String(percent_decoded(segment, false)?));
            }
            if let Some(query) = url.query() {
                trees.push(form(query.as_bytes(), false)?);
            }
        }
        let is = |name: &str| request.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        let kind = is("content-type").map_or("", |(_, value)| value.split(';').next().unwrap_or("").trim());
        match kind {
            _ if request.body.is_empty() => {}
            "application/x-www-form-urlencoded" => trees.push(form(&request.body, true)?),
            "application/json" => trees.push(json(&request.body)?),
            "application/x-ndjson" | "" => {
                for line in request.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    trees.push(json(line)?);
                }
            }
            other => return Err(format!("content type {other}, which nothing here reads")),
        }
        Ok(Trees(trees))
    }

    /// Whether an object anywhere gives `name` this value: `{name: value}`, or `{…: name, …: value}`.
    pub(super) fn give(&self, name: &str, value: &Value) -> bool {
        let value = canonicalize(value.clone()).unwrap();
        self.any(&|tree| {
            let Value::Object(members) = tree else { return false };
            members.get(name) == Some(&value)
                || members.values().any(|member| member.as_str() == Some(name))
                    && members.values().any(|member| *member == value)
        })
    }

    /// Whether `text` is a whole string or a name anywhere.
    pub(super) fn mention(&self, text: &str) -> bool {
        self.any(&|tree| match tree {
            Value::String(string) => string == text,
            Value::Object(members) => members.contains_key(text),
            _ => false,
        })
    }

    fn any(&self, holds: &dyn Fn(&Value) -> bool) -> bool {
        fn walk(tree: &Value, holds: &dyn Fn(&Value) -> bool) -> bool {
            holds(tree)
                || match tree {
                    Value::Array(items) => items.iter().any(|item| walk(item, holds)),
                    Value::Object(members) => members.values().any(|member| walk(member, holds)),
                    _ => false,
                }
        }
        self.0.iter().any(|tree| walk(tree, holds))
    }

    /// The scalars in which two requests of one shape differ, as `a.b.0`: path and both values.
    pub(super) fn differences(&self, other: &Trees) -> Vec<(String, Value, Value)> {
        fn walk(path: &str, a: &Value, b: &Value, out: &mut Vec<(String, Value, Value)>) {
            let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            match (a, b) {
                _ if a == b => {}
                (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                    a.iter().zip(b).enumerate().for_each(|(at, (a, b))| walk(&below(&at.to_string()), a, b, out));
                }
                (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
                    a.iter().zip(b.values()).for_each(|((name, a), b)| walk(&below(name), a, b, out));
                }
                _ => out.push((path.to_owned(), a.clone(), b.clone())),
            }
        }
        let mut out = Vec::new();
        walk("", &Value::Array(self.0.clone()), &Value::Array(other.0.clone()), &mut out);
        out
    }

    /// The value at a path that [`Trees::differences`] gave.
    pub(super) fn at(&self, path: &str) -> Option<&Value> {
        let mut steps = path.split('.');
        let first = self.0.get(steps.next()?.parse::<usize>().ok()?)?;
        steps.try_fold(first, |value, step| match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            value => value.get(step),
        })
    }
}

/// JSON with one spelling per number.
fn json(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8 ({error})"))?;
    let value: Value = serde_json::from_str(text).map_err(|error| format!("no JSON ({error})"))?;
    canonicalize(value)
}

/// The fields of a form or a query; in a form, JSON where a field holds it.
fn form(bytes: &[u8], may_hold_json: bool) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8 ({error})"))?;
    let mut fields = Map::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("a form field without `=`")?;
        let (name, value) = (percent_decoded(name, true)?, percent_decoded(value, true)?);
        let holds_json = may_hold_json && value.starts_with(['{', '[']);
        let value = if holds_json { json(value.as_bytes())? } else { Value::String(value) };
        if fields.insert(name.clone(), value).is_some() {
            return Err(format!("two form fields `{name}`"));
        }
    }
    Ok(Value::Object(fields))
}

fn percent_decoded(text: &str, plus_is_space: bool) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit().ok_or("half a percent escape")?, digit().ok_or("half a percent escape")?);
                (high * 16 + low) as u8
            }
            b'+' if plus_is_space => b' ',
            byte if byte.is_ascii_graphic() => byte,
            _ => return Err("a byte that must be escaped".to_owned()),
        });
    }
    String::from_utf8(bytes).map_err(|error| format!("escapes that are no UTF-8 ({error})"))
}

#[test]
fn requests_are_read_whatever_their_encoding() {
    let request = |kind: &str, url: &str, body: &str| Request {
        method: "POST",
        url: url.to_owned(),
        headers: vec![("content-type", kind.to_owned())],
        body: body.as_bytes().to_vec(),
        gzip: false,
    };
    let form =
        request("application/x-www-form-urlencoded", "http://a/b%20c?key=x%2By", "k=a%2B&data=%7B%22n%22%3A1.50%7D");
    let trees = Trees::of(&form).unwrap();
    assert!(trees.mention("b c") && trees.mention("x+y") && trees.mention("a+"));
    assert!(trees.give("n", &serde_json::json!(1.5)) && !trees.give("n", &serde_json::json!(1)));
    let pair =
        Trees::of(&request("application/json; charset=utf-8", "http://a", r#"[{"key":"plan","value":2}]"#)).unwrap();
    assert!(pair.give("plan", &serde_json::json!(2)) && pair.mention("plan") && !pair.mention("pla"));
    for (kind, body) in [
        ("application/json", "{"),
        ("application/json", "{} {}"),
        ("application/x-www-form-urlencoded", "a=%2"),
        ("application/x-www-form-urlencoded", "a=b c"),
        ("application/x-www-form-urlencoded", "a=1&a=2"),
        ("application/x-www-form-urlencoded", "a=%ff"),
        ("text/html", "x"),
    ] {
        assert!(Trees::of(&request(kind, "http://a", body)).is_err(), "{kind} {body}");
    }
    let other = Trees::of(&request("application/json", "http://a", r#"[{"key":"plan","value":3}]"#)).unwrap();
    let differences = pair.differences(&other);
    assert_eq!(differences, [("1.0.value".to_owned(), serde_json::json!(2), serde_json::json!(3))]);
    assert_eq!(other.at("1.0.value"), Some(&serde_json::json!(3)));
}
