//! A daemon at three in the morning: a folder with a sync for every state that the console shows, brought about by real
//! runs.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::daemon::{edit, slow};
use crate::support::amplitude::Fault;
use crate::support::cli::{KEY, Place, Receiver, mapping, until};
use crate::support::daemon::Daemon;

/// Good runs of the sync with a long history: with the others' they fill more than a page of the list.
pub(super) const LONG_HISTORY: usize = 48;
/// Groups that are sent slowly: 85 fit a request, so that there are far more requests than the visit has seconds.
const SLOW_GROUPS: usize = 40_000;
/// How long the slow receiver takes: requests in flight at a cancellation finish within it.
const SLOWLY_MS: u64 = 1_500;

/// Keys that must not break a page.
const HOSTILE_KEYS: [&str; 14] = [
    "<script>alert('key')</script>",
    "\"><img src=x onerror=alert(1)>",
    "quotes ' and \" and `",
    "slashes/and\\back/../slashes",
    "100% & more ?a=b#c %2F %00",
    "\u{202e}txt.exe right to left",
    "שלום עולם",
    "👩‍👩‍👧‍👦 emoji 🚀",
    "tab\tand\nline break",
    " ",
    "\u{a0}\u{3164}",
    "combining z̸̢̛͓̆ä̵l̷g̵o̶",
    "null",
    "{\"json\": [1, 2]}",
];

/// The folder, and the vendors behind it.
pub(super) struct Night {
    place: Place,
    quick: Receiver,
    slow: Receiver,
}

impl Night {
    /// Only the connections are configured.
    pub(super) fn empty() -> Night {
        let (quick, slow) = (Receiver::start(), Receiver::start());
        let mut place = Place::new();
        place.set("AMPLITUDE_API_KEY", KEY);
        // The daemon that shuts down stays until it is killed.
        place.set("GROUPCAST__DAEMON__DRAIN", "10m");
        place.write("groupcast.toml", &config(&quick, &slow));
        place.warehouse(&tables());
        std::fs::create_dir_all(place.path("mappings")).unwrap();
        Night { place, quick, slow }
    }

    /// Many successful runs and one of every failure. The daemon was killed.
    pub(super) fn with_runs(good_runs: usize) -> Night {
        let night = Night::empty();
        night.mappings();
        // Before the first run, which the schedule starts immediately.
        let poison = ["c7", "c11", "<b>c12</b>"].map(str::to_owned);
        night.quick.vendor.change(|rules| rules.poison = BTreeSet::from(poison));
        let daemon = Daemon::start(&night.place);
        night.history(&daemon, good_runs);
        night.failures(&daemon);
        // The daemon is killed in the middle of a run.
        slow(&night.slow, SLOWLY_MS);
        daemon.trigger("crashed", &json!({}));
        night.until_sent("crashed");
        daemon.kill();
        night
    }

    /// Starts a daemon over it.
    pub(super) fn daemon(&self, token: Option<&str>) -> Daemon {
        if let Some(token) = token {
            let text = self.place.read("groupcast.toml");
            self.place.write("token", token);
            self.place.write("groupcast.toml", &format!("[daemon]\ntoken = \"${{file:token}}\"\n\n{text}"));
        }
        Daemon::start_with(&self.place, token)
    }

    /// Starts a run that lasts while the browser looks, and queues another one.
    pub(super) fn start_runs(&self, daemon: &Daemon) {
        daemon.trigger("slowly", &json!({}));
        self.until_sent("slowly");
        daemon.trigger("slowly", &json!({"full": true}));
    }

    /// Waits until the slow receiver has a group of this type.
    #[track_caller]
    fn until_sent(&self, kind: &str) {
        until("it sends", || self.slow.vendor.groups().keys().any(|(known, _)| known == kind).then_some(()));
    }

    /// Writes a mapping with errors.
    pub(super) fn break_config(&self) {
        self.place
            .mapping("contacts", &mapping("name = 5\nplan = { column = \"<b>\" , as = \"nmber\" }", "[gaurds]\n"));
    }

    /// The slow receiver does not respond any more, and a request is in flight.
    #[track_caller]
    pub(super) fn hold_responses(&self) {
        slow(&self.slow, 3_600_000);
        // One that was in flight already is held too, and no other comes beside it.
        let in_flight = &self.slow.vendor.counts.in_flight;
        until("a request is held", || (in_flight.load(Ordering::SeqCst) > 0).then_some(()));
    }

