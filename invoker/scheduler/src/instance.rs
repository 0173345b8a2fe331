//! One instance of a function: its states, and every transition between them.
//!
//! Source: FluidFaaS §9; the machine is ours. A transient state never serves.

use crate::instant::Instant;
use crate::reason::{EvictReason, StopReason};
use proto::id::LaneId;

/// What an instance is, with what exists only then.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// All lanes load. Has its slices, serves nothing.
    Starting { shared: bool },
    /// Owns its slices; activations run at once.
    Hot {
        /// Since when nothing is in flight; none if something is.
        idle: Option<Instant>,
    },
    /// Sits on slices with other instances; its lanes compute in turns.
    Shared { idle: Option<Instant> },
    /// The weights leave the slices, which it still has. Serves nothing.
    SwappingOut,
    /// Its containers are alive and its weights in host memory; it has no slice.
    Warm { since: Instant },
    /// The weights return to its slices, which it has again. Serves nothing.
    SwappingIn { shared: bool },
    /// Takes nothing new; stops when the last activation in flight has ended.
    Draining { because: StopReason },
    /// Is being taken down; still has its slices.
    Stopping {
        /// The lane whose death ended it, if one did.
        dead: Option<(LaneId, String)>,
    },
    /// Nothing of it is left but activations whose end was not reported yet.
    Cold { dead: Option<(LaneId, String)> },
}

/// What can happen to an instance.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// All lanes are loaded, or their weights are back.
    Ready,
    StartFailed,
    /// It was given an activation.
    Routed,
    /// The last activation in flight has ended.
    Emptied,
    /// Others may sit on its slices from now on.
    Demoted,
    /// It has its slices to itself from now on.
    Promoted,
    /// Its weights shall leave the slices.
    Evicted(EvictReason),
    /// They have left.
    SwappedOut,
    /// It was given its slices again.
    Woken {
        shared: bool,
    },
    /// It shall go as soon as nothing is in flight.
    Retired(StopReason),
    LaneDied(LaneId, String),
    /// Nothing of it is left.
    Stopped,
}

/// What follows from a transition.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    None,
    /// Move its weights to host memory.
    Evict(EvictReason),
    /// Its slices are free; its memory is not.
    ReleaseSlices,
    /// Move its weights back.
    Wake {
        shared: bool,
    },
    /// Its lanes begin, or cease, to compute in turns.
    Share(bool),
    /// Take it down.
    Stop(StopReason),
    /// Its slices and its memory are free.
    Release,
}

/// A happening that makes no sense in this state: whoever reports it is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("an instance that is {state:?} cannot be told {happening:?}")]
pub struct Impossible {
    pub state: State,
    pub happening: Happening,
}

impl State {
    /// All words that [`Self::name`] says.
    pub const NAMES: [&'static str; 9] = [
        "starting",
        "hot",
        "shared",
        "swapping out",
        "warm",
        "swapping in",
        "draining",
        "stopping",
        "cold",
    ];

