//! The settings of a destination of type `file`.

use serde::Deserialize;
use std::path::PathBuf;

/// The `[destinations.<name>]` table of `type = "file"`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// The file lines are appended to; its folder is created. Standard output when absent.
    #[serde(default)]
    pub path: Option<PathBuf>,
}
