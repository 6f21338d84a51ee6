//! `groupcast init`: a folder with a sample that runs, or a mapping from a table's real columns.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::args::{Cli, Init};
use super::new_files::{USUAL, create};
use super::screen::{self, ADD, BOLD, paint};
use super::wizard::{self, Beginning, file_stem};
use super::{print_json, sample, schema};
use crate::config::json_schema::{self, FOLDER};
use crate::config::{self, BrokenMapping, Location};
use crate::duckdb::{DuckDbConnection, Limits, first_line, quote_literal};
use crate::error::{Error, Kind, Result, Within};
use crate::mapping::diagnostic::listed;
use crate::mapping::template::{self, MappingChoices};
use crate::mapping::{From, Model};
use crate::service::open::{self, Failure};
use crate::source::Column;

pub(super) async fn init(cli: &Cli, options: &Init) -> Result<u8, Failure> {
    match (&options.source, &options.table) {
        (Some(source), Some(table)) => mapping(cli, options, source, table).await,
        _ => {
            let folder = options.path.clone().unwrap_or_else(|| cli.folder.clone());
            let location = Location { folder, target: cli.target.clone() };
            refuse_existing(&location)?;
            if options.source_type.is_none()
                && !options.sample
                && let Some(other) = settings_to_copy(&location)
            {
                return copy_settings(cli, &other, &location);
            }
            if options.source_type.is_some() || (!options.sample && wizard::is_interactive(cli)) {
                match wizard::begin(cli, &location, options).await? {
                    Beginning::Own(code) => return Ok(code),
                    Beginning::Sample => {}
                }
            }
            sample_in(cli, &location).await
        }
    }
}

/// A folder that has settings is left alone.
fn refuse_existing(location: &Location) -> Result<()> {
    let settings = location.settings_path();
    if settings.exists() {
        return Err(Error::new(Kind::Config, format!("{} already exists", settings.display())).advise(
            "choose another folder, write a mapping (`groupcast init --source NAME --table TABLE`), or settings for a target \
             (`groupcast init --target prod`)",
        ));
    }
    Ok(())
}

/// The settings that a new target starts from: those of the folder without a target.
fn settings_to_copy(location: &Location) -> Option<Location> {
    let plain = Location { target: None, ..location.clone() };
    (location.target.is_some() && plain.settings_path().exists()).then_some(plain)
}

/// Settings for a target of a folder that has some: the same names, for the same mappings, with other values.
fn copy_settings(cli: &Cli, from: &Location, to: &Location) -> Result<u8, Failure> {
    let name = from.settings_file();
    let failed = |error| Error::new(Kind::Config, format!("failed to read {name}")).because(error);
    let text = std::fs::read_to_string(from.settings_path()).map_err(failed)?;
    let path = to.settings_path();
    create(&path, &without_ledger(&text), USUAL)?;
    if cli.json {
        print_json(&serde_json::json!({ "written": [path.display().to_string()] }));
        return Ok(0);
    }
    let mut out = screen::stdout();
    writeln!(out, "{} {}  (a copy of {name})", paint(ADD, "+"), path.display())?;
    let variables = to.environment_files();
    let target = cli.target_option();
    writeln!(
        out,
        "\nChange what differs there. Its secrets: the environment, {}",
        listed(variables.iter().map(String::as_str))
    )?;
    writeln!(out, "Then: {}", paint(BOLD, format!("groupcast check --connect{target}")))?;
    Ok(0)
}

/// Settings that name no ledger: each target has its own.
fn without_ledger(text: &str) -> String {
    let mut section = "";
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if trimmed.starts_with('[') {
            section = trimmed.split(']').next().unwrap_or_default();
        }
        let names_ledger = section == "[state" && trimmed.split('=').next().is_some_and(|key| key.trim() == "path");
        out.push_str(if names_ledger { "# " } else { "" });
        out.push_str(line);
    }
    out
}

async fn sample_in(cli: &Cli, location: &Location) -> Result<u8, Failure> {
    let folder = location.folder.as_path();
    let settings = location.settings_path();
    let mut written = Vec::new();
    for (path, text) in [
        (settings, format!("{}{}", schema_line("", json_schema::project().0), sample::SETTINGS)),
        (
            folder.join("mappings/accounts.toml"),
            format!("{}{}", schema_line("../", json_schema::mapping().0), sample::mapping()),
        ),
        (
            folder.join("mappings/accounts.test.toml"),
            format!("{}{}", schema_line("../", json_schema::test().0), sample::TESTS),
        ),
        (folder.join(".gitignore"), sample::GITIGNORE.to_owned()),
        (folder.join(".env.example"), sample::ENVIRONMENT.to_owned()),
    ] {
        if path.exists() {
            continue;
        }
        create(&path, &text, USUAL)?;
        written.push(path);
    }
    written.extend(schema::write(folder)?.into_iter().map(PathBuf::from));
    let warehouse = folder.join("warehouse.duckdb");
    if !warehouse.exists() {
        let duckdb = DuckDbConnection::open(None, &Limits::standard())?;
        // In the format that every DuckDB since 1.0 reads: people look into the sample with the one they have.
        let file = quote_literal(&warehouse.display().to_string());
        let sql = format!(
            "ATTACH {file} AS sample (STORAGE_VERSION 'v1.0.0'); USE sample; {}; USE memory; DETACH sample",
            sample::WAREHOUSE_SQL
        );
        duckdb
            .call("write the sample warehouse", move |connection| {
                connection.execute_batch(&sql).map_err(|error| {
                    Error::new(Kind::Bug, "failed to write the sample warehouse")
                        .because(first_line(&error.to_string()))
                })
            })
            .await?;
        written.push(warehouse);
    }
    if cli.json {
        let files: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
        print_json(&serde_json::json!({ "written": files }));
        return Ok(0);
    }
    let mut out = screen::stdout();
    for path in &written {
        writeln!(out, "{} {}", paint(ADD, "+"), path.display())?;
    }
    let there = if folder == Path::new(".") { String::new() } else { format!("cd {} && ", folder.display()) };
    let target = cli.target_option();
    writeln!(out, "\nNext: {}", paint(BOLD, format!("{there}groupcast plan{target}")))?;
    writeln!(
        out,
        "then `groupcast run{target}`, `groupcast group accounts acct_0001{target}`, and `groupcast test{target}`"
    )?;
    Ok(0)
}

