//! Expectations rewritten to what came out. Only what differs is touched: comments and the rest of the file stay.

use serde_json::Value;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike};

use super::compare::Mismatch;
use crate::error::{Error, Kind, Result};
use crate::mapping::test_file::pointer;

/// A test file that is being rewritten.
pub struct Update(DocumentMut);

impl Update {
    /// Of this text.
    ///
    /// Errors: [`Kind::Bug`], what was read as TOML cannot be read as TOML.
    pub fn of(text: &str) -> Result<Update> {
        text.parse().map(Update).map_err(|error: toml_edit::TomlError| {
            Error::new(Kind::Bug, "a test file cannot be rewritten").because(error.message().to_owned())
        })
    }

    /// The text as it is now.
    pub fn into_text(self) -> String {
        self.0.to_string()
    }

    /// Rewrites what the test number `n` expects so that these mismatches are none; `actual` is what came out.
    pub fn apply(&mut self, n: usize, mismatches: &[Mismatch], actual: &Value) {
        let Some(test) = self.0.get_mut("tests").and_then(|tests| nth(tests, n)) else { return };
        if !test.contains_key("expect") {
            let mut expect = Table::new();
            expect.set_implicit(true);
            test.insert("expect", Item::Table(expect));
        }
        let Some(expect) = test.get_mut("expect") else { return };
        // What is removed comes last, and from the last to the first: the places of a list's elements stay what they are.
        let (kept, removed): (Vec<&Mismatch>, Vec<&Mismatch>) =
            mismatches.iter().partition(|mismatch| mismatch.actual.is_some());
        for mismatch in kept.into_iter().chain(removed.into_iter().rev()) {
            let name = |name: &str| name.replace("~1", "/").replace("~0", "~");
            let path: Vec<String> = mismatch.pointer.split('/').skip(1).map(name).collect();
            set(expect, &path, "", actual);
        }
    }
}

fn nth(tests: &mut Item, n: usize) -> Option<&mut dyn TableLike> {
    match tests {
        Item::ArrayOfTables(tests) => tests.get_mut(n).map(|table| table as _),
        Item::Value(toml_edit::Value::Array(tests)) => {
            tests.get_mut(n).and_then(toml_edit::Value::as_inline_table_mut).map(|table| table as _)
        }
        _ => None,
    }
}

/// Sets what is at `path` below `item` to what is there in `actual`, or removes it where nothing is. `here` is the pointer
/// of `item`.
fn set(item: &mut Item, path: &[String], here: &str, actual: &Value) {
    let [name, rest @ ..] = path else { return replace(item, here, actual) };
    let below = pointer(here, name);
    let now = actual.pointer(&below);
    let at = name.parse::<usize>();
    match item {
        Item::Table(table) => {
            let on_a_line = table.is_dotted();
            set_in(table, (name, rest), &below, actual, on_a_line);
        }
        Item::Value(toml_edit::Value::InlineTable(table)) => set_in(table, (name, rest), &below, actual, true),
        Item::Value(toml_edit::Value::Array(array)) => match (at.ok().and_then(|at| Some((at, array.get(at)?))), now) {
            (Some((at, _)), None) => drop(array.remove(at)),
            (Some((at, element)), Some(_)) => {
                let mut element = Item::Value(element.clone());
                set(&mut element, rest, &below, actual);
                if let Item::Value(element) = element {
                    array.replace_formatted(at, element);
                }
            }
            (None, Some(now)) => array.push(inline(now)),
            (None, None) => {}
        },
        Item::ArrayOfTables(tables) => match (at.ok().filter(|at| *at < tables.len()), now) {
            (Some(at), None) => drop(tables.remove(at)),
            (Some(at), Some(_)) => {
                if let (Some(table), [name, rest @ ..]) = (tables.get_mut(at), rest) {
                    set_in(table, (name, rest), &pointer(&below, name), actual, false);
                }
            }
            (None, Some(now)) => tables.push(table(&below, now)),
            (None, None) => {}
        },
        // Text that holds what is compared.
        Item::Value(_) | Item::None => replace(item, here, actual),
    }
}

/// The same for the member `name` of a table, which is at `below`. `on_a_line`: new tables within it are written on its line.
fn set_in(table: &mut dyn TableLike, (name, rest): (&str, &[String]), below: &str, actual: &Value, on_a_line: bool) {
    // Where no guard stops the run, that is null; anywhere else a null is a value.
    let now = actual.pointer(below).filter(|now| below != "/guard" || !now.is_null());
    match (table.get_mut(name), now) {
        (Some(_), None) if rest.is_empty() => drop(table.remove(name)),
        (Some(member), _) => set(member, rest, below, actual),
        (None, Some(now)) if on_a_line => drop(table.insert(name, Item::Value(inline(now)))),
        (None, Some(now)) => drop(table.insert(name, item(below, now))),
        (None, None) => {}
    }
}

/// Replaces a value and keeps what is around it.
fn replace(old: &mut Item, here: &str, actual: &Value) {
    let Some(now) = actual.pointer(here) else { return };
    let Some(value) = old.as_value_mut() else {
        *old = item(here, now);
        return;
    };
    let decor = value.decor().clone();
    *value = match item(here, now) {
        Item::Value(now) => now,
        _ => inline(now),
    };
    *value.decor_mut() = decor;
}

