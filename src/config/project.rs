//! A project: what a config folder describes, and what is wrong with it.

use super::diagnostic::Diagnostics;
use super::settings::Settings;
use crate::mapping::{MappingFile, ReadableParts};

/// A config folder: settings and mappings.
#[derive(Debug, Clone)]
pub struct Project {
    /// What `groupcast.toml` and the environment say.
    pub settings: Settings,
    /// The mappings, by name, without those that have mistakes.
    pub mappings: Vec<MappingFile>,
    /// The mappings that have mistakes: a sync each that cannot run, beside those that can.
    pub broken: Vec<BrokenMapping>,
    /// What a person should look at: warnings, and the mistakes of these mappings.
    pub problems: Diagnostics,
}

/// A mapping that has mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenMapping {
    /// The name of its sync.
    pub name: String,
    /// Its file, as it is called in messages.
    pub file: String,
    /// Its source, destination and tags, as far as they can be read.
    pub readable: ReadableParts,
}

impl Project {
    /// Takes in problems; mappings with a mistake among them are broken from then on.
    pub fn take_in(&mut self, found: Diagnostics) {
        let files = found.files_with_errors();
        let (broken, sound) = std::mem::take(&mut self.mappings)
            .into_iter()
            .partition(|file: &MappingFile| files.contains(file.mapping.file.as_str()));
        self.mappings = sound;
        let name = |file: MappingFile| {
            let readable = ReadableParts::of(&file.text);
            BrokenMapping { name: file.mapping.name, file: file.mapping.file, readable }
        };
        self.broken.extend(Vec::into_iter(broken).map(name));
        self.broken.sort_by(|left, right| left.name.cmp(&right.name));
        self.problems.append(found);
    }

    /// The names of its syncs, in order: of mappings with mistakes, too.
    pub fn names(&self) -> Vec<&str> {
        let sound = self.mappings.iter().map(|file| file.mapping.name.as_str());
        let mut names: Vec<&str> = sound.chain(self.broken.iter().map(|broken| broken.name.as_str())).collect();
        names.sort_unstable();
        names
    }

    /// The mistakes of a mapping of this name, if it has any.
    pub fn mistakes(&self, name: &str) -> Option<Diagnostics> {
        let broken = self.broken.iter().find(|broken| broken.name == name)?;
        Some(self.problems.of_file(&broken.file))
    }
}
