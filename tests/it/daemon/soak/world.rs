//! What surrounds the daemon of a soak? Warehouses that change under its hands, receivers that fail, config files that
//! somebody edits, and what each receiver must hold in the end.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use groupcast::io::{Clock, Random, SystemClock};
use serde_json::{Map, Value, json};

use crate::daemon::edit;
use crate::support::amplitude;
use crate::support::cli::{Place, Receiver, mapping, settings};
use crate::support::postgres::{Database, shared};
use crate::support::stand_in::{self, StandIn};
use crate::support::webhook::Hook;

/// Longest that one request may take; a slow answer takes longer.
const TIMEOUT_S: u64 = 1;

/// The syncs that can succeed.
pub(super) const SOUND: [&str; 8] = ["one", "two", "follower", "files", "shop", "lately", "seldom", "staff"];
/// One whose table is missing, one whose destination is not there.
pub(super) const UNSOUND: [&str; 2] = ["broken", "nobody"];

/// The surroundings.
pub(super) struct World {
    pub(super) place: Place,
    /// Behaves like Amplitude's Group Identify API.
    pub(super) receiver: Receiver,
    /// Behaves like its HTTP V2 API.
    pub(super) events: Receiver,
    /// Receives webhooks.
    pub(super) hook: StandIn<Hook>,
    database: Database,
    runtime: tokio::runtime::Runtime,
    random: Random,
    clock: SystemClock,
    /// Edits so far.
    edits: u64,
}

/// A mapping of `from` to groups of type `kind`.
fn sync(top: &str, from: &str, kind: &str, traits: &str, more: &str) -> String {
    let open = "[guards]\nchanged_max = 1\nnulled_max = 1\nremoved_max = 1\nrows_dropped_max = 1\n";
    let guards = if more.contains("[guards]") { "" } else { open };
    let text = mapping(traits, &format!("{more}\n{guards}")).replace("\"company\"", &format!("\"{kind}\""));
    format!("{top}\n{}", text.replace("table = \"accounts\"", from))
}

const EVERY_SECOND: &str = "schedule = '* * * * * *'";
const ACCOUNT: &str = "name = \"name\"\nrev = \"rev\"\nplan = \"plan\"";
const UNSET: &str = "[policy]\non_missing = \"unset\"\non_removed_trait = \"unset\"";
const INCREMENTAL: &str = "[incremental]\ncursor = \"updated_at\"\nlookback = \"1s\"\nfull_every = \"7d\"";
const FILES: &str =
    "SELECT t.id, t.name, t.rev, p.plan FROM 'data/teams.parquet' t LEFT JOIN 'data/prices.csv' p USING (id)";

impl World {
    /// Everything in place, nothing sent yet. Records are kept for this long.
    pub(super) fn new(kept: &str, seed: u64) -> World {
        let (receiver, events) = (Receiver::start(), Receiver::start());
        for one in [&receiver, &events] {
            // What was received is counted; keeping thousands of bodies would only fill this process.
            one.vendor.change(|rules| rules.record = false);
        }
        let hook = StandIn::start(Hook { remembers: true, ..Hook::new("POST", "/in") });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let database = runtime.block_on(shared().create_database());
        let place = Place::with(&receiver);
        let clock = SystemClock::start();
        let world =
            World { place, receiver, events, hook, database, runtime, random: Random::seeded(seed), clock, edits: 0 };
        world.write_settings(kept);
        world.write_mappings();
        world.create();
        world
    }

    fn write_settings(&self, kept: &str) {
        let pace = format!("timeout = \"{TIMEOUT_S}s\"\nretry_for = \"4s\"\nattempts_max = 4\n");
        let url = format!("postgres://root_user@127.0.0.1:{}/{}", shared().port(), self.database.name());
        let text = format!(
            "{}\n\
             [destinations.events]\ntype = \"amplitude\"\napi = \"http_v2\"\napi_key = \"${{AMPLITUDE_API_KEY}}\"\n\
             base_url = \"{}\"\n{pace}\n\
             [destinations.hook]\ntype = \"webhook\"\nurl = \"{}/in\"\ndedup = true\n{pace}\n\
             [destinations.nowhere]\ntype = \"amplitude\"\napi_key = \"${{AMPLITUDE_API_KEY}}\"\n\
             base_url = \"http://127.0.0.1:1\"\nretry_for = \"1s\"\nattempts_max = 2\n\n\
             [sources.files]\ntype = \"duckdb\"\n\n[sources.pg]\ntype = \"postgres\"\nurl = \"{url}\"\n\n\
             [state]\njournal_retention = \"{kept}\"\nruns_retention = \"{kept}\"\n",
            settings(&self.receiver.url, &pace),
            self.events.url,
            self.hook.url,
        );
        self.place.write("groupcast.toml", &text);
    }

