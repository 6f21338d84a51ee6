//! Which syncs a command is about: by name, tag, source or destination.

use super::{Failure, exists, named};
use crate::config::{BrokenMapping, Project};
use crate::error::{Error, Kind, Result};
use crate::mapping::diagnostic::{did_you_mean, listed_all};
use crate::mapping::{Mapping, MappingFile};
use crate::service::views::SyncView;

/// What is selected, as it is written: names (with `*` for any letters), `tag:NAME`, `source:NAME`, `destination:NAME`. Each
/// text is one or several of them, separated by commas. Without any, all enabled syncs.
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

    /// As it is written.
    fn written(&self) -> String {
        match self {
            Selector::Name(name) => name.clone(),
            Selector::Tag(name) => format!("tag:{name}"),
            Selector::Source(name) => format!("source:{name}"),
            Selector::Destination(name) => format!("destination:{name}"),
        }
    }

    fn parse_all(texts: &[String]) -> Result<Vec<Selector>> {
        texts.iter().flat_map(|text| text.split(',')).map(Selector::parse).collect()
    }

    fn admits(&self, mapping: &Mapping) -> bool {
        self.admits_sync(&mapping.name, &mapping.tags, &mapping.source, &mapping.destination)
    }

    fn admits_sync(&self, name: &str, tags: &[String], source: &str, destination: &str) -> bool {
        match self {
            Selector::Name(wanted) => is_named(wanted, name),
            Selector::Tag(wanted) => tags.contains(wanted),
            Selector::Source(wanted) => source == wanted,
            Selector::Destination(wanted) => destination == wanted,
        }
    }

    /// Whether a mapping that cannot be read may be meant: what cannot be read of it could be.
    fn may_admit(&self, broken: &BrokenMapping) -> bool {
        match self {
            Selector::Name(name) => is_named(name, &broken.name),
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
            Selector::Name(pattern) if pattern.contains('*') => {
                let sound = project.mappings.iter().map(|file| &file.mapping.name);
                let mut names = sound.chain(project.broken.iter().map(|broken| &broken.name));
                if names.any(|name| is_named(pattern, name)) {
                    return Ok(());
                }
                return Err(Error::new(Kind::Config, format!("no sync has a name like `{pattern}`"))
                    .advise("`groupcast status` lists the syncs"));
            }
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

/// Whether a name is the wanted one, in which `*` means any letters.
fn is_named(wanted: &str, name: &str) -> bool {
    let mut parts = wanted.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
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
            if let Selector::Name(name) = selector
                && !name.contains('*')
            {
                named(project, name)?;
            }
        }
        let files = self.files(project)?.into_iter();
        Ok(files.filter(|file| file.mapping.enabled || self.names(&file.mapping.name)).collect())
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
            let is_excluded =
                self.exclude.iter().any(|one| matches!(one, Selector::Name(name) if is_named(name, &broken.name)));
            let may = |selector: &Selector| selector.may_admit(broken);
            (self.select.is_empty() || self.select.iter().any(may)) && !is_excluded
        };
        project.broken.iter().filter(is_selected).collect()
    }

    /// The names of the chosen mappings, and of those with mistakes that may be meant as well.
    pub fn names_of<'a>(&self, chosen: &[&'a MappingFile], project: &'a Project) -> Vec<&'a str> {
        let sound = chosen.iter().map(|file| file.mapping.name.as_str());
        sound.chain(self.broken(project).into_iter().map(|broken| broken.name.as_str())).collect()
    }

    /// Why nothing is chosen, and the next step; none where there is no mapping at all, which is reported as such.
    pub fn why_none(&self, project: &Project) -> Option<(&'static str, &'static str)> {
        if project.mappings.is_empty() {
            return None;
        }
        Some(match self.is_everything() {
            true => ("no mapping is enabled: nothing to do", "name one to include it all the same"),
            false => (
                "the selection leaves no enabled sync: nothing to do",
                "`groupcast status` takes the same selection and shows those that are not enabled, too",
            ),
        })
    }

    /// Whether it leaves nothing out.
    pub fn is_everything(&self) -> bool {
        self.select.is_empty() && self.exclude.is_empty()
    }

    /// Whether a sync is selected by its name.
    pub fn names(&self, sync: &str) -> bool {
        self.select.iter().any(|one| matches!(one, Selector::Name(name) if name == sync))
    }

    /// The syncs to run of a daemon that is elsewhere, by name. Those that are not enabled must be named.
    ///
    /// Errors: a condition that fits none of them.
    pub fn of_views(&self, views: &[SyncView]) -> Result<Vec<String>> {
        let admits = |selector: &Selector, view: &SyncView| {
            selector.admits_sync(&view.sync, &view.tags, &view.source, &view.destination)
        };
        let unknown = self.select.iter().chain(&self.exclude).find(|one| !views.iter().any(|view| admits(one, view)));
        if let Some(unknown) = unknown {
            let error = Error::new(Kind::Config, format!("the daemon has no sync for `{}`", unknown.written()));
            return Err(
                error.advise(format!("its syncs are {}", listed_all(views.iter().map(|view| view.sync.as_str()))))
            );
        }
        let is_selected = |view: &&SyncView| {
            let is_named = self.names(&view.sync);
            let fits = self.select.is_empty() || self.select.iter().any(|one| admits(one, view));
            (view.enabled || is_named) && fits && !self.exclude.iter().any(|one| admits(one, view))
        };
        Ok(views.iter().filter(is_selected).map(|view| view.sync.clone()).collect())
    }

    fn check(&self, project: &Project) -> Result<()> {
        self.select.iter().chain(&self.exclude).try_for_each(|selector| selector.check(project))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_is_any_letters() {
        for (wanted, name, fits) in [
            ("accounts", "accounts", true),
            ("accounts", "accounts_eu", false),
            ("crm_*", "crm_accounts", true),
            ("crm_*", "crm_", true),
            ("crm_*", "acrm_x", false),
            ("*_eu", "accounts_eu", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("*", "anything", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(is_named(wanted, name), fits, "{wanted} {name}");
        }
    }
}
