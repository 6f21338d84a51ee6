//! The files source: `type = "files"`, a folder of text files, workbooks and Parquet files, which a model names as its table.
//!
//! It is the DuckDB source without a database, with more to say about how files are written and which of them is meant.

use std::path::PathBuf;

use async_trait::async_trait;

use super::DuckDb;
use super::textfile::Options;
use crate::error::{Error, Kind, Result, Within};
use crate::model::setting::{Setting, SettingType, SettingValues};
use crate::source::{Inspection, OpenContext, Source, SourceType};

/// Text files, workbooks and Parquet files.
pub struct FilesType;

/// What `[sources.NAME]` may hold.
const SETTINGS: &[Setting] = &[
    Setting::optional("path", SettingType::Path),
    Setting::optional("latest", SettingType::Boolean),
    Setting::optional("csv", SettingType::Table),
    Setting::optional("excel", SettingType::Table),
    Setting::optional("stall_timeout_seconds", SettingType::Integer(1, 86_400)),
];

/// A folder of files, as written in `groupcast.toml`.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilesSettings {
    /// The folder that tables' paths start at; without it the config folder.
    pub path: Option<PathBuf>,
    /// Whether a pattern means only the newest of its files.
    pub latest: bool,
    /// How delimited text is written.
    pub csv: Option<toml::Table>,
    /// Which sheet of a workbook is meant.
    pub excel: Option<toml::Table>,
    /// Longest that a statement may make no progress, in seconds.
    pub stall_timeout_seconds: Option<u64>,
}

impl FilesSettings {
    /// How the files are written.
    ///
    /// Errors: [`Kind::Config`].
    pub(super) fn options(&self) -> Result<Options> {
        Options::of(self.csv.as_ref(), self.excel.as_ref())
    }
}

#[async_trait]
impl SourceType for FilesType {
    fn name(&self) -> &'static str {
        "files"
    }

    fn settings(&self) -> &'static [Setting] {
        SETTINGS
    }

    fn inspect(&self, settings: &SettingValues) -> Result<Inspection> {
        settings.parse::<FilesSettings>()?.options()?;
        Ok(Inspection::default())
    }

    async fn open(&self, settings: &SettingValues, context: &OpenContext<'_>) -> Result<Box<dyn Source>> {
        let settings: FilesSettings = settings.parse()?;
        let place = || format!("source {}", context.name);
        let folder = settings.path.as_deref().unwrap_or(context.folder);
        if folder.is_file() {
            return Err(Error::new(Kind::Config, "`path` is a file, and files are in a folder").advise(
                "name the folder as `path` and the file as the mapping's `table`; for a DuckDB file write `type = \"duckdb\"`",
            ))
            .within(place);
        }
        let source = DuckDb::of_files(&settings, context.name, folder, context.limits)?;
        Ok(Box::new(source.with_extensions(context.extensions)))
    }
}
