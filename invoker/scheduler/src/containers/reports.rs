//! What containers report: that they listen, are initialised, have answered, are paused, or are gone.

use super::container::State;
use super::{Pool, run};
use crate::command::Command;
use crate::event::Outcome;
use crate::fault::Fault;
use crate::job::{Job, Owner};
use crate::reason::{Refusal, RemovalReason};
use crate::step::Step;
use crate::work::ContainerNumber;
use proto::id::ActivationId;
use std::collections::BTreeMap;
use std::mem;

impl Pool {
    pub(crate) fn started(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        let now = step.now;
        let draining = self.draining;
        let first = self.update(number, |container| match &mut container.state {
            State::StemStarting => {
                container.state = State::Stem { since: now };
                draining.then_some(None)
            }
            State::Starting { wanted } if wanted.is_empty() => Some(None),
            State::Starting { wanted } => {
                let first = wanted.remove(0);
                container.state = State::Initializing {
                    first: first.clone(),
                    wanted: mem::take(wanted),
                    died: false,
                };
                Some(Some(first))
            }
            State::Stem { .. }
            | State::Initializing { .. }
            | State::Ready { .. }
            | State::Pausing { .. }
            | State::Paused { .. }
            | State::Resuming { .. }
            | State::Ending { .. }
            | State::Removing { .. } => None,
        });
        match first.flatten() {
            Some(Some(first)) => run(number, &first, true, step),
            Some(None) => self.remove(number, RemovalReason::NotNeeded, step),
            None => {}
        }
        self.dispatch(None, step);
    }

    /// The container is not there; all that wait for it end the same way (L-41).
    pub(crate) fn start_failed(&mut self, number: ContainerNumber, fault: &Fault, step: &mut Step<'_>) {
        let wanted = self.update(number, |container| match &mut container.state {
            State::StemStarting => Some(Vec::new()),
            State::Starting { wanted } => Some(mem::take(wanted)),
            State::Stem { .. }
            | State::Initializing { .. }
            | State::Ready { .. }
            | State::Pausing { .. }
            | State::Paused { .. }
            | State::Resuming { .. }
            | State::Ending { .. }
            | State::Removing { .. } => None,
        });
        let Some(wanted) = wanted.flatten() else { return };
        for job in wanted {
            self.taken.remove(&job.activation);
            job.refuse(Refusal::ContainerFailed { fault: fault.clone() }, step);
        }
        if let Some(memory) = self.forget(number) {
            step.memory.give(memory);
        }
        self.dispatch(None, step);
    }

    /// `/init` is done: those that waited for it run beside the first (L-40).
    pub(crate) fn initialized(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        let Some(container) = self.containers.get_mut(&number) else {
            return;
        };
        let State::Initializing { first, wanted, died } = &mut container.state else {
            return;
        };
        let (first, wanted, died) = (first.clone(), mem::take(wanted), *died);
        let owner = container.owner.clone();
        let mut runs = BTreeMap::from([(first.activation, first)]);
        if died {
            self.wait_again(wanted);
            let because = RemovalReason::Died;
            self.update(number, |c| c.state = State::Ending { runs, because });
        } else {
            for job in wanted {
                run(number, &job, false, step);
                runs.insert(job.activation, job);
            }
            self.update(number, |c| c.state = State::Ready { runs });
        }
        self.dispatch(owner.as_ref(), step);
    }