    fn mappings(&self) {
        let to = |text: String, kind: &str, table: &str| {
            text.replace("\"company\"", &format!("\"{kind}\""))
                .replace("table = \"accounts\"", &format!("table = \"{table}\""))
        };
        let slowly = |text: String| text.replace("\"amplitude\"", "\"slow\"");
        let named = || mapping("name = \"name\"\nplan = \"plan\"", "");
        let wide = (0..12).fold(String::new(), |mut lines, n| {
            writeln!(lines, "t{n} = \"rev\"").unwrap();
            lines
        });
        let daily = "schedule = { cron = \"0 2 * * *\", timezone = \"Europe/Berlin\" }\n";
        let rich = "name = \"name\"\nplan = \"plan\"\nseats = \"seats\"\nrenewal = { column = \"renewal\", as = \"date\" }\n\
                    arr = { sql = \"arr_cents / 100\", as = \"number\" }\naddress = { city = \"city\", country = \"country\" }\n\
                    first_plan = { column = \"plan\", op = \"set_once\" }\nsynced_by = { const = \"groupcast\" }";
        let hostile = "'<script>alert(\"trait\")</script>' = \"note\"\n'quotes \" and & <b>' = \"note\"\n\
                       \"שם\" = \"note\"\nlong = \"long\"\nnumber = \"number\"\nnested = { '<i>' = \"note\", deep = \"long\" }";
        let model = "table = \"accounts\"";
        let sql =
            "sql = '''\nSELECT id, name, plan\nFROM accounts\nWHERE plan <> '<script>alert(1)</script>' -- & more\n'''";
        let syncs: [(&str, String); 15] = [
            ("accounts", format!("{daily}{}", mapping(rich, "[guards]\nchanged_max = 1"))),
            ("contacts", format!("schedule = {{ every = \"24h\" }}\n{}", to(named(), "contact", "contacts"))),
            ("guarded-first", to(named(), "first", "shrinks_first")),
            ("guarded-second", format!("{daily}{}", to(named(), "second", "shrinks_second"))),
            (
                "changes",
                to(mapping(rich, "[policy]\non_missing = \"unset\"\n[guards]\nremoved_max = 1"), "change", "changes"),
            ),
            ("names-nothing", format!("schedule = {{ every = \"24h\" }}\n{}", to(named(), "nothing", "no_such_table"))),
            (
                "unreachable",
                format!(
                    "schedule = {{ every = \"24h\" }}\n{}",
                    to(named(), "far", "accounts").replace("\"warehouse\"", "\"elsewhere\"")
                ),
            ),
            ("paused", format!("{daily}{}", to(named(), "paused", "accounts"))),
            ("disabled", format!("enabled = false\n{daily}{}", to(named(), "disabled", "accounts"))),
            ("never-ran", to(named(), "never", "accounts").replace(model, sql)),
            (
                "follows.accounts",
                format!("schedule = {{ after = \"follows.rows\" }}\n{}", to(named(), "follows", "contacts")),
            ),
            (
                "follows.rows",
                format!(
                    "schedule = {{ cron = \"*/30 * * * *\", jitter = \"5m\" }}\n{}",
                    to(named(), "rows", "accounts")
                ) + "[incremental]\ncursor = \"updated_at\"\n",
            ),
            ("crashed", slowly(to(mapping(&wide, ""), "crashed", "wide"))),
            ("slowly", slowly(to(mapping(&wide, ""), "slowly", "wide"))),
            (
                "straße_Ω.und-eine-sehr-lange-Benennung-die-niemand-auf-einem-Telefon-lesen-will",
                to(mapping(hostile, ""), "<b>hostile</b> & \\\" type", "hostile"),
            ),
        ];
        for (name, text) in syncs {
            self.place.mapping(name, &text);
        }
    }

    /// Many successful runs, no two alike.
    fn history(&self, daemon: &Daemon, good_runs: usize) {
        well(&daemon.run("accounts", &json!({})), "succeeded");
        for turn in 1..good_runs {
            let rows = (turn * 37) % 90;
            edit(
                &self.place,
                &format!(
                    "UPDATE accounts SET seats = seats + 1 WHERE n < {rows}; INSERT INTO accounts SELECT 'new-{turn}-' || i, {turn} * 100 + 1000 + i, 'New', 'free', 1, 100, NULL, NULL, NULL, '2026-11-02' FROM range({}) r(i)",
                    turn % 7
                ),
            );
            if turn % 11 == 0 {
                slow(&self.quick, 300);
            }
            if turn % 9 == 0 {
                let answer = |status| Fault::Answer {
                    status,
                    headers: vec![("retry-after", "1".to_owned())],
                    body: "busy <b>".to_owned(),
                    apply: false,
                };
                self.quick.vendor.script([answer(429), answer(503)]);
            }
            well(&daemon.run("accounts", &json!({})), "succeeded");
            slow(&self.quick, 0);
        }
    }

