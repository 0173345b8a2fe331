//! One activation in one container: `/init` if need be, `/run`, answer, logs, record.
//!
//! Source: `ContainerProxy.scala`; contract 7.2 … 7.4.

use super::{Executable, Job, account};
use crate::completion::record::{self, Interval};
use crate::completion::response::{self, Verdict};
use crate::completion::texts;
use crate::config::{PayloadLimits, Settings};
use crate::container::action_proxy::{self, BodyLimit, Connect, Exchange, Outcome as Answer};
use crate::container::{Container, ContainerEngine, ContainerId, LogRequest, Logs};
use crate::metrics::{self, Transaction};
use crate::pipeline::Instance;
use proto::id::ComponentId;
use proto::unit::{Bytes, Millis};
use proto::whisk::action_proxy::{InitBody, InitValue, RunBody, about, environment, split_arguments};
use proto::whisk::activation::{Activation, Status};
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::size::ByteSize;
use scheduler::event::Outcome;
use scheduler::fault::Fault;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tracing::{Instrument, warn};

/// Longest wait for the news that a container was killed for memory (C-50).
const OUT_OF_MEMORY_NEWS: Duration = Duration::from_secs(2);
/// Characters of a result in the line about an activation that ended in an error (P-59).
const RESULT_SHOWN: usize = 1024;
/// Longest wait for the news that a lane died, after its pipeline broke.
const DEATH_NEWS: Duration = Duration::from_secs(1);
/// Longest wait for a lane to say that it ran on after a deadline, which it does a second later.
const HANG_NEWS: Duration = Duration::from_secs(2);

/// Runs activations in containers.
#[derive(Debug)]
pub struct Runner {
    engine: Arc<dyn ContainerEngine>,
    settings: Arc<Settings>,
    running: AtomicUsize,
}

/// What became of a run: the job comes back if it was not answered.
#[derive(Debug)]
pub struct Ran {
    pub job: Option<Box<Job>>,
    pub outcome: Outcome,
    /// How long one execution of each component took, if an instance has answered and said so.
    pub times: BTreeMap<ComponentId, Millis>,
}

/// How a run was asked for.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// `/init` first.
    pub initialize: bool,
    /// A refused connection sends the activation elsewhere (C-43).
    pub may_return: bool,
}

impl Ran {
    fn answered(outcome: Outcome) -> Self {
        Self {
            job: None,
            outcome,
            times: BTreeMap::new(),
        }
    }

    fn back(job: Box<Job>, outcome: Outcome) -> Self {
        Self {
            job: Some(job),
            outcome,
            times: BTreeMap::new(),
        }
    }
}

impl Runner {
    pub fn new(engine: Arc<dyn ContainerEngine>, settings: Arc<Settings>) -> Self {
        Self {
            engine,
            settings,
            running: AtomicUsize::new(0),
        }
    }

    /// Runs that are under way.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Ends an activation that does not run. `waited_in_vain`: another one's `/init` in the container
    /// that it waited for has failed (S-10g); else nothing of it has begun (S-10f).
    pub async fn refuse(&self, mut job: Job, fault: Fault, waited_in_vain: bool) {
        let _counted = self.count();
        let (activation, stored) = (job.refused(&fault), job.is_stored());
        let span = tracing::info_span!("refuse", transid = %job.message.transid);
        let answered = async {
            self.tell_error(&activation);
            if waited_in_vain {
                job.owed.answer(&activation, false).await;
            }
            job.owed.settle(activation, stored).await;
        };
        answered.instrument(span).await;
    }