    /// Whether the activation was running here.
    pub(crate) fn finished(
        &mut self,
        activation: ActivationId,
        outcome: &Outcome,
        step: &mut Step<'_>,
    ) -> bool {
        let Some(&number) = self.taken.get(&activation) else {
            return false;
        };
        let Some((mut job, wanted)) = self.take_run(number, activation) else {
            return false;
        };
        self.taken.remove(&activation);
        let owner = Owner::of(&job.action);
        match outcome {
            Outcome::Answered => {
                for job in wanted {
                    run(number, &job, false, step);
                    self.update(number, |container| match &mut container.state {
                        State::Ready { runs } => runs.insert(job.activation, job),
                        _ => unreachable!("`take_run` leaves a container with work to follow ready"),
                    });
                }
                self.rest(number, step);
            }
            Outcome::Spoiled => {
                self.wait_again(wanted);
                self.end(number, RemovalReason::Spoiled, step);
            }
            Outcome::InitFailed { fault } => {
                for job in wanted {
                    self.taken.remove(&job.activation);
                    job.refuse(Refusal::InitFailed { fault: fault.clone() }, step);
                }
                self.end(number, RemovalReason::InitFailed, step);
            }
            Outcome::Returned { because } => {
                let because = because.clone();
                self.end(number, RemovalReason::Unreachable { because }, step);
                self.wait_again(wanted);
                // A container that had gone stale says nothing about the activation.
                job.tries += u32::from(!job.may_return);
                if self.draining {
                    job.refuse(Refusal::ShuttingDown, step);
                } else if job.tries >= step.settings.tries {
                    let containers = job.tries;
                    job.refuse(Refusal::Unreachable { containers }, step);
                } else {
                    self.queue.insert(job);
                }
            }
            Outcome::Lost { fault } => {
                self.wait_again(wanted);
                self.end(number, RemovalReason::Died, step);
                job.refuse(Refusal::ContainerFailed { fault: fault.clone() }, step);
            }
        }
        self.dispatch(Some(&owner), step);
        true
    }

    /// Takes a run out of its container. A run that ends before `Initialized` was said leaves
    /// those that waited for it to the caller, and the container ready.
    fn take_run(&mut self, number: ContainerNumber, activation: ActivationId) -> Option<(Job, Vec<Job>)> {
        self.update(number, |container| match &mut container.state {
            State::Ready { runs } | State::Ending { runs, .. } => {
                runs.remove(&activation).map(|job| (job, Vec::new()))
            }
            State::Initializing { first, wanted, died } if first.activation == activation => {
                let (job, wanted) = (first.clone(), mem::take(wanted));
                let runs = BTreeMap::new();
                container.state = if *died {
                    let because = RemovalReason::Died;
                    State::Ending { runs, because }
                } else {
                    State::Ready { runs }
                };
                Some((job, wanted))
            }
            State::Initializing { .. }
            | State::StemStarting
            | State::Stem { .. }
            | State::Starting { .. }
            | State::Pausing { .. }
            | State::Paused { .. }
            | State::Resuming { .. }
            | State::Removing { .. } => None,
        })?
    }

    /// What becomes of a container after a good run.
    fn rest(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        let pause = step.now + step.settings.pause_grace;
        let draining = self.draining;
        let gone = self.update(number, |container| match &mut container.state {
            State::Ready { runs } if runs.is_empty() => {
                container.due = Some(pause);
                draining.then_some(RemovalReason::ShuttingDown)
            }
            State::Ending { runs, because } if runs.is_empty() => Some(because.clone()),
            State::Ready { .. } | State::Ending { .. } => None,
            State::StemStarting
            | State::Stem { .. }
            | State::Starting { .. }
            | State::Initializing { .. }
            | State::Pausing { .. }
            | State::Paused { .. }
            | State::Resuming { .. }
            | State::Removing { .. } => None,
        });
        if let Some(because) = gone.flatten() {
            self.remove(number, because, step);
        }
    }

    /// No new runs; when the last has ended, the container goes (L-42).
    fn end(&mut self, number: ContainerNumber, because: RemovalReason, step: &mut Step<'_>) {
        let gone = self.update(number, |container| match &mut container.state {
            State::Ready { runs } => {
                let runs = mem::take(runs);
                let empty = runs.is_empty();
                container.state = State::Ending {
                    runs,
                    because: because.clone(),
                };
                empty.then(|| because.clone())
            }
            State::Ending { runs, because } => runs.is_empty().then(|| because.clone()),
            State::StemStarting
            | State::Stem { .. }
            | State::Starting { .. }
            | State::Initializing { .. }
            | State::Pausing { .. }
            | State::Paused { .. }
            | State::Resuming { .. }
            | State::Removing { .. } => None,
        });
        if let Some(because) = gone.flatten() {
            self.remove(number, because, step);
        }
    }

