//! What happens to an instance once it is asked for, from its start to its end.

use super::{Instance, Pipelines};
use crate::command::Command;
use crate::decision::{Decision, What};
use crate::event::Outcome;
use crate::fault::Fault;
use crate::instance::{Effect, Happening, State};
use crate::job::Job;
use crate::reason::{Refusal, StopReason};
use crate::step::Step;
use crate::work::FunctionKey;
use proto::id::{ActivationId, InstanceId, LaneId};
use std::collections::BTreeMap;
use std::mem;

impl Pipelines {
    pub(crate) fn ready(&mut self, id: &InstanceId, step: &mut Step<'_>) {
        let Some(number) = self.number(id) else { return };
        self.happens(number, Happening::Ready, step);
        if let Some(instance) = self.instances.get_mut(&number) {
            instance.hot_since = step.now;
        }
        let function = &self.instances[&number].function;
        if let Some(function) = self.functions.get_mut(function) {
            function.failures = 0;
        }
    }

    /// The instance did not come up. Those that wait end the same way, unless another instance
    /// serves them.
    pub(crate) fn start_failed(&mut self, id: &InstanceId, fault: &Fault, step: &mut Step<'_>) {
        let Some(number) = self.number(id) else { return };
        let was_starting = self.instances[&number].state == State::Starting;
        let key = self.instances[&number].function.clone();
        self.happens(number, Happening::StartFailed, step);
        if was_starting {
            let instance = id.clone();
            let fault = fault.clone();
            self.give_up_starting(&key, Refusal::StartFailed { instance, fault }, step);
        }
    }

    fn give_up_starting(&mut self, key: &FunctionKey, because: Refusal, step: &mut Step<'_>) {
        let alone = self.live(key) == 0;
        let Some(function) = self.functions.get_mut(key) else {
            return;
        };
        function.start_failed(step.now);
        if alone {
            self.refuse_all(key, &because, step);
        }
    }

    pub(crate) fn lane_died(&mut self, id: &InstanceId, lane: LaneId, because: String, step: &mut Step<'_>) {
        let Some(number) = self.number(id) else { return };
        let instance = &self.instances[&number];
        let was_starting = instance.state == State::Starting;
        let key = instance.function.clone();
        self.happens(number, Happening::LaneDied(lane, because.clone()), step);
        if was_starting {
            let fault = Fault::developer(format!("lane {lane} died: {because}"));
            let instance = id.clone();
            self.give_up_starting(&key, Refusal::StartFailed { instance, fault }, step);
        }
    }

    pub(crate) fn stopped(&mut self, id: &InstanceId, step: &mut Step<'_>) {
        if let Some(number) = self.number(id) {
            self.happens(number, Happening::Stopped, step);
        }
    }

    /// Whether the activation was running in an instance.
    pub(crate) fn finished(
        &mut self,
        activation: ActivationId,
        outcome: &Outcome,
        step: &mut Step<'_>,
    ) -> bool {
        let Some(number) = self.running.remove(&activation) else {
            return false;
        };
        let instance = self
            .instances
            .get_mut(&number)
            .expect("an instance with runs is kept");
        let mut job = instance
            .runs
            .remove(&activation)
            .expect("`running` says that it runs here");
        instance.used = step.now;
        let key = instance.function.clone();
        let id = instance.id.clone();
        match outcome {
            Outcome::Answered => {}
            Outcome::Spoiled | Outcome::InitFailed { .. } => {
                self.happens(number, Happening::Retired(StopReason::Spoiled), step);
            }
            Outcome::Returned { because } => {
                let because = because.clone();
                let reason = StopReason::Unreachable {
                    because: because.clone(),
                };
                self.happens(number, Happening::Retired(reason), step);
                job.tries += 1;
                if job.tries < step.settings.tries && !self.draining {
                    self.wait_again(&key, job);
                } else {
                    let fault = Fault::whisk(because);
                    job.refuse(Refusal::InstanceLost { instance: id, fault }, step);
                }
            }
            Outcome::Lost { fault } => {
                let refusal = instance.lost(fault);
                let because = fault.to_string();
                self.happens(
                    number,
                    Happening::Retired(StopReason::Unreachable { because }),
                    step,
                );
                let retry = self
                    .functions
                    .get(&key)
                    .is_some_and(|function| function.terms.retry);
                job.tries += 1;
                if retry && job.tries == 1 && !self.draining {
                    self.wait_again(&key, job);
                } else {
                    job.refuse(refusal, step);
                }
            }
        }
        if let Some(function) = self.functions.get_mut(&key) {
            function.active = step.now;
        }
        let empty = |instance: &Instance| instance.runs.is_empty();
        if self.instances.get(&number).is_some_and(empty) {
            self.happens(number, Happening::Emptied, step);
        }
        true
    }

