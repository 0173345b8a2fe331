//! When instances share slices, leave them, and get them back: the settings below `ffs.sharing`.

use super::reader::{DURATION, Kind, Reader};
use scheduler::settings::Victims;
use std::time::Duration;

/// Defaults: FluidFaaS §9.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SharingSettings {
    /// Whose weights leave the slices first.
    pub victims: Victims,
    /// Part of the memory of all containers that they may hold while warm instances are kept.
    pub host_memory_high: f64,
    /// An instance that needs less of its slices than this may be made to share them …
    pub demote: f64,
    /// … after it needed less for this long.
    pub dwell: Duration,
    /// An instance on shared slices that needs more than this is given slices of its own.
    pub promote: f64,
    /// Instances on one slice may need this part of it together.
    pub most: f64,
    /// How long a lane may keep a shared slice while others wait for it.
    pub turn: Duration,
}

impl Default for SharingSettings {
    fn default() -> Self {
        let scheduler::Settings {
            victims,
            host_memory_high,
            demote,
            dwell,
            promote,
            share_most: most,
            turn_most: turn,
            ..
        } = scheduler::Settings::default();
        Self {
            victims,
            host_memory_high,
            demote,
            dwell,
            promote,
            most,
            turn,
        }
    }
}

impl SharingSettings {
    /// The scheduler's settings with these in force.
    pub fn applied_to(self, settings: scheduler::Settings) -> scheduler::Settings {
        scheduler::Settings {
            victims: self.victims,
            host_memory_high: self.host_memory_high,
            demote: self.demote,
            dwell: self.dwell,
            promote: self.promote,
            share_most: self.most,
            turn_most: self.turn,
            ..settings
        }
    }
}

const VICTIMS: Kind<Victims> = Kind {
    expected: "hotness, lru, lfu or cost",
    parse: |text| {
        let named = |(name, _): &&(&str, Victims)| *name == text.trim();
        Victims::ALL.iter().find(named).map(|(_, victims)| *victims)
    },
};
const PART: Kind<f64> = Kind {
    expected: "a number from 0 to 1",
    parse: |text| text.trim().parse().ok().filter(|part| (0.0..=1.0).contains(part)),
};

pub(super) fn read(reader: &mut Reader<'_>) -> SharingSettings {
    let settings = SharingSettings {
        victims: reader.get("ffs.sharing.victims", "hotness", &VICTIMS),
        host_memory_high: reader.get("ffs.sharing.host-memory-high", "0.8", &PART),
        demote: reader.get("ffs.sharing.demote", "0.2", &PART),
        dwell: reader.get("ffs.sharing.dwell", "10 seconds", &DURATION),
        promote: reader.get("ffs.sharing.promote", "0.5", &PART),
        most: reader.get("ffs.sharing.most", "0.8", &PART),
        turn: reader.get("ffs.sharing.turn", "200 milliseconds", &DURATION),
    };
    let (demote, promote) = (settings.demote, settings.promote);
    if demote >= promote {
        reader.problem(format!(
            "ffs.sharing.demote is {demote} and ffs.sharing.promote {promote}: expected the first to be less, \
             lest an instance go to and fro"
        ));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_schedulers() {
        let settings = scheduler::Settings::default();
        let applied = SharingSettings::default().applied_to(settings.clone());
        assert_eq!(format!("{applied:?}"), format!("{settings:?}"));
    }
}