/// The line by which editors find the schema of a file; `up` leads from its folder to the config folder.
fn schema_line(up: &str, name: &str) -> String {
    let up = if up.is_empty() { "./" } else { up };
    format!("#:schema {up}{FOLDER}/{name}\n")
}

async fn mapping(cli: &Cli, options: &Init, source_name: &str, table: &str) -> Result<u8, Failure> {
    // Existing mappings may be unfinished; only groupcast.toml must be readable. Problems of mappings are reported as
    // well, because the folder as a whole must load.
    let project = super::read_project(cli)?;
    let settings = &project.settings;
    let Some(source_settings) = settings.sources.get(source_name) else {
        return Err(Error::new(Kind::Config, format!("groupcast.toml has no source `{source_name}`"))
            .advise(format!("it has {}", listed(settings.sources.keys().map(String::as_str))))
            .into());
    };
    let destination = match &options.destination {
        Some(name) if settings.destinations.contains_key(name) => name.clone(),
        Some(name) => {
            return Err(Error::new(Kind::Config, format!("groupcast.toml has no destination `{name}`"))
                .advise(format!("it has {}", listed(settings.destinations.keys().map(String::as_str))))
                .into());
        }
        None => match settings.destinations.keys().next() {
            Some(name) if settings.destinations.len() == 1 => name.clone(),
            _ => {
                return Err(Error::new(Kind::Config, "it is not clear which destination is meant")
                    .advise(format!(
                        "add `--destination` with one of {}",
                        listed(settings.destinations.keys().map(String::as_str))
                    ))
                    .into());
            }
        },
    };
    let parts = crate::mapping::sections::model::table_name(table).map_err(|reason| {
        Error::new(Kind::Config, format!("`--table` {reason}")).advise("write it like `analytics.dim_accounts`")
    })?;
    let name = options.name.clone().unwrap_or_else(|| file_stem(parts.last().map_or("accounts", String::as_str)));
    let path = settings.folder.join(config::location::MAPPINGS_FOLDER).join(format!("{name}.toml"));
    if path.exists() {
        return Err(Error::new(Kind::Config, format!("{} already exists", path.display()))
            .advise("choose another name with `--name`, or remove the file")
            .into());
    }
    let mut source = open::source(source_settings, settings).await?;
    let model = Model { from: From::Table(parts), filter: None };
    let columns: Vec<Column> = source.describe(&model).await.within(|| format!("source {source_name}"))?;
    // What the source's user may not read cannot be mapped.
    let readable = columns.iter().filter(|column| column.denied.is_none());
    let shapes: Vec<template::ColumnShape<'_>> = readable.map(Column::shape).collect();
    let chosen = &settings.destinations[&destination];
    let always = open::destination_type(chosen)?.always_traits(&chosen.values);
    create(
        &path,
        &template::mapping(source_name, &destination, table, &shapes, &always, MappingChoices::default()),
        USUAL,
    )?;
    let after = open::project(cli.location())?;
    let hurt = |broken: &&BrokenMapping| broken.name != name && !project.broken.contains(broken);
    if let Some(mistakes) = after.broken.iter().find(hurt).and_then(|broken| after.mistakes(&broken.name)) {
        std::fs::remove_file(&path)?;
        let what = Failure::from(mistakes).as_error();
        return Err(Error::new(Kind::Config, format!("nothing was written, because of another mapping: {what}"))
            .advise("map the table to another group type or destination, or change the other mapping first")
            .into());
    }
    // What it still lacks, or where it clashes with another one, is for the person who reads it.
    if let (Some(mistakes), false) = (after.mistakes(&name), cli.json) {
        super::show_problems(cli, &mistakes);
    }
    if cli.json {
        print_json(&serde_json::json!({"written": [path.display().to_string()]}));
        return Ok(0);
    }
    let mut out = screen::stdout();
    writeln!(out, "{} {}", paint(ADD, "+"), path.display())?;
    writeln!(
        out,
        "\nRead it once, then: {}",
        paint(BOLD, format!("groupcast check --connect && groupcast plan {name}"))
    )?;
    Ok(0)
}
