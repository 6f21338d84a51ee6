//! Plan files: what `groupcast plan --out` writes, and a run with it sends, and nothing else.
//!
//! A file has a line for each change, as a plan shows it, and says at its end that it is whole:
//!
//! ```text
//! {"groupcast_plan":{"format":2,"version":"0.1.0","target":null}}
//! {"change":{"key":"acct_1","kind":"changed",…}}
//! {"sync":{"sync":"accounts","mapping":"<fingerprint>","source":…,"destination":…,"settings":…,"options":{…},"changes":1}}
//! {"end":{"syncs":1}}
//! ```
//!
//! A daemon elsewhere gets it as a [`SealedPlan`], and keeps that as a file whose changes are hashes: `{"hash":"<32 digits>"}`.
//! Keys and values stay where the plan was made.
//!
//! A change follows from the source's row, the synced state and the mapping: if one of them is another now, so is the change,
//! or the user that it names. So a run with a plan decides as ever, and sends a group only where the decision is, byte for
//! byte, one of the plan's. Groups that differ are left as they are, and count as pending. What the requests depend on besides
//! is the program's version, the target and the destination's settings: if one of them is another now, nothing is sent. The
//! source's settings, defaults and policies act through the change alone. The file holds keys and values: only its owner can
//! read it.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::options::{PlanFile, RunOptions};
use super::planned::PlannedChange;
use crate::destination::{ConfiguredDestination, DestinationSeal};
use crate::error::{Error, Kind, Result};
use crate::mapping::Mapping;
use crate::mapping::diagnostic::listed_all;

/// The form of the file; another one is of another version of this program.
const FORMAT: u32 = 2;

/// Plans that a daemon keeps of those that it was sent: each waits for its runs, which begin within minutes.
const KEPT_MAX: usize = 16;

/// A sync of a plan file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedSync {
    /// Its name.
    pub sync: String,
    /// Its mapping's fingerprint.
    pub mapping: String,
    /// The source's name.
    pub source: String,
    /// The destination's name.
    pub destination: String,
    /// The destination's settings.
    pub settings: DestinationSeal,
    /// What was requested of the plan.
    pub options: RunOptions,
    /// How many changes it has.
    pub changes: u64,
}

impl PlannedSync {
    /// The options of the run that sends it: those of the plan, with what is requested of the run.
    pub fn run_options(&self, requested: &RunOptions, file: &PlanFile) -> RunOptions {
        let accept = self.options.accept.union(&requested.accept).cloned().collect();
        RunOptions { accept, limit: requested.limit, plan: Some(file.clone()), ..self.options.clone() }
    }

    /// Errors ([`Kind::PlanOutdated`]): the destination is configured otherwise now.
    pub(super) fn check_settings(&self, destination: ConfiguredDestination<'_>) -> Result<()> {
        let changed = self.settings.changed(destination);
        if changed.is_empty() {
            return Ok(());
        }
        let are = if changed.len() == 1 { "is" } else { "are" };
        let names = listed_all(changed.iter().map(String::as_str));
        Err(outdated(format!("{names} of destination `{}` {are} not what the plan was made with", self.destination)))
    }
}

/// A plan for a daemon elsewhere: of each change only its hash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SealedPlan {
    /// The version of the program that made it.
    pub version: String,
    /// The target of the settings that it was made with.
    pub target: Option<String>,
    /// Its syncs.
    pub syncs: Vec<SealedSync>,
}

/// A sync of a sealed plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SealedSync {
    /// What it is about.
    pub planned: PlannedSync,
    /// The hashes of its changes: 32 hexadecimal digits each.
    pub hashes: Vec<String>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line<Change> {
    GroupcastPlan { format: u32, version: String, target: Option<String> },
    Change(Change),
    Hash(String),
    Sync(Box<PlannedSync>),
    End { syncs: u64 },
}

