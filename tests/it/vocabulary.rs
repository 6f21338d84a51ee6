//! The words that users and contributors meet are those of docs/concepts.md: none of the list below stands in a text of the
//! program, a doc comment, a page of the docs, an example, the API's document or the console's script.

use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// Words that were used for a concept that has another name, and that name. Only whole words count, in any case.
const FORBIDDEN: &[(&str, &str)] = &[
    ("suspect", "candidate"),
    ("suspects", "candidates"),
    ("unsettled", "unconfirmed"),
    ("uncertain", "unconfirmed"),
    ("said", "sent, reported, logged"),
    ("say again", "resend"),
    ("says again", "resends"),
    ("left to say", "pending"),
    ("tells", "shows, reports"),
    ("told", "shown, reported"),
    ("whoever", "the user, the process"),
    ("nobody", "no one is rarely the subject: say what happens"),
    ("somebody", "someone is rarely the subject: say what happens"),
    ("destination's words", "error message"),
    ("in its own words", "error message"),
    ("by hand", "manually, manual"),
    ("comes round", "is due"),
    ("takes over", "reloads, applies"),
    ("took over", "reloaded, applied"),
    ("taken over", "reloaded, applied"),
    ("is none", "is missing, does not exist"),
    ("stands for", "means, represents"),
    ("stands in", "is in"),
    ("as it comes", "inferred"),
    ("how it stands", "status"),
    ("waits for room", "queued"),
    ("had died", "crashed"),
    ("that died", "that crashed"),
    ("known to hold", "synced"),
    ("to look at", "to compare"),
    ("looked at", "compared, read"),
    ("lookout", "pool"),
    ("herald", "notifier"),
    ("watchman", "alert state"),
    ("roster", "queue"),
    ("teller", "service"),
    ("refused earlier", "rejected"),
    ("gives its word", "acknowledges"),
    ("comes to nothing", "fails"),
    ("turned away", "refused"),
];

/// What is looked through beside the sources: pages, examples, the API's document, the console's script.
const TEXTS: [&str; 7] =
    ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs", "examples", "mappings"];

fn files(path: &Path, out: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            files(&entry.unwrap().path(), out);
        }
    } else {
        out.push(path.to_path_buf());
    }
}

/// The string literals and doc comments of a file, without those of its tests.
struct Texts(Vec<String>);

impl<'ast> Visit<'ast> for Texts {
    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.0.push(text.value());
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
        };
        if !item.attrs.iter().any(is_test) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        literals(item.tokens.clone(), &mut self.0);
    }
}

/// The string literals in what a macro is given.
fn literals(tokens: proc_macro2::TokenStream, out: &mut Vec<String>) {
    for token in tokens {
        match token {
            proc_macro2::TokenTree::Group(group) => literals(group.stream(), out),
            proc_macro2::TokenTree::Literal(literal) => {
                if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                    out.push(text.value());
                }
            }
            _ => {}
        }
    }
}

/// The forbidden words of a text, as whole words, with a little of what is around them.
fn found(text: &str) -> Vec<String> {
    let spaced: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lower = spaced.to_lowercase();
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let mut found = Vec::new();
    for (word, better) in FORBIDDEN {
        for (at, _) in lower.match_indices(word) {
            let before = lower[..at].chars().next_back();
            let after = lower[at + word.len()..].chars().next();
            if !before.is_some_and(is_word) && !after.is_some_and(is_word) {
                let around: String = spaced.chars().skip(at.saturating_sub(40)).take(word.len() + 80).collect();
                found.push(format!("`{word}` (better: {better}): …{around}…"));
            }
        }
    }
    found
}

#[test]
fn texts_use_the_words_of_the_concepts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    files(&root.join("src"), &mut paths);
    TEXTS.iter().for_each(|text| files(&root.join(text), &mut paths));
    assert!(paths.len() > 200, "the texts are read");
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let is_test = name.contains("/tests/") || name.ends_with("/tests.rs");
        let texts = match extension {
            "rs" if name.starts_with("src/") && !is_test => {
                let file = syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap();
                let mut texts = Texts(Vec::new());
                texts.visit_file(&file);
                texts.0
            }
            "md" | "toml" | "json" | "js" | "yml" | "yaml" | "service" => vec![std::fs::read_to_string(&path).unwrap()],
            _ => continue,
        };
        for text in texts {
            wrong.extend(found(&text).into_iter().map(|problem| format!("{name}: {problem}")));
        }
    }
    assert!(wrong.is_empty(), "{} texts\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn only_whole_words_count() {
    assert_eq!(found("unsuspected, retold, SAID").len(), 1);
    assert!(found("It was told\n    twice.")[0].starts_with("`told`"));
}
