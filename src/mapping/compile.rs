//! A mapping as SQL: the one projection that reads exactly the mapped columns, in the source's dialect, and the
//! assembly of a row's cells into a document. The one place that quotes identifiers and literals.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Expr, Field, From, Mapping, OnRemovedTrait, UserFrom};
use crate::destination::User;
use crate::model::cell::{self, As};
use crate::model::document::{self, Document, Traits};
use crate::model::{Cell, ColumnType, Rules, TraitRule};

/// A name as SQL, safe whatever it holds. PostgreSQL and DuckDB agree on the notation.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as an SQL literal for DuckDB, for the few statements that cannot bind values (`ATTACH`, `SET`). Statements for
/// a source take [`portable_literal`].
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A text as a value in a statement for a source, the same text to every server whatever its settings: where a backslash
/// escapes (`standard_conforming_strings = off`, Redshift), a quoted text could end early and what follows be run. So no
/// backslash stands between quotes, and no NUL, which PostgreSQL's protocol cannot carry.
pub fn portable_literal(text: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for piece in text.split_inclusive(['\\', '\0']) {
        let (plain, special) = match piece.as_bytes().last() {
            Some(special @ (b'\\' | b'\0')) => (&piece[..piece.len() - 1], Some(*special)),
            _ => (piece, None),
        };
        if !plain.is_empty() {
            parts.push(quote_literal(plain));
        }
        parts.extend(special.map(|special| format!("chr({special})")));
    }
    match parts.as_slice() {
        [] => quote_literal(""),
        [only] => only.clone(),
        _ => format!("({})", parts.join(" || ")),
    }
}

/// What is read from a source: key, columns, relation, condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    /// The table or query.
    pub from: From,
    /// Conditions that all must hold, each in the source's dialect.
    pub conditions: Vec<String>,
    /// The key's column.
    pub key: String,
    /// The distinct expressions the traits need; their position is the `c<n>` of the staged row.
    pub columns: Vec<Expr>,
    /// The cursor column, whose maximum is reported.
    pub cursor: Option<String>,
}

impl Projection {
    /// The relation as it stands after FROM, with an alias.
    pub fn relation(&self) -> String {
        relation(&self.from)
    }

    /// The WHERE clause with a leading space, or nothing.
    pub fn condition(&self) -> String {
        if self.conditions.is_empty() {
            return String::new();
        }
        let all: Vec<String> = self.conditions.iter().map(|condition| format!("({condition}\n)")).collect();
        format!(" WHERE {}", all.join(" AND "))
    }
}

/// A table or query as it stands after FROM. The line breaks end a trailing `--` comment of the query.
pub fn relation(from: &From) -> String {
    match from {
        From::Table(parts) => parts.iter().map(|part| quote_identifier(part)).collect::<Vec<_>>().join("."),
        From::Query(sql) => format!("(\n{sql}\n) AS model"),
    }
}

impl Expr {
    /// The expression as SQL. A plain column is quoted; an SQL expression is put in parentheses.
    pub fn sql(&self) -> String {
        match self {
            Expr::Column(name) => quote_identifier(name),
            Expr::Sql(sql) => format!("({sql}\n)"),
        }
    }
}

/// How a row's cells become a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Assembly {
    traits: Vec<(String, Slot)>,
    user: Option<(bool, UserSlot)>,
    kinds: Vec<ColumnType>,
}

#[derive(Debug, Clone, PartialEq)]
enum UserSlot {
    Template(Vec<String>),
    Column(usize),
}

#[derive(Debug, Clone, PartialEq)]
enum Slot {
    Column { index: usize, declared: Option<As> },
    Const(Value),
    Object(Vec<(String, Slot)>),
}

/// The projection a mapping reads. `conditions` come on top of the model's own filter (a cursor, one group).
pub fn projection(mapping: &Mapping, conditions: Vec<String>) -> Projection {
    let mut columns = Vec::new();
    for mapped in &mapping.traits {
        collect(&mapped.value, &mut columns);
    }
    if let Some(super::User { from: UserFrom::Expr(expr), .. }) = &mapping.user
        && !columns.contains(expr)
    {
        columns.push(expr.clone());
    }
    Projection {
        from: mapping.model.from.clone(),
        conditions: mapping.model.filter.iter().cloned().chain(conditions).collect(),
        key: mapping.key.clone(),
        columns,
        cursor: mapping.incremental.as_ref().map(|incremental| incremental.cursor.clone()),
    }
}

fn collect(field: &Field, columns: &mut Vec<Expr>) {
    match field {
        Field::Column { expr, .. } if !columns.contains(expr) => columns.push(expr.clone()),
        Field::Column { .. } | Field::Const(_) => {}
        Field::Object(members) => members.iter().for_each(|(_, member)| collect(member, columns)),
    }
}

