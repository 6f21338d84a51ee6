//! One run of one sync, top to bottom: read once, compare, guard, then page by page mark → send → record, and fold.
//!
//! [`run`], [`plan`] and [`adopt`] share one path up to the sending (`Session::phase`), so a plan shows what
//! a run will do because it is the same code. This module decides the order of things; it knows no SQL, no HTTP and no
//! terminal: it notifies a [`Monitor`].
//!
//! | module | what it holds |
//! |---|---|
//! | `options` | what is requested of a run |
//! | `session`, `start` | what a run needs; its id and target |
//! | `run`, `plan`, `adopt`, `verify` | the four things that can be done with a sync |
//! | `reader`, `read`, `unchanged`, `mirror` | the rows and the comparison; whether reading can be skipped, or left to the warehouse |
//! | `guard`, `former_name` | what stops a run before anything is sent |
//! | `decide`, `send`, `record` | pages of decisions, on their way and after it |
//! | `planned`, `plan_file` | changes as a plan shows and keeps them |
//! | `report`, `timeline`, `trait_counts`, `requests`, `request_log` | what is known afterwards |

mod adopt;
mod approved;
pub mod decide;
mod former_name;
pub mod group_keys;
pub mod guard;
pub mod mirror;
mod missing;
pub mod options;
mod plan;
pub mod plan_file;
pub mod planned;
mod read;
mod reader;
mod record;
pub mod remote_groups;
pub mod report;
mod request_log;
pub mod requests;
mod run;
mod send;
mod session;
mod start;
pub mod synced;
pub mod timeline;
pub mod trait_counts;
mod unchanged;
pub mod verify;

pub use adopt::adopt;
pub use group_keys::GroupKeys;
pub use options::{Flag, RunOptions, RunOrigin};
pub use plan::{Plan, plan};
pub use reader::{Reader, Rows, Warehouse};
pub use run::{note_failure, run};
pub use session::{Event, Monitor, Session};
pub use start::{run_id, target_of};

/// Who started a run that a person requested with a command, in records and metrics.
pub const BY_COMMAND_LINE: &str = "command line";
