//! Merges the controllers' test actions: of those of one controller that are here at once, one runs, and the
//! others are answered with its result (K-51, O-03).
//!
//! After a long downtime hundreds of them wait in the topic; run one by one they would delay real work. A
//! whisk error is not passed on: it would count several times against this invoker, so the next one runs.

use crate::completion::Witness;
use proto::whisk::activation::{Activation, Status};
use proto::whisk::activation_message::ActivationMessage;
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::sync::watch;

/// Who runs for each controller.
#[derive(Debug, Default)]
pub struct HealthTests {
    running: Mutex<HashMap<String, watch::Receiver<Option<Activation>>>>,
}

/// What becomes of an activation.
#[derive(Debug)]
pub enum Role {
    /// It is no test action.
    None,
    /// It runs, and whoever waits beside it wants to see its result.
    Runs(Witness),
    /// Another one has run instead, with this result.
    Merged(Box<Activation>),
}

impl HealthTests {
    /// Waits for the one that runs, if there is one.
    pub async fn join(&self, message: &ActivationMessage) -> Role {
        let Some(controller) = controller(message) else {
            return Role::None;
        };
        loop {
            let mut running = {
                let mut all = self.running.lock().expect("no holder panics");
                match all
                    .get(controller)
                    .filter(|running| running.has_changed().is_ok())
                {
                    Some(running) => running.clone(),
                    None => {
                        let (witness, running) = watch::channel(None);
                        all.insert(controller.to_owned(), running);
                        return Role::Runs(witness);
                    }
                }
            };
            let seen = running.wait_for(Option::is_some).await;
            if let Ok(seen) = seen
                && let Some(activation) = seen.as_ref()
                && activation.response.status_code != Status::WhiskError
            {
                return Role::Merged(Box::new(Activation {
                    activation_id: message.activation_id,
                    ..activation.clone()
                }));
            }
        }
    }
}

/// Whose test action it is (K-47, K-48).
fn controller(message: &ActivationMessage) -> Option<&str> {
    let action = &message.action;
    let is_test = message.transid.id == "sid_invokerHealth"
        && action.path.to_string() == "whisk.system"
        && action.name.to_string().starts_with("invokerHealthTestAction");
    is_test.then(|| message.root_controller_index.as_string.as_str())
}
