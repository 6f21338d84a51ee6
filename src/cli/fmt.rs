//! `groupcast fmt`: groupcast.toml, mappings and their tests in canonical layout.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::args::{Cli, Fmt};
use super::screen::{self, ADD, BOLD, CHANGE, DIM, REMOVE, paint};
use super::{print_json, show_problems};
use crate::config::layout::formatted;
use crate::config::location::MAPPINGS_FOLDER;
use crate::config::{Diagnostics, layout_problems};
use crate::error::{Error, Kind, Result};
use crate::io::files;
use crate::service::open::Failure;

/// Largest file: as large as one that is loaded.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Unchanged lines around a change.
const CONTEXT: usize = 2;

pub(super) fn fmt(cli: &Cli, options: &Fmt) -> Result<u8, Failure> {
    if options.files.iter().any(|file| file.as_os_str() == "-") {
        return stdin(cli);
    }
    let files = if options.files.is_empty() { all(&cli.folder)? } else { options.files.clone() };
    let (mut problems, mut results, mut changed) = (Diagnostics::new(), Vec::new(), 0_u64);
    for path in &files {
        let text = read(path)?;
        let name = path.display().to_string();
        let Some(canonical) = formatted(&text) else {
            problems.append(layout_problems(&name, &text));
            continue;
        };
        let differs = canonical != text;
        results.push((name.clone(), differs));
        if !differs {
            continue;
        }
        changed += 1;
        if !options.check {
            std::fs::write(path, &canonical).map_err(|error| {
                Error::new(Kind::Config, format!("failed to write {name}"))
                    .advise("look at the file's permissions and at the free space")
                    .because(error)
            })?;
        }
        if !cli.json {
            if options.check {
                diff(&name, &text, &canonical)?;
            } else {
                writeln!(screen::stdout(), "{} {name}", paint(CHANGE, "~"))?;
            }
        }
    }
    if !problems.is_empty() {
        show_problems(cli, &problems);
    }
    if cli.json && problems.is_empty() {
        let files: Vec<Value> =
            results.iter().map(|(file, changed)| json!({"file": file, "changed": changed})).collect();
        print_json(&json!({ "files": files }));
    } else if !cli.json {
        foot(options, changed, results.len() as u64)?;
    }
    Ok(match problems.is_empty() {
        false => 2,
        true => u8::from(options.check && changed > 0),
    })
}

fn foot(options: &Fmt, changed: u64, all: u64) -> std::io::Result<()> {
    let files = screen::plural(all, "file");
    let mut out = screen::stdout();
    match (options.check, changed) {
        (_, 0) => writeln!(out, "{} {files} in canonical layout", paint(ADD, "ok:")),
        (true, _) => writeln!(out, "\n{changed} of {files} would change; `groupcast fmt` rewrites them"),
        (false, _) => writeln!(out, "\n{changed} of {files} rewritten"),
    }
}

/// Standard input in canonical layout, for editors.
fn stdin(cli: &Cli) -> Result<u8, Failure> {
    let mut text = String::new();
    std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| {
        Error::new(Kind::Config, "standard input cannot be read").because(error).advise("pipe UTF-8 text into it")
    })?;
    match formatted(&text) {
        Some(canonical) => {
            // As it is: it replaces a file.
            std::io::stdout().lock().write_all(canonical.as_bytes())?;
            Ok(0)
        }
        None => {
            show_problems(cli, &layout_problems("standard input", &text));
            Ok(2)
        }
    }
}

/// The settings of every target, and everything in mappings/.
fn all(folder: &Path) -> Result<Vec<PathBuf>> {
    let shown = if folder == Path::new(".") { PathBuf::new() } else { folder.to_path_buf() };
    let is_settings =
        |name: &str| name == "groupcast.toml" || name.starts_with("groupcast.") && name.ends_with(".toml");
    let mut files = toml_files(folder, &shown, is_settings);
    files.extend(toml_files(&folder.join(MAPPINGS_FOLDER), &shown.join(MAPPINGS_FOLDER), |_| true));
    if files.is_empty() {
        return Err(Error::new(Kind::Config, format!("{} has no groupcast.toml and no mappings", folder.display()))
            .advise("name the files, or the folder with `--folder`"));
    }
    Ok(files)
}

/// The TOML files of a folder whose names are wanted, in order, as they are shown.
fn toml_files(folder: &Path, shown: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') && name.to_ascii_lowercase().ends_with(".toml") && is_wanted(name))
        .collect();
    names.sort();
    names.into_iter().map(|name| shown.join(name)).collect()
}

fn read(path: &Path) -> Result<String> {
    let failed = |cause: String| {
        Error::new(Kind::Config, format!("{} cannot be read: {cause}", path.display()))
            .advise("name TOML files: `groupcast fmt groupcast.toml mappings/accounts.toml`")
    };
    let bytes = files::read(path, FILE_BYTES_MAX).map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| failed("not UTF-8 text".to_owned()))
}

/// The lines that would change, with those around them.
fn diff(name: &str, before: &str, after: &str) -> std::io::Result<()> {
    let mut out = screen::stdout();
    writeln!(out, "{}", paint(BOLD, name))?;
    let diff = TextDiff::from_lines(before, after);
    for (n, hunk) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if n > 0 {
            writeln!(out, "       {}", paint(DIM, "…"))?;
        }
        for change in hunk.iter().flat_map(|op| diff.iter_changes(op)) {
            let (sign, style) = match change.tag() {
                ChangeTag::Delete => ("-", Some(REMOVE)),
                ChangeTag::Insert => ("+", Some(ADD)),
                ChangeTag::Equal => (" ", None),
            };
            let number = change.old_index().or(change.new_index()).map_or(0, |line| line + 1);
            let line = change.value().trim_end_matches('\n').replace('\r', "␍");
            let text = format!("{sign} {line}");
            let text = style.map_or_else(|| text.clone(), |style| paint(style, &text));
            writeln!(out, "{} {text}", paint(DIM, format!("{number:>5}")))?;
        }
    }
    Ok(())
}
