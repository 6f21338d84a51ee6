//! Which syncs a command is about: by name, tag, source or destination.

use super::{Failure, exists, named};
use crate::config::{BrokenMapping, Project};
use crate::error::{Error, Kind, Result};
use crate::mapping::diagnostic::{did_you_mean, listed_all};
use crate::mapping::{Mapping, MappingFile};

/// What is selected, as it is written: names, `tag:NAME`, `source:NAME`, `destination:NAME`, each text one or several of them
/// separated by commas. Without any, all enabled syncs.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    select: Vec<Selector>,
    exclude: Vec<Selector>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Selector {
    Name(String),
    Tag(String),
    Source(String),
    Destination(String),
}

impl Selector {
    fn parse(text: &str) -> Result<Selector> {
        let text = text.trim();
        let (method, name) = text.split_once(':').map_or(("", text), |(method, name)| (method, name.trim()));
        if name.is_empty() {
            return Err(Error::new(Kind::Config, format!("`{text}` selects nothing: a name is missing"))
                .advise("write names separated by commas, as in `--select tag:nightly,accounts`"));
        }
        let name = name.to_owned();
        match method {
            "" | "name" => Ok(Selector::Name(name)),
            "tag" => Ok(Selector::Tag(name)),
            "source" => Ok(Selector::Source(name)),
            "destination" => Ok(Selector::Destination(name)),
            other => Err(Error::new(Kind::Config, format!("cannot select by `{other}:`"))
                .advise("select by name, or by `tag:`, `source:` or `destination:`")),
        }
    }

    fn parse_all(texts: &[String]) -> Result<Vec<Selector>> {
        texts.iter().flat_map(|text| text.split(',')).map(Selector::parse).collect()
    }

    fn admits(&self, mapping: &Mapping) -> bool {
        match self {
            Selector::Name(name) => mapping.name == *name,
            Selector::Tag(tag) => mapping.tags.contains(tag),
            Selector::Source(source) => mapping.source == *source,
            Selector::Destination(destination) => mapping.destination == *destination,
        }
    }

    /// Whether a mapping that cannot be read may be meant: what cannot be read of it could be.
    fn may_admit(&self, broken: &BrokenMapping) -> bool {
        match self {
            Selector::Name(name) => broken.name == *name,
            Selector::Tag(tag) => broken.readable.tags.as_ref().is_none_or(|tags| tags.contains(tag)),
            Selector::Source(source) => broken.readable.source.as_ref().is_none_or(|of| of == source),
            Selector::Destination(destination) => {
                broken.readable.destination.as_ref().is_none_or(|of| of == destination)
            }
        }
    }

    /// A mistyped name must not select, or exclude, silently nothing.
    fn check(&self, project: &Project) -> Result<()> {
        let settings = &project.settings;
        let (what, name, known): (_, _, Vec<&str>) = match self {
            Selector::Name(name) => return exists(project, name),
            Selector::Tag(tag) => ("no mapping has the tag", tag, all_tags(project)),
            Selector::Source(name) => {
                ("there is no source", name, settings.sources.keys().map(String::as_str).collect())
            }
            Selector::Destination(name) => {
                ("there is no destination", name, settings.destinations.keys().map(String::as_str).collect())
            }
        };
        if known.contains(&name.as_str()) {
            return Ok(());
        }
        let error = Error::new(Kind::Config, format!("{what} `{name}`"));
        Err(match did_you_mean(name, known.iter().copied()) {
            Some(meant) => error.advise(format!("did you mean `{meant}`?")),
            None if known.is_empty() => error.advise("add `tags = [\"…\"]` at the top of a mapping"),
            None => error.advise(format!("there are {}", listed_all(known))),
        })
    }
}

fn all_tags(project: &Project) -> Vec<&str> {
    let sound = project.mappings.iter().flat_map(|file| &file.mapping.tags);
    let broken = project.broken.iter().filter_map(|broken| broken.readable.tags.as_ref()).flatten();
    let mut tags: Vec<&str> = sound.chain(broken).map(String::as_str).collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

impl Selection {
    /// Reads what was written.
    ///
    /// Errors ([`Kind::Config`]): a condition of a kind that there is not.
    pub fn new(select: &[String], exclude: &[String]) -> Result<Selection> {
        Ok(Selection { select: Selector::parse_all(select)?, exclude: Selector::parse_all(exclude)? })
    }

    /// The mappings to plan or run, in the order of their names. Those that are not enabled must be named.
    ///
    /// Errors: a name, tag, source or destination that there is not; a named mapping with mistakes.
    pub fn chosen<'a>(&self, project: &'a Project) -> Result<Vec<&'a MappingFile>, Failure> {
        self.check(project)?;
        for selector in &self.select {
            if let Selector::Name(name) = selector {
                named(project, name)?;
            }
        }
        let files = self.files(project)?.into_iter();
        Ok(files.filter(|file| file.mapping.enabled || self.names(&file.mapping)).collect())
    }

    /// The mappings to show, enabled or not.
    ///
    /// Errors: a name, tag, source or destination that there is not.
    pub fn files<'a>(&self, project: &'a Project) -> Result<Vec<&'a MappingFile>> {
        self.check(project)?;
        let is_selected = |file: &&MappingFile| {
            let admits = |selector: &Selector| selector.admits(&file.mapping);
            (self.select.is_empty() || self.select.iter().any(admits)) && !self.exclude.iter().any(admits)
        };
        Ok(project.mappings.iter().filter(is_selected).collect())
    }

    /// The mappings with mistakes that belong to what is selected, where it is not selected by name.
    pub fn broken<'a>(&self, project: &'a Project) -> Vec<&'a BrokenMapping> {
        let is_selected = |broken: &&BrokenMapping| {
            let is_excluded = self.exclude.contains(&Selector::Name(broken.name.clone()));
            let may = |selector: &Selector| selector.may_admit(broken);
            (self.select.is_empty() || self.select.iter().any(may)) && !is_excluded
        };
        project.broken.iter().filter(is_selected).collect()
    }

    /// Whether a mapping is selected by its name.
    pub fn names(&self, mapping: &Mapping) -> bool {
        self.select.contains(&Selector::Name(mapping.name.clone()))
    }

    fn check(&self, project: &Project) -> Result<()> {
        self.select.iter().chain(&self.exclude).try_for_each(|selector| selector.check(project))
    }
}