    pub(crate) fn paused(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        let now = step.now;
        let idle_until = now + step.settings.idle_container;
        let wanted = self.update(number, |container| {
            let State::Pausing { wanted } = &mut container.state else {
                return false;
            };
            if wanted.is_empty() {
                container.state = State::Paused { since: now };
                container.due = Some(idle_until);
                false
            } else {
                let wanted = mem::take(wanted);
                container.state = State::Resuming { wanted };
                true
            }
        });
        if wanted == Some(true) {
            step.say(Command::Resume { container: number });
        }
    }

    pub(crate) fn pause_failed(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        self.drop_waited_for(number, RemovalReason::PauseFailed, step);
    }

    pub(crate) fn resume_failed(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        self.drop_waited_for(number, RemovalReason::ResumeFailed, step);
    }

    pub(crate) fn resumed(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        let Some(container) = self.containers.get_mut(&number) else {
            return;
        };
        let State::Resuming { wanted } = &mut container.state else {
            return;
        };
        let wanted = mem::take(wanted);
        let owner = container.owner.clone();
        let mut runs = BTreeMap::new();
        for mut job in wanted {
            job.may_return = true;
            run(number, &job, false, step);
            runs.insert(job.activation, job);
        }
        self.update(number, |c| c.state = State::Ready { runs });
        self.rest(number, step);
        self.dispatch(owner.as_ref(), step);
    }

    /// Pausing or resuming failed: those that wait for it go elsewhere, unnoticed (L-22, L-24).
    fn drop_waited_for(&mut self, number: ContainerNumber, because: RemovalReason, step: &mut Step<'_>) {
        let wanted = self.update(number, |container| match &mut container.state {
            State::Pausing { wanted } | State::Resuming { wanted } => Some(mem::take(wanted)),
            State::StemStarting
            | State::Stem { .. }
            | State::Starting { .. }
            | State::Initializing { .. }
            | State::Ready { .. }
            | State::Paused { .. }
            | State::Ending { .. }
            | State::Removing { .. } => None,
        });
        let Some(wanted) = wanted.flatten() else { return };
        self.wait_again(wanted);
        self.remove(number, because, step);
        self.dispatch(None, step);
    }

    pub(crate) fn died(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        enum Then {
            Remove(Vec<Job>),
            Wait,
        }
        let then = self.update(number, |container| match &mut container.state {
            State::StemStarting | State::Stem { .. } | State::Paused { .. } => Then::Remove(Vec::new()),
            State::Pausing { wanted } | State::Resuming { wanted } => Then::Remove(mem::take(wanted)),
            State::Ready { runs } if runs.is_empty() => Then::Remove(Vec::new()),
            State::Ready { runs } => {
                let runs = mem::take(runs);
                let because = RemovalReason::Died;
                container.state = State::Ending { runs, because };
                Then::Wait
            }
            State::Initializing { died, .. } => {
                *died = true;
                Then::Wait
            }
            // The start says itself that it failed; a removal goes on.
            State::Starting { .. } | State::Ending { .. } | State::Removing { .. } => Then::Wait,
        });
        match then {
            Some(Then::Remove(wanted)) => {
                self.wait_again(wanted);
                self.remove(number, RemovalReason::Died, step);
                self.dispatch(None, step);
            }
            Some(Then::Wait) | None => {}
        }
    }

    pub(crate) fn removed(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        let Some(State::Removing { counted }) = self.containers.get(&number).map(|c| &c.state) else {
            return;
        };
        let counted = *counted;
        if let Some(memory) = self.forget(number)
            && counted
        {
            step.memory.left(memory);
        }
        self.dispatch(None, step);
        self.fill_stem_cells(step);
    }
}
