//! The types of a query's columns, found without a prepared statement.
//!
//! Behind a pooler, a session belongs to the client that has the transaction. A named statement may meet one of the
//! same name that another client left on the server's connection, and what we leave may be met by others. The driver
//! names one for every query it prepares, and for every type that is not built in. So everything here is an unnamed
//! statement: the server says by `pg_typeof` what the columns of no rows are, and its catalogs say what a user's types
//! are made of. A query of the rows themselves then selects built-in types alone (`value`), which the driver need not
//! look up.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::{Kind, Type};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// `sql` over no rows beside one row of nothing, so that there is a row that describes its `count` columns.
fn over_no_rows(selected: String, sql: &str, count: usize) -> String {
    let names: Vec<String> = (0..count).map(|at| format!("t{at}")).collect();
    let names = if names.is_empty() { String::new() } else { format!("({})", names.join(", ")) };
    format!("SELECT {selected} FROM (SELECT 1) AS one LEFT JOIN (\n{sql} LIMIT 0\n) AS model{names} ON true")
}

/// The statement that yields the types of the `count` columns of `sql`, by number.
pub(super) fn typing(sql: &str, count: usize) -> String {
    let types: Vec<String> = (0..count).map(|at| format!("pg_catalog.pg_typeof(model.t{at})::oid")).collect();
    over_no_rows(if types.is_empty() { "1".to_owned() } else { types.join(", ") }, sql, count)
}

/// The statement whose own columns are those of `sql` at these positions.
pub(super) fn sampling(sql: &str, count: usize, positions: &[usize]) -> String {
    let selected: Vec<String> = positions.iter().map(|at| format!("model.t{at}")).collect();
    over_no_rows(selected.join(", "), sql, count)
}

/// A type as the catalogs describe it.
struct Row {
    name: String,
    schema: String,
    letter: String,
    category: String,
    element: u32,
    base: u32,
}

/// The types of these numbers, in their order.
pub(super) async fn resolve(client: &Client, numbers: &[u32]) -> Result<Vec<Type>, Error> {
    let mut known: BTreeMap<u32, Row> = BTreeMap::new();
    let mut open: BTreeSet<u32> = numbers.iter().copied().filter(|number| Type::from_oid(*number).is_none()).collect();
    while !open.is_empty() {
        let wanted: Vec<String> = open.iter().map(u32::to_string).collect();
        let sql = format!(
            "SELECT t.oid, t.typname, n.nspname, t.typtype, t.typcategory, t.typelem, t.typbasetype \
             FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.oid IN ({})",
            wanted.join(", ")
        );
        let mut found = BTreeSet::new();
        for message in client.simple_query(&sql).await? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            let text = |at: usize| row.get(at).unwrap_or_default().to_owned();
            let number = |at: usize| row.get(at).and_then(|text| text.parse().ok()).unwrap_or_default();
            let of = Row {
                name: text(1),
                schema: text(2),
                letter: text(3),
                category: text(4),
                element: number(5),
                base: number(6),
            };
            found
                .extend([of.element, of.base].into_iter().filter(|part| *part != 0 && Type::from_oid(*part).is_none()));
            known.insert(number(0), of);
        }
        // A type that is gone meanwhile is asked for once.
        open = found.into_iter().filter(|part| !known.contains_key(part) && !open.contains(part)).collect();
    }
    Ok(numbers.iter().map(|number| built(*number, &known)).collect())
}

fn built(number: u32, known: &BTreeMap<u32, Row>) -> Type {
    if let Some(of) = Type::from_oid(number) {
        return of;
    }
    let Some(row) = known.get(&number) else {
        return Type::new(number.to_string(), number, Kind::Simple, String::new());
    };
    let kind = match row.letter.as_str() {
        "e" => Kind::Enum(Vec::new()),
        "d" => Kind::Domain(built(row.base, known)),
        "c" => Kind::Composite(Vec::new()),
        _ if row.category == "A" && row.element != 0 => Kind::Array(built(row.element, known)),
        _ => Kind::Simple,
    };
    Type::new(row.name.clone(), number, kind, row.schema.clone())
}

/// What a domain is a domain over, however deep; the type itself otherwise.
pub(super) fn base(of: &Type) -> &Type {
    match of.kind() {
        Kind::Domain(inner) => base(inner),
        _ => of,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_tells_about_columns_without_rows() {
        assert_eq!(
            typing("SELECT * FROM a", 2),
            "SELECT pg_catalog.pg_typeof(model.t0)::oid, pg_catalog.pg_typeof(model.t1)::oid FROM (SELECT 1) AS one \
             LEFT JOIN (\nSELECT * FROM a LIMIT 0\n) AS model(t0, t1) ON true"
        );
        assert_eq!(
            typing("SELECT FROM a", 0),
            "SELECT 1 FROM (SELECT 1) AS one LEFT JOIN (\nSELECT FROM a LIMIT 0\n) AS model ON true"
        );
        assert!(sampling("SELECT 1, 2", 2, &[1]).starts_with("SELECT model.t1 FROM"));
    }
}
