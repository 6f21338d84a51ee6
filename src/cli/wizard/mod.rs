//! `groupcast init` from nothing to a first check: source, connection, table, key, destination. Every answer can be given by an
//! option; a terminal is asked for the others. Nothing is written before the last answer.

mod draft;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use self::draft::SectionDraft;
use super::args::{Cli, Init};
use super::new_files::{PRIVATE, USUAL, create_all};
use super::prompt::Prompter;
use super::screen::{self, ADD, BOLD, paint, thousands};
use super::{check, print_json, sample};
use crate::config::{Location, Settings, load, location};
use crate::destination::registry::DESTINATION_TYPES;
use crate::error::{Error, Kind, Result, Within};
use crate::io::terminal;
use crate::mapping::diagnostic::{did_you_mean, listed, listed_all};
use crate::mapping::template::{self, MappingChoices};
use crate::mapping::{From, Model};
use crate::model::setting::{Setting, SettingType};
use crate::service::open::{self, Failure};
use crate::source::registry::SOURCE_TYPES;
use crate::source::{Column, Source, TableListing};

/// Tables that are listed to choose from.
const TABLES_SHOWN: usize = 25;
/// Sources that a person is asked about, with what each is.
const ASKED_SOURCES: [(&str, &str); 5] = [
    ("postgres", "PostgreSQL and what speaks its protocol: Redshift, CockroachDB"),
    ("duckdb", "a DuckDB file"),
    ("files", "CSV, JSON, Excel and Parquet files of a folder"),
    (SQLITE, "a SQLite file, through its ADBC driver (`dbc install sqlite`)"),
    ("adbc", "Snowflake, BigQuery, Databricks and others: their ADBC driver"),
];
/// The choice that is a type of source with its driver.
const SQLITE: &str = "sqlite";

/// What a person wants to start with.
pub(super) enum Beginning {
    /// The sample.
    Sample,
    /// A project of their own: the exit code of its first check.
    Own(u8),
}

/// The terminal, where there is one.
type Terminal = Option<Prompter<std::io::StdinLock<'static>, Box<dyn Write>>>;

/// Whether questions can be asked.
pub(super) fn is_interactive(cli: &Cli) -> bool {
    !cli.json && terminal::is_interactive()
}

/// Makes a project in a folder, for a target where one is named.
pub(super) async fn begin(cli: &Cli, location: &Location, given: &Init) -> Result<Beginning, Failure> {
    let mut terminal: Terminal = is_interactive(cli)
        .then(|| Prompter::new(std::io::stdin().lock(), Box::new(screen::stdout()) as Box<dyn Write>, true));
    let kind = match (&given.source_type, &mut terminal) {
        (Some(kind), _) if kind == SQLITE => SQLITE,
        (Some(kind), _) => SOURCE_TYPES
            .iter()
            .find(|of| of.name() == kind)
            .map(|of| of.name())
            .ok_or_else(|| unknown("source type", kind, SOURCE_TYPES.iter().map(|of| of.name())))?,
        (None, Some(terminal)) => {
            terminal.show("Where are the accounts?")?;
            let names = [("sample", "a sample warehouse: nothing to set up, nothing is sent anywhere")];
            let all: Vec<(&str, &str)> = names.into_iter().chain(ASKED_SOURCES).collect();
            let options: Vec<String> = all.iter().map(|(name, what)| format!("{name:9} {what}")).collect();
            match all[terminal.choice("Start with", &options, 0)?].0 {
                "sample" => return Ok(Beginning::Sample),
                kind => kind,
            }
        }
        (None, None) => return Ok(Beginning::Sample),
    };
    let mut variables = Vec::new();
    let known = load::variable_names(location, load::environment());
    let mut questions = Questions { terminal: &mut terminal, location, known, variables: &mut variables };
    let (source, mut connection, listed) = questions.source(kind, given).await?;
    let table = questions.table(given, listed)?;
    let parts = crate::mapping::sections::model::table_name(&table).map_err(|reason| {
        Error::new(Kind::Config, format!("`--table` {reason}")).advise("write it like `analytics.dim_accounts`")
    })?;
    let stem = file_stem(parts.last().map_or("accounts", String::as_str));
    let model = Model { from: From::Table(parts), filter: None };
    let columns: Vec<Column> = connection.describe(&model).await.within(|| format!("source {}", source.name))?;
    drop(connection);
    let readable: Vec<_> = columns.iter().filter(|column| column.denied.is_none()).map(Column::shape).collect();
    let (group_type, key, label) = questions.group(given, &table, template::guess(&table, &readable))?;
    let names: Vec<&str> = readable.iter().map(|column| column.name).collect();
    for column in [Some(&key), label.as_ref().filter(|label| !label.is_empty())].into_iter().flatten() {
        if !names.contains(&column.as_str()) {
            return Err(unknown(&format!("column of {table}"), column, names.iter().copied()).into());
        }
    }
    let destination = questions.destination(given)?;
    let text = draft::settings(&[&source, &destination]);
    let settings = load::draft(location, &text, variables.clone(), load::environment())?;
    let chosen = &settings.destinations[&destination.name];
    let always = open::destination_type(chosen)?.always_traits(&chosen.values);
    let choices =
        MappingChoices { group_type: Some(&group_type), key: Some(&key), label: Some(label.as_deref().unwrap_or("")) };
    let mapping = template::mapping(&source.name, &destination.name, &table, &readable, &always, choices);
    drop(terminal);
    let written = write(location, &stem, text, mapping, &variables)?;
    finish(cli, location, &stem, &written).await.map(Beginning::Own)
}

