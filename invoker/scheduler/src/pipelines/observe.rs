//! What running instances show of their components, and what follows when that is not what was reckoned with.
//!
//! Only executions on slices of their own count: what others do on a shared one is not the component's doing.
//! The first executions after a start or a return do not count either; caches are cold then, and a slice with
//! a quota may have spent it on loading. Transfers, turns and queues are no part of what is reported.

use super::Pipelines;
use crate::decision::What;
use crate::instance::State;
use crate::profile::nanos;
use crate::reason::Drifted;
use crate::step::Step;
use crate::work::ActionRevision;
use proto::id::{ComponentId, InstanceId};
use proto::unit::Millis;
use std::collections::BTreeMap;
use std::time::Duration;

/// Activations after which an instance is warm.
const WARM_UP: u32 = 3;

impl Pipelines {
    /// An instance has answered an activation, and its components took so long. Says whether plans may be
    /// others now. What comes from the lanes is input: what cannot be is passed over.
    pub(crate) fn observed(
        &mut self,
        id: &InstanceId,
        times: &BTreeMap<ComponentId, Millis>,
        step: &mut Step<'_>,
    ) -> bool {
        let number = self.number(id);
        let Some(instance) = number.and_then(|number| self.instances.get_mut(&number)) else {
            return false;
        };
        if !matches!(instance.state, State::Hot { .. }) || times.is_empty() {
            return false;
        }
        instance.observed = instance.observed.saturating_add(1);
        if instance.observed <= WARM_UP {
            return false;
        }
        let of = instance.function.of.clone();
        let Some(knowledge) = self.knowledge.get_mut(&of) else {
            return false;
        };
        let mut drifted = Vec::new();
        for (component, took) in times {
            let at = knowledge.graph.known().and_then(|dag| dag.position(component));
            let (Some(at), Some(took)) = (at, nanos(*took).filter(|nanos| *nanos > 0)) else {
                continue;
            };
            let mut places = instance
                .places
                .iter()
                .filter(|place| place.components.contains(at));
            // Of replicas on slices of different kinds it is not known which of them it was.
            if let Some(place) = places.next()
                && places.all(|replica| replica.kind == place.kind)
            {
                let (took, settings) = (Duration::from_nanos(took), &step.settings.drift);
                drifted.extend(knowledge.observe(component, &place.kind, took, step.now, settings));
            }
        }
        if drifted.is_empty() {
            return false;
        }
        self.correct(&of, &drifted, step);
        true
    }

    fn correct(&mut self, of: &ActionRevision, drifted: &[Drifted], step: &mut Step<'_>) {
        for because in drifted {
            self.accounts.count(What::Drift, because.label());
            self.accounts.count_drift(&because.kind, because.label());
            self.note(step, What::Drift, &of.to_string(), because.to_string());
        }
        let knowledge = self.knowledge.get(of);
        if let Some((dag, costs)) = knowledge.and_then(|known| known.graph.known().zip(known.costs())) {
            let own = |instance: &&mut super::Instance| instance.function.of == *of;
            self.instances
                .values_mut()
                .filter(own)
                .for_each(|instance| instance.reassess(dag, costs));
        }
        self.save(of, step);
    }
}
