//! The fingerprint of a mapping: a short hash that salts every row's fingerprint. When a mapping shapes other documents, it
//! changes, and every row becomes a candidate once.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::sections::model::From;
use super::sections::traits::{Expr, Field};
use super::spec::Mapping;

/// 32 hex digits over everything that shapes documents and their changes: model, filter, key, group type, traits with
/// their expressions, declared types, operators and null policies, and the policy for removed traits. Names of source
/// and destination, schedule, guards, `enabled`, `label`, `always` (no reason to send) and the order of traits are left out.
pub fn fingerprint(mapping: &Mapping) -> String {
    let mut traits: Vec<Value> = mapping
        .traits
        .iter()
        .map(|mapped| {
            let on_null = mapped.on_null.unwrap_or(mapping.policy.on_null);
            json!([mapped.name, field(&mapped.value), mapped.op, on_null])
        })
        .collect();
    traits.sort_by_key(Value::to_string);
    let from = match &mapping.model.from {
        From::Table(parts) => json!({ "table": parts }),
        From::Query(sql) => json!({ "query": sql }),
    };
    // The first element names the recipe: change it when the recipe changes.
    let shape = json!([
        "mapping-1",
        from,
        mapping.model.filter,
        mapping.group_type,
        mapping.key,
        traits,
        mapping.policy.on_removed_trait
    ]);
    Sha256::digest(shape.to_string().as_bytes()).iter().take(16).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn field(field: &Field) -> Value {
    match field {
        Field::Column { expr: Expr::Column(name), declared } => json!(["column", name, declared]),
        Field::Column { expr: Expr::Sql(sql), declared } => json!(["sql", sql, declared]),
        Field::Const(value) => json!(["const", value]),
        Field::Object(members) => {
            let members: Vec<Value> = members.iter().map(|(name, member)| json!([name, self::field(member)])).collect();
            json!(["object", members])
        }
    }
}
