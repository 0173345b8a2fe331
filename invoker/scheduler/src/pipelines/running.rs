//! One instance of a function, with what the books know of it.

use crate::batch::{self, BatchLane, Batched, Paces};
use crate::dag::{ComponentSet, Dag};
use crate::fault::Fault;
use crate::instance::State;
use crate::instant::Instant;
use crate::job::Job;
use crate::profile::Profile;
use crate::reason::Refusal;
use crate::settings::{Settings, Victims};
use crate::slices::Lease;
use crate::work::FunctionKey;
use proto::ffs::assignment::AssignmentDocument;
use proto::id::{ActivationId, InstanceId, LaneId, ProfileName, SliceUuid};
use proto::unit::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) function: FunctionKey,
    pub(crate) state: State,
    /// None while it is warm, and once nothing of it is left.
    pub(super) lease: Option<Lease>,
    /// Where its lanes are: a process sees one slice for its whole life.
    pub(super) places: Vec<Place>,
    /// What its lanes were told last, or are being told.
    pub(super) assignment: AssignmentDocument,
    /// A replica that comes or goes: not among `places`, and its slice not in `lease`.
    pub(super) moving: Option<Moving>,
    /// What its rings may take altogether.
    pub(super) ring_room: Bytes,
    /// Replicas so far: no two rings have the same name.
    pub(super) joins: u64,
    /// Of all lanes together.
    pub(super) memory: Bytes,
    /// Whether the memory counts as leaving.
    pub(super) leaving: bool,
    /// Most activations in flight.
    pub(crate) limit: usize,
    pub(crate) runs: BTreeMap<ActivationId, Job>,
    pub(crate) key: String,
    pub(crate) bottleneck: Duration,
    /// Of one activation alone.
    pub(super) latency: Duration,
    /// The part of the latency that is spent between lanes.
    pub(super) transfer: Duration,
    /// If its lanes run several requests at once.
    pub(super) batched: Option<Batched>,
    pub(super) slo: Option<Duration>,
    /// What its weights take from host memory to the slices.
    pub(super) swap_in: Duration,
    /// When it became ready, or came back.
    pub(super) hot_since: Instant,
    pub(super) used: Instant,
    /// Activations so far.
    pub(super) uses: u64,
    /// Observed since it was ready: the first ones tell nothing of the components.
    pub(super) observed: u32,
    /// Since when it needs less of its slices than `demote`; none if it does not, as far as is known.
    pub(super) cool_since: Option<Instant>,
    /// Since when it needs more than `promote`.
    pub(super) pressed_since: Option<Instant>,
    /// Commands `Share` whose end is not reported yet.
    pub(super) unsettled: u32,
    /// The instance that this one replaces once it is ready.
    pub(super) replaces: Option<u64>,
}

/// A replica between being decided on and serving, or the other way.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) comes: bool,
    pub(super) place: Place,
    pub(super) lease: Lease,
}

/// A lane and where it computes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) lane: LaneId,
    /// The lane that it is a replica of, or itself.
    pub(super) original: LaneId,
    pub(super) slice: SliceUuid,
    pub(super) kind: ProfileName,
    pub(super) components: ComponentSet,
    /// What the lane needs there.
    pub(super) memory: Bytes,
    /// What the slice has.
    pub(super) room: Bytes,
    /// One execution, p50.
    pub(super) exec: Duration,
}

impl Place {
    fn batch_lane(&self) -> BatchLane<'_> {
        BatchLane {
            original: self.original,
            components: self.components,
            kind: &self.kind,
            memory: self.room,
        }
    }
}

