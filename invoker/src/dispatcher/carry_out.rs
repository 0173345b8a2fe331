//! One method a command: each spawns what is to be done, and its outcome comes back as a message.

use super::{Dispatcher, Hands, Inbox, Message, REMOVALS_KEPT, Removal, stem_cell};
use crate::activation::run::{How, Ran};
use crate::container::{Container, ContainerSpec, Image};
use crate::metrics::{self, Transaction};
use crate::pipeline::Pipelines;
use crate::pipeline::build::Profile;
use crate::pipeline::start::provisioning_fault;
use crate::readiness;
use proto::ffs::state::Desired;
use proto::id::ActivationId;
use proto::unit::Bytes;
use proto::whisk::transid::TransactionId;
use scheduler::command::Purpose;
use scheduler::event::Outcome;
use scheduler::fault::{Blame, Fault};
use scheduler::reason::{Refusal, StartReason, WakeReason};
use scheduler::work::ContainerNumber;
use scheduler::{Command, Event, Instant};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

impl Dispatcher {
    pub(super) fn carry_out(&mut self, command: Command) {
        match command {
            Command::Build {
                function,
                example: _,
                memory,
            } => {
                let Some(example) = self.example(&function) else {
                    let result = Err(unknown(&function.to_string()));
                    return self.inbox.event(Event::Built { function, result });
                };
                info!(%function, "BUILDDAG");
                self.spawn(async move |hands: Arc<Hands>, inbox: Inbox| {
                    let result = hands.pipelines.build(&example, memory).await.map(Box::new);
                    inbox.event(Event::Built { function, result });
                });
            }
            Command::Profile {
                function,
                slice,
                kind,
                memory,
                ..
            } => {
                let Some(example) = self.example(&function) else {
                    let result = Err(unknown(&function.to_string()));
                    return self.inbox.event(Event::Profiled {
                        function,
                        slice,
                        result,
                    });
                };
                info!(%function, %slice, %kind, "profile");
                let migs = Arc::clone(&self.migs);
                self.spawn(async move |hands: Arc<Hands>, inbox: Inbox| {
                    let work = Profile {
                        slice: slice.clone(),
                        kind,
                        memory,
                    };
                    let result = hands
                        .pipelines
                        .profile(&work, &example, &migs)
                        .await
                        .map(Box::new);
                    inbox.event(Event::Profiled {
                        function,
                        slice,
                        result,
                    });
                });
            }
            Command::Save(saved) => {
                self.spawn_blocking(move |hands| hands.saved.write(&saved));
            }
            Command::Start(start) => self.start(*start),
            Command::Route { activation, instance } => self.route(activation, &instance),
            Command::Stop { instance, because } => self.stop(instance, &because.to_string()),
            Command::Join(join) => self.join(*join),
            Command::Leave(leave) => self.leave(*leave),
            Command::Evict { instance, because } => {
                info!(%instance, %because, "evict");
                self.change(&instance, Desired::Evict, None);
            }
            Command::Wake { instance, because } => {
                info!(%instance, %because, "wake");
                let shared = because == WakeReason::Shared;
                self.change(&instance, Desired::Resume, Some(shared));
            }
            Command::Share {
                instance,
                shared,
                because,
            } => {
                info!(%instance, shared, %because, "share");
                self.change(&instance, Desired::Run, Some(shared));
            }
            Command::GrantTurn { instance, lane, turn } => {
                if let Some(instance) = self.instances.get(&instance) {
                    Pipelines::grant_turn(instance, lane, turn);
                }
            }
            Command::StartContainer {
                container,
                purpose,
                memory,
                because,
            } => {
                self.start_container(container, &purpose, memory, because);
            }
            Command::Run {
                activation,
                container,
                initialize,
                may_return,
                because,
            } => {
                self.stem_cells.remove(&container);
                if let Some(job) = self.jobs.get(&activation) {
                    let (message, action) = (&job.message, &job.message.action);
                    let initiator = message.user.namespace.name.as_str();
                    let (path, name) = (action.path.to_string(), action.name.to_string());
                    metrics::container_start(because.label(), initiator, &path, &name);
                    let active = self.running.get(&container).map_or(1, |runs| runs + 1);
                    info!(transid = %message.transid, %activation, %container, state = because.label(), active, namespace = initiator, %action, "containerStart");
                }
                self.run_in(
                    activation,
                    container,
                    How {
                        initialize,
                        may_return,
                    },
                );
            }
            Command::Pause { container } => self.pause(container, true),
            Command::Resume { container } => self.pause(container, false),
            Command::RemoveContainer {
                container,
                paused: _,
                because,
            } => {
                info!(%container, %because, "container goes");
                metrics::removal(because.label());
                self.stem_cells.remove(&container);
                self.note_removal(container, because.to_string());
                self.remove_container(container);
            }
            Command::Refuse { activation, because } => match self.jobs.remove(&activation) {
                Some(job) => {
                    warn!(transid = %job.message.transid, %activation, %because, "refused");
                    let fault = because.fault();
                    let waited_in_vain = matches!(because, Refusal::InitFailed { .. });
                    self.spawn(async move |hands: Arc<Hands>, _| {
                        hands.runner.refuse(*job, fault, waited_in_vain).await;
                    });
                }
                None => warn!(%activation, "an activation that is not here cannot be refused"),
            },
        }
    }

