//! A placement as the document that the lanes read: who runs what where, and over which rings.
//!
//! Source: FluidFaaS §7; which rings there are and how large: ours. Containers and environment are
//! the caller's to fill in.

use crate::dag::{Dag, Origin};
use crate::placement::{PlacedLane, Placement};
use proto::ffs::assignment::{
    AssignmentDocument, AssignmentSchema, Batch, Lane, LaneSlice, Ring, RingTensor, Stage,
};
use proto::id::{InstanceId, LaneId, RingId};
use proto::unit::{Bytes, Millis};
use std::collections::BTreeMap;
use std::time::Duration;

/// Room in each slot for what is not a tensor's bytes: frame header, JSON, error texts.
pub const SLOT_OVERHEAD: Bytes = Bytes(4096);
/// Tensors in a slot begin at multiples of this.
const ALIGNMENT: u64 = 64;

/// What a placement does not say about an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignOptions {
    pub instance: InstanceId,
    /// From 1; rises with each rewrite.
    pub epoch: u64,
    /// Name of the policy that decided.
    pub policy: String,
    pub slo: Option<Duration>,
    pub batch: Batch,
}

/// How many requests an instance has in flight at most, if its lanes run up to `batch` at once.
pub const fn in_flight_limit(stages: usize, batch: u32) -> u32 {
    stages as u32 * batch + 1
}

/// `assignment.json` for a placement.
pub fn assign(dag: &Dag, placement: &Placement, options: &AssignOptions) -> AssignmentDocument {
    let slots = in_flight_limit(placement.stages(), options.batch.max) + 1;
    let rings: Vec<Ring> = links(dag, &placement.lanes)
        .into_iter()
        .map(|(Link { producer, consumer }, tensors)| {
            let id: RingId = format!("{producer}-{consumer}")
                .parse()
                .expect("lane ids are valid in ring ids");
            let payload: u64 = tensors
                .iter()
                .map(|origin| dag.size(*origin).room().0.next_multiple_of(ALIGNMENT))
                .sum();
            Ring {
                path: format!("/dev/shm/ffs-{}-{id}", options.instance),
                id,
                bytes: Bytes((payload + SLOT_OVERHEAD.0) * u64::from(slots)),
                slots,
                producer,
                consumer,
                tensors: tensors
                    .into_iter()
                    .map(|origin| ring_tensor(dag, origin))
                    .collect(),
            }
        })
        .collect();
    let mut stages: Vec<Stage> = Vec::with_capacity(placement.stages());
    for lane in &placement.lanes {
        if stages.len() <= usize::from(lane.id.stage) {
            stages.push(Stage {
                index: u32::from(lane.id.stage),
                lanes: Vec::new(),
            });
        }
        stages[usize::from(lane.id.stage)].lanes.push(Lane {
            id: lane.id,
            replica_of: None,
            components: lane
                .components
                .iter()
                .map(|component| dag.id(component).clone())
                .collect(),
            mig: LaneSlice {
                uuid: lane.slice.uuid.clone(),
                profile: lane.slice.profile.clone(),
                gpu_uuid: lane.slice.gpu_uuid.clone(),
                memory_bytes: lane.slice.memory_bytes,
            },
            container: None,
            rings_in: Vec::new(),
            rings_out: Vec::new(),
            env: BTreeMap::new(),
        });
    }
    let mut assignment = AssignmentDocument {
        schema: AssignmentSchema::V1,
        instance: options.instance.clone(),
        function: dag.function().to_owned(),
        revision: dag.revision().to_owned(),
        epoch: options.epoch,
        policy: options.policy.clone(),
        rank: placement.rank as u64,
        cv: placement.cv,
        slo_ms: options.slo.map(|slo| Millis(slo.as_secs_f64() * 1e3)),
        stages,
        rings,
        batch: options.batch,
    };
    name_rings(&mut assignment);
    assignment
}

/// How much more room for rings an instance has than those that it starts with: for those of replicas.
const ROOM_FOR_REPLICAS: u64 = 4;

/// Room for all rings of an instance that starts with this assignment, and for its replicas' as many times.
pub fn room_for_rings(assignment: &AssignmentDocument) -> Bytes {
    Bytes(ring_bytes(assignment).saturating_mul(ROOM_FOR_REPLICAS))
}

/// What its rings take.
pub fn ring_bytes(assignment: &AssignmentDocument) -> u64 {
    assignment.rings.iter().map(|ring| ring.bytes.0).sum()
}