    /// Runs the job in an ordinary container. `initialized` is called between `/init` and `/run`.
    pub async fn in_container(
        &self,
        mut job: Box<Job>,
        container: &Container,
        how: How,
        initialized: impl FnOnce(),
    ) -> Ran {
        let _counted = self.count();
        let span = tracing::info_span!("run", transid = %job.message.transid, activation = %job.id(), container = container.name);
        let message = Arc::clone(&job.message);
        let work = async {
            job.owed.start().await;
            let mut init = None;
            if how.initialize {
                let exchange = self.init(&job, container).await;
                init = Some(interval(&exchange));
                let limit = job.executable.time_limit();
                let memory = self.is_out_of_memory(&exchange, limit, &container.id).await;
                match response::of_init(&exchange, limit, self.settings.payload.max, memory) {
                    Verdict::Initialized => initialized(),
                    Verdict::Elsewhere => {
                        let because = format!("{} said 503 to /init", container.name);
                        return Ran::back(job, Outcome::Returned { because });
                    }
                    Verdict::Ended { response, timed_out } => {
                        let fault = response::as_fault(&response);
                        let times = record::Times::of(&job.message, init, None);
                        let activation = job.activation(times, response, timed_out);
                        job.owed.answer(&activation, job.executable.limits.logs > 0).await;
                        self.finish(*job, activation, &container.id).await;
                        return Ran::answered(Outcome::InitFailed { fault });
                    }
                }
            }
            let exchange = self.run(&job, container).await;
            if how.may_return && matches!(exchange.outcome, Answer::Refused) {
                metrics::container_health_failed("warm");
                let because = format!("{} could not be connected to", container.name);
                return Ran::back(job, Outcome::Returned { because });
            }
            let (limit, most) = (job.executable.time_limit(), self.body_limit(&job).most);
            let memory = self.is_out_of_memory(&exchange, limit, &container.id).await;
            match response::of_run(&exchange, limit, most, memory) {
                Verdict::Initialized => unreachable!("a run is not an initialisation"),
                Verdict::Elsewhere => {
                    let because = format!("{} said 503 to /run", container.name);
                    Ran::back(job, Outcome::Returned { because })
                }
                Verdict::Ended { response, timed_out } => {
                    let times = record::Times::of(&job.message, init, Some(interval(&exchange)));
                    let activation = job.activation(times, response, timed_out);
                    job.owed.answer(&activation, job.executable.limits.logs > 0).await;
                    Ran::answered(self.finish(*job, activation, &container.id).await)
                }
            }
        };
        Transaction::scope(&message.transid, work.instrument(span)).await
    }

    /// Runs the job in a pipeline, through its head.
    pub async fn in_instance(&self, mut job: Box<Job>, instance: &Instance) -> Ran {
        let _counted = self.count();
        let span = tracing::info_span!("run", transid = %job.message.transid, activation = %job.id(), instance = %instance.id());
        let message = Arc::clone(&job.message);
        let work = async {
            job.owed.start().await;
            let head = instance.head();
            let exchange = self.run(&job, head).await;
            let (limit, most) = (job.executable.time_limit(), self.body_limit(&job).most);
            if matches!(exchange.outcome, Answer::Refused) {
                let because = format!("{} could not be connected to", head.name);
                return Ran::back(job, Outcome::Returned { because });
            }
            // A pipeline that broke says so at its head; why, its lanes' ends say.
            let broken = !matches!(
                exchange.outcome,
                Answer::Response { status: 200, .. } | Answer::TimedOut
            );
            if broken && let Some(death) = instance.death(DEATH_NEWS).await {
                return Ran::back(job, Outcome::Lost { fault: death });
            }
            let verdict = response::of_run(&exchange, limit, most, false);
            let Verdict::Ended { response, timed_out } = verdict else {
                let fault =
                    Fault::developer(format!("the head of instance {} is shutting down", instance.id()));
                return Ran::back(job, Outcome::Lost { fault });
            };
            let times = record::Times::of(&job.message, None, Some(interval(&exchange)));
            let mut activation = job.activation(times, response, timed_out);
            let timing = match &exchange.outcome {
                Answer::Response { timing, .. } => timing.as_deref(),
                _ => None,
            };
            let times = account::of(&mut activation, instance, timing, &job, exchange.began);
            job.owed.answer(&activation, job.executable.limits.logs > 0).await;
            let outcome = self.finish(*job, activation, &head.id).await;
            if timed_out {
                // Stopped at once, the lane that hangs could not say so.
                instance.death(HANG_NEWS).await;
            }
            Ran {
                times,
                ..Ran::answered(outcome)
            }
        };
        Transaction::scope(&message.transid, work.instrument(span)).await
    }

    async fn init(&self, job: &Job, container: &Container) -> Exchange {
        let limit = job.executable.time_limit();
        let body = init_body(Some(&job.message), &job.executable, deadline(limit));
        let kept = BodyLimit {
            most: self.settings.payload.max,
            cut: self.settings.payload.truncation,
        };
        let timing = metrics::init();
        let exchange = action_proxy::post(
            &container.address,
            "/init",
            body.into(),
            limit,
            kept,
            Connect::Patiently,
            self.engine.ended(&container.id),
        )
        .await;
        timing.end(matches!(exchange.outcome, Answer::Response { status: 200, .. }));
        exchange
    }

    async fn run(&self, job: &Job, container: &Container) -> Exchange {
        let limit = job.executable.time_limit();
        let (value, _) = split_arguments(job.message.content.as_ref(), &job.message.init_args);
        let about = about(
            &job.message,
            job.executable.facts.version,
            deadline(limit),
            job.executable.provides_api_key,
        );
        let body = serde_json::to_vec(&RunBody { value, about }).expect("arguments are JSON already");
        let timing = metrics::run();
        let exchange = action_proxy::post(
            &container.address,
            "/run",
            body.into(),
            limit,
            self.body_limit(job),
            Connect::Once,
            self.engine.ended(&container.id),
        )
        .await;
        // As in the original, an error of the action is an end like any other.
        timing.end(matches!(
            exchange.outcome,
            Answer::Response { .. } | Answer::TimedOut
        ));
        exchange
    }

