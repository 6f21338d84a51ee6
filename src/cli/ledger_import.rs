//! `groupcast ledger import`: the synced state of syncs, from the lines of an export.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde_json::json;
use tokio::sync::mpsc;

use super::args::Cli;
use super::print_json;
use super::screen::{self, plural};
use super::service::announce_wait;
use super::text::shown_key;
use crate::config::Project;
use crate::error::{Error, Kind, Result};
use crate::ledger::SyncedGroup;
use crate::model::Document;
use crate::service::open::{self, Failure};
use crate::service::views::{ExportedGroup, ExportedRejection};
use crate::service::{commands, remote};

/// Groups that go into the ledger at a time, and most bytes of their lines.
const PAGE_GROUPS: usize = 2_000;
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Pages that wait for the ledger.
const PAGES_WAITING: usize = 2;

pub(super) async fn import(cli: &Cli, project: &Project, file: &Path, replace: bool) -> Result<u8, Failure> {
    let mut lines = Lines::open(file)?;
    let open = async || open::ledger_to_fill(project).await;
    let ledger = remote::open_when_free(project, cli.lock_timeout, open, |holder| announce_wait(cli, holder)).await?;
    let mut imported: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(sync) = lines.next_sync() {
        open::exists(project, &sync).map_err(|error| error.at(lines.place()))?;
        if imported.contains_key(&sync) {
            let error = Error::new(Kind::Config, format!("groups of sync `{sync}` stand in two places"));
            return Err(error.advise("put all groups of a sync after each other").at(lines.place()).into());
        }
        let (sender, groups) = mpsc::channel(PAGES_WAITING);
        let of = sync.clone();
        let reading = tokio::task::spawn_blocking(move || {
            lines.send(&of, &sender);
            lines
        });
        let count = commands::import(ledger.as_ref(), &sync, groups, replace).await;
        lines = reading.await.map_err(|panic| Error::new(Kind::Bug, "failed to read the file").because(panic))?;
        imported.insert(sync, count?);
    }
    if imported.is_empty() {
        let error = Error::new(Kind::Config, "the file holds no group");
        return Err(error.advise("write it with `groupcast ledger export SYNC`").at(lines.place()).into());
    }
    if cli.json {
        print_json(&json!({"imported": imported}));
        return Ok(0);
    }
    for (sync, groups) in &imported {
        writeln!(
            screen::stdout(),
            "{sync}: {} imported; the next run sends what has changed since the export",
            plural(*groups, "group")
        )?;
    }
    Ok(0)
}

/// The lines of an export, read one at a time.
struct Lines {
    name: String,
    input: Box<dyn BufRead + Send>,
    number: u64,
    /// The next line, read but not taken.
    next: Option<ExportedGroup>,
    next_bytes: usize,
}

impl Lines {
    fn open(path: &Path) -> Result<Lines> {
        let (name, input): (String, Box<dyn BufRead + Send>) = if path == Path::new("-") {
            ("standard input".to_owned(), Box::new(BufReader::new(std::io::stdin())))
        } else {
            let file = File::open(path).map_err(|error| {
                Error::new(Kind::Config, "the file cannot be read")
                    .advise("name a file that `groupcast ledger export SYNC` printed")
                    .because(error)
                    .at(path.display().to_string())
            })?;
            (path.display().to_string(), Box::new(BufReader::new(file)))
        };
        let mut lines = Lines { name, input, number: 0, next: None, next_bytes: 0 };
        lines.advance()?;
        Ok(lines)
    }

    /// `FILE:LINE` of the line that comes next.
    fn place(&self) -> String {
        format!("{}:{}", self.name, self.number)
    }

    /// The sync of the next line; none after the last one.
    fn next_sync(&self) -> Option<String> {
        self.next.as_ref().map(|group| group.sync.clone())
    }