/// The assembly that belongs to [`projection`]'s column order, given what the columns mean.
pub fn assembly(mapping: &Mapping, columns: &[Expr], kinds: Vec<ColumnType>) -> Assembly {
    let mut traits: Vec<_> =
        mapping.traits.iter().map(|mapped| (mapped.name.clone(), slot(&mapped.value, columns))).collect();
    // A map is built from sorted names without searching, which a million first documents notice.
    traits.sort_by(|(a, _), (b, _)| a.cmp(b));
    let user = mapping.user.as_ref().map(|user| {
        let slot = match &user.from {
            UserFrom::Template(texts) => UserSlot::Template(texts.clone()),
            UserFrom::Expr(expr) => UserSlot::Column(position(expr, columns)),
        };
        (user.anonymous, slot)
    });
    Assembly { traits, user, kinds }
}

fn position(expr: &Expr, columns: &[Expr]) -> usize {
    columns.iter().position(|column| column == expr).expect("the projection selects every expression")
}

fn slot(field: &Field, columns: &[Expr]) -> Slot {
    match field {
        Field::Column { expr, declared } => Slot::Column { index: position(expr, columns), declared: *declared },
        Field::Const(value) => Slot::Const(value.clone()),
        Field::Object(members) => {
            Slot::Object(members.iter().map(|(name, member)| (name.clone(), slot(member, columns))).collect())
        }
    }
}

impl Assembly {
    /// The document of a row: every mapped trait, an explicit null where the source has one. An object whose members
    /// are all null is null. Fails with `trait: reason` when a value cannot become its declared type.
    pub fn document(&self, cells: &[Cell]) -> Result<Document, String> {
        let one = |(name, slot): &(String, Slot)| {
            let value = self.value(slot, cells).and_then(|value| match document::is_too_deep(&value) {
                true => Err(document::too_deep()),
                false => Ok(value),
            });
            Ok((name.clone(), value.map_err(|reason| format!("trait `{name}`: {reason}"))?))
        };
        self.traits.iter().map(one).collect::<Result<Traits, String>>().map(Document)
    }

    /// The user a group call names. A group that left the model has no cells, and then only a template names one. Fails
    /// when the row has none.
    pub fn user(&self, key: &str, cells: &[Cell]) -> Result<Option<User>, String> {
        let Some((anonymous, slot)) = &self.user else { return Ok(None) };
        let id = match slot {
            UserSlot::Template(texts) => texts.join(key),
            UserSlot::Column(_) if cells.is_empty() => return Ok(None),
            UserSlot::Column(index) => match cell::to_json(&cells[*index], &self.kinds[*index], Some(As::String))? {
                Value::String(id) if !id.is_empty() => id,
                _ => return Err("the column of its `[user]` is empty: give it a value, or use a template".to_owned()),
            },
        };
        Ok(Some(if *anonymous { User::Anonymous(id) } else { User::Id(id) }))
    }

    fn value(&self, slot: &Slot, cells: &[Cell]) -> Result<Value, String> {
        match slot {
            Slot::Column { index, declared } => cell::to_json(&cells[*index], &self.kinds[*index], *declared),
            Slot::Const(value) => Ok(value.clone()),
            Slot::Object(members) => {
                let mut object = Map::new();
                for (name, member) in members {
                    let value = self.value(member, cells).map_err(|reason| format!("`{name}`: {reason}"))?;
                    object.insert(name.clone(), value);
                }
                if object.values().all(Value::is_null) { Ok(Value::Null) } else { Ok(Value::Object(object)) }
            }
        }
    }
}

/// The rules `delta` follows for a mapping.
pub fn rules(mapping: &Mapping) -> Rules {
    let traits: BTreeMap<String, TraitRule> = mapping
        .traits
        .iter()
        .map(|mapped| {
            let on_null = mapped.on_null.unwrap_or(mapping.policy.on_null);
            (mapped.name.clone(), TraitRule { op: mapped.op, on_null, always: mapped.always })
        })
        .collect();
    Rules { traits, unset_removed: mapping.policy.on_removed_trait == OnRemovedTrait::Unset, overwrite_unknown: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_backslash_stands_between_the_quotes_of_a_portable_literal() {
        for (text, expected) in [
            ("", "''"),
            ("acct_1", "'acct_1'"),
            ("it's", "'it''s'"),
            ("\\", "chr(92)"),
            ("a\\b", "('a' || chr(92) || 'b')"),
            ("\\' OR true --", "(chr(92) || ''' OR true --')"),
            ("\\\\é", "(chr(92) || chr(92) || 'é')"),
            ("a\0", "('a' || chr(0))"),
        ] {
            assert_eq!(portable_literal(text), expected, "{text:?}");
        }
    }
}
