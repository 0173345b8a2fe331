//! From a request to a message for the invoker, and from its answer back. `PrimitiveActions.scala`.

use super::actions::Resolved;
use super::refusal::FINAL_PARAMETERS;
use super::waiting::{Answer, Waiter};
use super::{Address, Controller, Refusal, activations, put};
use crate::store::Database;
use proto::decode::decode;
use proto::id::ActivationId;
use proto::json::Json;
use proto::whisk::activation::Activation;
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::identity::Identity;
use proto::whisk::instance::ControllerId;
use proto::whisk::name::FullyQualifiedName;
use proto::whisk::parameter::Parameter;
use proto::whisk::record::Record;
use proto::whisk::transid::TransactionId;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// One request to run an action.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub action: Address,
    /// An object.
    pub arguments: Json,
    /// How long to wait for the result; not at all, if none.
    pub wait: Option<Duration>,
    pub transid: TransactionId,
}

/// What became of it, as far as one waited.
#[derive(Debug)]
pub enum Outcome {
    /// Under way.
    Accepted(ActivationId),
    Ended(Box<Activation>),
}

/// How often the store is asked for the record while an answer is awaited: it may have got lost.
const LOOK: Duration = Duration::from_secs(15);

/// When the store is first asked for an answer that was too large for a message.
const FIRST_LOOK: Duration = Duration::from_millis(100);

impl Controller {
    /// Sends the invocation to the invoker, and waits for its answer if that is asked for.
    pub async fn invoke(&self, user: &Identity, invocation: Invocation) -> Result<Outcome, Refusal> {
        let resolved = self.resolve(&invocation.action).await?;
        check(&resolved, &invocation.arguments, self)?;
        let id = ActivationId::from_u128(uuid::Uuid::new_v4().as_u128());
        let wait = invocation.wait;
        let message = message(user, invocation, resolved, id);
        let payload = serde_json::to_vec(&message).expect("a message of ours is JSON");
        let waiter = wait.map(|limit| (self.waiters.expect(id), limit));
        let topic = format!("invoker{}", self.settings.invoker);
        self.bus.send(&topic, payload).await?;
        let ended = match waiter {
            None => None,
            Some((waiter, limit)) => self.wait(user, id, waiter, limit).await,
        };
        Ok(ended.map_or(Outcome::Accepted(id), Outcome::Ended))
    }

    /// Waits for the answer, and looks into the store now and then.
    async fn wait(
        &self,
        user: &Identity,
        id: ActivationId,
        mut waiter: Waiter,
        limit: Duration,
    ) -> Option<Box<Activation>> {
        let limit = Instant::now() + limit;
        let mut pause = LOOK;
        let mut look = Instant::now() + pause;
        let mut answered = false;
        loop {
            tokio::select! {
                answer = waiter.answer(), if !answered => match answer? {
                    Answer::Whole(activation) => return Some(activation),
                    Answer::InStore => {
                        answered = true;
                        pause = FIRST_LOOK;
                        look = Instant::now();
                    }
                },
                () = sleep_until(look.min(limit)) => {
                    if let Some(activation) = self.stored(user, id).await {
                        return Some(activation);
                    }
                    if Instant::now() >= limit {
                        return None;
                    }
                    look = Instant::now() + pause;
                    pause = (pause * 2).min(LOOK);
                }
                () = self.stop.cancelled() => return None,
            }
        }
    }

    /// The activation from its record, without logs.
    async fn stored(&self, user: &Identity, id: ActivationId) -> Option<Box<Activation>> {
        let document = format!("{}/{id}", user.namespace.name);
        let found = match self.store.get(Database::Activation, &document, None).await {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!(%error, activation = %id, "a record could not be looked for");
                return None;
            }
        };
        let mut body = found.body;
        body["_id"] = found.id.into();
        match decode::<Record>(body.to_string().as_bytes()) {
            Ok(record) => Some(Box::new(Activation {
                logs: Vec::new(),
                ..record.activation
            })),
            Err(error) => {
                tracing::warn!(%error, activation = %id, "a record cannot be read");
                None
            }
        }
    }
}

/// An activation as the API shows it.
pub fn extended(activation: &Activation) -> Value {
    activations::whole(serde_json::to_value(activation).expect("an activation is JSON"))
}

fn check(resolved: &Resolved, arguments: &Json, controller: &Controller) -> Result<(), Refusal> {
    let action = &resolved.action;
    let runtime = controller.settings.runtimes.resolve(action.exec.kind());
    if runtime.is_some_and(|runtime| runtime.deprecated) {
        return Err(put::deprecated(action.exec.kind()));
    }
    if action.annotations.get("final") == Some(&Value::Bool(true)) {
        let defined = |key: &str| {
            resolved
                .parameters
                .iter()
                .any(|p| p.key == key && !p.value.is_null())
        };
        if arguments
            .members()
            .unwrap_or_default()
            .iter()
            .any(|(key, _)| defined(key))
        {
            return Err(Refusal::bad_request(FINAL_PARAMETERS));
        }
    }
    Ok(())
}

fn message(
    user: &Identity,
    invocation: Invocation,
    resolved: Resolved,
    id: ActivationId,
) -> ActivationMessage {
    let Resolved {
        action,
        parameters,
        binding,
    } = resolved;
    let given = invocation.arguments.members().unwrap_or_default();
    let is_given = |key: &str| given.iter().any(|(name, _)| name == key);
    let init = parameters
        .iter()
        .filter(|p| p.init == Some(true))
        .map(|p| p.key.clone());
    let locked = parameters.iter().filter(|p| !is_given(&p.key));
    let locked = locked.filter_map(|p| Some((p.key.clone(), p.encryption.clone()?)));
    ActivationMessage {
        action: FullyQualifiedName {
            binding,
            name: action.name,
            path: action.namespace,
            version: Some(action.version),
        },
        activation_id: id,
        blocking: invocation.wait.is_some(),
        cause: None,
        init_args: init.collect(),
        locked_args: locked.collect(),
        content: Some(merged(&parameters, &given)),
        revision: action.rev,
        root_controller_index: ControllerId::new("0".parse().expect("a digit is a controller's name")),
        trace_context: None,
        transid: invocation.transid,
        user: user.clone(),
    }
}

/// The arguments: what the request gives replaces what the action has.
fn merged(parameters: &[Parameter], given: &[(String, Json)]) -> Json {
    let mut all: Vec<(&str, Json)> = parameters
        .iter()
        .map(|p| (&*p.key, Json::from(&p.value)))
        .collect();
    for (key, value) in given {
        match all.iter_mut().find(|(name, _)| name == key) {
            Some((_, same)) => *same = value.clone(),
            None => all.push((key, value.clone())),
        }
    }
    Json::object(all.iter().map(|(key, value)| (*key, value)))
}
