//! The settings of a destination of type `file`.

use crate::model::setting::{Setting, SettingType};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Its settings in `groupcast.toml`, besides `type` and those of delivery.
pub(super) const SETTINGS: &[Setting] = &[Setting::optional("path", SettingType::PathOrDash)];

/// The `[destinations.<name>]` table of `type = "file"`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// The file lines are appended to; its folder is created. Standard output when absent, or `-`.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

impl FileSettings {
    /// The file; none for standard output.
    pub(super) fn file(&self) -> Option<&Path> {
        self.path.as_deref().filter(|path| *path != Path::new("-"))
    }
}
