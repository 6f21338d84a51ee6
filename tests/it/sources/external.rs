//! Engines that `make test-warehouses` has packages of: `tests/warehouses/engine.py` makes their rows and runs their servers,
//! one engine for each process of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::cli::{Place, Running};
use crate::support::proxy::Proxy;

use super::mirrors::{MirrorEngine, STANDARD, SqlWords, compares};
use super::native::ENDLESS;
use super::{Case, Engine, Middle, Models, ROWS, Trial, WIDTH, conforms, mapping, readers_of, signal, values};

/// An engine's name, and the cases that it cannot have.
type Row = (&'static str, &'static [(Case, &'static str)]);

const IN_PROGRAM: &str = "the extension reads files in the program itself, whose death is in `killed`";
const FILES_ONLY: &str = "read as the files on S3 and on this machine are";

macro_rules! engines {
    ($($name:ident: $cannot:expr;)*) => {$(
        #[test]
        #[ignore = "needs the packages of `make test-warehouses`"]
        fn $name() {
            conforms(&mut External::start((stringify!($name), $cannot)));
        }
    )*};
}

engines! {
    spark: &[(Case::Snapshot, "Sail keeps tables for one session, which nothing else can change")];
    snowflake: &[];
    clickhouse: &[(Case::Snapshot, "chDB has its rows in the query, which nothing can change")];
    mariadb: &[];
    postgres_attached: &[];
    s3: &[];
    sqlite_attached: &[(Case::Death, IN_PROGRAM), (Case::Snapshot, "nothing shows where the extension reads")];
    ducklake: &[(Case::Cancel, FILES_ONLY), (Case::Death, FILES_ONLY), (Case::Snapshot, FILES_ONLY)];
    delta: &[(Case::Cancel, FILES_ONLY), (Case::Death, FILES_ONLY), (Case::Snapshot, FILES_ONLY)];
}

macro_rules! mirrors {
    ($($name:ident: $engine:expr;)*) => {$(
        #[test]
        #[ignore = "needs the packages of `make test-warehouses`"]
        fn $name() {
            compares(&mut External::start(($engine, &[])));
        }
    )*};
}

mirrors! {
    spark_mirrors: "spark";
    snowflake_mirrors: "snowflake";
    clickhouse_mirrors: "clickhouse";
}

#[test]
#[ignore = "needs the packages of `make test-warehouses`"]
fn a_wrong_password_is_its_own_sources_error_and_is_not_shown() {
    let mut engine = External::start(("mariadb", &[]));
    let mut trial = Trial::of(&mut engine);
    trial.place.set("ENGINE_SECRET", "wrong-but-secret");
    trial.place.write("accounts.csv", "id,name\na,Acme\n");
    let settings = trial.place.read("groupcast.toml") + "[sources.files]\ntype = \"files\"\n";
    trial.place.write("groupcast.toml", &settings);
    let other = mapping("large", "table = \"accounts.csv\"", "name = \"name\"\n").replace("\"engine\"", "\"files\"");
    trial.place.mapping("large", &other);
    let output = trial.place.run(&["run"]).says(&["source engine", "1 delivered", "help:"]);
    assert!(matches!(output.code, Some(1 | 2)), "{}", output.all());
    assert!(!output.all().contains("wrong-but-secret"), "{}", output.all());
}

struct External {
    cannot: &'static [(Case, &'static str)],
    name: &'static str,
    proxy: Proxy,
    helper: Option<Helper>,
    /// What it cannot have of the rows.
    without: Vec<String>,
    middle: String,
}

/// The process of `engine.py`. It ends with its standard input, and its servers with it.
struct Helper {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Helper {
    fn ask(&mut self, what: &str) -> Value {
        writeln!(self.input, "{what}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: engine.py answers {line:?}"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = writeln!(self.input, "end");
        let _ = self.child.wait();
    }
}

impl External {
    fn start((name, cannot): Row) -> External {
        let (without, middle) = (Vec::new(), String::new());
        External { cannot, name, proxy: Proxy::start(), helper: None, without, middle }
    }

    /// Has a method of the engine called.
    fn ask(&mut self, method: &str, arguments: &[String]) {
        let answer = self.helper.as_mut().unwrap().ask(&format!("{method} {}", json!(arguments)));
        if let Some(port) = answer["port"].as_u64() {
            self.proxy.lead_to(port.try_into().unwrap());
        }
    }

    /// Starts its process. `mirrors`: it has no rows of its own, and keeps tables.
    fn launch(&mut self, place: &mut Place, mirrors: bool) -> Value {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make test-warehouses`"))
        };
        let is_driver = ["spark", "snowflake", "clickhouse"].contains(&self.name);
        let python = variable(if is_driver { "GROUPCAST_WAREHOUSES" } else { "GROUPCAST_GATEWAY" }) + "/bin/python";
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/warehouses/engine.py");
        let mut child = Command::new(python)
            .args([script, self.name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut helper = Helper { child, input, output };
        let settings = json!({
            "folder": place.path(""), "proxy": self.proxy.port(), "values": values::FILE, "keys": values::KEYS,
            "rows": ROWS, "width": WIDTH, "reader": std::env::var("GROUPCAST_READER").ok(), "mirrors": mirrors,
        });
        let answer = helper.ask(&settings.to_string());
        self.helper = Some(helper);
        if let Some(port) = answer["port"].as_u64() {
            self.proxy.lead_to(port.try_into().unwrap());
        }
        for (name, value) in answer["environment"].as_object().into_iter().flatten() {
            place.set(name, value.as_str().unwrap());
        }
        let without = answer["without"].as_array().into_iter().flatten();
        self.without = without.map(|key| key.as_str().unwrap().to_owned()).collect();
        self.middle = answer["middle"].as_str().unwrap().to_owned();
        answer
    }
}

/// A text where a backslash escapes.
fn escaped(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

const SPARK: SqlWords = SqlWords {
    kind: |kind| {
        match kind {
            "text" => "string",
            "timestamp" => "timestamp_ntz",
            other => other,
        }
        .to_owned()
    },
    text: escaped,
    storage: "",
};

const SNOWFLAKE: SqlWords = SqlWords {
    kind: |kind| {
        match kind {
            "text" => "varchar",
            "timestamp" => "timestamp_ntz",
            other => other,
        }
        .to_owned()
    },
    text: escaped,
    storage: "",
};

const CLICKHOUSE: SqlWords = SqlWords {
    kind: |kind| {
        let known = match kind {
            "text" => "String",
            "bigint" => "Int64",
            "double" => "Float64",
            "date" => "Date32",
            "timestamp" => "DateTime64(6, 'UTC')",
            "boolean" => "Bool",
            other => other,
        };
        format!("Nullable({known})")
    },
    text: escaped,
    storage: " ENGINE = MergeTree ORDER BY tuple()",
};

impl MirrorEngine for External {
    fn set_up(&mut self, place: &mut Place) -> String {
        let answer = self.launch(place, true);
        self.ask("execute", &[format!("CREATE {} groupcast_mirror", answer["schema"].as_str().unwrap())]);
        answer["settings"].as_str().unwrap().to_owned()
    }

    fn execute(&mut self, _place: &Place, statements: &[String]) {
        self.ask("execute", statements);
    }

    fn words(&self) -> SqlWords {
        match self.name {
            "spark" => SPARK,
            "snowflake" => SNOWFLAKE,
            "clickhouse" => CLICKHOUSE,
            _ => STANDARD,
        }
    }

    fn answered(&self) -> Option<u64> {
        matches!(Engine::middle(self), Middle::Wire(_)).then(|| self.proxy.answered())
    }
}

impl Engine for External {
    fn set_up(&mut self, place: &mut Place) -> (String, Models) {
        let answer = self.launch(place, false);
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        let endless = (self.middle == "program").then(|| ENDLESS.to_owned());
        (text("settings"), Models { small: text("small"), large: text("large"), endless })
    }

    fn middle(&self) -> Middle {
        match self.middle.as_str() {
            "wire" => Middle::Wire(self.proxy.clone()),
            "reader" => Middle::Reader,
            _ => Middle::Program,
        }
    }

    fn cannot(&self, case: Case) -> Option<&'static str> {
        self.cannot.iter().find(|(cannot, _)| *cannot == case).map(|(_, reason)| *reason)
    }

    fn without(&self) -> Vec<String> {
        self.without.clone()
    }

    fn kill(&mut self, run: &Running, _place: &Place) {
        match self.middle() {
            Middle::Reader => readers_of(run.pid()).into_iter().for_each(|reader| signal(reader, Signal::KILL)),
            _ => self.ask("kill", &[]),
        }
    }

    fn revive(&mut self, _place: &Place) {
        if matches!(self.middle(), Middle::Wire(_)) {
            self.ask("revive", &[]);
        }
    }

    fn change(&mut self, _place: &Place) {
        self.ask("change", &[]);
    }
}
