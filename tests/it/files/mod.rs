//! What does an ugly file become? Each case is a file as some program writes it, with the groups and traits that a
//! destination gets from it, or with the refusal. All of them go through the real read path in this process, and those that
//! are read also through the built program into a `file` destination.

mod checked;
mod delimited;
mod dialects;
mod encodings;
mod globs;
mod objects;
mod parity;
mod parquet;
mod same;
mod types;
mod views;
mod workbooks;
mod written;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use groupcast::duckdb::{DuckDbConnection, Limits};
use groupcast::error::Error;
use groupcast::mapping::diagnostic::{Diagnostic, Severity};
use groupcast::mapping::{MappingFile, compile};
use groupcast::model::Cell;
use groupcast::service::open::{self, Failure};
use groupcast::source::Source;
use serde_json::{Map, Value};

use crate::support::cli::Place;

/// What becomes of a file.
#[derive(Clone)]
enum Expected {
    /// The traits of each group, as JSON.
    Sent(&'static str),
    /// The error's message, whole, and a part of the advice.
    Refused(String, &'static str),
}

/// A file, or several, and what is expected of it.
#[derive(Clone)]
pub(super) struct Case {
    name: &'static str,
    files: Vec<(&'static str, Vec<u8>)>,
    table: String,
    sql: Option<&'static str>,
    source: &'static str,
    /// The source's type.
    of: &'static str,
    key: &'static str,
    traits: &'static str,
    more: &'static str,
    only: Option<&'static str>,
    expected: Expected,
    /// What `check --connect` says of it.
    says: Vec<&'static str>,
}

fn case(
    name: &'static str,
    file: &'static str,
    bytes: impl AsRef<[u8]>,
    traits: &'static str,
    expected: Expected,
) -> Case {
    Case {
        name,
        files: vec![(file, bytes.as_ref().to_vec())],
        table: file.to_owned(),
        sql: None,
        source: "",
        of: "duckdb",
        key: "id",
        traits,
        more: "",
        only: None,
        expected,
        says: Vec::new(),
    }
}

/// A file that is read: `traits` names columns, each with `:as` where it is declared, or is TOML.
pub(super) fn sent(
    name: &'static str,
    file: &'static str,
    bytes: impl AsRef<[u8]>,
    traits: &'static str,
    groups: &'static str,
) -> Case {
    case(name, file, bytes, traits, Expected::Sent(groups))
}

/// A file that is refused.
pub(super) fn refused(
    name: &'static str,
    file: &'static str,
    bytes: impl AsRef<[u8]>,
    message: &str,
    advice: &'static str,
) -> Case {
    case(name, file, bytes, "name", Expected::Refused(message.to_owned(), advice))
}

impl Case {
    pub(super) fn source(self, source: &'static str) -> Case {
        Case { source, ..self }
    }

    /// Read by a source of the type `files` with these settings, whose folder is the case's.
    pub(super) fn files(self, source: &'static str) -> Case {
        Case { source, of: "files", ..self }
    }

    pub(super) fn key(self, key: &'static str) -> Case {
        Case { key, ..self }
    }

    pub(super) fn traits(self, traits: &'static str) -> Case {
        Case { traits, ..self }
    }

    pub(super) fn more(self, more: &'static str) -> Case {
        Case { more, ..self }
    }

    pub(super) fn sql(self, sql: &'static str) -> Case {
        Case { sql: Some(sql), ..self }
    }

    /// What its groups are, where the traits are set apart.
    pub(super) fn expecting(self, groups: &'static str) -> Case {
        Case { expected: Expected::Sent(groups), ..self }
    }

    /// Only this group matters, among many.
    pub(super) fn only(self, key: &'static str, traits: &str) -> Case {
        let groups: &'static str = Box::leak(format!("{{{key:?}:{traits}}}").into_boxed_str());
        Case { expected: Expected::Sent(groups), only: Some(key), ..self }
    }

    /// Another file beside it.
    pub(super) fn with(mut self, file: &'static str, bytes: impl AsRef<[u8]>) -> Case {
        self.files.push((file, bytes.as_ref().to_vec()));
        self
    }

    pub(super) fn table(self, table: &str) -> Case {
        Case { table: table.to_owned(), ..self }
    }

    pub(super) fn says(mut self, text: &'static str) -> Case {
        self.says.push(text);
        self
    }

    fn traits_toml(&self) -> String {
        if self.traits.contains('=') {
            return self.traits.to_owned();
        }
        let mut toml = String::new();
        for word in self.traits.split_whitespace() {
            let line = match word.split_once(':') {
                Some((column, declared)) => format!("{column:?} = {{ column = {column:?}, as = \"{declared}\" }}\n"),
                None => format!("{word:?} = {{ column = {word:?} }}\n"),
            };
            toml.push_str(&line);
        }
        toml
    }
}

pub(super) fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(bytes.as_ref()).unwrap();
    packed.finish().unwrap()
}

pub(super) fn utf16(text: &str, big: bool) -> Vec<u8> {
    let units = text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() });
    units.collect()
}

