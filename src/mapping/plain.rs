//! How a row becomes the text of its document, where its mapping and its values are plain ([`crate::model::plain`]).

use super::{Expr, Field, Mapping, Trait, compile};
use crate::model::cell::As;
use crate::model::plain::{self, Written};
use crate::model::{Cell, ColumnType, OnNull, Op, PlainDocument};

/// How the cells of a new group become the text of its document.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainAssembly {
    traits: Vec<PlainTrait>,
}

#[derive(Debug, Clone, PartialEq)]
struct PlainTrait {
    name: String,
    /// Its name as JSON, with the colon.
    head: Vec<u8>,
    value: PlainValue,
    /// Whether a null is sent as one, which is not plain.
    sends_null: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum PlainValue {
    Column { index: usize, kind: ColumnType, declared: Option<As> },
    Constant(Vec<u8>),
}

/// The plain assembly that belongs to [`compile::projection`]'s column order; none for a mapping with objects, with constants
/// that are not plain, or with operators other than `set`.
pub fn assembly(mapping: &Mapping, columns: &[Expr], kinds: &[ColumnType]) -> Option<PlainAssembly> {
    let rules = compile::rules(mapping);
    let one = |mapped: &Trait| {
        let rule = rules.traits.get(&mapped.name)?;
        let value = match &mapped.value {
            Field::Column { expr, declared } => {
                let index = columns.iter().position(|column| column == expr)?;
                PlainValue::Column { index, kind: kinds.get(index)?.clone(), declared: *declared }
            }
            Field::Const(value) => {
                let mut text = Vec::new();
                (plain::write_value(&mut text, value) == Written::Value).then_some(PlainValue::Constant(text))?
            }
            Field::Object(_) => return None,
        };
        let mut head = serde_json::to_vec(&mapped.name).ok()?;
        head.push(b':');
        let sends_null = rule.on_null == OnNull::Null;
        (rule.op == Op::Set).then(|| PlainTrait { name: mapped.name.clone(), head, value, sends_null })
    };
    let mut traits = mapping.traits.iter().map(one).collect::<Option<Vec<_>>>()?;
    traits.sort_by(|a, b| a.name.cmp(&b.name));
    Some(PlainAssembly { traits })
}

impl PlainAssembly {
    /// The names of all traits, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.traits.iter().map(|one| one.name.as_str())
    }

    /// The document of a group that was never sent; nothing if a value is not plain, or if every value is null.
    pub fn document(&self, cells: &[Cell]) -> Option<PlainDocument> {
        let mut text = Vec::with_capacity(24 * self.traits.len());
        let (mut traits, mut omitted) = (0, Vec::new());
        for (position, one) in self.traits.iter().enumerate() {
            let before = text.len();
            text.push(if traits == 0 { b'{' } else { b',' });
            text.extend_from_slice(&one.head);
            let written = match &one.value {
                PlainValue::Column { index, kind, declared } => {
                    plain::write(&mut text, cells.get(*index)?, kind, *declared)
                }
                PlainValue::Constant(value) => {
                    text.extend_from_slice(value);
                    Written::Value
                }
            };
            match written {
                Written::Value => traits += 1,
                Written::Null if !one.sends_null => {
                    text.truncate(before);
                    omitted.push(u16::try_from(position).ok()?);
                }
                Written::Null | Written::NotPlain => return None,
            }
        }
        text.push(b'}');
        let text = String::from_utf8(text).ok().filter(|_| traits > 0)?;
        Some(PlainDocument { text: text.into(), traits, omitted: omitted.into() })
    }
}