    /// M-55, C-30. Of a result that is too long, but shorter than what is kept, all is kept.
    fn body_limit(&self, job: &Job) -> BodyLimit {
        let PayloadLimits { max, truncation, .. } = self.settings.payload;
        let (user, default) = (&job.message.user.limits, &self.settings.namespace_limits);
        let bound = |user: Option<ByteSize>, default: Option<ByteSize>, system: Bytes| {
            user.or(default).map_or(system, |size| size.bytes().min(system))
        };
        BodyLimit {
            most: bound(user.max_payload_size, default.max_payload_size, max),
            cut: bound(user.truncation_size, default.truncation_size, truncation),
        }
    }

    /// C-50: only after a broken connection, where the outcome is not fixed already.
    async fn is_out_of_memory(&self, exchange: &Exchange, limit: Duration, container: &ContainerId) -> bool {
        if !matches!(exchange.outcome, Answer::Broken) || exchange.took >= limit {
            return false;
        }
        let ended = tokio::time::timeout(OUT_OF_MEMORY_NEWS, self.engine.ended(container)).await;
        ended.is_ok_and(|exit| exit.out_of_memory)
    }

    /// Collects logs and settles.
    async fn finish(&self, job: Job, mut activation: Activation, container: &ContainerId) -> Outcome {
        let limit = job.executable.log_limit();
        let status = activation.response.status_code;
        let mut logs = Logs::default();
        if limit > Bytes(0) {
            let sentinels = job.executable.sentinels && status != Status::DeveloperError;
            let timing = metrics::collect_logs();
            logs = self
                .engine
                .logs(
                    container,
                    LogRequest {
                        activation: job.id(),
                        limit,
                        sentinels,
                    },
                )
                .await;
            timing.end(!logs.failed);
            if status == Status::DeveloperError {
                logs.lines
                    .push(record::note(SystemTime::now(), texts::LOGS_MAY_MISS));
            }
        }
        if logs.failed {
            warn!("logs were cut or could not be read: the container is not used again");
        }
        activation.logs = logs.lines;
        self.tell_error(&activation);
        let stored = job.is_stored();
        job.owed.settle(activation, stored).await;
        match status {
            Status::Success | Status::ApplicationError if !logs.failed => Outcome::Answered,
            _ => Outcome::Spoiled,
        }
    }

    /// A line for an activation that ended in an error of a kind that the operator wants to see (P-59).
    fn tell_error(&self, activation: &Activation) {
        let wanted = self.settings.containers.log_errors;
        let response = &activation.response;
        let told = match response.status_code {
            Status::Success => false,
            Status::ApplicationError => wanted.application,
            Status::DeveloperError => wanted.developer,
            Status::WhiskError => wanted.whisk,
        };
        if told {
            let result = response.result.as_ref().map(ToString::to_string);
            let result: String = result.unwrap_or_default().chars().take(RESULT_SHOWN).collect();
            warn!(activation = %activation.activation_id, action = %activation.name, status = ?response.status_code, result, "ended in an error");
        }
    }

    fn count(&self) -> Counted<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Counted(&self.running)
    }
}

/// One run under way.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of `/init` for an action; `deadline` in milliseconds since the epoch. Without a message
/// nothing is known of who invokes it.
pub fn init_body(message: Option<&ActivationMessage>, executable: &Executable, deadline: i64) -> Vec<u8> {
    let env = message.map(|message| {
        let (_, for_init) = split_arguments(message.content.as_ref(), &message.init_args);
        let about = about(
            message,
            executable.facts.version,
            deadline,
            executable.provides_api_key,
        );
        environment(for_init, &about)
    });
    let value = InitValue {
        name: executable.name.as_str().into(),
        binary: executable.binary,
        main: executable.main.as_str().into(),
        code: executable.code.as_deref().map(Into::into),
        env: env.unwrap_or_default(),
    };
    serde_json::to_vec(&InitBody { value }).expect("texts are JSON")
}

/// Milliseconds since the epoch at which a limit that begins now ends (C-08).
pub fn deadline(limit: Duration) -> i64 {
    record::millis(SystemTime::now() + limit)
}

fn interval(exchange: &Exchange) -> Interval {
    Interval {
        began: exchange.began,
        took: exchange.took,
    }
}
