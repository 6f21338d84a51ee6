//! Plan files: what `groupcast plan --out` writes, and a run with it sends, and nothing else.
//!
//! A file has a line for each change, as a plan shows it, and says at its end that it is whole:
//!
//! ```text
//! {"groupcast_plan":{"format":1,"version":"0.1.0","target":null}}
//! {"change":{"key":"acct_1","kind":"changed",…}}
//! {"sync":{"sync":"accounts","mapping":"<fingerprint>","source":…,"destination":…,"options":{…},"changes":1}}
//! {"end":{"syncs":1}}
//! ```
//!
//! A change follows from the source's row, the synced state and the mapping: if one of them is another now, so is the change,
//! or the user that it names. So a run with a plan decides as ever, and sends a group only where the decision is, byte for
//! byte, one of the plan's. Groups that differ are left as they are, and count as pending. The file holds keys and values:
//! only its owner can read it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::decide::Decision;
use super::options::{PlanFile, RunOptions};
use super::planned::PlannedChange;
use crate::destination::Destination;
use crate::error::{Error, Kind, Result};
use crate::ledger::CandidateKind;
use crate::mapping::{Mapping, fingerprint};

/// The form of the file; another one is of another version of this program.
const FORMAT: u32 = 1;

/// A sync of a plan file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedSync {
    /// Its name.
    pub sync: String,
    /// Its mapping's fingerprint.
    pub mapping: String,
    /// The source's name.
    pub source: String,
    /// The destination's name.
    pub destination: String,
    /// What was requested of the plan.
    pub options: RunOptions,
    /// How many changes it has.
    pub changes: u64,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line<Change> {
    GroupcastPlan { format: u32, version: String, target: Option<String> },
    Change(Change),
    Sync(PlannedSync),
    End { syncs: u64 },
}

fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    let advice = match what {
        "write" => "name a file in a folder that this user can write, on a disk with room",
        _ => "name a file that `groupcast plan --out FILE` wrote, and that this user can read",
    };
    let failed = Error::new(Kind::Config, format!("failed to {what} the plan"));
    failed.advise(advice).because(error).at(path.display().to_string())
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// Writes a plan file. Until it is finished, nothing is at its path, or still the plan before.
#[derive(Debug)]
pub struct PlanWriter {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
    changes: u64,
    syncs: u64,
}

impl PlanWriter {
    /// Begins a file, readable for its owner only. `target` is the settings that the plan is made with.
    ///
    /// Errors ([`Kind::Config`]): the folder cannot be written, or something else than a plan is at the path.
    pub fn create(path: &Path, target: Option<&str>) -> Result<PlanWriter> {
        let written = |error| failed("write", path, error);
        let path = std::path::absolute(path).map_err(written)?;
        if path.exists() && !is_plan(&path) {
            return Err(Error::new(Kind::Config, "the file is there already, and is not a plan")
                .advise("choose another name; only an older plan is replaced")
                .at(path.display().to_string()));
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let out = BufWriter::new(NamedTempFile::new_in(folder).map_err(written)?);
        let mut writer = PlanWriter { path, out, changes: 0, syncs: 0 };
        writer.line(&Line::<()>::GroupcastPlan {
            format: FORMAT,
            version: version(),
            target: target.map(str::to_owned),
        })?;
        Ok(writer)
    }

    fn line<Change: Serialize>(&mut self, line: &Line<Change>) -> Result<()> {
        let written = serde_json::to_writer(&mut self.out, line).map_err(std::io::Error::from);
        written.and_then(|()| self.out.write_all(b"\n")).map_err(|error| failed("write", &self.path, error))
    }

    /// Adds a change of the sync that is being planned. What the group is called is no part of what is approved.
    pub fn change(&mut self, change: &PlannedChange) -> Result<()> {
        self.changes += 1;
        self.line(&Line::Change(PlannedChange { label: None, ..change.clone() }))
    }

    /// Ends a sync. `mapping` is the fingerprint of the mapping that the plan was made with.
    pub fn end_sync(&mut self, of: &Mapping, mapping: String, options: RunOptions) -> Result<()> {
        let changes = std::mem::take(&mut self.changes);
        self.syncs += 1;
        let Mapping { name, source, destination, .. } = of;
        let (sync, source, destination) = (name.clone(), source.clone(), destination.clone());
        self.line(&Line::<()>::Sync(PlannedSync { sync, mapping, source, destination, options, changes }))
    }

    /// Ends the file, and puts it in its place.
    pub fn finish(mut self) -> Result<()> {
        self.line(&Line::<()>::End { syncs: self.syncs })?;
        let PlanWriter { path, out, .. } = self;
        let written = |error| failed("write", &path, error);
        let file = out.into_inner().map_err(|error| written(error.into_error()))?;
        file.as_file().sync_all().map_err(written)?;
        file.persist(&path).map_err(|error| written(error.error))?;
        Ok(())
    }
}

/// Whether a file begins as plans do.
fn is_plan(path: &Path) -> bool {
    let mut first = String::new();
    let read = File::open(path).and_then(|file| BufReader::new(file.take(1024)).read_line(&mut first));
    read.is_ok() && matches!(serde_json::from_str(&first), Ok(Line::<()>::GroupcastPlan { .. }))
}

/// A change, as one number: the first half of the SHA-256 of its text.
fn seal(change: &str) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(change.as_bytes())[..16]);
    u128::from_be_bytes(half)
}