    fn note_removal(&mut self, number: ContainerNumber, because: String) {
        self.removals.truncate(REMOVALS_KEPT - 1);
        self.removals.push_front(Arc::new(Removal {
            at: Instant(self.started.elapsed()),
            container: self
                .containers
                .get(&number)
                .map(|container| container.name.clone()),
            because,
        }));
    }

    fn start_container(
        &mut self,
        number: ContainerNumber,
        purpose: &Purpose,
        memory: Bytes,
        because: StartReason,
    ) {
        let mut transid = Transaction::system("sid_invokerWarmup");
        let mut looked_after = None;
        let (image, concurrency, suffix) = match purpose {
            Purpose::Action { activation } => {
                let Some(job) = self.jobs.get(activation) else {
                    let fault = Fault::whisk("its activation is gone");
                    return self.inbox.event(Event::ContainerFailed {
                        container: number,
                        fault,
                    });
                };
                transid = job.message.transid.clone();
                let concurrency = u32::try_from(job.executable.limits.concurrency).unwrap_or(u32::MAX);
                let suffix = name_suffix(job.message.user.namespace.name.as_str(), &job.executable.name);
                (job.executable.image.clone(), concurrency, suffix)
            }
            Purpose::StemCell { kind } => match self.hands.runtimes.resolve(kind) {
                Some(runtime) => {
                    let taken = CancellationToken::new();
                    self.stem_cells.insert(number, taken.clone().drop_guard());
                    looked_after = self.hands.stem_cell_check.map(|check| (check, taken));
                    let image = Image {
                        kind: kind.clone(),
                        name: runtime.image.to_string(),
                        pull: false,
                    };
                    (image, 1, name_suffix("prewarm", kind))
                }
                None => {
                    let fault = Fault::whisk(format!("kind {kind} is not in the runtimes manifest"));
                    return self.inbox.event(Event::ContainerFailed {
                        container: number,
                        fault,
                    });
                }
            },
        };
        let spec = ContainerSpec {
            name: format!("{}_{}_{suffix}", self.hands.name_prefix, number.0),
            labels: BTreeMap::new(),
            image,
            memory,
            concurrency,
            env: BTreeMap::from([("__OW_API_HOST".to_owned(), self.hands.api_host.clone())]),
            lane: None,
        };
        info!(%transid, container = spec.name, %because, "start container");
        self.spawn_for(transid, async move |hands: Arc<Hands>, inbox: Inbox| match hands
            .engine
            .start(&spec)
            .await
        {
            Ok(container) => {
                hands.readiness.container(&spec.image.name, Ok(()));
                let (id, address) = (container.id.clone(), container.address.clone());
                inbox.tell(Message::Listening { number, container });
                let ended = hands.engine.ended(&id);
                tokio::pin!(ended);
                if let Some((check, taken)) = looked_after {
                    tokio::select! {
                        _ = &mut ended => return inbox.event(Event::ContainerDied { container: number }),
                        () = taken.cancelled() => {}
                        () = stem_cell::fails(&address, check) => inbox.tell(Message::StemCellFails(number)),
                    }
                }
                ended.await;
                inbox.event(Event::ContainerDied { container: number });
            }
            Err(error) => {
                warn!(
                    container = spec.name,
                    error = &error as &dyn std::error::Error,
                    "not started"
                );
                let fault = provisioning_fault(&error);
                metrics::start_failed(blame(&fault));
                if fault.blame == Blame::Whisk {
                    hands
                        .readiness
                        .container(&spec.image.name, Err(readiness::because(&error)));
                }
                inbox.event(Event::ContainerFailed {
                    container: number,
                    fault,
                });
            }
        });
    }

    fn run_in(&mut self, activation: ActivationId, number: ContainerNumber, how: How) {
        let (Some(job), Some(container)) = (self.jobs.remove(&activation), self.containers.get(&number))
        else {
            let because = format!("{number} is gone");
            return self.inbox.event(Event::Finished {
                activation,
                outcome: Outcome::Returned { because },
            });
        };
        let container: Container = container.clone();
        *self.running.entry(number).or_default() += 1;
        self.spawn(async move |hands: Arc<Hands>, inbox: Inbox| {
            let report = Report::of(activation, number, inbox.clone());
            let initialized = || inbox.event(Event::Initialized { container: number });
            report.end(hands.runner.in_container(job, &container, how, initialized).await);
        });
    }