/// The assignment with one more replica of the lane `of`, the `number`-th in the life of the instance, and which lane
/// that is. The epoch is left as it is.
///
/// It gets a ring for each ring that leads to `of` or comes from it: from and to all their replicas.
pub fn with_replica(
    assignment: &AssignmentDocument,
    of: LaneId,
    mig: LaneSlice,
    number: u64,
) -> Option<(AssignmentDocument, LaneId)> {
    let mut assignment = assignment.clone();
    let original = assignment.lane(of)?.clone();
    let stage = assignment.stages.get_mut(usize::from(of.stage))?;
    let id = LaneId::new(of.stage, u16::try_from(stage.lanes.len()).ok()?);
    stage.lanes.push(Lane {
        id,
        replica_of: Some(of),
        mig,
        container: None,
        ..original
    });
    let mut doubled: Vec<Ring> = Vec::new();
    for ring in &assignment.rings {
        let (producer, consumer) = match (ring.producer == of, ring.consumer == of) {
            (true, _) => (id, ring.consumer),
            (_, true) => (ring.producer, id),
            _ => continue,
        };
        let ring_id: RingId = format!("{producer}-{consumer}-{number}")
            .parse()
            .expect("lane ids are valid in ring ids");
        doubled.push(Ring {
            path: format!("/dev/shm/ffs-{}-{ring_id}", assignment.instance),
            id: ring_id,
            producer,
            consumer,
            ..ring.clone()
        });
    }
    assignment.rings.extend(doubled);
    name_rings(&mut assignment);
    Some((assignment, id))
}

/// The assignment without a replica.
pub fn without_replica(assignment: &AssignmentDocument, lane: LaneId) -> AssignmentDocument {
    let mut assignment = assignment.clone();
    for stage in &mut assignment.stages {
        stage.lanes.retain(|other| other.id != lane);
    }
    assignment
        .rings
        .retain(|ring| ring.producer != lane && ring.consumer != lane);
    name_rings(&mut assignment);
    assignment
}

/// Every lane names the rings that lead to it and come from it.
fn name_rings(assignment: &mut AssignmentDocument) {
    for lane in assignment.stages.iter_mut().flat_map(|stage| &mut stage.lanes) {
        let ids = |end: fn(&Ring) -> LaneId| {
            let own = assignment.rings.iter().filter(|ring| end(ring) == lane.id);
            own.map(|ring| ring.id.clone()).collect()
        };
        (lane.rings_in, lane.rings_out) = (ids(|ring| ring.consumer), ids(|ring| ring.producer));
    }
}

/// One ring's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    producer: LaneId,
    consumer: LaneId,
}

/// The graph of lanes: what goes from which lane to which. No lane sends to itself.
///
/// Three kinds of traffic share one ring per pair: outputs of components, external inputs (the
/// head has them all), and outputs of the function (back to the head). A lane that would read
/// nothing still gets a ring from the head, because a frame is what makes it run.
fn links(dag: &Dag, lanes: &[PlacedLane]) -> BTreeMap<Link, Vec<Origin>> {
    let mut links: BTreeMap<Link, Vec<Origin>> = BTreeMap::new();
    let home = |component: usize| {
        let lane = lanes.iter().find(|lane| lane.components.contains(component));
        lane.expect("a partition covers every component").id
    };
    let mut carry = |producer: LaneId, consumer: LaneId, tensor: Option<Origin>| {
        if producer == consumer {
            return;
        }
        let tensors = links.entry(Link { producer, consumer }).or_default();
        if let Some(tensor) = tensor.filter(|tensor| !tensors.contains(tensor)) {
            tensors.push(tensor);
        }
    };
    for lane in lanes {
        let mut fed = false;
        for origin in lane.components.iter().flat_map(|c| &dag.component(c).inputs) {
            let producer = match origin {
                Origin::Port { component, .. } => home(*component),
                Origin::Input(_) => LaneId::HEAD,
            };
            fed |= producer != lane.id;
            carry(producer, lane.id, Some(*origin));
        }
        if !fed {
            carry(LaneId::HEAD, lane.id, None);
        }
    }
    for output in dag.outputs() {
        let origin = Origin::Port {
            component: output.component,
            port: output.port,
        };
        carry(home(output.component), LaneId::HEAD, Some(origin));
    }
    for tensors in links.values_mut() {
        tensors.sort_unstable();
    }
    links
}

fn ring_tensor(dag: &Dag, origin: Origin) -> RingTensor {
    match origin {
        Origin::Port { component, port } => RingTensor::Port {
            node: dag.id(component).clone(),
            port,
        },
        Origin::Input(input) => RingTensor::Input {
            input: dag.inputs()[input].name.clone(),
        },
    }
}