/// Reads a whole plan. `each` gets every change, and every sync at its end.
fn read(path: &Path, mut each: impl FnMut(Result<&str, PlannedSync>)) -> Result<(PlanFile, Option<String>)> {
    let at = |error: Error| error.at(path.display().to_string());
    let unusable = |what: &str, advice: &str| at(Error::new(Kind::PlanOutdated, what).advise(advice));
    let again = "make a new plan: `groupcast plan --out FILE`";
    let mut lines = BufReader::new(File::open(path).map_err(|error| failed("read", path, error))?);
    let (mut text, mut digest) = (Vec::new(), Sha256::new());
    let (mut number, mut syncs, mut ended) = (0_u64, 0, false);
    let mut target = None;
    loop {
        text.clear();
        if lines.read_until(b'\n', &mut text).map_err(|error| failed("read", path, error))? == 0 {
            break;
        }
        number += 1;
        digest.update(&text);
        match serde_json::from_slice(&text) {
            Ok(Line::GroupcastPlan { format, version: by, target: of }) if number == 1 => {
                target = of;
                if format != FORMAT || by != version() {
                    let what = format!("the plan was made by version {by}, and this is {}", version());
                    return Err(unusable(&what, again));
                }
            }
            Ok(Line::<&RawValue>::Change(change)) if number > 1 && !ended => each(Ok(change.get())),
            Ok(Line::Sync(sync)) if number > 1 && !ended => {
                syncs += 1;
                each(Err(sync));
            }
            Ok(Line::End { syncs: all }) if number > 1 && !ended && all == syncs => ended = true,
            _ if number == 1 => {
                return Err(at(Error::new(Kind::Config, "the file is not a plan")
                    .advise("name a file that `groupcast plan --out FILE` wrote")));
            }
            _ => return Err(unusable(&format!("line {number} of the plan is damaged"), again)),
        }
    }
    if !ended {
        return Err(unusable("the plan is cut off", again));
    }
    let path = std::path::absolute(path).map_err(|error| failed("read", path, error))?;
    Ok((PlanFile { path, sha256: hex::encode(digest.finalize()) }, target))
}

/// The syncs of a plan that was made with the settings of `target`, and what names its content.
///
/// Errors: it cannot be read, or was made with other settings ([`Kind::Config`]), or is damaged or of another version
/// ([`Kind::PlanOutdated`]).
pub fn contents(path: &Path, target: Option<&str>) -> Result<(PlanFile, Vec<PlannedSync>)> {
    let mut syncs = Vec::new();
    let (file, made_with) = read(path, |line| syncs.extend(line.err()))?;
    if made_with.as_deref() != target {
        let (what, advice) = match &made_with {
            Some(made_with) => (
                format!("the plan was made with the target `{made_with}`"),
                format!("run it with `--target {made_with}`"),
            ),
            None => ("the plan was made without a target".to_owned(), "run it without `--target`".to_owned()),
        };
        return Err(Error::new(Kind::Config, what).advise(advice).at(path.display().to_string()));
    }
    Ok((file, syncs))
}

/// The changes of a plan's sync: a run may send these.
#[derive(Debug)]
pub struct ApprovedChanges(HashSet<u128>);

impl ApprovedChanges {
    /// Reads the changes of a sync from a plan.
    ///
    /// Errors ([`Kind::PlanOutdated`]): the file or the mapping is another since, or the plan has no such sync.
    pub(super) fn read(file: &PlanFile, mapping: &Mapping) -> Result<ApprovedChanges> {
        let path = file.path.display().to_string();
        let (mut changes, mut found) = (HashSet::new(), None);
        let (is, _) = read(&file.path, |line| match line {
            Ok(change) if found.is_none() => drop(changes.insert(seal(change))),
            Ok(_) => {}
            Err(sync) if found.is_none() && sync.sync == mapping.name => found = Some(sync),
            Err(_) if found.is_none() => changes.clear(),
            Err(_) => {}
        })?;
        let outdated = |what: String| {
            Err(Error::new(Kind::PlanOutdated, what)
                .advise("make a new plan and review it: `groupcast plan --out FILE`")
                .at(path.clone()))
        };
        let Some(planned) = found.filter(|_| is.sha256 == file.sha256) else {
            return outdated(match is.sha256 == file.sha256 {
                true => format!("the plan has no sync `{}`", mapping.name),
                false => "the plan was replaced after this run was requested".to_owned(),
            });
        };
        if planned.mapping != fingerprint(mapping) {
            return outdated(format!("{} changed after the plan was made", mapping.file));
        }
        if (&planned.source, &planned.destination) != (&mapping.source, &mapping.destination) {
            let now = format!("{} → {}", mapping.source, mapping.destination);
            return outdated(format!("the plan is for {} → {}, not for {now}", planned.source, planned.destination));
        }
        Ok(ApprovedChanges(changes))
    }

    /// Takes the decisions out of a page that would send what the plan does not have. What the destination cannot carry
    /// stays: it is rejected without a request, as the plan shows.
    pub(super) fn withhold(&self, page: &mut Vec<Decision>, destination: &dyn Destination) -> WithheldChanges {
        let mut withheld = WithheldChanges::default();
        page.retain(|decision| {
            let Some(addressed) = decision.addressed() else { return true };
            let planned = PlannedChange::of(decision, None).and_then(|planned| serde_json::to_string(&planned).ok());
            let is_approved = planned.is_some_and(|planned| self.0.contains(&seal(&planned)));
            if is_approved || destination.parts(&addressed).is_err() {
                return true;
            }
            match decision.kind {
                CandidateKind::Missing => withheld.missing += 1,
                CandidateKind::New | CandidateKind::Changed => withheld.rows += 1,
            }
            false
        });
        withheld
    }
}

/// Changes that a run leaves out because its plan does not have them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WithheldChanges {
    /// Those of rows.
    pub(super) rows: u64,
    /// Those of groups that left the model.
    pub(super) missing: u64,
}
