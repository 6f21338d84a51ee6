//! The identity of a process, by which other processes, on this machine or another one, tell whether it has ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The machine's name, for people.
    host: String,
    /// The process's number.
    pid: u32,
    /// The machine's start, the namespace of the number, and the process's start: empty where the system does not say.
    boot: String,
    space: String,
    started: String,
}

fn line(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// When a process started, in ticks since the machine did; empty without such a process. What precedes the field may hold
/// spaces, so fields are counted behind the name's last parenthesis.
fn started(pid: u32) -> String {
    let stat = line(&format!("/proc/{pid}/stat"));
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    fields.split_whitespace().nth(19).unwrap_or_default().to_owned()
}

impl ProcessId {
    /// This process's.
    pub fn own() -> ProcessId {
        let pid = std::process::id();
        let space = std::fs::read_link("/proc/self/ns/pid");
        let host = Some(line("/proc/sys/kernel/hostname")).filter(|host| !host.is_empty());
        ProcessId {
            host: host.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_else(|| "another machine".to_owned()),
            pid,
            boot: line("/proc/sys/kernel/random/boot_id"),
            space: space.map(|path| path.display().to_string()).unwrap_or_default(),
            started: started(pid),
        }
    }

    /// The machine's name, for people.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it ran on this machine, and has certainly ended.
    pub fn is_gone(&self) -> bool {
        let own = ProcessId::own();
        let is_known = [&self.boot, &self.space, &self.started].iter().all(|part| !part.is_empty());
        is_known && self.boot == own.boot && self.space == own.space && started(self.pid) != self.started
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "process {} on {}", self.pid, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_one_that_has_ended_is_gone() {
        assert!(!ProcessId::own().is_gone());
        if !std::path::Path::new("/proc/self/stat").exists() {
            return;
        }
        let other = ProcessId { started: "1".to_owned(), ..ProcessId::own() };
        assert!(other.is_gone(), "the number was given to another process since");
        let elsewhere = ProcessId { boot: "another".to_owned(), ..other.clone() };
        assert!(!elsewhere.is_gone(), "what runs on another machine is not known here");
        let contained = ProcessId { space: "pid:[1]".to_owned(), ..other };
        assert!(!contained.is_gone());
    }
}
