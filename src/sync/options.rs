//! The options of a run: what its caller requests beyond the mapping, and where the run comes from. The command line, the
//! API, the console and the run queue all use these and no others.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::group_keys::GroupKeys;
use super::guard;
use crate::error::{Error, Kind, Result};
use crate::mapping::diagnostic::listed;

/// What is requested of a run, or of a plan of it, beyond what the mapping says. As JSON, every key may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunOptions {
    /// Read the whole model although the mapping is incremental.
    pub full: bool,
    /// Guards accepted this once.
    pub accept: BTreeSet<String>,
    /// Send rejected groups again although they did not change.
    pub retry_rejected: bool,
    /// Only these groups: a key, or a list of keys.
    pub group: Option<GroupKeys>,
    /// Send at most this many changes.
    pub limit: Option<u64>,
    /// Send only what this plan has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanFile>,
}

/// A plan file, and the content that it had when the run was requested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// Its absolute path, on the machine that runs the sync.
    pub path: PathBuf,
    /// The SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

/// An option that is on or off, with its words for people: the command line, the console and the queue go through
/// [`RunOptions::FLAGS`].
#[derive(Debug)]
pub struct Flag {
    /// Its key.
    pub name: &'static str,
    /// The command line's option, without its dashes.
    pub long: &'static str,
    /// The command line's help.
    pub help: &'static str,
    /// The label of its box in the console.
    pub label: &'static str,
    /// What a run with it does, after "the run".
    pub effect: &'static str,
    get: fn(&RunOptions) -> bool,
    set: fn(&mut RunOptions),
}

impl Flag {
    /// Whether it is on.
    pub fn is_on(&self, options: &RunOptions) -> bool {
        (self.get)(options)
    }

    /// Turns it on.
    pub fn turn_on(&self, options: &mut RunOptions) {
        (self.set)(options);
    }
}

impl RunOptions {
    /// Its flags.
    pub const FLAGS: &'static [Flag] = &[
        Flag {
            name: "full",
            long: "full",
            help: "Read the whole model, although the mapping is incremental",
            label: "whole model",
            effect: "reads the whole model",
            get: |options| options.full,
            set: |options| options.full = true,
        },
        Flag {
            name: "retry_rejected",
            long: "retry-rejected",
            help: "Send rejected groups again, although they did not change",
            label: "retry rejected",
            effect: "retries rejected groups",
            get: |options| options.retry_rejected,
            set: |options| options.retry_rejected = true,
        },
    ];

    /// The flags that are on.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        RunOptions::FLAGS.iter().filter(|flag| flag.is_on(self))
    }

    /// Whether the run covers a part only: some groups, the first so many changes, or those of a plan. Such a run serves no
    /// scheduled time.
    pub fn is_partial(&self) -> bool {
        self.group.is_some() || self.limit.is_some() || self.plan.is_some()
    }

    /// Checks what the types leave open.
    ///
    /// Errors: [`Kind::Config`], there is no guard of a name in `accept`.
    pub fn check(&self) -> Result<()> {
        match self.accept.iter().find(|name| !guard::NAMES.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(Error::new(Kind::Config, format!("there is no guard `{name}`"))
                .advise(format!("use one of {}", listed(guard::NAMES.iter().copied())))),
        }
    }
}

/// Where a run comes from.
#[derive(Debug, Clone, Default)]
pub struct RunOrigin {
    /// The run's id, where it was assigned before the run begins ([`run_id`](super::run_id)).
    pub run: Option<String>,
    /// Who or what started it, for people: `schedule`, `api`, `command line`.
    pub started_by: String,
    /// How long requests in flight may go on after the run was stopped, where that is not the usual time of delivery.
    pub grace: Option<Duration>,
}

impl RunOrigin {
    /// A run that gets its id when it begins.
    pub fn of(started_by: &str) -> RunOrigin {
        RunOrigin { started_by: started_by.to_owned(), ..RunOrigin::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_defined_once() {
        let keys = serde_json::to_value(RunOptions::default()).unwrap();
        let flags = keys.as_object().unwrap().iter().filter(|(_, value)| value.is_boolean());
        let mut defined: Vec<&str> = RunOptions::FLAGS.iter().map(|flag| flag.name).collect();
        defined.sort_unstable();
        assert_eq!(flags.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), defined);
        for flag in RunOptions::FLAGS {
            let mut options = RunOptions::default();
            flag.turn_on(&mut options);
            assert_eq!(options.flags().map(|flag| flag.name).collect::<Vec<_>>(), [flag.name]);
            assert_eq!(serde_json::to_value(&options).unwrap()[flag.name], true);
            assert_eq!(flag.long, flag.name.replace('_', "-"));
        }
    }
}
