//! Checks the mappings of a project against each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::mapping::diagnostic::{At, Diagnostic, Lines, did_you_mean, listed};
use crate::mapping::file::MappingFile;
use crate::mapping::reader::shown;
use crate::mapping::sections::schedule::When;
use crate::mapping::sections::traits::Trait;

/// Whether this mapping's group type is one too many for its destination, counted in the order of the mappings.
pub fn check_group_types(file: &MappingFile, all: &[MappingFile], most: usize) -> Option<Diagnostic> {
    let mapping = &file.mapping;
    let mut types: Vec<&str> = Vec::new();
    for other in all.iter().map(|file| &file.mapping) {
        if other.enabled && other.destination == mapping.destination && !types.contains(&other.group_type.as_str()) {
            types.push(&other.group_type);
        }
    }
    let position = types.iter().position(|known| *known == mapping.group_type)?;
    (mapping.enabled && position >= most).then(|| {
        let what = format!(
            "`{}` is group type number {} of destination {}, which takes {most}",
            shown(&mapping.group_type),
            position + 1,
            mapping.destination
        );
        Diagnostic::error(&mapping.file, &file.at("group.type"), what)
            .help("what is sent about any more would be dropped: use fewer types, or another project")
    })
}

/// Checks mappings against each other: two enabled ones that write one trait of one group type at one destination would
/// overwrite each other for ever; two whose names differ only in capitals are one file on some systems.
pub fn check_together(files: &[MappingFile]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut names: BTreeMap<String, &MappingFile> = BTreeMap::new();
    let mut writers: BTreeMap<(&str, &str, &str), (&MappingFile, &Trait)> = BTreeMap::new();
    let mut lines: BTreeMap<&str, Lines> = BTreeMap::new();
    for file in files {
        let mapping = &file.mapping;
        if let Some(first) = names.get(&mapping.name.to_lowercase()) {
            let what = format!("sync `{}` and `{}` differ only in capitals", mapping.name, first.mapping.name);
            found.push(Diagnostic::error(&mapping.file, &At::default(), what).help("rename one of the files"));
        } else {
            names.insert(mapping.name.to_lowercase(), file);
        }
        if !mapping.enabled {
            continue;
        }
        for mapped in &mapping.traits {
            let written = (mapping.destination.as_str(), mapping.group_type.as_str(), mapped.name.as_str());
            match writers.get(&written) {
                None => {
                    writers.insert(written, (file, mapped));
                }
                Some((first, theirs)) => {
                    let lines = lines.entry(&first.mapping.name).or_insert_with(|| Lines::of(&first.text));
                    let line = lines.line(theirs.at.span.start);
                    let what = format!(
                        "trait `{}` of `{}` at `{}` is also written by {}:{line}",
                        shown(&mapped.name),
                        shown(&mapping.group_type),
                        shown(&mapping.destination),
                        first.mapping.file
                    );
                    found.push(
                        Diagnostic::error(&mapping.file, &mapped.at, what)
                            .help("remove the trait from one mapping, or disable one with `enabled = false`"),
                    );
                }
            }
        }
    }
    found
}

/// Checks that `after` names another sync, and that no syncs wait for each other. `files` are all mappings there are but
/// those of the `others`, which could not be read.
pub fn check_after(files: &[MappingFile], others: &BTreeSet<String>) -> Vec<Diagnostic> {
    let by_name: BTreeMap<&str, &MappingFile> = files.iter().map(|file| (file.mapping.name.as_str(), file)).collect();
    let mut found = Vec::new();
    let mut in_cycles: Vec<&str> = Vec::new();
    for file in files {
        let Some(followed) = followed(file) else { continue };
        let (name, at) = (file.mapping.name.as_str(), file.at("schedule.after"));
        let Some(other) = by_name.get(followed) else {
            if others.contains(followed) {
                continue;
            }
            let help = match did_you_mean(followed, by_name.keys().copied().filter(|known| *known != name)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("there is {}", listed(by_name.keys().copied())),
            };
            let what = format!("sync `{}` not found", shown(followed));
            found.push(Diagnostic::error(&file.mapping.file, &at, what).help(help));
            continue;
        };
        let mut way = vec![name];
        let mut next = Some(followed);
        while let Some(step) = next.filter(|step| !way.contains(step)) {
            way.push(step);
            next = by_name.get(step).and_then(|file| self::followed(file));
        }
        // Who merely leads into a circle is not a part of it; each circle is told once.
        if next == Some(name) {
            if !in_cycles.contains(&name) {
                in_cycles.extend(&way);
                way.push(name);
                let way: Vec<String> = way.iter().map(|name| format!("`{name}`")).collect();
                let what = format!("sync `{name}` waits for itself: {}", way.join(" after "));
                let help = "give one of them a `cron` or `every` instead";
                found.push(Diagnostic::error(&file.mapping.file, &at, what).help(help));
            }
        } else if file.mapping.enabled && !other.mapping.enabled {
            let what = format!("sync `{followed}` is disabled, so this one never runs by itself");
            found.push(Diagnostic::warning(&file.mapping.file, &at, what).help("enable it, or disable both"));
        }
    }
    found
}

/// The sync whose runs this one follows.
fn followed(file: &MappingFile) -> Option<&str> {
    match &file.mapping.schedule.as_ref()?.when {
        When::After(other) => Some(other),
        When::Cron(_) | When::Every(_) => None,
    }
}