    /// Reads the next line that is not empty.
    fn advance(&mut self) -> Result<()> {
        loop {
            let mut line = String::new();
            self.number += 1;
            let read = self.input.read_line(&mut line).map_err(|error| {
                let advice =
                    "write it with `groupcast ledger export SYNC`: it is UTF-8 text, one JSON object in a line";
                Error::new(Kind::Config, "the line cannot be read").advise(advice).because(error).at(self.place())
            })?;
            if read == 0 {
                self.next = None;
                return Ok(());
            }
            if line.trim().is_empty() {
                continue;
            }
            let parsed = serde_json::from_str(&line).map_err(|error| {
                Error::new(Kind::Config, format!("this is no line of an export: {error}"))
                    .advise("write the file with `groupcast ledger export SYNC`, whole and unchanged")
                    .at(format!("{}:{}", self.place(), error.column()))
            })?;
            (self.next, self.next_bytes) = (Some(parsed), line.len());
            return Ok(());
        }
    }

    /// Sends the groups of a sync, the next of which comes next, until those of another one come, or it fails.
    fn send(&mut self, sync: &str, to: &mpsc::Sender<Result<Vec<SyncedGroup>>>) {
        let mut last: Option<String> = None;
        loop {
            let page = self.page(sync, &mut last);
            let is_last = page.as_ref().map_or(true, Vec::is_empty);
            // Where nobody receives, the import has failed.
            if page.as_ref().is_ok_and(Vec::is_empty) || to.blocking_send(page).is_err() || is_last {
                return;
            }
        }
    }

    fn page(&mut self, sync: &str, last: &mut Option<String>) -> Result<Vec<SyncedGroup>> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        while page.len() < PAGE_GROUPS && bytes < PAGE_BYTES_MAX {
            let Some(next) = self.next.take_if(|next| next.sync == sync) else { break };
            bytes += self.next_bytes;
            let group = group(next).map_err(|error| error.at(self.place()))?;
            if last.as_ref().is_some_and(|last| *last >= group.key) {
                let what =
                    format!("group `{}` does not come in the order of the keys, or twice", shown_key(&group.key));
                let error = Error::new(Kind::Config, what);
                return Err(error
                    .advise("leave the lines in the order in which `ledger export` printed them")
                    .at(self.place()));
            }
            *last = Some(group.key.clone());
            page.push(group);
            self.advance()?;
        }
        Ok(page)
    }
}

/// The group of a line.
fn group(line: ExportedGroup) -> Result<SyncedGroup> {
    let ExportedGroup { at, attempted, document, fingerprint, key, rejected, seq, sync, unreadable, unconfirmed_in } =
        line;
    let named = format!("group `{}`", shown_key(&key));
    let damaged = |what: &str| {
        Error::new(Kind::Config, format!("{named} was damaged in the ledger that was exported: {what}")).advise(format!(
            "`groupcast ledger reset {sync} --group KEY` and a run there replace what is damaged; or remove the line: the \
             group is then sent again in full"
        ))
    };
    if let Some(what) = unreadable {
        return Err(damaged(&what));
    }
    let document = document.map(Document).ok_or_else(|| damaged("it has no document"))?;
    let rejected = match rejected {
        None => None,
        Some(ExportedRejection { document, reason }) => {
            Some((document.map(Document).ok_or_else(|| damaged("it has no rejected document"))?, reason))
        }
    };
    let fingerprint = fingerprint
        .map(|digits| digits.parse::<u64>())
        .transpose()
        .map_err(|error| Error::new(Kind::Config, format!("the fingerprint of {named} is no number")).because(error))?;
    let settled_seq = seq.ok_or_else(|| {
        Error::new(Kind::Config, format!("the line of {named} has no `seq`: an earlier version exported it"))
            .advise("export it again with this version")
    })?;
    Ok(SyncedGroup {
        key,
        document,
        unconfirmed_in,
        rejected,
        at,
        fingerprint,
        attempted,
        settled_seq,
        unreadable: None,
    })
}
