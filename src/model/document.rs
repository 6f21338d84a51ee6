//! The document: the mapped traits of one group as canonical JSON, so that equal values are equal bytes.

use serde_json::{Map, Number, Value};

use super::number;

/// How deep the value of a trait may nest. What is stored, answered over HTTP and read back wraps it in some more levels,
/// and whatever reads JSON gives up at 128: a value between the two would be sent once and never be understood again.
pub const DEPTH_MAX: usize = 100;

/// Traits by name, in name order.
pub type Traits = Map<String, Value>;

/// What a destination holds, or should hold, for one group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document(pub Traits);

impl Document {
    /// Reads the text written by [`Document::to_text`].
    pub fn from_text(text: &str) -> Result<Document, String> {
        serde_json::from_str::<Traits>(text).map(Document).map_err(|error| error.to_string())
    }

    /// Canonical JSON: keys in order, no spaces, one spelling per number.
    pub fn to_text(&self) -> String {
        serde_json::to_string(&self.0).expect("a JSON map of JSON values always serializes")
    }
}

/// Brings foreign JSON (a json column, a constant) into canonical form: every number in its one spelling. Key order and
/// spacing are canonical by construction. Fails on a number that is no finite decimal.
pub fn canonicalize(value: Value) -> Result<Value, String> {
    Ok(match value {
        Value::Number(number) => number_value(&number.to_string())?,
        Value::Array(items) => Value::Array(items.into_iter().map(canonicalize).collect::<Result<_, _>>()?),
        Value::Object(map) => Value::Object(
            map.into_iter().map(|(name, value)| Ok((name, canonicalize(value)?))).collect::<Result<_, String>>()?,
        ),
        other => other,
    })
}

/// A lower bound of the bytes of these traits as JSON, without writing them.
pub fn bytes_at_least(traits: &Traits) -> usize {
    fn value_bytes(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) => 4,
            Value::Number(number) => number.as_str().len(),
            Value::String(text) => text.len() + 2,
            Value::Array(items) => 1 + items.iter().map(|item| 1 + value_bytes(item)).sum::<usize>(),
            Value::Object(members) => bytes_at_least(members),
        }
    }
    1 + traits.iter().map(|(name, value)| name.len() + 4 + value_bytes(value)).sum::<usize>()
}

/// Whether a value nests deeper than [`DEPTH_MAX`].
pub fn is_too_deep(value: &Value) -> bool {
    fn deeper_than(value: &Value, levels: usize) -> bool {
        match value {
            Value::Array(items) => levels == 0 || items.iter().any(|item| deeper_than(item, levels - 1)),
            Value::Object(members) => levels == 0 || members.values().any(|member| deeper_than(member, levels - 1)),
            _ => false,
        }
    }
    deeper_than(value, DEPTH_MAX)
}

/// Why such a value is not sent, and what to do.
pub fn too_deep() -> String {
    format!("JSON nested deeper than {DEPTH_MAX} levels: flatten it with `sql`")
}

/// A JSON number from decimal text, canonical and exact.
pub fn number_value(text: &str) -> Result<Value, String> {
    let canonical = number::canonical(text).ok_or_else(|| "not a finite decimal number".to_owned())?;
    Ok(Value::Number(Number::from_string_unchecked(canonical)))
}

/// Marks, in a known document, a trait the destination holds with an unconfirmed value. It equals no value a source can
/// yield, so the next value is always resent, while the trait stays visible and can be unset.
pub fn unconfirmed() -> Value {
    Value::Object(Map::from_iter([("$groupcast".to_owned(), Value::String("unsure".to_owned()))]))
}

/// Marks, in a known document, a trait the destination holds with one of several values, and which one is not known:
/// it was set once while an earlier request was unconfirmed. Like [`unconfirmed`] it equals no value a source can yield; unlike
/// there it is certain that some value is held.
pub fn taken() -> Value {
    Value::Object(Map::from_iter([("$groupcast".to_owned(), Value::String("taken".to_owned()))]))
}

/// The value of the trait `label` as a name for people: text, a number, true or false.
pub fn label<'a>(label: &str, values: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Option<String> {
    let (_, value) = values.into_iter().find(|(name, _)| *name == label)?;
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Whether this represents a value that is not known.
pub fn is_unknown(value: &Value) -> bool {
    *value == unconfirmed() || *value == taken()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_plain_value() {
        let traits =
            serde_json::json!({"name": " Acme ", "seats": 5, "empty": "  ", "tags": ["x"], "lost": unconfirmed()});
        let of = |name: &str| label(name, traits.as_object().unwrap());
        assert_eq!((of("name").as_deref(), of("seats").as_deref()), (Some("Acme"), Some("5")));
        assert_eq!([of("empty"), of("tags"), of("lost"), of("none")], [None, None, None, None]);
    }

    #[test]
    fn what_is_not_too_deep_can_be_read_back_in_every_wrapping() {
        let nested = |levels: usize| (0..levels).fold(Value::from(1), |inner, _| Value::Array(vec![inner]));
        let objects = |levels: usize| (0..levels).fold(Value::from(1), |inner, _| serde_json::json!({ "a": inner }));
        for make in [&nested as &dyn Fn(usize) -> Value, &objects] {
            assert!(!is_too_deep(&make(DEPTH_MAX)) && is_too_deep(&make(DEPTH_MAX + 1)));
            let document = Document(Map::from_iter([("t".to_owned(), make(DEPTH_MAX))]));
            assert_eq!(Document::from_text(&document.to_text()), Ok(document.clone()));
            // As a plan or a group's history travels to whoever asked.
            let wrapped = serde_json::json!({"data": [{"history": [{"change": {"set": document.0}}]}]}).to_string();
            assert!(serde_json::from_str::<Value>(&wrapped).is_ok());
        }
        assert!(!is_too_deep(&Value::Null));
    }

    #[test]
    fn texts_are_canonical() {
        let parsed: Value =
            serde_json::from_str(r#"{"b": 1.50, "a": [9007199254740993, 1e2], "c": {"z": null, "y": -0.0}}"#).unwrap();
        let Value::Object(traits) = canonicalize(parsed).unwrap() else { panic!("an object stays one") };
        let document = Document(traits);
        assert_eq!(document.to_text(), r#"{"a":[9007199254740993,100],"b":1.5,"c":{"y":0,"z":null}}"#);
        assert_eq!(Document::from_text(&document.to_text()).unwrap(), document);
    }
}