    /// One of every failure.
    fn failures(&self, daemon: &Daemon) {
        for sync in [
            "guarded-first",
            "guarded-second",
            "changes",
            "follows.rows",
            "straße_Ω.und-eine-sehr-lange-Benennung-die-niemand-auf-einem-Telefon-lesen-will",
        ] {
            let path = groupcast_path(sync);
            well(&daemon.run(&path, &json!({})), "succeeded");
        }
        edit(
            &self.place,
            "DELETE FROM shrinks_first WHERE n % 2 = 0; DELETE FROM shrinks_second WHERE n % 3 > 0; \
                           UPDATE changes SET plan = 'pro', seats = seats * 2 WHERE n < 5; UPDATE changes SET city = NULL, country = NULL, renewal = NULL WHERE n = 7; \
                           DELETE FROM changes WHERE n = 9; INSERT INTO changes SELECT 'fresh <i>', 900, 'Fresh & new', 'free', 1, 100, NULL, NULL, NULL, '2026-11-02'",
        );
        for sync in ["guarded-first", "guarded-second"] {
            well(&daemon.run(sync, &json!({})), "stopped_by_guard");
        }
        daemon.post("/api/v1/syncs/paused/pause", &json!({})).is(200);
        for (sync, status) in
            [("names-nothing", "failed"), ("unreachable", "failed"), ("contacts", "succeeded_with_rejections")]
        {
            until(&format!("{sync} is {status}"), || {
                let detail = daemon.get(&format!("/api/v1/syncs/{sync}")).is(200);
                (detail["sync"]["last_run"]["status"] == json!(status)).then_some(())
            });
        }
        well(&daemon.run("contacts", &json!({})), "succeeded_with_rejections");
        // One that is cancelled, so that changes are pending.
        slow(&self.slow, SLOWLY_MS / 5);
        let run = daemon.trigger("slowly", &json!({}));
        self.until_sent("slowly");
        daemon.post(&format!("/api/v1/runs/{run}/cancel"), &json!({})).is(202);
        well(&daemon.ended(&run), "cancelled");
        self.slow.vendor.edit(|groups| groups.retain(|(kind, _), _| kind != "slowly"));
    }
}

#[track_caller]
fn well(detail: &Value, status: &str) {
    assert_eq!(detail["run"]["status"], status, "{detail:#}");
}

/// A sync's name as a path's segment.
fn groupcast_path(sync: &str) -> String {
    sync.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").unwrap(),
        }
        out
    })
}

fn config(quick: &Receiver, slow: &Receiver) -> String {
    format!(
        "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n\
         [sources.elsewhere]\ntype = \"postgres\"\nurl = \"postgres://reader@127.0.0.1:1/warehouse\"\n\n\
         [destinations.amplitude]\ntype = \"amplitude\"\napi_key = \"${{AMPLITUDE_API_KEY}}\"\nbase_url = \"{}\"\n\n\
         [destinations.slow]\ntype = \"amplitude\"\napi_key = \"${{AMPLITUDE_API_KEY}}\"\nbase_url = \"{}\"\nconcurrency = 1\ntimeout = \"2h\"\nretry_for = \"3h\"\n",
        quick.url, slow.url
    )
}

/// The warehouse.
fn tables() -> String {
    let rows = |table: &str, count: usize| {
        format!(
            "CREATE TABLE {table} AS SELECT 'k' || i AS id, i::BIGINT AS n, 'Group ' || i AS name, \
             CASE i % 3 WHEN 0 THEN 'free' WHEN 1 THEN 'pro' ELSE 'enterprise' END AS plan, (i % 50)::BIGINT AS seats, \
             i * 1234::BIGINT AS arr_cents, CASE WHEN i % 4 > 0 THEN DATE '2027-01-01' + i::INTEGER END AS renewal, \
             CASE WHEN i % 2 = 0 THEN 'Berlin' END AS city, CASE WHEN i % 2 = 0 THEN 'DE' END AS country, \
             TIMESTAMP '2026-11-01' AS updated_at FROM range({count}) r(i);\n"
        )
    };
    let mut sql: String =
        [("accounts", 300), ("contacts", 60), ("shrinks_first", 100), ("shrinks_second", 120), ("changes", 40)]
            .map(|(table, count)| rows(table, count))
            .concat();
    sql.push_str("UPDATE contacts SET id = CASE n WHEN 12 THEN '<b>c12</b>' ELSE 'c' || n END;\n");
    writeln!(sql, "CREATE TABLE wide AS SELECT 'k' || i AS id, 0 AS rev FROM range({SLOW_GROUPS}) r(i);").unwrap();
    sql.push_str("CREATE TABLE hostile (id VARCHAR, note VARCHAR, long VARCHAR, number DOUBLE);\n");
    let long = "x".repeat(700);
    for key in HOSTILE_KEYS.into_iter().chain([long.as_str()]) {
        let quoted = key.replace('\'', "''");
        writeln!(sql, "INSERT INTO hostile VALUES ('{quoted}', '{quoted} & <b>', repeat('Long & <i>', 100), 1e-7);")
            .unwrap();
    }
    sql
}
