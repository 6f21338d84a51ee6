//! The one sync that a command is about: the named one, or the only one of the project.

use crate::config::Project;
use crate::error::{Error, Kind, Result};
use crate::mapping::diagnostic::listed_all;
use crate::service::open;

/// The sync that a command is about. `usage` is the command as it is typed with a name.
///
/// Errors ([`Kind::Config`]): no name is given, and the project has several syncs or none; there is no sync of this name.
pub(super) fn only_sync<'a>(project: &'a Project, named: Option<&'a str>, usage: &str) -> Result<&'a str> {
    if let Some(name) = named {
        return open::exists(project, name).map(|()| name);
    }
    match project.names()[..] {
        [only] => Ok(only),
        [] => Err(Error::new(Kind::Config, "there is no sync yet")
            .advise("write a mapping first: `groupcast init --source NAME --table TABLE`")),
        ref several => {
            Err(Error::new(Kind::Config, format!("the command needs one sync, and there are {}", several.len()))
                .advise(name_one(usage, several)))
        }
    }
}

/// The advice to name one of several syncs.
pub(super) fn name_one(usage: &str, syncs: &[&str]) -> String {
    if syncs.is_empty() {
        return format!("name it: `{usage}`; `groupcast status` lists the syncs");
    }
    format!("name it: `{usage}`; the syncs are {}", listed_all(syncs.iter().copied()))
}
