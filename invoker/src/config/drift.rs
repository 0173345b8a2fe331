//! When observed times take the place of a profile's: the settings below `ffs.drift`.

use super::reader::{DURATION, Kind, NUMBER, Reader};
use scheduler::drift::DriftSettings;

const ABOVE_ONE: Kind<f64> = Kind {
    expected: "a number above 1",
    parse: |text| {
        let factor: Option<f64> = text.trim().parse().ok();
        factor.filter(|factor| factor.is_finite() && *factor > 1.0)
    },
};

pub(super) fn read(reader: &mut Reader<'_>) -> DriftSettings {
    DriftSettings {
        factor: reader.get("ffs.drift.factor", "1.5", &ABOVE_ONE),
        runs: reader.get("ffs.drift.runs", "30", &NUMBER),
        window: reader.get("ffs.drift.window", "10 seconds", &DURATION),
    }
}
