//! What the socket beside the ledger serves beyond the API: paths, requests and responses, for the server and its client.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::io::file_id::FileId;

/// The path of [`Hello`].
pub const HELLO: &str = "/local/v1/hello";
/// The path that copies the ledger.
pub const BACKUP: &str = "/local/v1/ledger/backup";
/// The path of the syncs without a mapping.
pub const ORPHANED: &str = "/local/v1/ledger/orphaned";
/// The path that renames one.
pub const RENAME: &str = "/local/v1/ledger/rename";
/// The path that drops one.
pub const DROP: &str = "/local/v1/ledger/drop";

/// A path segment.
pub fn segment(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// The process that listens on the socket. A command reads it first, to see that this is the process that has its own ledger
/// open, for its own config folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The program's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// The API's address as this machine reaches it; empty where only the socket is served.
    pub url: String,
    /// The ledger's file, as it was opened.
    pub ledger: FileId,
    /// The config folder.
    pub folder: PathBuf,
    /// Its target; none for `groupcast.toml`.
    #[serde(default)]
    pub target: Option<String>,
    /// What is at that path now; none when there is nothing.
    #[serde(default)]
    pub folder_id: Option<FileId>,
    /// The command that has the ledger open; none for a daemon.
    #[serde(default)]
    pub command: Option<HolderCommand>,
}

/// A command that has the ledger open and serves queries meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderCommand {
    /// As it is typed: `groupcast run`.
    pub name: String,
    /// When it started.
    pub since: DateTime<Utc>,
}

impl Hello {
    /// The process, for people.
    pub fn whom(&self) -> String {
        match &self.command {
            None => super::open::address::whom(&self.url, self.pid),
            Some(HolderCommand { name, since }) => {
                format!("`{name}` (process {}, since {})", self.pid, since.format("%Y-%m-%d %H:%M:%SZ"))
            }
        }
    }
}

/// A line of a streamed response. The last one is an end or an error; without it the response is cut off.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line<Item, End> {
    /// One item.
    Item(Item),
    /// The result.
    End(End),
    /// Why the result is missing, in the form of the API's errors.
    Error(Value),
}

/// What to reset.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResetRequest {
    /// One group; without it, all.
    pub group: Option<String>,
    /// Whether the ledger forgets the synced state, instead of marking it for a full resend.
    pub forget: bool,
}

/// Which sync to rename.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameRequest {
    /// The name in the ledger.
    pub from: String,
    /// The name of its mapping.
    pub to: String,
}

/// Which sync to drop from the ledger.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropRequest {
    /// Its name.
    pub sync: String,
}

/// Where to copy the ledger.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// The file to make, by its absolute path: the server's working directory is not the caller's.
    pub file: PathBuf,
}
