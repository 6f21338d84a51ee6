//! Does what an input does to the engine that reads it end with that input's run? Other runs, the ledger and the command
//! line go on.

use crate::support::cli::{Place, until};

/// A folder with a source of files, a source of a DuckDB file, and a file as destination.
fn place() -> Place {
    let place = Place::new();
    place.write(
        "groupcast.toml",
        "[sources.files]\ntype = \"duckdb\"\n\n[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n\
         [destinations.out]\ntype = \"file\"\npath = \"out.ndjson\"\n",
    );
    place
}

fn mapping(source: &str, model: &str, kind: &str) -> String {
    format!(
        "source = \"{source}\"\ndestination = \"out\"\n\n[model]\n{model}\n\n[group]\ntype = \"{kind}\"\nkey = \"id\"\n\n\
         [traits]\nname = \"name\"\n"
    )
}

/// A file whose 30,002nd line is not UTF-8, far behind what DuckDB looks at before it reads.
fn not_utf8() -> Vec<u8> {
    let mut bytes = b"id,name\n".to_vec();
    for row in 0..30_000 {
        bytes.extend(format!("k{row},Name\n").bytes());
    }
    bytes.extend(b"x,\xd6sterreich\n");
    bytes
}

#[test]
fn a_byte_that_is_not_utf8_ends_its_own_run() {
    let place = place();
    std::fs::write(place.path("bad.csv"), not_utf8()).unwrap();
    place.write("good.csv", "id,name\ng1,Good\n");
    place.mapping("bad", &mapping("files", "table = \"bad.csv\"", "bad"));
    place.mapping("good", &mapping("files", "table = \"good.csv\"", "good"));
    // WHEN both run in one command THEN the other one is delivered, and the place is told without the row
    let run = place.run(&["run"]).exits(1).says(&["bad.csv", "line 30002", "not UTF-8", "encoding"]);
    assert!(!run.all().contains("sterreich"), "{}", run.all());
    assert!(place.read("out.ndjson").contains("g1"));
    place.run(&["runs", "bad", "--json"]).exits(0).says(&["failed", "UTF-8"]);
    // AND the ledger is as usable as before
    place.write("good.csv", "id,name\ng1,Better\n");
    place.run(&["run", "good"]).exits(0).says(&["1 delivered"]);
    place.run(&["status"]).exits(0);
}

#[test]
fn a_source_without_a_file_is_planned_beside_a_ledger() {
    let place = place();
    place.write("good.csv", "id,name\ng1,Good\n");
    place.mapping("good", &mapping("files", "table = \"good.csv\"", "good"));
    place.run(&["plan"]).exits(0).says(&["1 to add"]);
    place.run(&["run"]).exits(0);
    place.write("good.csv", "id,name\ng1,Better\n");
    place.run(&["plan"]).exits(0).says(&["1 to change", "Better"]);
}

#[test]
fn a_warehouse_may_be_called_like_the_ledger() {
    let place = place();
    let path = place.path("ledger.duckdb");
    let setup = "CREATE SCHEMA ledger; CREATE TABLE ledger.known AS SELECT 'k1' AS id, 'Ann' AS name; \
                 CREATE TABLE known AS SELECT 'k2' AS id, 'Ben' AS name";
    // DuckDB itself must open it under another name to tell the schema from the file.
    let attach = format!("ATTACH '{}' AS w; USE w; {setup}", path.display());
    duckdb::Connection::open_in_memory().unwrap().execute_batch(&attach).unwrap();
    place.write(
        "groupcast.toml",
        "[sources.warehouse]\ntype = \"duckdb\"\npath = \"ledger.duckdb\"\n\n\
         [destinations.out]\ntype = \"file\"\npath = \"out.ndjson\"\n",
    );
    place.mapping("one", &mapping("warehouse", "table = \"ledger.known\"", "name"));
    place.mapping("two", &mapping("warehouse", "sql = \"SELECT * FROM known\"", "two"));
    place.run(&["run"]).exits(0);
    let sent = place.read("out.ndjson");
    assert!(sent.contains("Ann") && sent.contains("Ben"), "{sent}");
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
}

