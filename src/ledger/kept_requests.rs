//! The kept requests: the last requests of groups that were not delivered, with their responses, for people who look for the
//! reason.
//!
//! They are in files beside the ledger, one per sync, and not in it: what is sent never depends on them, so nothing waits for
//! them, and failing to write them fails no run. Within a file every line is a JSON object: a request (with its number within
//! its run), or a group with the numbers of its requests, so that a request that carried many groups is there once. Lines
//! are appended; what is superseded, too old or too much goes when a run that wrote some ends.
//!
//! Limits: a request takes 64 KB of its body, 16 KB of its response's and 100 KB of headers, a group 16 KB of its part, all groups
//! of a request 256 KB; of a sync the
//! latest [`REQUESTS_MAX`] requests are kept and [`BYTES_MAX`] bytes, while a run goes on twice as much; none longer than
//! [`Retention::requests`](super::Retention::requests).

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::io::http::exchange::{Excerpt, Exchange};
use crate::ledger::ChangeOutcome;

/// Requests that are kept of a sync. Someone who looks for a reason reads a handful.
pub const REQUESTS_MAX: usize = 1_000;
/// Bytes that are kept of a sync.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;

/// A request, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestLine {
    /// The run.
    pub run: String,
    /// Its number within the run.
    pub number: u64,
    /// How many groups it carried.
    pub groups: usize,
    /// The request and its response.
    pub exchange: Exchange,
}

/// A group, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupLine {
    /// The run.
    pub run: String,
    /// The group's id.
    pub key: String,
    /// When its outcome was recorded.
    pub at: DateTime<Utc>,
    /// The outcome.
    pub outcome: ChangeOutcome,
    /// Its requests, in their order.
    pub requests: Vec<RequestOfGroup>,
}

/// A request of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestOfGroup {
    /// Its number within the run.
    pub number: u64,
    /// What it carried of the group, where it carried others as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Excerpt>,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptLine {
    /// A request.
    Request(Box<RequestLine>),
    /// A group.
    Group(GroupLine),
}

impl KeptLine {
    fn at(&self) -> DateTime<Utc> {
        match self {
            KeptLine::Request(line) => line.exchange.sent_at,
            KeptLine::Group(line) => line.at,
        }
    }

    /// As it is in the file.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// A request that is kept of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptRequest {
    /// The group.
    pub group: GroupLine,
    /// What it carried of the group, where it carried others as well.
    pub part: Option<Excerpt>,
    /// The request.
    pub request: RequestLine,
}

/// The kept requests of a ledger.
#[derive(Debug, Clone)]
pub struct KeptRequests {
    folder: PathBuf,
    retention: Duration,
    /// One writer at a time: what is appended while a file is rewritten would be lost.
    writing: Arc<Mutex<()>>,
}

impl KeptRequests {
    /// Those in this folder, which need not exist.
    pub fn new(folder: PathBuf, retention: Duration) -> KeptRequests {
        KeptRequests { folder, retention, writing: Arc::default() }
    }

    /// Whether any are kept at all.
    pub fn keeps(&self) -> bool {
        !self.retention.is_zero()
    }