/// A sync's name from a table's: what a file can be called everywhere.
pub(super) fn file_stem(table: &str) -> String {
    let safe = |char: char| if char.is_alphanumeric() || "_-".contains(char) { char } else { '_' };
    let stem: String = table.chars().map(safe).collect();
    if stem.is_empty() { "accounts".to_owned() } else { stem }
}

/// The files, all or none.
fn write(
    location: &Location,
    stem: &str,
    settings: String,
    mapping: String,
    variables: &[(String, String)],
) -> Result<Vec<PathBuf>> {
    let folder = location.folder.as_path();
    let names = location.environment_files();
    let name = names.first().map_or(".env", String::as_str);
    let dotenv = folder.join(name);
    let mut files = vec![
        (location.settings_path(), settings, USUAL),
        (folder.join(location::MAPPINGS_FOLDER).join(format!("{stem}.toml")), mapping, USUAL),
        (folder.join(".gitignore"), sample::GITIGNORE.to_owned(), USUAL),
    ];
    let ignored = folder.join(".gitignore");
    let own = std::fs::read_to_string(&ignored).ok();
    files.retain(|(path, _, _)| own.is_none() || *path != ignored);
    if !variables.is_empty() && !dotenv.exists() {
        files.push((dotenv, draft::dotenv("", variables), PRIVATE));
        create_all(&files)?;
    } else {
        create_all(&files)?;
        if !variables.is_empty() {
            let failed =
                |error: std::io::Error| Error::new(Kind::Config, format!("failed to add to {name}")).because(error);
            let before = std::fs::read_to_string(&dotenv).map_err(failed)?;
            std::fs::write(&dotenv, draft::dotenv(&before, variables)).map_err(failed)?;
            files.push((dotenv, String::new(), PRIVATE));
        }
    }
    // In a `.gitignore` that was there, `.env` is added.
    if let Some(own) = own.filter(|own| !own.lines().any(|line| line.trim() == ".env")) {
        let failed = |error: std::io::Error| Error::new(Kind::Config, "failed to add to .gitignore").because(error);
        let gap = if own.is_empty() || own.ends_with('\n') { "" } else { "\n" };
        std::fs::write(&ignored, format!("{own}{gap}.env\n.env.*\n!.env.example\n")).map_err(failed)?;
        files.push((ignored, String::new(), USUAL));
    }
    Ok(files.into_iter().map(|(path, _, _)| path).collect())
}

/// What was written, and what a check finds in it.
async fn finish(cli: &Cli, location: &Location, stem: &str, written: &[PathBuf]) -> Result<u8, Failure> {
    if cli.json {
        let files: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
        print_json(&serde_json::json!({ "written": files }));
        return Ok(0);
    }
    for path in written {
        writeln!(screen::stdout(), "{} {}", paint(ADD, "+"), path.display())?;
    }
    writeln!(screen::stdout(), "\n{}", paint(BOLD, format!("groupcast check --connect{}", cli.target_option())))?;
    let project = open::project(location)?;
    let code = check::check_project(cli, std::sync::Arc::new(project), true).await?;
    let (folder, target) = (&location.folder, cli.target_option());
    let there = if folder == Path::new(".") { String::new() } else { format!("cd {} && ", folder.display()) };
    writeln!(screen::stdout(), "\nNext: {}", paint(BOLD, format!("{there}groupcast plan {stem}{target}")))?;
    writeln!(screen::stdout(), "then `groupcast run {stem} --limit 1{target}`, and look at the destination")?;
    Ok(code)
}

