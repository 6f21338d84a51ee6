//! The variables that settings may use: those of the process, and below them those of `.env` files.

use std::collections::BTreeMap;
use std::ops::Range;

use super::dotenv::{Dotenv, DotenvEntry};
use crate::mapping::At;
use crate::mapping::diagnostic::Diagnostic;

/// Variables by name. Holds secrets.
pub(super) struct Environment {
    pub(super) values: BTreeMap<String, String>,
    /// Where those are written that come from a file.
    written: BTreeMap<String, (String, Range<usize>)>,
}

impl Environment {
    /// The variables of the process.
    pub(super) fn of_process(values: BTreeMap<String, String>) -> Environment {
        Environment { values, written: BTreeMap::new() }
    }

    /// Adds those of a file, unless they are there already.
    pub(super) fn add(&mut self, file: &str, dotenv: Dotenv) {
        for (name, DotenvEntry { value, span }) in dotenv.entries {
            if !self.values.contains_key(&name) {
                self.written.insert(name.clone(), (file.to_owned(), span));
                self.values.insert(name, value);
            }
        }
    }

    /// Where a variable is: `environment`, or its file.
    pub(super) fn place(&self, name: &str) -> String {
        self.written.get(name).map_or_else(|| "environment".to_owned(), |(file, _)| file.clone())
    }

    /// A problem with the variable that sets `path`, where the variable is written.
    pub(super) fn problem(&self, name: &str, path: &str, message: String) -> Diagnostic {
        let (file, span) = match self.written.get(name) {
            Some((file, span)) => (file.clone(), span.clone()),
            None => (format!("environment variable {name}"), 0..0),
        };
        Diagnostic::error(&file, &At { span, path: path.to_owned() }, message)
    }
}