/// What is at a pointer, as it is written where it has room: a table for each group and request, a body as indented JSON.
fn item(here: &str, now: &Value) -> Item {
    let depth = here.matches('/').count();
    match now {
        Value::Array(requests) if here == "/requests" => {
            let table = |(n, request): (usize, &Value)| table(&pointer(here, &n.to_string()), request);
            Item::ArrayOfTables(requests.iter().enumerate().map(table).collect::<ArrayOfTables>())
        }
        Value::Object(_) if depth <= 2 => Item::Table(table(here, now)),
        Value::Array(_) | Value::Object(_) if depth == 3 && here.starts_with("/requests/") => {
            Item::Value(serde_json::to_string_pretty(now).unwrap_or_default().into())
        }
        other => Item::Value(inline(other)),
    }
}

fn table(here: &str, now: &Value) -> Table {
    let mut table = Table::new();
    let members = now.as_object().into_iter().flatten();
    for (name, member) in members {
        table.insert(name, item(&pointer(here, name), member));
    }
    // A header of its own would only repeat what those of its groups have.
    table.set_implicit(!table.is_empty() && table.iter().all(|(_, member)| member.is_table()));
    table
}

/// A value on one line.
fn inline(now: &Value) -> toml_edit::Value {
    let json = || {
        let mut table = InlineTable::new();
        table.insert("json", now.to_string().into());
        toml_edit::Value::InlineTable(table)
    };
    match now {
        Value::Null => json(),
        Value::Bool(flag) => (*flag).into(),
        Value::String(text) => text.as_str().into(),
        Value::Number(number) => number.to_string().parse().unwrap_or_else(|_| json()),
        Value::Array(items) => toml_edit::Value::Array(items.iter().map(inline).collect::<Array>()),
        // It would be read as JSON.
        Value::Object(members) if members.len() == 1 && members.contains_key("json") => json(),
        Value::Object(members) => {
            let members = members.iter().map(|(name, member)| (name.as_str(), inline(member)));
            toml_edit::Value::InlineTable(members.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mapping::test_file::{self, TestFile};
    use crate::service::mapping_test::compare::compare;

    fn read(text: &str) -> TestFile {
        let (file, found) = test_file::parse("a.test.toml", text);
        file.unwrap_or_else(|| panic!("{found:?}\n{text}"))
    }

    /// The text after an update to what came out, which then matches.
    fn updated(text: &str, actual: &Value) -> String {
        let mut update = Update::of(text).unwrap();
        for (n, test) in read(text).tests.iter().enumerate() {
            update.apply(n, &compare(test, actual), actual);
        }
        let text = update.into_text();
        for test in &read(&text).tests {
            let left = compare(test, actual);
            assert!(left.is_empty(), "{left:?}\n{text}");
        }
        text
    }

    #[test]
    fn expectations_of_every_form_match_afterwards_and_comments_stay() {
        let actual = json!({
            "documents": {
                "a": {"name": "Acme", "n": 1.5, "gone": null, "tags": ["x", "y"], "address": {"city": "Rome"}},
                "b.c": {"name": "B", "big": serde_json::from_str::<Value>("123456789012345678901234567890").unwrap()},
            },
            "changes": {"a": {"set": {"name": "Acme"}, "unset": ["z"]}},
            "requests": [{"method": "POST", "path": "/x", "body": {"k": [1, null]}}, {"method": "PUT", "path": "/y", "body": "t"}],
            "rejected": {},
        });
        let head = "# about\n[[tests]] # one\nname = \"a\"   # the name\n";
        for expect in [
            "",
            "[tests.expect.documents.a]\n# why\nname = \"A\" # this\nother = 1\ngone = true\n",
            "expect.documents.a = { name = \"A\" } # here\n",
            "expect.documents = { a = { name = \"A\", tags = [\"x\", \"z\"] } }\n",
            "[tests.expect.changes]\na.set.name = \"B\"\nc.delete = true\n",
            "[tests.expect]\nrejected.a = \"no\"\nguard = \"empty\"\ndocuments.a.address.city = \"Paris\"\n",
            "[[tests.expect.requests]]\npath = \"/z\"\nbody = '{\"k\": 2}'\n",
            "[[tests.expect.requests]]\n[[tests.expect.requests]]\nbody = \"u\"\n[[tests.expect.requests]]\n",
            "expect.requests = [{ method = \"GET\", body = { k = [2, 3] } }]\n",
        ] {
            let text = updated(&format!("{head}{expect}"), &actual);
            assert!(text.starts_with(head), "{text}");
            for comment in ["# why", "# this", "# here"] {
                assert_eq!(expect.contains(comment), text.contains(comment), "{text}");
            }
            assert_eq!(updated(&text, &actual), text, "again changes nothing");
        }
        let fresh = updated(head, &actual);
        assert!(fresh.contains("[tests.expect.documents.a]\n") && fresh.contains("\nname = \"Acme\"\n"), "{fresh}");
    }
}