/// A name that is not among those there are.
fn unknown<'a>(what: &str, name: &str, names: impl Iterator<Item = &'a str> + Clone) -> Error {
    let error = Error::new(Kind::Config, format!("{what} `{name}` not found"));
    match did_you_mean(name, names.clone()) {
        Some(meant) => error.advise(format!("did you mean `{meant}`?")),
        None => error.advise(format!("there is {}", listed_all(names))),
    }
}

/// An answer that only an option can give here.
fn missing(option: &str, what: &str) -> Error {
    Error::new(Kind::Config, format!("`{option}` is missing")).advise(what.to_owned())
}

/// Asks what the options leave open.
struct Questions<'a> {
    terminal: &'a mut Terminal,
    location: &'a Location,
    /// The variables that settings can use already.
    known: BTreeSet<String>,
    /// Those that were typed.
    variables: &'a mut Vec<(String, String)>,
}

impl Questions<'_> {
    /// The source, connected to, and its tables. On a terminal, what does not connect is asked again.
    async fn source(
        &mut self,
        kind: &'static str,
        given: &Init,
    ) -> Result<(SectionDraft, Box<dyn Source>, Option<Vec<TableListing>>), Failure> {
        let is_sqlite = kind == SQLITE;
        let kind = if is_sqlite { "adbc" } else { kind };
        let settings = SOURCE_TYPES.iter().find(|of| of.name() == kind).map_or(&[][..], |of| of.settings());
        loop {
            let typed_before = self.variables.len();
            let mut section =
                SectionDraft { section: "sources", name: "warehouse".to_owned(), kind, settings: Vec::new() };
            let set = if is_sqlite { self.sqlite(&given.source_set)? } else { given.source_set.clone() };
            self.settings(&mut section, settings, "--source-set", &set)?;
            let connected = self.connect(&section).await;
            match (connected, self.terminal.as_mut()) {
                (Ok((source, listed)), terminal) => {
                    if let Some(terminal) = terminal {
                        let found = match listed.as_ref().map_or(0, Vec::len) {
                            0 => String::new(),
                            1 => ": 1 table or view".to_owned(),
                            count => format!(": {} tables and views", thousands(count as u64)),
                        };
                        terminal.show(&format!("connected{found}"))?;
                    }
                    return Ok((section, source, listed));
                }
                (Err(failure), Some(terminal)) => {
                    let error = failure.as_error();
                    terminal.show(&format!("cannot connect: {error}"))?;
                    if let Some(advice) = error.advice() {
                        terminal.show(&format!("  {advice}"))?;
                    }
                    if !terminal.confirm("Try again?")? {
                        return Err(failure);
                    }
                    self.variables.truncate(typed_before);
                }
                (Err(failure), None) => return Err(failure),
            }
        }
    }

    /// The settings of a SQLite file: its driver, and its path as the driver takes it.
    fn sqlite(&mut self, given: &[String]) -> Result<Vec<String>> {
        let mut set: Vec<String> = given.iter().filter(|pair| !pair.starts_with("path=")).cloned().collect();
        let of = |name: &str| given.iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        if of("driver").is_none() {
            set.push("driver=sqlite".to_owned());
        }
        if of("uri").is_some() {
            return Ok(set);
        }
        let path = loop {
            let path = match (of("path"), self.terminal.as_mut()) {
                (Some(path), _) => path.to_owned(),
                (None, Some(terminal)) => terminal.text("Path of the SQLite file", None)?,
                (None, None) => return Err(missing("--source-set", "give `--source-set path=FILE`")),
            };
            // SQLite would make a file that is missing.
            match (std::fs::canonicalize(&path), of("path"), self.terminal.as_mut()) {
                (Ok(path), _, _) => break path,
                (Err(error), None, Some(terminal)) => terminal.show(&format!("cannot read {path}: {error}"))?,
                (Err(error), _, _) => {
                    let error = Error::new(Kind::Config, format!("failed to read {path}")).because(error);
                    return Err(error.advise("give the path of the SQLite file: `--source-set path=FILE`"));
                }
            }
        };
        set.push(format!("uri={}", path.display()));
        Ok(set)
    }

    async fn connect(&self, section: &SectionDraft) -> Result<(Box<dyn Source>, Option<Vec<TableListing>>), Failure> {
        let text = draft::settings(&[section]);
        let settings: Settings = load::draft(self.location, &text, self.variables.clone(), load::environment())?;
        let mut source = open::source(&settings.sources[&section.name], &settings).await?;
        let listed = source.tables().await?;
        Ok((source, listed))
    }

    /// The settings of a section: those that are given, and those that are asked for.
    fn settings(
        &mut self,
        section: &mut SectionDraft,
        settings: &'static [Setting],
        option: &str,
        given: &[String],
    ) -> Result<()> {
        let mut set = BTreeSet::new();
        for pair in given {
            let (name, value) = pair.split_once('=').ok_or_else(|| missing(option, "write it as `KEY=VALUE`"))?;
            let names = settings.iter().map(|setting| setting.name);
            let setting = settings.iter().find(|setting| setting.name == name);
            let setting = setting.ok_or_else(|| unknown(&format!("setting of {}", section.kind), name, names))?;
            section.set(setting, value);
            set.insert(setting.name);
        }
        for setting in draft::asked(settings).filter(|setting| !set.contains(setting.name)) {
            let variable = section.variable(setting.name);
            let is_secret = setting.of.is_secret();
            if is_secret && self.known.contains(&variable) {
                if let Some(terminal) = self.terminal.as_mut() {
                    terminal.show(&format!("{}: from the variable {variable}", setting.name))?;
                }
                section.refer(setting.name, &variable);
                continue;
            }
            match (self.terminal.as_mut(), setting.required) {
                (None, false) => {}
                (None, true) if is_secret => {
                    let advice = format!(
                        "set it in the environment or in `.env`, or give `{option} {}='${{NAME}}'`",
                        setting.name
                    );
                    return Err(Error::new(Kind::Config, format!("the variable {variable} is not set")).advise(advice));
                }
                (None, true) => {
                    return Err(missing(option, &format!("give `{option} {}=VALUE`", setting.name)));
                }
                (Some(terminal), _) if is_secret => {
                    let value = terminal.secret(&question(section.kind, setting))?;
                    section.refer(setting.name, &variable);
                    self.variables.push((variable, value));
                }
                (Some(terminal), _) => {
                    if let Some(value) = answer(terminal, section, setting)? {
                        section.set(setting, &self.meant_path(setting, value));
                    }
                }
            }
        }
        Ok(())
    }

    /// A path as it is meant: typed in this folder, and read from the project's.
    fn meant_path(&self, setting: &Setting, value: String) -> String {
        let is_path = matches!(setting.of, SettingType::Path);
        let there = std::path::absolute(&self.location.folder).ok();
        let here = std::path::absolute(".").ok();
        let elsewhere = is_path && there != here && Path::new(&value).exists();
        match std::path::absolute(&value) {
            Ok(path) if elsewhere => path.to_string_lossy().into_owned(),
            _ => value,
        }
    }

    /// The table.
    fn table(&mut self, given: &Init, listed: Option<Vec<TableListing>>) -> Result<String> {
        if let Some(table) = &given.table {
            return Ok(table.clone());
        }
        let Some(terminal) = self.terminal.as_mut() else {
            return Err(missing("--table", "name the table or view, such as `analytics.dim_accounts`"));
        };
        let mut listed = listed.unwrap_or_default();
        listed.sort_by_key(|table| draft::by_relevance(&table.name));
        if listed.is_empty() {
            return terminal.text("Table or view, such as analytics.dim_accounts", None);
        }
        let more = listed.len().saturating_sub(TABLES_SHOWN);
        let width = listed.iter().take(TABLES_SHOWN).map(|table| table.name.chars().count()).max().unwrap_or(0);
        for (number, table) in listed.iter().take(TABLES_SHOWN).enumerate() {
            let size = match (table.rows, table.is_view) {
                (Some(rows), _) => format!("about {} rows", thousands(rows)),
                (None, true) => "view".to_owned(),
                (None, false) => String::new(),
            };
            terminal.show(format!("  {:2}  {:width$}  {size}", number + 1, table.name).trim_end())?;
        }
        if more > 0 {
            terminal.show(&format!("  … and {more} more: type the name"))?;
        }
        let answer = terminal.text("Table or view", Some("1"))?;
        let chosen = answer.parse::<usize>().ok().and_then(|number| listed.get(number.checked_sub(1)?));
        Ok(chosen.map_or(answer, |table| table.name.clone()))
    }

    /// The group type, the key and the label.
    fn group(
        &mut self,
        given: &Init,
        table: &str,
        guess: MappingChoices<'_>,
    ) -> Result<(String, String, Option<String>)> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (mut kind, mut key, mut label) = (owned(guess.group_type), owned(guess.key), owned(guess.label));
        if let Some(terminal) = self.terminal.as_mut() {
            if given.key.is_none() {
                let what = format!("Column of {table} with the group's id, unique and never null");
                key = Some(terminal.text(&what, key.as_deref())?);
            }
            if given.label.is_none() {
                let typed =
                    terminal.text("Column with the group's name, or - for none", label.as_deref().or(Some("-")))?;
                label = Some(typed).filter(|typed| typed != "-");
            }
            if given.group_type.is_none() {
                kind = Some(terminal.text("Group type at the destination", kind.as_deref())?);
            }
        }
        let key = given.key.clone().or(key).ok_or_else(|| missing("--key", "name the column with the group's id"))?;
        let kind = given.group_type.clone().or(kind).unwrap_or_else(|| "account".to_owned());
        Ok((kind, key, given.label.clone().or(label)))
    }

    /// The destination.
    fn destination(&mut self, given: &Init) -> Result<SectionDraft> {
        let names = || DESTINATION_TYPES.iter().map(|of| of.name());
        let of = match (&given.destination_type, self.terminal.as_mut()) {
            (Some(kind), _) => DESTINATION_TYPES.iter().find(|of| of.name() == kind),
            (None, None) => return Err(missing("--destination-type", &format!("choose one of {}", listed(names())))),
            (None, Some(terminal)) => {
                terminal.show("Where do they go?")?;
                let options: Vec<String> = names().map(|name| about_destination(name).to_owned()).collect();
                let file = names().position(|name| name == "file").unwrap_or(0);
                Some(&DESTINATION_TYPES[terminal.choice("Destination", &options, file)?])
            }
        };
        let wanted = given.destination_type.as_deref().unwrap_or_default();
        let of = of.ok_or_else(|| unknown("destination type", wanted, names()))?;
        let name = if of.name() == "file" { "changes" } else { of.name() };
        let mut section =
            SectionDraft { section: "destinations", name: name.to_owned(), kind: of.name(), settings: Vec::new() };
        self.settings(&mut section, of.settings(), "--destination-set", &given.destination_set)?;
        if of.name() == "file" && section.settings.is_empty() {
            section.settings.push(("path".to_owned(), "\"changes.ndjson\"".to_owned()));
        }
        Ok(section)
    }
}

