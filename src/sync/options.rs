//! The options of a run: what its caller requests beyond the mapping, and where the run comes from. The command line, the
//! API, the console and the run queue all use these and no others.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
    /// Only this group.
    pub group: Option<String>,
    /// Send at most this many changes.
    pub limit: Option<u64>,
}

impl RunOptions {
    /// Whether the run covers a part only: one group, or the first so many changes. Such a run serves no scheduled time.
    pub fn is_partial(&self) -> bool {
        self.group.is_some() || self.limit.is_some()
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