    fn write_mappings(&self) {
        let accounts = "table = \"accounts\"";
        let to = |text: String, name: &str| text.replace("\"amplitude\"", &format!("\"{name}\""));
        let from = |text: String, name: &str| text.replace("\"warehouse\"", &format!("\"{name}\""));
        let put = |name: &str, text: String| self.place.mapping(name, &text);
        put("one", sync(EVERY_SECOND, accounts, "company", ACCOUNT, UNSET));
        put("two", self.two(""));
        put("follower", sync("schedule = { after = 'one' }", accounts, "follower", ACCOUNT, UNSET));
        put("files", from(sync(EVERY_SECOND, &format!("sql = \"{FILES}\""), "team", ACCOUNT, UNSET), "files"));
        let shop = sync(EVERY_SECOND, "table = \"shops\"", "company", ACCOUNT, "[policy]\non_missing = \"delete\"");
        put("shop", from(to(shop, "hook"), "pg"));
        let moves = "score = \"score\"";
        put("lately", sync(EVERY_SECOND, "table = \"moves\"", "mover", moves, INCREMENTAL));
        put("seldom", sync("", "table = \"moves\"", "seldom", moves, INCREMENTAL));
        let staff = format!("{UNSET}\n[guards]\nchanged_max = 1\nremoved_max = 1\nrows_dropped_max = 0.2");
        put("staff", sync(EVERY_SECOND, "table = \"staff\"", "staff", "rev = \"rev\"", &staff));
        put("broken", sync(EVERY_SECOND, "table = \"no_such_table\"", "broken", ACCOUNT, ""));
        put("nobody", to(sync("", "table = \"staff\"", "company", "rev = \"rev\"", ""), "nowhere"));
    }

    /// The mapping `two`, with one more trait or without.
    fn two(&self, more: &str) -> String {
        let traits = format!("{ACCOUNT}{more}");
        sync(EVERY_SECOND, "table = \"accounts\"", "company", &traits, UNSET).replace("\"amplitude\"", "\"events\"")
    }

    fn create(&self) {
        let row = "'k' || i AS id, 'n' || i AS name, 0::BIGINT AS rev, CASE WHEN i % 3 = 0 THEN 'pro' END AS plan";
        self.place.warehouse(&format!(
            "CREATE TABLE accounts AS SELECT {row} FROM range(120) r(i);
             CREATE TABLE staff AS SELECT id, rev FROM accounts LIMIT 80;
             CREATE TABLE moves AS SELECT 'k' || i AS id, i AS score,
                 TIMESTAMP '2024-01-01' + to_seconds(i) AS updated_at FROM range(100) r(i);"
        ));
        self.postgres(
            "CREATE TABLE shops AS SELECT 'k' || i AS id, 'n' || i AS name, 0::BIGINT AS rev, NULL::TEXT AS plan
             FROM generate_series(1, 60) i",
        );
        self.rewrite_files();
    }

    fn postgres(&self, sql: &str) {
        self.runtime.block_on(self.database.execute(sql));
    }

