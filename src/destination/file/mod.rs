//! File: a change as a line of NDJSON, in a file or on standard output.
//!
//! One JSON object per line, of which only the non-empty fields are present:
//! `{"group_type":"company","key":"acme","set":{"arr":1200},"unset":["plan"]}`, or `"delete":true`. Everything a mapping can
//! do can be written, numbers keep all their digits, and a change is never cut.

mod encode;
mod response;
mod settings;
pub use settings::FileSettings;

use super::{AddressedChange, Attempt, Destination, Element, Features, Part, RequestLimits, Route, UserRule, Verdict};
use crate::destination::DestinationType;
use crate::error::Result;
use crate::io::http::{FILE_URL, Request, Response, STDOUT_URL};
use crate::model::setting::{Setting, SettingValues};
use crate::model::{OnNull, Op, PlainDocument};
use crate::secret::Secret;
use std::path::{Path, PathBuf};

/// Lines in one write. A write ends with an fsync (about 1 ms on an SSD, 10 ms on a disk), so a page of changes is one or two.
const LINES_MAX: usize = 5_000;
/// Bytes in one write, and so in one change: far more than any account row, and little memory.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The type `file`.
pub struct FileType;

impl DestinationType for FileType {
    fn name(&self) -> &'static str {
        "file"
    }

    fn settings(&self) -> &'static [Setting] {
        settings::SETTINGS
    }

    fn output_file(&self, settings: &SettingValues) -> Result<Option<PathBuf>> {
        Ok(settings.parse::<FileSettings>()?.file().map(Path::to_path_buf))
    }

    fn open(&self, settings: &SettingValues, group_type: &str) -> Result<Box<dyn Destination>> {
        Ok(Box::new(File::new(&settings.parse()?, group_type)))
    }
}

/// An NDJSON file or standard output, for one group type.
pub struct File {
    url: String,
    group_type: String,
}

impl File {
    /// The destination that these settings describe, for groups of `group_type`.
    pub fn new(settings: &FileSettings, group_type: &str) -> File {
        let url = match settings.file() {
            Some(path) => format!("{FILE_URL}{}", path.display()),
            None => STDOUT_URL.to_owned(),
        };
        File { url, group_type: group_type.to_owned() }
    }
}

impl Destination for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn features(&self) -> Features {
        Features {
            ops: Op::ALL,
            on_null: &[OnNull::Unset, OnNull::Null, OnNull::Skip],
            delete: true,
            exact_numbers: true,
            objects: true,
            gzip: false,
            user: UserRule::Never,
        }
    }

    fn limits(&self, _: Route) -> RequestLimits {
        RequestLimits {
            elements_max: LINES_MAX,
            traits_max: usize::MAX,
            body_bytes_max: BYTES_MAX,
            element_bytes_max: BYTES_MAX - 1,
            // The line end after the last line; the others are separators.
            envelope_bytes: 1,
            separator_bytes: 1,
        }
    }

    /// A line may be there twice after an unknown outcome; read in order it sets the same values twice, unless it accumulates.
    fn repeatable(&self, route: Route) -> bool {
        route == 0
    }

    fn parts(&self, change: &AddressedChange) -> Result<Vec<Part>, String> {
        self.encode_parts(change)
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        self.encode_element(addressed, part)
    }

    fn takes_plain(&self, _: &[&str]) -> bool {
        true
    }

    fn plain_route(&self, _: &AddressedChange, _: &PlainDocument) -> Option<Route> {
        Some(0)
    }

    fn plain_element(&self, addressed: &AddressedChange, document: &PlainDocument) -> Element {
        self.encode_plain(&addressed.key, document)
    }

    fn request(&self, _: Route, elements: &[&Element], _: Attempt) -> Request {
        self.encode_request(elements)
    }

    fn interpret(&self, _: Route, _: usize, response: &Response) -> Verdict {
        self.verdict(response)
    }

    fn masked(&self, request: &Request) -> Request {
        request.clone()
    }

    fn secrets(&self) -> Vec<Secret> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
