//! Keys and values as text for a terminal.

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::format::{cut, cut_both, json_line, one_line};
use crate::model::document;

/// A failure to write what a command shows.
pub(super) fn written(result: std::io::Result<()>) -> Result<()> {
    result.map_err(|error| {
        Error::new(Kind::Config, "failed to write the output")
            .advise("look at where the output goes: a full disk, perhaps")
            .because(error)
    })
}

/// Characters of a value: with them it stays on a line.
pub(super) const VALUE_CHARS_MAX: usize = 80;

/// A value as JSON, shortened so that it stays on a line, and free of characters that would act on a terminal.
pub(super) fn shown_value(value: &Value) -> String {
    value_within(value, VALUE_CHARS_MAX)
}

/// Whether [`shown_value`] leaves something of it out.
pub(super) fn is_shortened(value: &Value) -> bool {
    json(value).chars().nth(VALUE_CHARS_MAX).is_some()
}

/// The same with so many characters at most.
pub(super) fn value_within(value: &Value, chars_max: usize) -> String {
    json_line(cut(&json(value), chars_max))
}

/// Two values likewise: where they differ is in both.
pub(super) fn values_within(old: &Value, new: &Value, chars_max: usize) -> [String; 2] {
    cut_both(&json(old), &json(new), chars_max).map(json_line)
}

fn json(value: &Value) -> String {
    if document::is_unknown(value) { "(unconfirmed)".to_owned() } else { value.to_string() }
}

/// What a group is called, as it follows its key.
pub(super) fn after_key(label: Option<&str>) -> String {
    label.map_or_else(String::new, |label| format!("  {}", shown_key(label)))
}

/// A key as it may be printed, shortened so that it stays on a line or two.
pub(super) fn shown_key(key: &str) -> String {
    const CHARS_MAX: usize = 120;
    let mut short = one_line(&key.chars().take(CHARS_MAX).collect::<String>()).into_owned();
    if key.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}
