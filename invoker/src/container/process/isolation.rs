//! What keeps containers of the process engine apart on this machine, and what does not.

use super::cgroups::{Cgroups, Controller};
use std::fmt;

/// Each is in force, or there is a reason why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// A view of files, processes and devices of its own.
    pub namespaces: Result<(), String>,
    /// A user of its own.
    pub user: Result<(), String>,
    /// A limit on memory.
    pub memory: Result<(), String>,
    /// A limit on CPU time.
    pub cpu: Result<(), String>,
    /// A limit on the number of processes.
    pub processes: Result<(), String>,
    /// Pausing.
    pub freezer: Result<(), String>,
}

impl Isolation {
    pub(super) fn new(namespaces: Result<(), String>, user: Result<(), String>, cgroups: &Cgroups) -> Self {
        let limit = |controller| match cgroups.refusal(controller) {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(()),
        };
        Self {
            namespaces,
            user,
            memory: limit(Controller::Memory),
            cpu: limit(Controller::Cpu),
            processes: limit(Controller::Pids),
            freezer: limit(Controller::Freezer),
        }
    }

    /// Whether a simulated slice really has no more than its share.
    pub fn limits_slices(&self) -> bool {
        self.memory.is_ok() && self.cpu.is_ok()
    }

    /// What is missing and what that means, a sentence each.
    pub fn shortcomings(&self) -> Vec<String> {
        let parts = [
            (
                &self.namespaces,
                "containers see the host's files and processes, and tenants are not isolated from each other",
            ),
            (&self.user, "containers run as the invoker's own user"),
            (&self.memory, "memory limits are not enforced"),
            (
                &self.cpu,
                "simulated slices differ by priority and threads only, and profiles are marked as simulated",
            ),
            (&self.processes, "the number of processes is not limited"),
            (
                &self.freezer,
                "idle containers are not paused but may go on working",
            ),
        ];
        let missing = parts
            .into_iter()
            .filter_map(|(part, meaning)| Some((part.as_ref().err()?, meaning)));
        missing
            .map(|(reason, meaning)| format!("{meaning}: {reason}"))
            .collect()
    }
}

impl fmt::Display for Isolation {
    /// One line for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("namespaces", &self.namespaces),
            ("users", &self.user),
            ("memory", &self.memory),
            ("CPU", &self.cpu),
            ("processes", &self.processes),
            ("freezer", &self.freezer),
        ];
        let (there, missing): (Vec<_>, Vec<_>) = parts.into_iter().partition(|(_, part)| part.is_ok());
        let names = |parts: Vec<(&str, _)>| match parts.len() {
            0 => "nothing".to_owned(),
            _ => parts
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
                .join(", "),
        };
        write!(f, "in force: {}; missing: {}", names(there), names(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_its_meaning_and_its_reason() {
        let isolation = Isolation {
            namespaces: Ok(()),
            user: Ok(()),
            memory: Ok(()),
            cpu: Err("it is not mounted".to_owned()),
            processes: Ok(()),
            freezer: Ok(()),
        };
        assert_eq!(
            isolation.shortcomings(),
            [
                "simulated slices differ by priority and threads only, and profiles are marked as simulated: \
              it is not mounted"
            ]
        );
        assert_eq!(
            isolation.to_string(),
            "in force: namespaces, users, memory, processes, freezer; missing: CPU"
        );
        assert!(!isolation.limits_slices());
    }
}
