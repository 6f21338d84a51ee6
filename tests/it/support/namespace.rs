//! A machine of its own on this one: a network namespace, with a cable that can be pulled. Needs root and iproute2.

use std::net::Ipv4Addr;
use std::process::Command;

/// A namespace and its cable, gone with their owner.
pub(crate) struct Namespace {
    name: String,
    /// This machine's end of the cable.
    cable: String,
    number: u8,
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("network namespaces need iproute2");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`ip {}` (it needs root): {error}", arguments.join(" "));
}

impl Namespace {
    /// Makes one; each of a process has another number.
    pub(crate) fn new(number: u8) -> Namespace {
        let id = std::process::id() % 1_000_000;
        let namespace = Namespace { name: format!("gc{id}-{number}"), cable: format!("gc{id}h{number}"), number };
        let (name, cable, far) = (namespace.name.as_str(), namespace.cable.as_str(), format!("gc{id}n{number}"));
        let near_address = format!("{}/24", namespace.near());
        let far_address = format!("{}/24", namespace.far());
        ip(&["netns", "add", name]);
        ip(&["link", "add", cable, "type", "veth", "peer", "name", &far, "netns", name]);
        ip(&["address", "add", &near_address, "dev", cable]);
        ip(&["link", "set", cable, "up"]);
        ip(&["-netns", name, "address", "add", &far_address, "dev", &far]);
        ip(&["-netns", name, "link", "set", "lo", "up"]);
        ip(&["-netns", name, "link", "set", &far, "up"]);
        namespace
    }

    /// The address of this machine, as the other one sees it.
    pub(crate) fn near(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 1)
    }

    /// The address of the other machine.
    pub(crate) fn far(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 2)
    }

    /// The command, run there.
    pub(crate) fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.name]).arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// Pulls the cable: what is sent is lost from now on, without an error at either end.
    pub(crate) fn unplug(&self) {
        ip(&["link", "set", &self.cable, "down"]);
    }

    /// Puts it in again.
    pub(crate) fn plug(&self) {
        ip(&["link", "set", &self.cable, "up"]);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.cable]).output();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}
