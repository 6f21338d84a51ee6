//! Statements whose result depends on the order in which rows are read: those are read by one thread, in order.
//!
//! Several threads add floating-point numbers in another order each time, and the last digits of their sum differ; lists
//! and first values differ altogether. Every run would then find changes in rows that did not change. One thread over the
//! same file gives the same result each time. It takes longer on many cores, so only statements that need it pay.

use duckdb::Connection;

/// What DuckDB's plan calls operations whose result hangs on the order of rows. Its `count`, `min`, `max` and sums of
/// integers do not, nor do joins.
const IN_ORDER: [&str; 16] = [
    "sum(",
    "avg(",
    "fsum(",
    "favg(",
    "list(",
    "array_agg(",
    "string_agg(",
    "group_concat(",
    "first(",
    "\"first\"(",
    "last(",
    "any_value(",
    "arg_",
    "mode(",
    "window",
    "limit",
];

/// Whether it does. When in doubt, no: a statement that cannot be explained fails by itself.
pub(super) fn matters(connection: &Connection, select: &str) -> bool {
    let plan = || -> duckdb::Result<String> {
        connection.query_row(&format!("EXPLAIN {select}"), [], |row| row.get::<_, String>(1))
    };
    plan().is_ok_and(|plan| {
        let plan = plan.to_lowercase();
        IN_ORDER.iter().any(|operation| plan.contains(operation))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_fractions_lists_and_limits_are_read_in_order() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t AS SELECT i AS id, i / 7 AS x, 's' AS s FROM range(10) r(i)").unwrap();
        for (select, expected) in [
            ("SELECT id, sum(x) FROM t GROUP BY id", true),
            ("SELECT id, avg(x) FROM t GROUP BY id", true),
            ("SELECT id, list(DISTINCT s) FROM t GROUP BY id", true),
            ("SELECT id, string_agg(s) FROM t GROUP BY id", true),
            ("SELECT id, first(s) FROM t GROUP BY id", true),
            ("SELECT id, row_number() OVER (PARTITION BY s) FROM t", true),
            ("SELECT id FROM t LIMIT 3", true),
            ("SELECT DISTINCT ON (id) id, s FROM t", true),
            ("SELECT id, count(*), max(x), sum(id::INTEGER) FROM t GROUP BY id", false),
            ("SELECT id, x, s FROM t WHERE x > 0", false),
        ] {
            assert_eq!(matters(&connection, select), expected, "{select}");
        }
    }
}
