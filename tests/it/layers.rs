//! The direction of imports: rooms import only rooms below them, and the files of a room form no circle.
//!
//! Every file below src/ is parsed whole, its tests included. A path that starts with `crate`, `super` or `self` is an arrow
//! from the module it stands in to the module it leads to. An arrow between a module and the modules inside it is containment and
//! not counted; every other arrow is lifted to where its two ends part, so that folders form no circle either.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// The rooms from the ground up, each with those it may import. [`EVERYBODY`] is left out.
const MAY: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("format", &[]),
    ("secret", &[]),
    ("time_zone", &[]),
    ("model", &[]),
    ("io", &[]),
    ("otlp", &["io"]),
    ("destination", &["io", "model"]),
    ("mapping", &["destination", "model", "time_zone"]),
    ("duckdb", &["io"]),
    ("source", &["duckdb", "io", "mapping", "model"]),
    ("ledger", &["duckdb", "io", "model", "source"]),
    ("delivery", &["destination", "io", "model"]),
    ("config", &["destination", "duckdb", "io", "mapping", "model", "source", "time_zone"]),
    ("scheduler", &["mapping", "time_zone"]),
    ("sync", &["delivery", "destination", "duckdb", "io", "ledger", "mapping", "model", "source"]),
    (
        "service",
        &[
            "config",
            "delivery",
            "destination",
            "duckdb",
            "io",
            "ledger",
            "mapping",
            "model",
            "otlp",
            "scheduler",
            "source",
            "sync",
            "time_zone",
        ],
    ),
    (
        "daemon",
        &[
            "config",
            "delivery",
            "destination",
            "duckdb",
            "io",
            "ledger",
            "mapping",
            "model",
            "scheduler",
            "service",
            "source",
            "sync",
            "time_zone",
        ],
    ),
    ("server", &["config", "delivery", "io", "ledger", "mapping", "model", "service", "sync", "time_zone"]),
    (
        "cli",
        &[
            "config",
            "daemon",
            "delivery",
            "destination",
            "duckdb",
            "io",
            "ledger",
            "mapping",
            "model",
            "otlp",
            "scheduler",
            "server",
            "service",
            "source",
            "sync",
            "time_zone",
        ],
    ),
];

/// Rooms that everybody may import.
const EVERYBODY: [&str; 3] = ["error", "format", "secret"];

/// Rooms that know no clock, files, network or async runtime, and what they would know them by.
const PURE: [&str; 5] = ["format", "model", "mapping", "destination", "scheduler"];
const IMPURE: [&str; 6] = ["std::fs", "std::net", "tokio", "reqwest", "tokio_postgres", "duckdb"];

/// Every module that has a file: its path below the crate, and its text.
fn modules() -> BTreeMap<Vec<String>, String> {
    fn read(folder: &Path, root: &Path, out: &mut BTreeMap<Vec<String>, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, root, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(root).unwrap().with_extension("");
                let mut module: Vec<String> =
                    inside.components().map(|part| part.as_os_str().to_str().unwrap().to_owned()).collect();
                if module.last().is_some_and(|last| last == "mod" || (module.len() == 1 && last == "lib")) {
                    module.pop();
                }
                out.insert(module, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut out = BTreeMap::new();
    read(&root, &root, &mut out);
    out
}

/// Collects every path of a file, absolute where it starts in this crate, with the module it stands in.
struct Paths {
    module: Vec<String>,
    found: Vec<Vec<String>>,
}

impl Paths {
    fn add(&mut self, path: &[String]) {
        let mut absolute = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            _ => {
                self.found.push([&["::".to_owned()], path].concat());
                return;
            }
        };
        for part in path {
            match part.as_str() {
                "crate" | "self" => {}
                "super" => drop(absolute.pop()),
                _ => absolute.push(part.clone()),
            }
        }
        self.found.push([&["crate".to_owned()], &absolute[..]].concat());
    }

    fn add_use(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_use(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(name) => self.add(&with(&name.ident)),
            syn::UseTree::Glob(_) => self.add(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.add_use(before, item)),
        }
    }

    /// What a macro is given is no syntax tree; its paths are found by their colons.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.flush(&mut path);
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.flush(&mut path);
                    self.add_tokens(group.stream());
                    colons = 0;
                }
                _ => {
                    self.flush(&mut path);
                    colons = 0;
                }
            }
        }
        self.flush(&mut path);
    }

    fn flush(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.add(path);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_use(&[], &item.tree);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if parts.len() > 1 {
            self.add(&parts);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, macros: &'ast syn::Macro) {
        self.add_tokens(macros.tokens.clone());
        visit::visit_macro(self, macros);
    }
}

