//! A mapping compiled: the one projection that reads exactly the mapped columns, as SQL in the source's dialect, and the
//! assembly of a row's cells into a document.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::dialect::Dialect;
use super::sections::model::From;
use super::sections::policy::OnRemovedTrait;
use super::sections::traits::{Expr, Field};
use super::sections::user::{self, UserFrom};
use super::spec::Mapping;
use crate::destination::User;
use crate::model::cell::{self, As};
use crate::model::document::{self, Document, Traits};
use crate::model::{Cell, ColumnType, Rules, TraitRule};

/// What is read from a source: key, columns, relation, conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    /// The table or query.
    pub from: From,
    /// Conditions that the mapping writes in the source's dialect; all must hold.
    pub filters: Vec<String>,
    /// The part of the model's rows that is read; all of them without it.
    pub restriction: Option<Restriction>,
    /// The key's column.
    pub key: String,
    /// The distinct expressions the traits need; their position is the `c<n>` of the staged row.
    pub columns: Vec<Expr>,
    /// The cursor column, whose maximum is reported.
    pub cursor: Option<String>,
    /// Most rows that are read, whichever they are.
    pub limit: Option<u64>,
    /// Whether the source sums the rows up while it reads them, if it can.
    pub summed: bool,
}

/// A part of a model's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restriction {
    /// The rows of these keys.
    Groups(Vec<String>),
    /// The rows whose cursor is at or after this one, and those without a cursor: when they changed is not known.
    CursorFrom(String),
}

impl Projection {
    /// The relation as it follows FROM, with an alias.
    pub fn relation(&self, dialect: &dyn Dialect) -> String {
        dialect.relation(&self.from)
    }

    /// Every condition on its own: the mapping's, then the restriction. `key` is how the key is written.
    pub fn conditions(&self, dialect: &dyn Dialect, key: &str) -> Vec<String> {
        let restriction = self.restriction.as_ref().and_then(|restriction| match restriction {
            Restriction::Groups(groups) => {
                let literals: Vec<String> = groups.iter().map(|group| dialect.literal(group)).collect();
                Some(match literals.as_slice() {
                    [one] => format!("{} = {one}", dialect.as_text(key)),
                    several => format!("{} IN ({})", dialect.as_text(key), several.join(", ")),
                })
            }
            Restriction::CursorFrom(cursor) => {
                let column = dialect.identifier(self.cursor.as_ref()?);
                Some(format!("{column} >= {} OR {column} IS NULL", dialect.cursor_literal(cursor)))
            }
        });
        self.filters.iter().cloned().chain(restriction).collect()
    }

    /// The statement that selects these expressions from the projection's rows.
    pub fn select(&self, dialect: &dyn Dialect, selected: &[String]) -> String {
        let condition = where_clause(&self.conditions(dialect, &dialect.identifier(&self.key)));
        let select = format!("SELECT {} FROM {}{condition}", selected.join(", "), self.relation(dialect));
        match self.limit {
            Some(rows) => dialect.first_rows(&select, rows),
            None => select,
        }
    }
}

/// The WHERE clause of these conditions with a leading space, or nothing.
pub fn where_clause(conditions: &[String]) -> String {
    if conditions.is_empty() {
        return String::new();
    }
    let all: Vec<String> = conditions.iter().map(|condition| format!("({condition}\n)")).collect();
    format!(" WHERE {}", all.join(" AND "))
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

/// The projection a mapping reads, of all its rows or a part of them.
pub fn projection(mapping: &Mapping, restriction: Option<Restriction>) -> Projection {
    let mut columns = Vec::new();
    for mapped in &mapping.traits {
        collect(&mapped.value, &mut columns);
    }
    if let Some(user::User { from: UserFrom::Expr(expr), .. }) = &mapping.user
        && !columns.contains(expr)
    {
        columns.push(expr.clone());
    }
    Projection {
        from: mapping.model.from.clone(),
        filters: mapping.model.filter.iter().cloned().collect(),
        restriction,
        key: mapping.key.clone(),
        columns,
        cursor: mapping.incremental.as_ref().map(|incremental| incremental.cursor.clone()),
        limit: None,
        summed: false,
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
