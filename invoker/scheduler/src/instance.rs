//! One instance of a function: its states, and every transition between them.
//!
//! Source: FluidFaaS §9; the machine is ours. A transient state never serves.

use crate::instant::Instant;
use crate::reason::StopReason;
use proto::id::LaneId;

/// What an instance is, with what exists only then.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// All lanes load. Has its slices, serves nothing.
    Starting,
    /// Owns its slices; activations run at once.
    Hot {
        /// Since when nothing is in flight; none if something is.
        idle: Option<Instant>,
    },
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
    /// All lanes are loaded.
    Ready,
    StartFailed,
    /// It was given an activation.
    Routed,
    /// The last activation in flight has ended.
    Emptied,
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
    /// The state after `happening`, and what follows.
    ///
    /// # Errors
    /// A happening that makes no sense in this state.
    pub fn next(self, happening: Happening, now: Instant) -> Result<(Self, Effect), Box<Impossible>> {
        use Happening::{Emptied, LaneDied, Ready, Retired, Routed, StartFailed, Stopped};
        use State::{Cold, Draining, Hot, Starting, Stopping};
        match (self, happening) {
            (Starting, Ready) => Ok((Hot { idle: Some(now) }, Effect::None)),
            (Starting | Stopping { dead: None }, StartFailed) => Ok((Cold { dead: None }, Effect::Release)),
            (Stopping { dead }, StartFailed | Stopped) => Ok((Cold { dead }, Effect::Release)),

            (Hot { .. }, Routed) => Ok((Hot { idle: None }, Effect::None)),
            (Hot { .. }, Emptied) => Ok((Hot { idle: Some(now) }, Effect::None)),
            (Draining { because }, Emptied) => Ok((Stopping { dead: None }, Effect::Stop(because))),
            (state @ (Stopping { .. } | Cold { .. }), Emptied) => Ok((state, Effect::None)),

            (Starting | Hot { idle: Some(_) }, Retired(because)) => {
                Ok((Stopping { dead: None }, Effect::Stop(because)))
            }
            (Hot { idle: None }, Retired(because)) => Ok((Draining { because }, Effect::None)),
            (state @ (Draining { .. } | Stopping { .. } | Cold { .. }), Retired(_)) => {
                Ok((state, Effect::None))
            }

            (Starting | Hot { .. } | Draining { .. }, LaneDied(lane, because)) => {
                let dead = Some((lane, because.clone()));
                Ok((
                    Stopping { dead },
                    Effect::Stop(StopReason::LaneDied { lane, because }),
                ))
            }
            // The end that was asked for.
            (state @ (Stopping { .. } | Cold { .. }), LaneDied(..)) => Ok((state, Effect::None)),
            // It came up while it was being taken down.
            (state @ Stopping { .. }, Ready) => Ok((state, Effect::None)),

            // It went away without being asked to.
            (Starting | Hot { .. } | Draining { .. }, Stopped) => Ok((Cold { dead: None }, Effect::Release)),

            (state @ (Hot { .. } | Draining { .. } | Cold { .. }), happening @ (Ready | StartFailed))
            | (state @ (Starting | Draining { .. } | Stopping { .. } | Cold { .. }), happening @ Routed)
            | (state @ Starting, happening @ Emptied)
            | (state @ Cold { .. }, happening @ Stopped) => Err(Box::new(Impossible { state, happening })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Effect::{None as Nothing, Release, Stop};
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
        let table = [
            (Starting, Ready, Some((rested.clone(), Nothing))),
            (Starting, StartFailed, Some((cold.clone(), Release))),
            (Starting, Routed, None),
            (Starting, Emptied, None),
            (
                Starting,
                retired(),
                Some((stopping.clone(), Stop(fenced.clone()))),
            ),
            (Starting, lane_died(), Some((killed.clone(), Stop(died.clone())))),
            (Starting, Stopped, Some((cold.clone(), Release))),
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