/// What to do where a plan cannot be used.
const AGAIN: &str = "make a new plan: `groupcast plan --out FILE`";

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
    digest: Sha256,
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
        let mut writer = PlanWriter { path, out, digest: Sha256::new(), changes: 0, syncs: 0 };
        writer.line(&Line::<()>::GroupcastPlan {
            format: FORMAT,
            version: version(),
            target: target.map(str::to_owned),
        })?;
        Ok(writer)
    }

    fn line<Change: Serialize>(&mut self, line: &Line<Change>) -> Result<()> {
        let text = serde_json::to_vec(line).map_err(std::io::Error::from).map(|text| [&text[..], b"\n"].concat());
        let written = text.and_then(|text| {
            self.digest.update(&text);
            self.out.write_all(&text)
        });
        written.map_err(|error| failed("write", &self.path, error))
    }

    /// Adds a change of the sync that is being planned. What the group is called is no part of what is approved.
    pub fn change(&mut self, change: &PlannedChange) -> Result<()> {
        self.changes += 1;
        self.line(&Line::Change(PlannedChange { label: None, ..change.clone() }))
    }

    /// Ends a sync. `made_with` is the fingerprint of the mapping and the settings of the destination that the plan was made
    /// with.
    pub fn end_sync(&mut self, of: &Mapping, made_with: (String, DestinationSeal), options: RunOptions) -> Result<()> {
        let changes = std::mem::take(&mut self.changes);
        self.syncs += 1;
        let Mapping { name, source, destination, .. } = of;
        let (sync, source, destination) = (name.clone(), source.clone(), destination.clone());
        let (mapping, settings) = made_with;
        let planned = PlannedSync { sync, mapping, source, destination, settings, options, changes };
        self.line(&Line::<()>::Sync(Box::new(planned)))
    }

    /// Ends the file, and puts it in its place.
    pub fn finish(mut self) -> Result<PlanFile> {
        self.line(&Line::<()>::End { syncs: self.syncs })?;
        let PlanWriter { path, out, digest, .. } = self;
        let written = |error| failed("write", &path, error);
        let file = out.into_inner().map_err(|error| written(error.into_error()))?;
        file.as_file().sync_all().map_err(written)?;
        file.persist(&path).map_err(|error| written(error.error))?;
        Ok(PlanFile { path, sha256: hex::encode(digest.finalize()) })
    }
}

/// Whether a file begins as plans do.
fn is_plan(path: &Path) -> bool {
    let mut first = String::new();
    let read = File::open(path).and_then(|file| BufReader::new(file.take(1024)).read_line(&mut first));
    read.is_ok() && matches!(serde_json::from_str(&first), Ok(Line::<()>::GroupcastPlan { .. }))
}

/// The hash of a change: the first half of the SHA-256 of its text.
pub(super) fn hash(change: &str) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(change.as_bytes())[..16]);
    u128::from_be_bytes(half)
}