    /// Back to its place in the queue: it came before all that wait.
    fn wait_again(&mut self, key: &FunctionKey, job: Job) {
        let function = self
            .functions
            .get_mut(key)
            .expect("a function with instances is kept");
        let at = function
            .queue
            .partition_point(|other| other.arrival < job.arrival);
        function.queue.insert(at, job);
    }

    /// Stops instances that have been idle for too long, or whose revision is replaced.
    pub(super) fn retire_idle(&mut self, step: &mut Step<'_>) {
        let mut retired: Vec<(u64, StopReason)> = Vec::new();
        let mut live: BTreeMap<&FunctionKey, usize> = BTreeMap::new();
        for instance in self.instances.values().filter(|instance| instance.is_live()) {
            *live.entry(&instance.function).or_default() += 1;
        }
        for (number, instance) in &self.instances {
            let Some(function) = self.functions.get(&instance.function) else {
                continue;
            };
            if !function.queue.is_empty() || !instance.is_live() {
                continue;
            }
            if let Some(by) = &function.superseded {
                retired.push((*number, StopReason::Superseded { by: by.clone() }));
            } else if let State::Hot { idle: Some(since) } = instance.state {
                let since = step.now.since(since);
                let count = live.get_mut(&instance.function).expect("it is live itself");
                if since >= function.keep_alive(step.settings) && *count > function.least_instances() {
                    *count -= 1;
                    retired.push((*number, StopReason::Idle { since }));
                }
            }
        }
        for (number, because) in retired {
            self.happens(number, Happening::Retired(because), step);
        }
    }

    /// Takes an instance through one transition, and does what follows from it. What makes no
    /// sense in its state is a late report, and changes nothing.
    pub(super) fn happens(&mut self, number: u64, happening: Happening, step: &mut Step<'_>) {
        let Some(instance) = self.instances.get_mut(&number) else {
            return;
        };
        let effect = match instance.state.clone().next(happening, step.now) {
            Ok((state, effect)) => {
                instance.state = state;
                effect
            }
            Err(_) => Effect::None,
        };
        match effect {
            Effect::None => {}
            Effect::Stop(because) => {
                instance.leaving = true;
                step.memory.leave(instance.memory);
                let (id, function) = (instance.id.clone(), instance.function.to_string());
                self.log.push(Decision {
                    instance: Some(id.to_string()),
                    ..Decision::new(step.now, What::Stop, function, because.to_string())
                });
                step.say(Command::Stop {
                    instance: id,
                    because,
                });
            }
            Effect::Release => {
                if mem::take(&mut instance.leaving) {
                    step.memory.left(instance.memory);
                } else {
                    step.memory.give(instance.memory);
                }
                if let (Some(lease), Some(ledger)) = (instance.lease.take(), &mut self.ledger) {
                    ledger.release(lease);
                }
            }
        }
        if matches!(instance.state, State::Cold { .. }) && instance.runs.is_empty() {
            self.instances.remove(&number);
        }
    }
}

impl Instance {
    /// Why an activation that ran here got no answer.
    fn lost(&self, fault: &Fault) -> Refusal {
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
            State::Starting
            | State::Hot { .. }
            | State::Draining { .. }
            | State::Stopping { dead: None }
            | State::Cold { dead: None } => Refusal::InstanceLost {
                instance,
                fault: fault.clone(),
            },
        }
    }
}
