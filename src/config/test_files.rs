//! The files with tests of mappings: `mappings/NAME.test.toml`. Only `groupcast test` and `check` read them; a run does not.

use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostics;
use super::files::Files;
use super::load::read_text;
use super::location::Location;
use super::location::MAPPINGS_FOLDER;
use crate::mapping::At;
use crate::mapping::diagnostic::{Diagnostic, did_you_mean};
use crate::mapping::test_file::{self, TestFile};

/// A file of tests, and whose tests they are.
#[derive(Debug, Clone)]
pub struct TestsOfMapping {
    /// The sync's name.
    pub sync: String,
    /// The file.
    pub path: PathBuf,
    /// As it is shown.
    pub file: String,
    /// Its content; none when it has mistakes.
    pub tests: Option<TestFile>,
}

/// Every file of tests in the config folder, in name order, and what is wrong in them. `syncs` are the mappings that
/// exist.
pub fn read_all(folder: &Path, syncs: &[&str]) -> (Vec<TestsOfMapping>, Diagnostics) {
    let (mut all, mut problems) = (Vec::new(), Diagnostics::new());
    // A folder that cannot be read is reported by who reads the mappings.
    let entries = std::fs::read_dir(folder.join(MAPPINGS_FOLDER)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    for name in names {
        let Some(sync) = name.strip_suffix(test_file::SUFFIX).filter(|sync| !sync.is_empty() && !sync.starts_with('.'))
        else {
            continue;
        };
        let below = Path::new(MAPPINGS_FOLDER).join(&name);
        let (path, file) = (folder.join(&below), Location::from(folder).shown(&below));
        let mut tests = None;
        match read_text(&path, &Files::default()) {
            Ok(text) => {
                problems.add_text(&file, &text);
                let (read, found) = test_file::parse(&file, &text);
                problems.extend(found);
                tests = read;
            }
            Err(problem) => {
                problems.push(Diagnostic::error(&file, &At::default(), problem.what).maybe_help(problem.help));
            }
        }
        if !syncs.contains(&sync) {
            let what = format!("there is no mapping `{sync}` that these tests could be about");
            let help = match did_you_mean(sync, syncs.iter().copied()) {
                Some(meant) => format!("did you mean {MAPPINGS_FOLDER}/{meant}{}?", test_file::SUFFIX),
                None => format!("name it after a mapping: {MAPPINGS_FOLDER}/NAME{}", test_file::SUFFIX),
            };
            problems.push(Diagnostic::error(&file, &At::default(), what).help(help));
            tests = None;
        }
        all.push(TestsOfMapping { sync: sync.to_owned(), path, file, tests });
    }
    (all, problems)
}
