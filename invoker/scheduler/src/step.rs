//! What the handling of one event may use: the time, the memory, and where commands go.

use crate::command::Command;
use crate::instant::Instant;
use crate::memory::Memory;
use crate::settings::Settings;
use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) now: Instant,
    pub(crate) settings: &'a Settings,
    pub(crate) memory: &'a mut Memory,
    /// What pipelines wait for.
    pub(crate) claim: Option<Claim>,
    pub(crate) out: &'a mut VecDeque<Command>,
}

/// A claim to memory that cannot be met yet. Younger ones wait behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Arrival of the activation that needs the memory.
    pub(crate) arrival: u64,
    pub(crate) since: Instant,
}

impl Step<'_> {
    /// Whether an activation of this arrival has to leave free memory to an older claim.
    pub(crate) fn is_claimed_before(&self, arrival: u64) -> bool {
        self.claim.is_some_and(|claim| claim.arrival < arrival)
    }

    pub(crate) fn say(&mut self, command: Command) {
        self.out.push_back(command);
    }
}