impl Instance {
    /// Whether it serves, or soon will.
    pub(super) fn is_live(&self) -> bool {
        match self.state {
            State::Starting { .. } | State::Hot { .. } | State::Shared { .. } | State::SwappingIn { .. } => {
                true
            }
            State::SwappingOut
            | State::Warm { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Cold { .. } => false,
        }
    }

    /// Whether it will serve, and does not yet.
    pub(super) fn is_coming(&self) -> bool {
        matches!(self.state, State::Starting { .. } | State::SwappingIn { .. })
    }

    /// Whether its weights move or activations are in flight.
    pub(super) fn is_busy(&self) -> bool {
        let moves = matches!(
            self.state,
            State::Starting { .. } | State::SwappingIn { .. } | State::SwappingOut
        );
        moves || !self.runs.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.state.serves() && self.runs.len() < self.limit
    }

    pub(crate) fn slices(&self) -> impl Iterator<Item = &SliceUuid> {
        let leases = self
            .lease
            .iter()
            .chain(self.moving.iter().map(|moving| &moving.lease));
        leases.flat_map(Lease::slices)
    }

    /// Whether nothing about its lanes is changing.
    pub(super) fn is_settled(&self) -> bool {
        self.moving.is_none()
    }

    pub(super) fn paces(&self) -> Paces {
        self.paces_of(|_| true)
    }

    /// As if it had these lanes only.
    pub(super) fn paces_of(&self, has: impl Fn(&Place) -> bool) -> Paces {
        let mut paces = Paces::default();
        for place in self.places.iter().filter(|place| has(place)) {
            paces.add(place.original, place.exec);
        }
        paces
    }

    /// The key of its partition, with how many there are of each lane that has replicas.
    pub(crate) fn plan(&self) -> String {
        let of = |original: LaneId| {
            self.places
                .iter()
                .filter(|place| place.original == original)
                .count()
        };
        let lane = |stage: usize, lane: usize, key: &str| match of(LaneId::new(stage as u16, lane as u16)) {
            0 | 1 => key.to_owned(),
            replicas => format!("{key}*{replicas}"),
        };
        let stages = self.key.split('|').enumerate().map(|(s, stage)| {
            let lanes = stage.split(';').enumerate().map(|(l, key)| lane(s, l, key));
            lanes.collect::<Vec<_>>().join(";")
        });
        stages.collect::<Vec<_>>().join("|")
    }

    /// Activations that are computed at once in each lane, at most.
    pub(super) fn most_at_once(&self) -> u32 {
        self.batched.map_or(1, |batched| batched.most)
    }

    pub(super) fn ready(&mut self, now: Instant) {
        self.hot_since = now;
        self.observed = 0;
        self.cool_since = None;
        self.pressed_since = None;
    }

    /// Reckons with other times from now on.
    pub(super) fn reassess(&mut self, dag: &Dag, costs: &Profile) {
        for place in &mut self.places {
            place.exec = costs.time(place.components, &place.kind).unwrap_or(place.exec);
        }
        let paces = self.paces();
        self.bottleneck = paces.bottleneck();
        self.latency = self.transfer + paces.latency();
        if let Some(batched) = &mut self.batched {
            let lanes: Vec<BatchLane<'_>> = self.places.iter().map(Place::batch_lane).collect();
            *batched = batch::batched(dag, costs, &lanes, self.transfer, batched.most).unwrap_or(*batched);
        }
    }

    /// How long it stays what it is, at least.
    pub(super) fn residency(&self, settings: &Settings) -> Duration {
        settings.residency.max(self.swap_in * 2)
    }

    pub(super) fn may_go(&self, now: Instant, settings: &Settings) -> bool {
        self.is_settled() && now.since(self.hot_since) >= self.residency(settings)
    }

    /// Its place among victims: the least goes first. Source: FluidFaaS §9.
    pub(super) fn score(&self, hotness: f64, victims: Victims) -> f64 {
        let bytes: u64 = self.places.iter().map(|place| place.memory.0).sum();
        let swap_in = self.swap_in.as_secs_f64();
        match victims {
            Victims::Hotness => hotness * swap_in.max(1e-9) / (bytes.max(1) as f64),
            Victims::Lru => self.used.0.as_secs_f64(),
            Victims::Lfu => self.uses as f64,
            Victims::Cost => swap_in,
        }
    }

    /// When one more activation would be answered, from now: behind the others one by one, or in batches.
    pub(super) fn finish(&self) -> Duration {
        let before = self.runs.len() as u32;
        let one_by_one = self.latency + self.bottleneck * before;
        match self.batched {
            None => one_by_one,
            Some(batched) => {
                let batches = before.div_ceil(batched.most);
                one_by_one.min(batched.latency + batched.bottleneck * batches)
            }
        }
    }

    /// When something about it changes although nothing happens.
    pub(super) fn deadline(
        &self,
        keep_alive: Duration,
        now: Instant,
        settings: &Settings,
    ) -> Option<Instant> {
        match self.state {
            State::Hot { idle } | State::Shared { idle } => {
                let ends = idle.map(|since| since + keep_alive);
                let may_go = self.hot_since + self.residency(settings);
                let dwelt = |since: Option<Instant>| Some(since? + settings.dwell);
                let all = [
                    ends,
                    Some(may_go),
                    dwelt(Some(self.hot_since)),
                    dwelt(self.cool_since),
                    dwelt(self.pressed_since),
                ];
                all.into_iter().flatten().filter(|at| *at > now).min()
            }
            State::Warm { since } => Some(since + keep_alive),
            State::Starting { .. }
            | State::SwappingOut
            | State::SwappingIn { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Cold { .. } => None,
        }
    }

    /// Why an activation that ran here got no answer.
    pub(super) fn lost(&self, fault: &Fault) -> Refusal {
        let instance = self.id.clone();
        match &self.state {
            State::Stopping {
                dead: Some((lane, because)),
            }
            | State::Cold {
                dead: Some((lane, because)),
            } => Refusal::LaneDied {
                instance,
                lane: *lane,
                because: because.clone(),
            },
            _ => Refusal::InstanceLost {
                instance,
                fault: fault.clone(),
            },
        }
    }
}