/// The paths of every file.
fn paths(modules: &BTreeMap<Vec<String>, String>) -> BTreeMap<Vec<String>, Vec<Vec<String>>> {
    modules
        .iter()
        .map(|(module, text)| {
            let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", module.join("::")));
            let mut paths = Paths { module: module.clone(), found: Vec::new() };
            paths.visit_file(&file);
            (module.clone(), paths.found)
        })
        .collect()
}

/// An arrow, lifted to the module in which its ends part: (that module, from, to), and an example.
type Arrows = BTreeMap<Vec<String>, BTreeMap<String, BTreeMap<String, String>>>;

fn arrows(modules: &BTreeMap<Vec<String>, String>) -> Arrows {
    let mut arrows = Arrows::new();
    for (from, found) in paths(modules) {
        for path in found.iter().filter(|path| path[0] == "crate") {
            let target = &path[1..];
            let length = (0..=target.len()).rev().find(|length| modules.contains_key(&target[..*length])).unwrap_or(0);
            let to = &target[..length];
            let common = from.iter().zip(to).take_while(|(left, right)| left == right).count();
            if common < from.len() && common < to.len() {
                let example = format!("{} -> {}", from.join("::"), path[1..].join("::"));
                let parts = arrows.entry(from[..common].to_vec()).or_default();
                parts.entry(from[common].clone()).or_default().entry(to[common].clone()).or_insert(example);
            }
        }
    }
    arrows
}

/// The parts that lie on a circle.
fn circle(arrows: &BTreeMap<String, BTreeMap<String, String>>) -> Vec<String> {
    let reaches = |from: &str, to: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(at) = next.pop() {
            for target in arrows.get(at).into_iter().flat_map(BTreeMap::keys) {
                if target == to {
                    return true;
                }
                if seen.insert(target.as_str()) {
                    next.push(target);
                }
            }
        }
        false
    };
    let mut found = Vec::new();
    for (from, targets) in arrows {
        for (to, example) in targets {
            if from != to && reaches(to, from) {
                found.push(example.clone());
            }
        }
    }
    found
}

#[test]
fn imports_point_one_way_and_no_files_form_a_circle() {
    let modules = modules();
    assert!(modules.len() > 100, "src/ is read");
    for (at, (room, may)) in MAY.iter().enumerate() {
        let below: Vec<&str> = MAY[..at].iter().map(|(room, _)| *room).collect();
        assert!(may.iter().all(|lower| below.contains(lower)), "{room} may import only what the list has above it");
    }
    let may: BTreeMap<&str, &[&str]> = MAY.iter().copied().collect();
    let mut wrong = Vec::new();
    for room in modules.keys().filter_map(|module| module.first()) {
        if room != "main" && !may.contains_key(room.as_str()) {
            wrong.push(format!("{room} is not on the map"));
        }
    }
    let arrows = arrows(&modules);
    for (from, targets) in &arrows[&Vec::new()] {
        let allowed = may.get(from.as_str()).copied().unwrap_or_default();
        for (to, example) in targets {
            if from != "main" && !EVERYBODY.contains(&to.as_str()) && !allowed.contains(&to.as_str()) {
                wrong.push(format!("{from} may not import {to}: {example}"));
            }
        }
    }
    for (module, inside) in &arrows {
        if !module.is_empty() {
            wrong.extend(
                circle(inside).into_iter().map(|example| format!("circle in {}: {example}", module.join("::"))),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_core_is_pure() {
    let modules = modules();
    let mut wrong = Vec::new();
    for (module, found) in paths(&modules) {
        if module.first().is_some_and(|room| PURE.contains(&room.as_str())) {
            for path in found.iter().filter(|path| path[0] == "::") {
                let path = path[1..].join("::");
                if IMPURE.iter().any(|impure| path == *impure || path.starts_with(&format!("{impure}::"))) {
                    wrong.push(format!("{} uses {path}", module.join("::")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let mut lines: Vec<usize> = modules().values().map(|text| text.lines().count()).collect();
    lines.sort_unstable();
    let median = lines[lines.len() / 2];
    assert!(median <= 200, "half of the files have more than {median} lines");
}