/// A folder of its own for each case, below one project.
fn project(cases: &[Case]) -> Place {
    let place = Place::new();
    let mut settings = String::new();
    for case in cases {
        let name = case.name;
        settings.push_str(&format!("[sources.{name}]\ntype = \"{}\"\n{}\n", case.of, case.source));
        if case.of == "files" {
            settings.push_str(&format!("path = \"{name}\"\n"));
        }
        settings.push_str(&format!("[destinations.{name}]\ntype = \"file\"\npath = \"out/{name}.ndjson\"\n"));
        let from = match case.sql {
            Some(sql) => format!("sql = '''{}'''", sql.replace("DIR/", &format!("{name}/"))),
            None if case.of == "files" => format!("table = '\"{}\"'", case.table),
            None => format!("table = '\"{name}/{}\"'", case.table),
        };
        place.write(
            &format!("mappings/{name}.toml"),
            &format!(
                "source = \"{name}\"\ndestination = \"{name}\"\n[model]\n{from}\n{}\n[group]\ntype = \"company\"\nkey = {:?}\n\
                 [traits]\n{}",
                case.more,
                case.key,
                case.traits_toml()
            ),
        );
        for (file, bytes) in &case.files {
            let path = place.path(&format!("{name}/{file}"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    std::fs::create_dir_all(place.path("out")).unwrap();
    place.write("groupcast.toml", &settings);
    place
}

type Groups = BTreeMap<String, Map<String, Value>>;

/// Reads a mapping's rows, as a run does, up to the documents that would be compared.
async fn read(
    project: &groupcast::config::Project,
    file: &MappingFile,
    duckdb: &DuckDbConnection,
) -> Result<Groups, Failure> {
    let mut source = open::fitting_source(project, file).await?;
    documents(file, source.as_mut(), duckdb).await.map_err(Failure::Error)
}

pub(super) async fn documents(
    file: &MappingFile,
    source: &mut dyn Source,
    duckdb: &DuckDbConnection,
) -> Result<Groups, Error> {
    let projection = compile::projection(&file.mapping, None);
    let staged = source.stage(&projection, duckdb, &|_| ()).await?;
    let assembly = compile::assembly(&file.mapping, &projection.columns, staged.kinds.clone());
    let cells: String = staged.physical.iter().map(|sql| format!(", {sql}")).collect();
    let (sql, width) = (format!("SELECT key{cells} FROM {}", staged.relation), staged.physical.len());
    let hashed = format!("SELECT count(DISTINCT hash({})) FROM {}", staged.hashed, staged.relation);
    let rows = duckdb
        .call("read the staged rows", move |connection| {
            let _: i64 = connection.query_row(&hashed, [], |row| row.get(0)).unwrap();
            let mut statement = connection.prepare(&sql).unwrap();
            let rows = statement.query_map([], |row| {
                let cells = (1..=width).map(|at| {
                    Ok(match row.get::<_, duckdb::types::Value>(at)? {
                        duckdb::types::Value::Null => Cell::Null,
                        duckdb::types::Value::Boolean(flag) => Cell::Bool(flag),
                        duckdb::types::Value::BigInt(number) => Cell::Int(number),
                        duckdb::types::Value::Double(number) => Cell::Double(number),
                        duckdb::types::Value::Text(text) => Cell::Text(text),
                        other => panic!("{other:?}"),
                    })
                });
                Ok((row.get::<_, Option<String>>(0)?, cells.collect::<duckdb::Result<Vec<Cell>>>()?))
            });
            Ok(rows.unwrap().collect::<duckdb::Result<Vec<_>>>().unwrap())
        })
        .await
        .unwrap();
    source.release(duckdb).await.unwrap();
    let mut groups = Groups::new();
    for (key, cells) in rows {
        let key = key.unwrap_or_else(|| "<null>".to_owned());
        let traits = match assembly.document(&cells) {
            Ok(document) => document.0.into_iter().collect(),
            Err(reason) => [("rejected".to_owned(), Value::from(reason))].into_iter().collect(),
        };
        assert!(groups.insert(key.clone(), traits).is_none(), "{key} stands there twice");
    }
    Ok(groups)
}

/// What `check --connect` says of a mapping that fits.
async fn remarks(project: &groupcast::config::Project, file: &MappingFile) -> Vec<Diagnostic> {
    let mut source = open::source_of(project, file).await.unwrap();
    let found = open::connected_check(file, source.as_mut()).await.unwrap();
    let fits = found.iter().all(|problem| problem.severity != Severity::Error);
    let mut all = found;
    all.extend(open::sample::of_source(file, source.as_mut(), fits).await.unwrap());
    if fits {
        all.extend(open::sample::remarks(file, source.as_mut()).await.unwrap());
    }
    all
}

fn shown(all: &[Diagnostic]) -> String {
    all.iter()
        .map(|one| format!("{:?} {}: {}\n  {}\n", one.severity, one.path, one.message, one.help.join("\n  ")))
        .collect()
}

/// Runs cases in this process, and those that are read also through the program.
#[track_caller]
pub(super) fn hold(cases: &[Case]) {
    let place = project(cases);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let failures = runtime.block_on(hold_in(place.path("").as_path(), cases));
    assert!(failures.is_empty(), "{} of {} cases\n{}", failures.len(), cases.len(), failures.join("\n"));
    // A row without a key stops its run before anything is sent.
    let whole = |case: &&Case| matches!(case.expected, Expected::Sent(groups) if !groups.contains("<null>"));
    let read: Vec<&Case> = cases.iter().filter(whole).collect();
    let names: Vec<&str> = read.iter().map(|case| case.name).collect();
    if names.is_empty() {
        return;
    }
    let sound = read.iter().all(|case| !matches!(case.expected, Expected::Sent(groups) if groups.contains("rejected")));
    let output = place.run(&[&["run"], names.as_slice()].concat());
    assert!(output.code == Some(0) || !sound && output.code.is_some(), "{}", output.all());
    for case in read {
        let Expected::Sent(expected) = &case.expected else { unreachable!() };
        let path = place.path(&format!("out/{}.ndjson", case.name));
        let lines = std::fs::read_to_string(path).unwrap_or_default();
        let mut got = Groups::new();
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let set = line["set"].as_object().cloned().unwrap_or_default();
            got.insert(line["key"].as_str().unwrap().to_owned(), set);
        }
        let mut wanted: Groups = serde_json::from_str(expected).unwrap();
        wanted.retain(|_, traits| !traits.contains_key("rejected"));
        wanted.values_mut().for_each(|traits| traits.retain(|_, value| !value.is_null()));
        wanted.retain(|_, traits| !traits.is_empty());
        got.retain(|key, traits| !traits.is_empty() && case.only.is_none_or(|only| only == key));
        assert_eq!(got, wanted, "{}: what the program sent", case.name);
    }
}

async fn hold_in(folder: &Path, cases: &[Case]) -> Vec<String> {
    let project = match open::project(folder) {
        Ok(project) => project,
        Err(failure) => panic!("{:?}", failure.as_error()),
    };
    let duckdb = DuckDbConnection::open(None, &Limits::standard()).unwrap();
    let mut failures = Vec::new();
    for case in cases {
        let file = project.mappings.iter().find(|file| file.mapping.name == case.name).unwrap();
        let read = read(&project, file, &duckdb).await;
        match (&case.expected, read) {
            (Expected::Sent(expected), Ok(mut groups)) => {
                groups.retain(|key, _| case.only.is_none_or(|only| only == key));
                let wanted: Groups =
                    serde_json::from_str(expected).unwrap_or_else(|error| panic!("{}: {error}", case.name));
                if groups != wanted {
                    let text = |groups: &Groups| serde_json::to_string(groups).unwrap();
                    failures.push(format!("{}: got {}\n  wanted {}", case.name, text(&groups), text(&wanted)));
                }
            }
            (Expected::Refused(message, advice), Err(failure)) => {
                let error = failure.as_error();
                let shown = error.to_string();
                let message = message.replace("DIR/", &format!("{}/", case.name));
                if !shown.ends_with(&message) || !error.advice().is_some_and(|text| text.contains(advice)) {
                    failures.push(format!(
                        "{}: refused with `{shown}`\n  and `{}`\n  wanted `{message}` and `{advice}`",
                        case.name,
                        error.advice().unwrap_or_default()
                    ));
                }
            }
            (Expected::Sent(_), Err(failure)) => {
                failures.push(format!(
                    "{}: refused: {} {:?}",
                    case.name,
                    failure.as_error(),
                    failure.as_error().advice()
                ));
            }
            (Expected::Refused(message, _), Ok(groups)) => {
                failures.push(format!("{}: read as {groups:?}\n  wanted the refusal `{message}`", case.name));
            }
        }
        if !case.says.is_empty() {
            let all = shown(&remarks(&project, file).await);
            for text in &case.says {
                if !all.contains(text) {
                    failures.push(format!("{}: check does not say `{text}` but\n{all}", case.name));
                }
            }
        }
    }
    failures
}