    /// The requests of a group that were kept last, in their order, unless they are older than `oldest`. None where none is
    /// kept, and where the file cannot be read.
    pub fn of_group(&self, sync: &str, key: &str, oldest: Option<DateTime<Utc>>) -> Vec<KeptRequest> {
        let Some(lines) = self.path(sync).and_then(|path| fs::read(path).ok()) else { return Vec::new() };
        let lines: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').collect();
        let quoted = serde_json::to_vec(key).unwrap_or_default();
        let groups = lines.iter().rev().filter(|line| line.starts_with(br#"{"group":"#) && contains(line, &quoted));
        let group = groups.filter_map(|line| parsed(line)).find_map(|line| match line {
            KeptLine::Group(group) if group.key == key => Some(group),
            _ => None,
        });
        let Some(group) = group.filter(|group| oldest.is_none_or(|oldest| group.at >= oldest)) else {
            return Vec::new();
        };
        let run = serde_json::to_vec(&group.run).unwrap_or_default();
        let mut found: Vec<KeptRequest> = Vec::new();
        for line in lines.iter().filter(|line| line.starts_with(br#"{"request":"#) && contains(line, &run)) {
            let Some(KeptLine::Request(request)) = parsed(line) else { continue };
            let of_group = group.requests.iter().find(|of| request.run == group.run && of.number == request.number);
            if let Some(of_group) = of_group {
                found.push(KeptRequest { group: group.clone(), part: of_group.part.clone(), request: *request });
            }
        }
        found.sort_by_key(|kept| kept.request.number);
        found
    }

    /// Appends lines to a sync's file.
    pub fn append(&self, sync: &str, lines: &str) -> io::Result<()> {
        let path = self.path(sync).ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "no file has this name"))?;
        let _turn = self.writing.lock();
        self.create_folder()?;
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        // A process that ended while it wrote may have left a line without its end.
        let before = if file.metadata()?.len() > 0 { "\n" } else { "" };
        file.write_all(format!("{before}{lines}").as_bytes())
    }

    /// Brings a sync's file back within its limits, after a run that appended to it.
    pub fn trim(&self, sync: &str, now: DateTime<Utc>) -> io::Result<()> {
        let Some(path) = self.path(sync) else { return Ok(()) };
        let _turn = self.writing.lock();
        self.rewrite(&path, now)
    }

    /// Removes what was kept for long enough, of every sync.
    pub fn forget_old(&self, now: DateTime<Utc>) -> io::Result<()> {
        let Some(oldest) = self.oldest(now) else { return Ok(()) };
        let _turn = self.writing.lock();
        let files = match fs::read_dir(&self.folder) {
            Ok(files) => files,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for file in files {
            let path = file?.path();
            // The first line is the oldest.
            let mut first = Vec::new();
            BufReader::new(File::open(&path)?).read_until(b'\n', &mut first)?;
            if parsed(&first).is_none_or(|line| line.at() < oldest) {
                self.rewrite(&path, now)?;
            }
        }
        Ok(())
    }

    /// Gives the requests of the sync `from` to `to`.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (Some(from), Some(to)) = (self.path(from), self.path(to)) else { return Ok(()) };
        let _turn = self.writing.lock();
        unless_missing(fs::rename(from, to))
    }

    /// Removes the requests of a sync.
    pub fn drop_sync(&self, sync: &str) -> io::Result<()> {
        let Some(path) = self.path(sync) else { return Ok(()) };
        let _turn = self.writing.lock();
        unless_missing(fs::remove_file(path))
    }

    /// The file of a sync, which is named after a file itself.
    fn path(&self, sync: &str) -> Option<PathBuf> {
        let is_name = !sync.is_empty() && !sync.contains(['/', '\0']);
        is_name.then(|| self.folder.join(format!("{sync}.json")))
    }

    fn oldest(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        now.checked_sub_signed(chrono::TimeDelta::from_std(self.retention).ok()?)
    }

    fn create_folder(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    /// Replaces a file by what of it is to be kept.
    fn rewrite(&self, path: &Path, now: DateTime<Utc>) -> io::Result<()> {
        let whole = fs::read(path)?;
        let kept = trimmed(&whole, self.oldest(now), REQUESTS_MAX, BYTES_MAX);
        if kept.is_empty() {
            return fs::remove_file(path);
        }
        if kept.len() == whole.len() {
            return Ok(());
        }
        // In the folder above, where it is no sync's file.
        let part = self.folder.with_extension("requests.part");
        let written =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&part).and_then(|mut file| {
                file.set_permissions(Permissions::from_mode(0o600))?;
                file.write_all(&kept)
            });
        written.and_then(|()| fs::rename(&part, path)).inspect_err(|_| drop(fs::remove_file(&part)))
    }
}

fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

/// A line; none where it is incomplete, since its process ended, or of a later version.
fn parsed(line: &[u8]) -> Option<KeptLine> {
    serde_json::from_slice(line).ok()
}

/// The lines to keep: of each group the last one, unless it is older than `oldest`, and the requests of these, the latest
/// so many and of so many bytes.
fn trimmed(whole: &[u8], oldest: Option<DateTime<Utc>>, requests_max: usize, bytes_max: usize) -> Vec<u8> {
    let lines: Vec<(&[u8], KeptLine)> =
        whole.split_inclusive(|byte| *byte == b'\n').filter_map(|text| Some((text, parsed(text)?))).collect();
    let (mut seen, mut wanted, mut keep) = (HashSet::new(), BTreeSet::new(), vec![false; lines.len()]);
    // A group follows its requests.
    let (mut requests, mut bytes) = (0, 0);
    for (at, (text, line)) in lines.iter().enumerate().rev() {
        let is_wanted = match line {
            KeptLine::Group(group) => {
                let is_wanted = seen.insert(&group.key) && oldest.is_none_or(|oldest| group.at >= oldest);
                if is_wanted {
                    wanted.extend(group.requests.iter().map(|of| (&group.run, of.number)));
                }
                is_wanted
            }
            KeptLine::Request(request) => wanted.remove(&(&request.run, request.number)),
        };
        if !is_wanted {
            continue;
        }
        requests += usize::from(matches!(line, KeptLine::Request(_)));
        bytes += text.len();
        if requests > requests_max || bytes > bytes_max {
            break;
        }
        keep[at] = true;
    }
    // What is left without a request of its own is of no use.
    let kept: BTreeSet<(&String, u64)> = (lines.iter().zip(&keep))
        .filter_map(|((_, line), keep)| match line {
            KeptLine::Request(request) if *keep => Some((&request.run, request.number)),
            _ => None,
        })
        .collect();
    let is_of_use = |line: &KeptLine| match line {
        KeptLine::Request(_) => true,
        KeptLine::Group(group) => group.requests.iter().any(|of| kept.contains(&(&group.run, of.number))),
    };
    let kept = lines.iter().zip(&keep).filter(|((_, line), keep)| **keep && is_of_use(line));
    kept.flat_map(|((text, _), _)| text.iter().copied()).collect()
}

/// What goes wrong with kept requests changes nothing about the ledger.
pub(super) fn note_failure(done: Option<io::Result<()>>, what: &str) {
    if let Some(Err(error)) = done {
        tracing::warn!("failed to {what} the kept requests of a sync: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::http::exchange::SentRequest;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn request(run: &str, number: u64, second: i64) -> KeptLine {
        let body = Excerpt { text: format!("body {number} of {run}"), bytes_left_out: 0 };
        let request = SentRequest { method: "POST".to_owned(), url: "u".to_owned(), headers: Vec::new(), body };
        let no_response = Some("refused".to_owned());
        let exchange = Exchange { sent_at: at(second), took_ms: 1, attempts: 1, request, response: None, no_response };
        KeptLine::Request(Box::new(RequestLine { run: run.to_owned(), number, groups: 2, exchange }))
    }

    fn group(run: &str, key: &str, numbers: &[u64], second: i64) -> KeptLine {
        let requests = numbers.iter().map(|number| RequestOfGroup { number: *number, part: None }).collect();
        let (run, key, outcome) = (run.to_owned(), key.to_owned(), ChangeOutcome::Rejected);
        KeptLine::Group(GroupLine { run, key, at: at(second), outcome, requests })
    }

    fn text(lines: &[KeptLine]) -> String {
        lines.iter().map(KeptLine::text).collect()
    }

    fn kept(whole: &[KeptLine], oldest: Option<i64>, requests_max: usize, bytes_max: usize) -> String {
        let kept = trimmed(text(whole).as_bytes(), oldest.map(at), requests_max, bytes_max);
        String::from_utf8(kept).unwrap()
    }

    #[test]
    fn the_last_request_of_each_group_is_kept_within_all_limits() {
        let whole = [
            request("r1", 0, 1),
            group("r1", "a", &[0], 1),
            group("r1", "b", &[0], 1),
            request("r1", 1, 2),
            group("r1", "c", &[1], 2),
            request("r2", 0, 9),
            group("r2", "a", &[0], 9),
        ];
        let all = [&whole[..1], &whole[2..]].concat();
        assert_eq!(kept(&whole, None, 10, 100_000), text(&all), "only what is superseded goes");
        assert_eq!(kept(&whole, Some(2), 10, 100_000), text(&whole[3..]), "the first request has no group any more");
        assert_eq!(kept(&whole, None, 2, 100_000), text(&whole[3..]));
        assert_eq!(kept(&whole, None, 10, text(&whole[4..]).len()), text(&whole[5..]), "a group alone is of no use");
        assert_eq!(kept(&whole, Some(10), 10, 100_000), "");
        // Lines that cannot be read go.
        let broken = format!("{{\"request\":\n{}{{\"group\":{{\"run\"", text(&whole[5..]));
        assert_eq!(trimmed(broken.as_bytes(), None, 10, 100_000), text(&whole[5..]).into_bytes());
    }

    #[test]
    fn a_groups_requests_are_found_by_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let requests = KeptRequests::new(folder.path().join("requests"), Duration::from_secs(100));
        assert_eq!(requests.of_group("s", "a", None), Vec::new());
        requests.forget_old(at(0)).unwrap();
        let odd = "a\"\n\u{1f980}";
        let lines = [
            request("r1", 0, 1),
            request("r1", 1, 2),
            group("r1", odd, &[0, 1], 2),
            group("r1", "ab", &[1], 2),
            request("r2", 1, 3),
            group("r2", "a", &[1], 3),
        ];
        requests.append("s", &text(&lines)).unwrap();
        let found = |key: &str| -> Vec<(String, u64)> {
            let found = requests.of_group("s", key, None);
            found.into_iter().map(|kept| (kept.request.run, kept.request.number)).collect()
        };
        assert_eq!(found(odd), [("r1".to_owned(), 0), ("r1".to_owned(), 1)]);
        assert_eq!(found("a"), [("r2".to_owned(), 1)]);
        assert_eq!(found("b"), []);
        assert_eq!(requests.of_group("s", "a", Some(at(4))), Vec::new());
        assert_eq!(requests.of_group("../s", "a", None), Vec::new());
        assert!(requests.append("../s", "x").is_err() && requests.append("", "x").is_err());
        // Another sync's run ends: what is old goes, of every sync.
        requests.forget_old(at(100)).unwrap();
        assert_eq!(found("a"), [("r2".to_owned(), 1)]);
        requests.forget_old(at(102)).unwrap();
        assert_eq!((found(odd).len(), found("a").len()), (2, 1));
        requests.forget_old(at(103)).unwrap();
        assert_eq!((found(odd).len(), found("a").len()), (0, 1));
        requests.rename("s", "t").unwrap();
        assert_eq!(found("a"), []);
        assert_eq!(requests.of_group("t", "a", None).len(), 1);
        requests.drop_sync("t").unwrap();
        requests.drop_sync("t").unwrap();
        assert_eq!(fs::read_dir(folder.path().join("requests")).unwrap().count(), 0);
    }
}