/// A hash of 32 hexadecimal digits.
fn parsed_hash(digits: &str) -> Option<u128> {
    (digits.len() == 32).then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

/// A part of a plan.
pub(super) enum PlanItem {
    /// A change, by its hash.
    Change(u128),
    /// The sync of the changes before.
    Sync(Box<PlannedSync>),
}

/// What a plan was made with.
struct MadeWith {
    version: String,
    target: Option<String>,
}

impl MadeWith {
    /// Errors ([`Kind::PlanOutdated`]): it was made by another version.
    fn check_version(&self) -> Result<()> {
        if self.version == version() {
            return Ok(());
        }
        let what = format!("the plan was made by version {}, and this is {}", self.version, version());
        Err(Error::new(Kind::PlanOutdated, what).advise(AGAIN))
    }

    /// Errors ([`Kind::Config`]): it was made with other settings than those of `target`.
    fn check_target(&self, target: Option<&str>) -> Result<()> {
        if self.target.as_deref() == target {
            return Ok(());
        }
        let (what, advice) = match &self.target {
            Some(made_with) => (
                format!("the plan was made with the target `{made_with}`"),
                format!("run it with `--target {made_with}`"),
            ),
            None => ("the plan was made without a target".to_owned(), "run it without `--target`".to_owned()),
        };
        Err(Error::new(Kind::Config, what).advise(advice))
    }
}

/// Reads a whole plan. `each` gets every change, and every sync at its end.
fn read(path: &Path, mut each: impl FnMut(PlanItem)) -> Result<(PlanFile, MadeWith)> {
    let at = |error: Error| error.at(path.display().to_string());
    let unusable = |what: &str| at(Error::new(Kind::PlanOutdated, what).advise(AGAIN));
    let mut lines = BufReader::new(File::open(path).map_err(|error| failed("read", path, error))?);
    let (mut text, mut digest) = (Vec::new(), Sha256::new());
    let (mut number, mut syncs, mut ended) = (0_u64, 0, false);
    let mut made_with = None;
    loop {
        text.clear();
        if lines.read_until(b'\n', &mut text).map_err(|error| failed("read", path, error))? == 0 {
            break;
        }
        number += 1;
        digest.update(&text);
        match serde_json::from_slice(&text) {
            Ok(Line::GroupcastPlan { format, version: by, target }) if number == 1 => {
                let of = made_with.insert(MadeWith { version: by, target });
                of.check_version().map_err(at)?;
                if format != FORMAT {
                    return Err(unusable("the plan was made by a build of this version with another form of plans"));
                }
            }
            Ok(Line::<&RawValue>::Change(change)) if number > 1 && !ended => each(PlanItem::Change(hash(change.get()))),
            Ok(Line::Hash(digits)) if number > 1 && !ended => match parsed_hash(&digits) {
                Some(hash) => each(PlanItem::Change(hash)),
                None => return Err(unusable(&format!("line {number} of the plan is damaged"))),
            },
            Ok(Line::Sync(sync)) if number > 1 && !ended => {
                syncs += 1;
                each(PlanItem::Sync(sync));
            }
            Ok(Line::End { syncs: all }) if number > 1 && !ended && all == syncs => ended = true,
            _ if number == 1 => {
                return Err(at(Error::new(Kind::Config, "the file is not a plan")
                    .advise("name a file that `groupcast plan --out FILE` wrote")));
            }
            _ => return Err(unusable(&format!("line {number} of the plan is damaged"))),
        }
    }
    let Some(made_with) = made_with.filter(|_| ended) else { return Err(unusable("the plan is cut off")) };
    let path = std::path::absolute(path).map_err(|error| failed("read", path, error))?;
    Ok((PlanFile { path, sha256: hex::encode(digest.finalize()) }, made_with))
}

/// The same of a file whose content was named before.
///
/// Errors ([`Kind::PlanOutdated`]): the content is another.
pub(super) fn read_again(file: &PlanFile, each: impl FnMut(PlanItem)) -> Result<()> {
    let (is, _) = read(&file.path, each)?;
    if is.sha256 == file.sha256 {
        return Ok(());
    }
    Err(outdated("the plan was replaced after this run was requested").at(file.path.display().to_string()))
}

/// What a plan is for is not what it was made for.
pub(super) fn outdated(what: impl Into<String>) -> Error {
    Error::new(Kind::PlanOutdated, what).advise("make a new plan and review it: `groupcast plan --out FILE`")
}

/// The syncs of a plan that was made with the settings of `target`, and what names its content.
///
/// Errors: it cannot be read, or was made with other settings ([`Kind::Config`]), or is damaged or of another version
/// ([`Kind::PlanOutdated`]).
pub fn contents(path: &Path, target: Option<&str>) -> Result<(PlanFile, Vec<PlannedSync>)> {
    let mut syncs = Vec::new();
    let (file, made_with) = read(path, |item| {
        if let PlanItem::Sync(sync) = item {
            syncs.push(*sync);
        }
    })?;
    made_with.check_target(target).map_err(|error| error.at(path.display().to_string()))?;
    Ok((file, syncs))
}

/// A plan for a daemon elsewhere.
///
/// Errors: as those of [`contents`], but for the target, which the daemon checks.
pub fn sealed(path: &Path) -> Result<SealedPlan> {
    let (mut syncs, mut hashes) = (Vec::new(), Vec::new());
    let (_, MadeWith { version, target }) = read(path, |item| match item {
        PlanItem::Change(hash) => hashes.push(format!("{hash:032x}")),
        PlanItem::Sync(planned) => syncs.push(SealedSync { planned: *planned, hashes: std::mem::take(&mut hashes) }),
    })?;
    Ok(SealedPlan { version, target, syncs })
}

/// Whether a sealed plan is one of this program with the settings of `target`.
///
/// Errors: it was made with another target, or it is not a plan ([`Kind::Config`]), or it was made by another version
/// ([`Kind::PlanOutdated`]).
pub fn check_sealed(plan: &SealedPlan, target: Option<&str>) -> Result<()> {
    let made_with = MadeWith { version: plan.version.clone(), target: plan.target.clone() };
    made_with.check_version()?;
    made_with.check_target(target)?;
    if let Some(wrong) = plan.syncs.iter().flat_map(|sync| &sync.hashes).find(|digits| parsed_hash(digits).is_none()) {
        let shown: String = wrong.chars().take(40).collect();
        return Err(Error::new(Kind::Config, format!("`{}` is not the hash of a change", shown.escape_debug()))
            .advise("send what `groupcast run --plan FILE --url URL` sends"));
    }
    Ok(())
}

/// Keeps a sealed plan as a file in `folder`, for runs. The same plan is the same file; the oldest ones make room.
///
/// Errors ([`Kind::Config`]): the folder cannot be written.
pub fn keep(plan: SealedPlan, folder: &Path) -> Result<PlanFile> {
    std::fs::create_dir_all(folder).map_err(|error| failed("write", folder, error))?;
    make_room(folder).map_err(|error| failed("write", folder, error))?;
    let name = hex::encode(Sha256::digest(serde_json::to_vec(&plan).unwrap_or_default()));
    let mut writer = PlanWriter::create(&folder.join(format!("{name}.plan")), plan.target.as_deref())?;
    for SealedSync { planned, hashes } in plan.syncs {
        hashes.into_iter().try_for_each(|hash| writer.line(&Line::<()>::Hash(hash)))?;
        writer.syncs += 1;
        writer.line(&Line::<()>::Sync(Box::new(planned)))?;
    }
    writer.finish()
}

/// Removes the oldest kept plans, so that there is room for one more.
fn make_room(folder: &Path) -> std::io::Result<()> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "plan") {
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    kept.sort();
    let surplus = (kept.len() + 1).saturating_sub(KEPT_MAX);
    kept.iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_file(path))
}