    /// The word for logs and the admin API.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Starting { .. } => "starting",
            Self::Hot { .. } => "hot",
            Self::Shared { .. } => "shared",
            Self::SwappingOut => "swapping out",
            Self::Warm { .. } => "warm",
            Self::SwappingIn { .. } => "swapping in",
            Self::Draining { .. } => "draining",
            Self::Stopping { .. } => "stopping",
            Self::Cold { .. } => "cold",
        }
    }

    /// Since when it could serve and has nothing to do.
    pub const fn idle(&self) -> Option<Instant> {
        match self {
            Self::Hot { idle } | Self::Shared { idle } => *idle,
            _ => None,
        }
    }

    /// Whether activations may be given to it.
    pub const fn serves(&self) -> bool {
        matches!(self, Self::Hot { .. } | Self::Shared { .. })
    }

    const fn serving(shared: bool, idle: Option<Instant>) -> Self {
        if shared {
            Self::Shared { idle }
        } else {
            Self::Hot { idle }
        }
    }

    /// The state after `happening`, and what follows.
    ///
    /// # Errors
    /// A happening that makes no sense in this state.
    pub fn next(self, happening: Happening, now: Instant) -> Result<(Self, Effect), Box<Impossible>> {
        use Happening::{
            Demoted, Emptied, Evicted, LaneDied, Promoted, Ready, Retired, Routed, StartFailed, Stopped,
            SwappedOut, Woken,
        };
        use State::{Cold, Draining, Hot, Shared, Starting, Stopping, SwappingIn, SwappingOut, Warm};
        match (self, happening) {
            (Starting { shared } | SwappingIn { shared }, Ready) => {
                Ok((Self::serving(shared, Some(now)), Effect::None))
            }
            (Starting { .. } | Stopping { dead: None }, StartFailed) => {
                Ok((Cold { dead: None }, Effect::Release))
            }
            (Stopping { dead }, StartFailed | Stopped) => Ok((Cold { dead }, Effect::Release)),

            (Hot { .. }, Routed) => Ok((Hot { idle: None }, Effect::None)),
            (Shared { .. }, Routed) => Ok((Shared { idle: None }, Effect::None)),
            (Hot { .. }, Emptied) => Ok((Hot { idle: Some(now) }, Effect::None)),
            (Shared { .. }, Emptied) => Ok((Shared { idle: Some(now) }, Effect::None)),
            (Draining { because }, Emptied) => Ok((Stopping { dead: None }, Effect::Stop(because))),
            (state @ (Stopping { .. } | Cold { .. }), Emptied) => Ok((state, Effect::None)),

            (Hot { idle }, Demoted) => Ok((Shared { idle }, Effect::Share(true))),
            (Shared { idle }, Promoted) => Ok((Hot { idle }, Effect::Share(false))),

            (Hot { idle: Some(_) } | Shared { idle: Some(_) }, Evicted(because)) => {
                Ok((SwappingOut, Effect::Evict(because)))
            }
            (SwappingOut, SwappedOut) => Ok((Warm { since: now }, Effect::ReleaseSlices)),
            (Warm { .. }, Woken { shared }) => Ok((SwappingIn { shared }, Effect::Wake { shared })),

            (
                Starting { .. }
                | Hot { idle: Some(_) }
                | Shared { idle: Some(_) }
                | SwappingOut
                | Warm { .. }
                | SwappingIn { .. },
                Retired(because),
            ) => Ok((Stopping { dead: None }, Effect::Stop(because))),
            (Hot { idle: None } | Shared { idle: None }, Retired(because)) => {
                Ok((Draining { because }, Effect::None))
            }
            (state @ (Draining { .. } | Stopping { .. } | Cold { .. }), Retired(_)) => {
                Ok((state, Effect::None))
            }

            (
                Starting { .. }
                | Hot { .. }
                | Shared { .. }
                | SwappingOut
                | Warm { .. }
                | SwappingIn { .. }
                | Draining { .. },
                LaneDied(lane, because),
            ) => {
                let dead = Some((lane, because.clone()));
                Ok((
                    Stopping { dead },
                    Effect::Stop(StopReason::LaneDied { lane, because }),
                ))
            }
            // The end that was asked for.
            (state @ (Stopping { .. } | Cold { .. }), LaneDied(..)) => Ok((state, Effect::None)),
            // It came up, or was evicted, while it was being taken down.
            (state @ Stopping { .. }, Ready | SwappedOut) => Ok((state, Effect::None)),

            // It went away without being asked to.
            (
                Starting { .. }
                | Hot { .. }
                | Shared { .. }
                | SwappingOut
                | Warm { .. }
                | SwappingIn { .. }
                | Draining { .. },
                Stopped,
            ) => Ok((Cold { dead: None }, Effect::Release)),

            (state, happening) => Err(Box::new(Impossible { state, happening })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Effect::{Evict, None as Nothing, Release, ReleaseSlices, Share, Stop, Wake};
    use super::Happening::*;
    use super::State::*;
    use super::*;
    use std::time::Duration;

    const NOW: Instant = Instant(Duration::from_secs(7));

    /// Every pair of a state and a happening: where it leads, or none if it makes no sense.
    #[test]
    fn every_transition_is_as_the_table_says() {
        let idle = Hot {
            idle: Some(Instant::ZERO),
        };
        let rested = Hot { idle: Some(NOW) };
        let busy = Hot { idle: None };
        let draining = Draining {
            because: StopReason::Spoiled,
        };
        let stopping = Stopping { dead: None };
        let dead = Some((LaneId::HEAD, "exit code 1".to_owned()));
        let killed = Stopping { dead: dead.clone() };
        let cold = Cold { dead: None };
        let fenced = StopReason::SliceFenced {
            slice: "MIG-1".to_owned(),
        };
        let died = StopReason::LaneDied {
            lane: LaneId::HEAD,
            because: "exit code 1".to_owned(),
        };
        let lane_died = || LaneDied(LaneId::HEAD, "exit code 1".to_owned());
        let retired = || Retired(fenced.clone());
        let starting = Starting { shared: false };
        let shared = Shared {
            idle: Some(Instant::ZERO),
        };
        let shared_rested = Shared { idle: Some(NOW) };
        let shared_busy = Shared { idle: None };
        let warm = Warm { since: NOW };
        let swapping_in = |shared| SwappingIn { shared };
        let woken = |shared| Woken { shared };
        let for_other = || EvictReason::ForFunction {
            function: "guest/other".to_owned(),
        };
        let evicted = || Evicted(for_other());
        let table = [
            // On shared slices.
            (
                Starting { shared: true },
                Ready,
                Some((shared_rested.clone(), Nothing)),
            ),
            (idle.clone(), Demoted, Some((shared.clone(), Share(true)))),
            (busy.clone(), Demoted, Some((shared_busy.clone(), Share(true)))),
            (shared.clone(), Promoted, Some((idle.clone(), Share(false)))),
            (shared_busy.clone(), Promoted, Some((busy.clone(), Share(false)))),
            (shared.clone(), Demoted, None),
            (idle.clone(), Promoted, None),
            (shared.clone(), Routed, Some((shared_busy.clone(), Nothing))),
            (shared_busy.clone(), Routed, Some((shared_busy.clone(), Nothing))),
            (
                shared_busy.clone(),
                Emptied,
                Some((shared_rested.clone(), Nothing)),
            ),
            (shared.clone(), Ready, None),
            (
                shared.clone(),
                retired(),
                Some((stopping.clone(), Stop(fenced.clone()))),
            ),
            (
                shared_busy.clone(),
                retired(),
                Some((
                    Draining {
                        because: fenced.clone(),
                    },
                    Nothing,
                )),
            ),
            (
                shared_busy.clone(),
                lane_died(),
                Some((killed.clone(), Stop(died.clone()))),
            ),
            (shared.clone(), Stopped, Some((cold.clone(), Release))),
            // Out of the slices, into host memory.
            (idle.clone(), evicted(), Some((SwappingOut, Evict(for_other())))),
            (shared.clone(), evicted(), Some((SwappingOut, Evict(for_other())))),
            (busy.clone(), evicted(), None),
            (shared_busy.clone(), evicted(), None),
            (starting.clone(), evicted(), None),
            (draining.clone(), evicted(), None),
            (SwappingOut, evicted(), None),
            (SwappingOut, SwappedOut, Some((warm.clone(), ReleaseSlices))),
            (SwappingOut, Routed, None),
            (SwappingOut, Ready, None),
            (
                SwappingOut,
                retired(),
                Some((stopping.clone(), Stop(fenced.clone()))),
            ),
            (
                SwappingOut,
                lane_died(),
                Some((killed.clone(), Stop(died.clone()))),
            ),
            (SwappingOut, Stopped, Some((cold.clone(), Release))),
            (stopping.clone(), SwappedOut, Some((stopping.clone(), Nothing))),
            (warm.clone(), SwappedOut, None),
            (warm.clone(), Routed, None),
            (warm.clone(), Ready, None),
            (warm.clone(), Demoted, None),
            (
                warm.clone(),
                retired(),
                Some((stopping.clone(), Stop(fenced.clone()))),
            ),
            (
                warm.clone(),
                lane_died(),
                Some((killed.clone(), Stop(died.clone()))),
            ),
            (warm.clone(), Stopped, Some((cold.clone(), Release))),
            // And back.
            (
                warm.clone(),
                woken(false),
                Some((swapping_in(false), Wake { shared: false })),
            ),
            (
                warm,
                woken(true),
                Some((swapping_in(true), Wake { shared: true })),
            ),
            (idle.clone(), woken(false), None),
            (swapping_in(false), Ready, Some((rested.clone(), Nothing))),
            (swapping_in(true), Ready, Some((shared_rested, Nothing))),
            (swapping_in(false), Routed, None),
            (swapping_in(false), evicted(), None),
            (
                swapping_in(true),
                retired(),
                Some((stopping.clone(), Stop(fenced.clone()))),
            ),
            (
                swapping_in(true),
                lane_died(),
                Some((killed.clone(), Stop(died.clone()))),
            ),
            (swapping_in(true), Stopped, Some((cold.clone(), Release))),
            // What goes, goes as before.
            (starting.clone(), Ready, Some((rested.clone(), Nothing))),
            (starting.clone(), Ready, Some((rested.clone(), Nothing))),
            (starting.clone(), StartFailed, Some((cold.clone(), Release))),
            (starting.clone(), Routed, None),
            (starting.clone(), Emptied, None),
            (
                starting.clone(),
                retired(),
                Some((stopping.clone(), Stop(fenced.clone()))),
            ),
            (
                starting.clone(),
                lane_died(),
                Some((killed.clone(), Stop(died.clone()))),
            ),
            (starting.clone(), Stopped, Some((cold.clone(), Release))),
            (idle.clone(), Ready, None),
            (idle.clone(), StartFailed, None),
            (idle.clone(), Routed, Some((busy.clone(), Nothing))),
            (idle.clone(), Emptied, Some((rested.clone(), Nothing))),
            (
                idle.clone(),
                retired(),
                Some((stopping.clone(), Stop(fenced.clone()))),
            ),
            (
                idle.clone(),
                lane_died(),
                Some((killed.clone(), Stop(died.clone()))),
            ),
            (idle.clone(), Stopped, Some((cold.clone(), Release))),
            (busy.clone(), Ready, None),
            (busy.clone(), StartFailed, None),
            (busy.clone(), Routed, Some((busy.clone(), Nothing))),
            (busy.clone(), Emptied, Some((rested.clone(), Nothing))),
            (
                busy.clone(),
                retired(),
                Some((
                    Draining {
                        because: fenced.clone(),
                    },
                    Nothing,
                )),
            ),
            (
                busy.clone(),
                lane_died(),
                Some((killed.clone(), Stop(died.clone()))),
            ),
            (busy, Stopped, Some((cold.clone(), Release))),
            (draining.clone(), Ready, None),
            (draining.clone(), StartFailed, None),
            (draining.clone(), Routed, None),
            (
                draining.clone(),
                Emptied,
                Some((stopping.clone(), Stop(StopReason::Spoiled))),
            ),
            (draining.clone(), retired(), Some((draining.clone(), Nothing))),
            (draining.clone(), lane_died(), Some((killed.clone(), Stop(died)))),
            (draining, Stopped, Some((cold.clone(), Release))),
            (stopping.clone(), Ready, Some((stopping.clone(), Nothing))),
            (stopping.clone(), StartFailed, Some((cold.clone(), Release))),
            (stopping.clone(), Routed, None),
            (stopping.clone(), Emptied, Some((stopping.clone(), Nothing))),
            (stopping.clone(), retired(), Some((stopping.clone(), Nothing))),
            (stopping.clone(), lane_died(), Some((stopping.clone(), Nothing))),
            (stopping, Stopped, Some((cold.clone(), Release))),
            (killed, Stopped, Some((Cold { dead }, Release))),
            (cold.clone(), Ready, None),
            (cold.clone(), StartFailed, None),
            (cold.clone(), Routed, None),
            (cold.clone(), Emptied, Some((cold.clone(), Nothing))),
            (cold.clone(), retired(), Some((cold.clone(), Nothing))),
            (cold.clone(), lane_died(), Some((cold.clone(), Nothing))),
            (cold, Stopped, None),
        ];
        for (state, happening, expected) in table {
            let told = format!("{state:?} is told {happening:?}");
            assert_eq!(state.next(happening, NOW).ok(), expected, "{told}");
        }
    }
}