#[test]
fn a_row_that_is_too_large_is_rejected_by_name_and_the_others_are_delivered() {
    let mut place = place();
    place.set("GROUPCAST__STATE__MEMORY", "256MB");
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'large' || i AS id, repeat(chr(97 + i::INTEGER), 12000000) AS name \
         FROM range(12) r(i) UNION ALL SELECT 'small' || i, 'Name' FROM range(50) r(i)",
    );
    place.mapping("accounts", &mapping("warehouse", "table = \"accounts\"", "name"));
    place.run(&["run"]).exits(3).says(&["50 delivered", "12 rejected"]);
    place.run(&["rejected", "accounts"]).exits(0).says(&["large0", "11.4 MB", "at most 8 MB"]);
    // WHEN one becomes small THEN it is delivered, and the rest waits for a change
    place.warehouse("UPDATE accounts SET name = 'Short' WHERE id = 'large3'");
    place.run(&["run"]).exits(3).says(&["1 delivered", "11 rejected"]);
}

#[test]
fn large_rows_by_the_hundred_fit_into_the_least_memory() {
    let mut place = place();
    place.set("GROUPCAST__STATE__MEMORY", "64MB");
    // 600 of 100 KB: more than the ledger's memory, in a single one of DuckDB's vectors; and one near the limit of a row.
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'k' || i AS id, 'first ' || repeat(md5(i::VARCHAR), 3200) AS name \
         FROM range(600) r(i) UNION ALL SELECT 'largest', 'first ' || repeat('é', 3500000)",
    );
    place.mapping("accounts", &mapping("warehouse", "table = \"accounts\"", "name"));
    place.run(&["run"]).exits(0).says(&["601 delivered"]);
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    // WHEN all of them change THEN all are delivered again
    place.warehouse("UPDATE accounts SET name = replace(name, 'first', 'second')");
    place.run(&["plan"]).says(&["601 to change"]);
    place.run(&["run", "--accept", "changed"]).exits(0).says(&["601 delivered"]);
    place.run(&["run"]).exits(0).says(&["nothing sent"]);
    // AND what is known of them is whole: a change back is found, and so is what was sent
    let export = place.run(&["ledger", "export", "accounts"]).exits(0);
    assert_eq!(export.stdout.lines().count(), 601);
    let largest = export.stdout.lines().find(|line| line.contains("largest")).unwrap();
    assert!(largest.contains(&format!("second {}\"", "é".repeat(3_500_000))));
    let group = place.run(&["group", "accounts", "k7", "--json"]).exits(0);
    assert!(group.stdout.contains("\"second ") && group.stdout.contains("\"first "), "what was sent, and what before");
    // AND what no group refers to any more is not kept
    place.warehouse("UPDATE accounts SET name = id");
    place.set("GROUPCAST__STATE__JOURNAL_RETENTION", "1s");
    place.run(&["run", "--accept", "changed"]).exits(0).says(&["601 delivered"]);
}

#[test]
fn lists_that_nest_too_deep_are_refused_at_once() {
    let place = place();
    let deep = format!("{}1{}", "[".repeat(15), "]".repeat(15));
    place.warehouse(&format!("CREATE TABLE accounts AS SELECT 'k' AS id, {deep} AS name"));
    place.mapping("accounts", &mapping("warehouse", "table = \"accounts\"", "name"));
    for command in [["check", "--connect"], ["run", "accounts"], ["plan", "accounts"]] {
        let output = place.run(&command);
        assert!(matches!(output.code, Some(1 | 2)), "{}", output.all());
        output.says(&["`name` nests too deep", "to_json(name)"]);
    }
    // AND what it advises works
    place.mapping(
        "accounts",
        &mapping("warehouse", "table = \"accounts\"", "name")
            .replace("name = \"name\"", "name = { sql = \"to_json(name)\", as = \"json\" }"),
    );
    place.run(&["run"]).exits(0).says(&["1 delivered"]);
}

#[test]
fn a_statement_without_an_end_holds_up_nobody_else() {
    let place = place();
    place.write("good.csv", "id,name\ng1,Good\n");
    place.mapping("good", &mapping("files", "table = \"good.csv\"", "good"));
    let endless = "sql = \"SELECT 'k' || sum(hash(i)) AS id, 'n' AS name FROM range(400000000000) r(i)\"";
    place.mapping("endless", &mapping("warehouse", endless, "name"));
    place.warehouse("CREATE TABLE accounts AS SELECT 1 AS id");
    // GIVEN a run that reads for ever
    let run = place.start(&["run", "endless"]);
    until("it listens for signals", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim();
        (u64::from_str_radix(caught, 16).ok()? & 2 != 0).then_some(())
    });
    // WHEN it is stopped THEN it ends, and the next run of another sync takes place
    run.signal("INT");
    run.wait().exits(130);
    place.run(&["run", "good"]).exits(0).says(&["1 delivered"]);
}
