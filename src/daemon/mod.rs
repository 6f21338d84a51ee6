//! The daemon: a process that runs for months beside a warehouse, runs every sync on time, and can be observed and stopped.
//!
//! | module | what it is |
//! |---|---|
//! | `lifecycle` | from the config to the exit code |
//! | `supervisor` | the working parts, shared by the tasks |
//! | `run_loop` | starts the runs that are due, and drains at the end |
//! | `run_task` | one run: its failure or panic ends nothing else |
//! | `restore` | what is stored over a restart |
//! | `ledger_watch` | may a run start, or would its record be lost? |
//! | `peers`, `sharing` | other daemons over the same ledger: what is known of them; claims, taking over |
//! | `reload`, `project` | changes of the config folder |
//! | `service`, `orders`, `plans` | every query and command, as the [service](crate::service::api) has them |
//! | `observer`, [`observe`] | what can be observed from outside: log, metrics, alerts |
//! | [`systemd`], `signals` | the service manager and the process's signals |
//!
//! Where the ledger is a file, one process owns it, and a second one is refused; several daemons share one in a database. A
//! daemon stores nothing outside the ledger: a kill
//! leaves what a kill of `groupcast run` leaves. It knows no HTTP: the command line serves its
//! [service](crate::service::api) ([`Serving`]).

mod ledger_watch;
mod lifecycle;
pub mod observe;
mod observer;
mod orders;
mod peers;
mod plans;
mod project;
mod reload;
mod restore;
mod run_loop;
mod run_task;
mod service;
mod sharing;
mod signals;
mod supervisor;
pub mod systemd;

pub use lifecycle::{OpenedDaemon, PreparedDaemon, Serving};

#[cfg(test)]
mod tests;
