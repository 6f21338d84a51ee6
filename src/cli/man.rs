//! `groupcast man`, which `--help` does not list: the man pages that a package installs, one for each command.

use std::fs;
use std::io::Result as IoResult;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::{Man, roff};

use super::args::Cli;
use super::print_json;
use crate::error::{Error, Kind};
use crate::service::open::Failure;

pub(super) fn man(cli: &Cli, folder: &Path) -> Result<u8, Failure> {
    let failed = |error: std::io::Error| {
        Error::new(Kind::Config, format!("failed to write man pages to {}", folder.display()))
            .advise("check the folder's permissions and the free space")
            .because(error)
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let pages = pages(root()).map_err(failed)?;
    for (name, page) in &pages {
        fs::write(folder.join(name), page).map_err(failed)?;
    }
    if cli.json {
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        print_json(&serde_json::json!({ "written": names }));
    }
    Ok(0)
}

/// The whole command line. The command `help` is no page: every page is help.
fn root() -> clap::Command {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    root
}

/// The pages of a command and of all below it, each with the name of its file.
fn pages(command: clap::Command) -> IoResult<Vec<(String, Vec<u8>)>> {
    let below: Vec<clap::Command> = command.get_subcommands().filter(|one| !one.is_hide_set()).cloned().collect();
    let mut all = vec![page(command)?];
    for command in below {
        all.extend(pages(command)?);
    }
    Ok(all)
}

fn page(command: clap::Command) -> IoResult<(String, Vec<u8>)> {
    let notes = command.get_after_help().map(ToString::to_string);
    let has_commands = command.has_subcommands();
    let source = concat!("groupcast ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).source(source).manual("Groupcast");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_commands {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(notes) = notes {
        notes_section(&notes).to_writer(&mut page)?;
    }
    Ok((man.get_filename(), page))
}

/// What `--help` shows after the options: indented lines stay as they are, the others are filled as paragraphs.
fn notes_section(notes: &str) -> roff::Roff {
    let mut section = roff::Roff::new();
    section.control("SH", ["NOTES"]);
    let mut filled = true;
    for line in notes.lines() {
        let fills = !line.starts_with(' ');
        if fills != filled {
            section.control(if fills { "fi" } else { "nf" }, []);
            filled = fills;
        }
        if line.is_empty() {
            section.control("PP", []);
        } else {
            section.text([roff::roman(line)]);
        }
    }
    if !filled {
        section.control("fi", []);
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_options_and_examples() {
        let pages = pages(root()).unwrap();
        let named = |wanted: &str| {
            let page = pages.iter().find(|(name, _)| name == wanted);
            String::from_utf8(page.unwrap_or_else(|| panic!("{wanted} is missing")).1.clone()).unwrap()
        };
        assert!(named("groupcast.1").contains("groupcast\\-run(1)"));
        assert!(named("groupcast-run.1").contains("\\-\\-retry\\-rejected"));
        assert!(named("groupcast-ledger-backup.1").contains("\n  groupcast ledger backup"));
        assert!(pages.iter().all(|(name, _)| !name.contains("help") && name != "groupcast-man.1"));
    }
}
