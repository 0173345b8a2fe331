//! What is commanded of instances: start, route, change, replicas, stop.

use super::{Dispatcher, Hands, Inbox, Message};
use crate::explain::{self, Explained};
use crate::pipeline::{self, Example, Reporter};
use proto::ffs::state::Desired;
use proto::id::{ActivationId, InstanceId};
use scheduler::Event;
use scheduler::command::{Rewrite, Start};
use scheduler::event::Outcome;
use scheduler::fault::Fault;
use scheduler::work::FunctionKey;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::info;

impl Dispatcher {
    pub(super) fn start(&mut self, start: Start) {
        let id = start.instance.clone();
        info!(instance = %id, function = %start.function, because = %start.because, "start");
        let explained = Explained {
            dag: &start.dag,
            ranking: &start.ranking,
            assignment: &start.assignment,
            migs: &start.migs,
            because: &start.because,
        };
        self.explain(&start.function, &explained);
        let example = self.example(&start.function.of);
        let inbox = self.inbox.clone();
        let hands = Arc::clone(&self.hands);
        let stop = CancellationToken::new();
        self.starting.insert(id.clone(), stop.clone());
        let work = async move {
            let example = hands.example_of(&start.function, example).await?;
            let (reports, id) = (inbox.clone(), start.instance.clone());
            let report = Reporter::new(move |report| reports.event(as_event(id.clone(), report)));
            let instance = hands.pipelines.start(&start, &example, &stop, report).await?;
            inbox.tell(Message::Ready(instance));
            Ok::<(), Fault>(())
        };
        self.spawn(async move |_, inbox: Inbox| {
            if let Err(fault) = work.await {
                inbox.event(Event::StartFailed { instance: id, fault });
            }
        });
    }

    fn explain(&mut self, function: &FunctionKey, of: &Explained<'_>) {
        self.explanations
            .insert(function.of.action.clone(), explain::instance(of));
    }

    fn explain_rewrite(&mut self, rewrite: &Rewrite) {
        let explained = Explained {
            dag: &rewrite.dag,
            ranking: &rewrite.ranking,
            assignment: &rewrite.assignment,
            migs: &rewrite.migs,
            because: &rewrite.because,
        };
        self.explain(&rewrite.function, &explained);
    }

    pub(super) fn leave(&mut self, leave: Rewrite) {
        let id = leave.instance.clone();
        info!(instance = %id, lane = %leave.lane, because = %leave.because, "leave");
        self.explain_rewrite(&leave);
        let Some(instance) = self.instances.get(&id).cloned() else {
            return self.inbox.event(Event::Left { instance: id });
        };
        self.spawn(async move |hands: Arc<Hands>, inbox: Inbox| {
            if hands.pipelines.leave(&instance, &leave).await {
                inbox.event(Event::Left { instance: id });
            } // else `Stopped` follows
        });
    }

    pub(super) fn join(&mut self, join: Rewrite) {
        let id = join.instance.clone();
        info!(instance = %id, lane = %join.lane, because = %join.because, "join");
        self.explain_rewrite(&join);
        let Some(instance) = self.instances.get(&id).cloned() else {
            let fault = Fault::whisk(format!("instance {id} is gone"));
            return self.inbox.event(Event::JoinFailed { instance: id, fault });
        };
        let example = self.example(&join.function.of);
        self.spawn(async move |hands: Arc<Hands>, inbox: Inbox| {
            let joined = async {
                let example = hands.example_of(&join.function, example).await?;
                hands.pipelines.join(&instance, &join, &example).await
            };
            inbox.event(match joined.await {
                Ok(()) => Event::Joined { instance: id },
                Err(fault) => Event::JoinFailed { instance: id, fault },
            });
        });
    }

    /// An instance that is gone reports nothing; its end is known already.
    pub(super) fn change(&self, instance: &InstanceId, desired: Desired, shared: Option<bool>) {
        if let Some(instance) = self.instances.get(instance) {
            self.hands.pipelines.change(instance, desired, shared);
        }
    }

    pub(super) fn route(&mut self, activation: ActivationId, instance: &InstanceId) {
        let (Some(job), Some(instance)) = (self.jobs.remove(&activation), self.instances.get(instance))
        else {
            let fault = Fault::whisk(format!("instance {instance} is gone"));
            return self.inbox.event(Event::Finished {
                activation,
                outcome: Outcome::Lost { fault },
            });
        };
        let instance = Arc::clone(instance);
        self.spawn(async move |hands: Arc<Hands>, inbox: Inbox| {
            let mut ran = hands.runner.in_instance(job, &instance).await;
            if !ran.times.is_empty() {
                inbox.event(Event::Observed {
                    instance: instance.id().clone(),
                    times: std::mem::take(&mut ran.times),
                });
            }
            inbox.tell(Message::Ran {
                activation,
                container: None,
                ran,
            });
        });
    }

    pub(super) fn stop(&mut self, id: InstanceId, because: &str) {
        info!(instance = %id, because, "stop");
        if let Some(starting) = self.starting.get(&id) {
            starting.cancel();
            return; // its start ends with `StartFailed`
        }
        let Some(instance) = self.instances.get(&id).cloned() else {
            return self.inbox.event(Event::Stopped { instance: id });
        };
        self.spawn(async move |hands: Arc<Hands>, inbox: Inbox| {
            hands.pipelines.stop(&instance).await;
            inbox.event(Event::Stopped { instance: id });
        });
    }
}

impl Hands {
    /// The example that is known, or the action of an instance that is kept although no activation of it was seen yet.
    async fn example_of(
        &self,
        function: &FunctionKey,
        known: Option<Arc<Example>>,
    ) -> Result<Arc<Example>, Fault> {
        if let Some(known) = known {
            return Ok(known);
        }
        let executable = self
            .resolver
            .newest(&function.of.action)
            .await
            .map_err(Fault::whisk)?;
        if executable.revision != function.of.revision {
            return Err(Fault::developer(format!("{function} has a newer revision")));
        }
        Ok(Arc::new(Example {
            revision: function.of.clone(),
            executable,
            message: None,
        }))
    }
}

fn as_event(instance: InstanceId, report: pipeline::Report) -> Event {
    match report {
        pipeline::Report::Died { lane, because } => Event::LaneDied {
            instance,
            lane,
            because,
        },
        pipeline::Report::Reached(Desired::Evict) => Event::SwappedOut { instance },
        pipeline::Report::Reached(Desired::Resume) => Event::Ready { instance },
        pipeline::Report::Reached(Desired::Run | Desired::Drain | Desired::Stop) => {
            Event::Sharing { instance }
        }
        pipeline::Report::Turn { lane, want, turn } if want => Event::TurnWanted { instance, lane, turn },
        pipeline::Report::Turn { lane, turn, .. } => Event::TurnReturned { instance, lane, turn },
    }
}