    /// Files come complete: each is written beside its place and then moved there.
    fn rewrite_files(&self) {
        let (new, edits) = (self.place.path("data/new"), self.edits);
        std::fs::create_dir_all(self.place.path("data")).unwrap();
        let duckdb = duckdb::Connection::open_in_memory().unwrap();
        duckdb.execute_batch(&format!(
            "COPY (SELECT 'k' || i AS id, 't' || i AS name, CASE WHEN i % 10 = {edits} % 10 THEN {edits} ELSE 0 END AS rev
             FROM range({}) r(i)) TO '{}' (FORMAT parquet)",
            60 + edits % 5,
            new.display()
        ))
        .unwrap();
        std::fs::rename(&new, self.place.path("data/teams.parquet")).unwrap();
        let prices = (0..50).map(|i| format!("k{i},p{}\n", (i + edits) % 4)).collect::<String>();
        std::fs::write(&new, format!("id,plan\n{prices}")).unwrap();
        std::fs::rename(&new, self.place.path("data/prices.csv")).unwrap();
    }

    /// A number below `bound`.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.random.up_to(bound - 1)
    }

    /// One of these.
    pub(super) fn one_of<T: Copy>(&self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// Somebody edits one of the sources.
    pub(super) fn edit(&mut self) {
        self.edits += 1;
        let edits = self.edits;
        let some = |share: u64| format!("hash(id || '-{edits}') % {share} = 0");
        let some_pg = |share: u64| format!("abs(hashtext(id || '-{edits}')) % {share} = 0");
        let missing = "SELECT 'k' || i, 'n' || i, -i, NULL FROM range(120) r(i)
            WHERE 'k' || i NOT IN (SELECT id FROM accounts)";
        match self.below(8) {
            0 => edit(&self.place, &format!("UPDATE accounts SET rev = rev + 1 WHERE {}", some(8))),
            1 => edit(
                &self.place,
                &format!("UPDATE accounts SET plan = CASE WHEN plan IS NULL THEN 'p{edits}' END WHERE {}", some(10)),
            ),
            2 => edit(&self.place, &format!("DELETE FROM accounts WHERE {}", some(15))),
            3 => edit(&self.place, &format!("INSERT INTO accounts {missing}")),
            4 => {
                let now = self.clock.now().format("%Y-%m-%d %H:%M:%S%.6f");
                let moved = format!("UPDATE moves SET score = score + 1, updated_at = '{now}' WHERE {}", some(12));
                edit(&self.place, &moved);
            }
            5 => match self.below(3) {
                0 => edit(&self.place, "DELETE FROM staff WHERE hash(id) % 2 = 0"),
                1 => edit(&self.place, &format!("UPDATE staff SET rev = {edits} WHERE {}", some(6))),
                _ => self.restore_staff(),
            },
            6 => self.rewrite_files(),
            _ => {
                let (gone, changed) = (some_pg(20), some_pg(9));
                self.postgres(&format!(
                    "BEGIN; DELETE FROM shops WHERE {gone};
                     UPDATE shops SET rev = rev + 1, plan = CASE WHEN plan IS NULL THEN 'p{edits}' END WHERE {changed};
                     INSERT INTO shops SELECT 'k' || i, 'n' || i, {edits}, NULL FROM generate_series(1, 60) i
                     WHERE 'k' || i NOT IN (SELECT id FROM shops) AND i % 3 = {edits} % 3; COMMIT"
                ));
            }
        }
    }

    fn restore_staff(&self) {
        let missing = "SELECT 'k' || i, 0 FROM range(80) r(i) WHERE 'k' || i NOT IN (SELECT id FROM staff)";
        edit(&self.place, &format!("INSERT INTO staff {missing}"));
    }

    /// What networks and vendors do.
    pub(super) fn trouble(&self) {
        let status = self.one_of(&[429, 429, 500, 503]);
        let headers = || match status {
            429 => vec![("retry-after", self.below(2).to_string())],
            _ => Vec::new(),
        };
        // A vendor that throttles has not looked at the request.
        let apply = status != 429 && self.below(2) == 0;
        match self.below(4) {
            0 => {
                let answer = stand_in::Answer { status, headers: headers(), body: "no".to_owned() };
                let fault = match self.below(3) {
                    0 => stand_in::Fault::Drop,
                    1 => stand_in::Fault::ApplyThenDrop,
                    _ if apply => stand_in::Fault::ApplyThen(answer),
                    _ => stand_in::Fault::Instead(answer),
                };
                self.hook.script([fault]);
            }
            which => {
                let vendor = &self.one_of(&[&self.receiver, &self.events]).vendor;
                let body = "no".to_owned();
                vendor.script([match which {
                    1 => amplitude::Fault::Drop,
                    2 => amplitude::Fault::ApplyThenDrop,
                    _ => amplitude::Fault::Answer { status, headers: headers(), body, apply },
                }]);
            }
        }
        let slow = match self.below(40) {
            0 => TIMEOUT_S * 1_000 + 200,
            1..10 => self.below(60),
            _ => 0,
        };
        let poison = [format!("k{}", self.below(120)), format!("k{}", self.below(120))];
        self.receiver.vendor.change(|rules| {
            rules.answer_after = Duration::from_millis(slow);
            if self.below(3) == 0 {
                rules.poison = poison.into();
            }
        });
    }

    /// Somebody edits the config: a trait comes and goes, a file is only touched, a mistake is made and put right.
    pub(super) fn configure(&self) {
        match self.below(4) {
            0 => self.place.mapping("two", &self.two("\nmark = { const = \"soak\" }")),
            1 => self.place.mapping("one", &format!("{}# touched\n", self.place.read("mappings/one.toml"))),
            2 => self.place.mapping("two", &self.two("").replace("source", "sorce")),
            _ => self.write_mappings(),
        }
    }

    /// No faults any more, no poison, sound files, all staff back.
    pub(super) fn calm_down(&self) {
        for vendor in [&self.receiver.vendor, &self.events.vendor] {
            vendor.calm();
            vendor.change(|rules| {
                rules.answer_after = Duration::ZERO;
                rules.poison.clear();
            });
        }
        self.hook.calm();
        self.write_mappings();
        self.restore_staff();
    }

    /// Requests that reached a receiver, by the destination's name.
    pub(super) fn requests(&self) -> BTreeMap<&'static str, u64> {
        let counted = |receiver: &Receiver| receiver.vendor.counts.requests.load(Ordering::Relaxed);
        BTreeMap::from([
            ("amplitude", counted(&self.receiver)),
            ("events", counted(&self.events)),
            ("hook", self.hook.statuses().len() as u64),
        ])
    }

    /// What the source of a sync says, by group.
    pub(super) fn wanted(&self, sync: &str) -> BTreeMap<String, Map<String, Value>> {
        let account = "{'name': name, 'rev': rev, 'plan': plan}";
        let duckdb = |path: &str, traits: &str, from: &str| {
            let connection = match path {
                "" => duckdb::Connection::open_in_memory().unwrap(),
                // Beside runs that read it.
                path => {
                    let reading = duckdb::Config::default().access_mode(duckdb::AccessMode::ReadOnly).unwrap();
                    duckdb::Connection::open_with_flags(self.place.path(path), reading).unwrap()
                }
            };
            let folder = self.place.path("").display().to_string();
            connection.execute_batch(&format!("SET file_search_path = '{folder}'")).unwrap();
            let mut rows = connection.prepare(&format!("SELECT id, to_json({traits})::VARCHAR FROM {from}")).unwrap();
            let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            rows.collect::<Result<Vec<(String, String)>, _>>().unwrap()
        };
        let rows = match sync {
            "one" | "two" | "follower" => duckdb("warehouse.duckdb", account, "accounts"),
            "staff" => duckdb("warehouse.duckdb", "{'rev': rev}", "staff"),
            "lately" | "seldom" => duckdb("warehouse.duckdb", "{'score': score}", "moves"),
            "files" => duckdb("", account, &format!("({FILES})")),
            "shop" => self.runtime.block_on(async {
                let sql = "SELECT id, json_build_object('name', name, 'rev', rev, 'plan', plan)::TEXT FROM shops";
                let rows = self.database.client().query(sql, &[]).await.unwrap();
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            }),
            other => panic!("{other}"),
        };
        let traits = |text: String| {
            let all: Map<String, Value> = serde_json::from_str(&text).unwrap();
            all.into_iter().filter(|(_, value)| !value.is_null()).collect()
        };
        rows.into_iter().map(|(key, text)| (key, traits(text))).collect()
    }

    /// What the receiver of a sync holds, by group; one without traits is as good as none.
    pub(super) fn held(&self, sync: &str) -> BTreeMap<String, Map<String, Value>> {
        let of = |receiver: &Receiver, kind: &str| {
            let all = receiver.vendor.groups().into_iter();
            all.filter(|((of, _), _)| of == kind).map(|((_, key), traits)| (key, traits)).collect()
        };
        let mut held: BTreeMap<_, _> = match sync {
            "one" => of(&self.receiver, "company"),
            "two" => of(&self.events, "company"),
            "files" => of(&self.receiver, "team"),
            "lately" => of(&self.receiver, "mover"),
            "shop" => self.hook.api().groups.clone(),
            same => of(&self.receiver, same),
        };
        held.retain(|_, traits| !traits.is_empty());
        held
    }

    /// What a run of this sync may be asked to do.
    pub(super) fn ask(&self, sync: &str) -> Value {
        match self.below(8) {
            0 => json!({"full": true}),
            1 => json!({"retry_rejected": true}),
            2 => json!({"group": format!("k{}", self.below(60))}),
            3 => json!({"limit": 1 + self.below(5)}),
            4 if sync == "staff" => json!({"accept": ["rows-dropped", "changed"]}),
            _ => json!({}),
        }
    }
}