    fn pause(&mut self, number: ContainerNumber, pause: bool) {
        let Some(container) = self.containers.get(&number).cloned() else {
            return self.inbox.event(Event::ContainerRemoved { container: number });
        };
        let nanny = Transaction::system("sid_invokerNanny");
        self.spawn_for(nanny, async move |hands: Arc<Hands>, inbox: Inbox| {
            let outcome = if pause {
                hands.engine.pause(&container.id).await
            } else {
                hands.engine.resume(&container.id).await
            };
            if let Err(error) = &outcome {
                warn!(
                    container = container.name,
                    error = error as &dyn std::error::Error,
                    "pausing or resuming failed"
                );
            }
            inbox.event(match (pause, outcome.is_ok()) {
                (true, true) => Event::Paused { container: number },
                (true, false) => Event::PauseFailed { container: number },
                (false, true) => Event::Resumed { container: number },
                (false, false) => Event::ResumeFailed { container: number },
            });
        });
    }

    fn remove_container(&mut self, number: ContainerNumber) {
        let Some(container) = self.containers.get(&number).cloned() else {
            return self.inbox.event(Event::ContainerRemoved { container: number });
        };
        let nanny = Transaction::system("sid_invokerNanny");
        self.spawn_for(nanny, async move |hands: Arc<Hands>, inbox: Inbox| {
            if let Err(error) = hands.engine.remove(&container.id).await {
                warn!(
                    container = container.name,
                    error = &error as &dyn std::error::Error,
                    "not removed"
                );
            }
            inbox.event(Event::ContainerRemoved { container: number });
        });
    }

    pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Hands>, Inbox) -> F,
    ) {
        let give_up = self.hands.give_up.clone();
        let work = work(Arc::clone(&self.hands), self.inbox.clone());
        self.hands.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = give_up.cancelled() => {}
            }
        });
    }

    /// As [`Self::spawn`]; lines and markers belong to this transaction (N-22, N-23).
    fn spawn_for<F: Future<Output = ()> + Send + 'static>(
        &self,
        transid: TransactionId,
        work: impl FnOnce(Arc<Hands>, Inbox) -> F,
    ) {
        let span = info_span!("for", %transid);
        let work = work(Arc::clone(&self.hands), self.inbox.clone());
        let work = async move { Transaction::scope(&transid, work).await };
        self.hands.tasks.spawn(work.instrument(span));
    }

    fn spawn_blocking(&self, work: impl FnOnce(&Hands) + Send + 'static) {
        let hands = Arc::clone(&self.hands);
        self.hands.tasks.spawn_blocking(move || work(&hands));
    }
}

/// Says what became of a run, also if the run panics: the activation is answered by what it is
/// owed, and the container goes (S-44).
struct Report {
    activation: ActivationId,
    container: ContainerNumber,
    /// None once it was said.
    inbox: Option<Inbox>,
}

impl Report {
    fn of(activation: ActivationId, container: ContainerNumber, inbox: Inbox) -> Self {
        Self {
            activation,
            container,
            inbox: Some(inbox),
        }
    }

    fn end(mut self, ran: Ran) {
        self.say(ran);
    }

    fn say(&mut self, ran: Ran) {
        if let Some(inbox) = self.inbox.take() {
            inbox.tell(Message::Ran {
                activation: self.activation,
                container: Some(self.container),
                ran,
            });
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.say(Ran {
            job: None,
            outcome: Outcome::Spoiled,
            times: BTreeMap::new(),
        });
    }
}

fn unknown(function: &str) -> Fault {
    Fault::whisk(format!(
        "no activation of {function} was seen, so there are no arguments to run it with"
    ))
}

fn blame(fault: &Fault) -> &'static str {
    match fault.blame {
        Blame::Application => "application",
        Blame::Developer => "developer",
        Blame::Whisk => "whisk",
    }
}

/// The last two parts of a container's name: what Docker does not allow is left out (L-05).
fn name_suffix(first: &str, second: &str) -> String {
    let allowed = |text: &str| -> String {
        text.chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect()
    };
    format!("{}_{}", allowed(first), allowed(second))
}

#[cfg(test)]
mod tests {
    use super::name_suffix;

    #[test]
    fn names_keep_letters_digits_and_underscores() {
        // L-05
        assert_eq!(name_suffix("prewarm", "nodejs:20"), "prewarm_nodejs20");
        assert_eq!(
            name_suffix("jane doe@example.org", "classify-2"),
            "janedoeexampleorg_classify2"
        );
    }
}