/// A destination type with what it is, where its name does not say that.
fn about_destination(name: &str) -> &str {
    match name {
        "file" => "file         every change as a line of JSON: nothing is sent anywhere",
        "journy" => "journy       journy.io's own API",
        "segment" => "segment      and its kin: RudderStack, Customer.io, Dittofeed, Jitsu, Accoil …",
        "webhook" => "webhook      a URL of your own",
        name => name,
    }
}

/// What a setting is, for a person.
fn question(kind: &str, setting: &Setting) -> String {
    let what = match (kind, setting.name) {
        ("postgres", "url") => "URL, such as postgres://user:password@host/database",
        ("duckdb", "path") => "Path of the file",
        ("files", "path") => "Path of the folder",
        ("adbc", "driver") => "ADBC driver: its name (`dbc install NAME`), or the path of its library",
        ("adbc", "uri") => "URI, as the driver's documentation has it; passwords included",
        ("file", "path") => "Path of the file that gets the changes",
        (_, name) => return format!("{kind}: {name}"),
    };
    what.to_owned()
}

/// A setting that is no secret; none where the answer is the default.
fn answer<Input: std::io::BufRead, Output: Write>(
    terminal: &mut Prompter<Input, Output>,
    section: &SectionDraft,
    setting: &Setting,
) -> Result<Option<String>> {
    let question = question(section.kind, setting);
    if let SettingType::OneOf(words) = setting.of {
        let options: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        return Ok(Some(options[terminal.choice(&question, &options, 0)?].clone()));
    }
    let default = match (section.kind, setting.name) {
        ("file", "path") => Some("changes.ndjson"),
        ("files", "path") => Some("."),
        _ => None,
    };
    terminal.text(&question, default).map(Some)
}
