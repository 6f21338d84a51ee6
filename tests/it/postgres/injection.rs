//! Can a group's key, or a cursor's value, become SQL where a backslash escapes in the server's texts?

use serde_json::json;

use crate::support::cli::Place;
use crate::support::postgres::{Database, shared};

/// A project that reads the database as this user, and writes a file.
fn place(database: &Database, user: &str) -> Place {
    let mut place = Place::new();
    place.set("WAREHOUSE_URL", &format!("postgres://{user}@127.0.0.1:{}/{}", shared().port(), database.name()));
    place.write(
        "groupcast.toml",
        "[sources.warehouse]\ntype = \"postgres\"\nurl = \"${WAREHOUSE_URL}\"\n\
         [destinations.out]\ntype = \"file\"\npath = \"out.ndjson\"\n",
    );
    place.mapping(
        "accounts",
        "source = \"warehouse\"\ndestination = \"out\"\n[model]\ntable = \"accounts\"\n\
         [group]\ntype = \"company\"\nkey = \"id\"\n[traits]\nname = \"name\"\n",
    );
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_never_sql() {
    let database = shared().create_database().await;
    database
        .execute(&format!(
            r"CREATE TABLE accounts (id text, name text);
             INSERT INTO accounts VALUES ('a\b', 'backslash'), ('it''s', 'quote'), ('plain', 'plain'), ('\', 'alone');
             DO $$ BEGIN CREATE ROLE backslasher LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
             GRANT SELECT ON accounts TO backslasher;
             ALTER ROLE backslasher SET standard_conforming_strings = off;
             ALTER DATABASE {} SET standard_conforming_strings = off",
            database.name()
        ))
        .await;
    for user in ["root_user", "backslasher"] {
        let place = place(&database, user);
        // GIVEN keys that end a text early where a backslash escapes the quote that follows
        for key in
            [r"\' OR true --", r"\'); SELECT 1/0; --", r"x\' OR name IN (SELECT 'plain') OR id = \'", r"\\' OR true --"]
        {
            // THEN no row is read, and the SQL in the key is not run
            let report = place.run(&["run", "accounts", "--json", "--group", key]);
            assert_eq!(report.json()["runs"][0]["counts"]["rows"], json!(0), "{user}, {key}: {}", report.all());
        }
        assert!(!place.path("out.ndjson").exists(), "{user}: nothing was sent");
        // AND keys that hold such characters are found as they are
        for key in [r"a\b", "it's", r"\", "plain"] {
            let report = place.run(&["run", "accounts", "--json", "--group", key]).exits(0).json();
            assert_eq!(report["runs"][0]["counts"]["delivered"], json!(1), "{user}, {key}");
        }
        // AND a model's own texts mean what they mean everywhere
        place.mapping(
            "accounts",
            "source = \"warehouse\"\ndestination = \"out\"\n[model]\ntable = \"accounts\"\nwhere = '''id <> '\\' '''\n\
             [group]\ntype = \"company\"\nkey = \"id\"\n[traits]\nname = \"name\"\n",
        );
        place.run(&["run", "--full"]).exits(0).says(&["3 rows"]);
    }
}
