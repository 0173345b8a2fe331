//! How containers end: Docker's events, on one connection for all of them.
//!
//! After the connection broke (Docker was restarted), what happened meanwhile is asked for: events that Docker
//! still knows of are sent again, and what does not run any more has ended. While Docker is away nothing is
//! said, since nothing is known. Contract C-50.

use super::Inner;
use super::call::Outage;
use super::known::Known;
use super::removal::ListedState;
use crate::container::{ContainerId, Exit};
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptionsBuilder, InspectContainerOptions};
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};
use tracing::{debug, warn};

/// The news that memory was exhausted may come behind that of the end.
const OUT_OF_MEMORY_NEWS: Duration = Duration::from_millis(100);
/// SIGKILL
const KILLED: i32 = 128 + 9;

/// Until the engine is dropped.
pub(super) async fn watch(engine: Weak<Inner>) {
    let mut since = now();
    let mut outage = Outage::default();
    let mut is_first = true;
    loop {
        let Some(inner) = engine.upgrade() else { return };
        let docker = inner.docker.clone();
        let owner = format!(
            "{}={}",
            super::describe::INVOKER,
            super::describe::owner(&inner.settings)
        );
        let filters = HashMap::from([
            ("type", vec!["container"]),
            ("event", vec!["die", "oom"]),
            ("label", vec![owner.as_str()]),
        ]);
        let options = EventsOptionsBuilder::default()
            .since(&since)
            .filters(&filters)
            .build();
        if !is_first && let Err(error) = look_again(&inner).await {
            debug!(%error, "Docker does not say which containers there are");
        }
        drop(inner);
        is_first = false;
        let mut events = std::pin::pin!(docker.events(Some(options)));
        loop {
            // A dropped engine is noticed without an event, too.
            let next = match tokio::time::timeout(Duration::from_secs(1), events.next()).await {
                Ok(next) => next,
                Err(_) if engine.strong_count() == 0 => return,
                Err(_) => continue,
            };
            let Some(inner) = engine.upgrade() else { return };
            match next {
                Some(Ok(event)) => {
                    outage = Outage::default();
                    since = stamp(&event).unwrap_or(since);
                    note(&inner, event);
                }
                Some(Err(error)) => {
                    warn!(%error, "Docker's events broke off");
                    break;
                }
                None => {
                    warn!("Docker's events ended");
                    break;
                }
            }
        }
        if !outage.wait().await {
            // It may be away for longer than a request waits: what runs is asked for whenever it is back.
            outage = Outage::default();
        }
    }
}

/// `seconds.nanoseconds`, as Docker takes it.
fn now() -> String {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}.{:09}", since_epoch.as_secs(), since_epoch.subsec_nanos())
}

fn stamp(event: &EventMessage) -> Option<String> {
    let nanos = event.time_nano?;
    Some(format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000))
}

fn note(inner: &Arc<Inner>, event: EventMessage) {
    let (Some(action), Some(actor)) = (event.action, event.actor) else {
        return;
    };
    let id = ContainerId(actor.id.unwrap_or_default());
    let Some(known) = inner.containers.find(&id) else {
        return;
    };
    match action.as_str() {
        "oom" => known.note_out_of_memory(),
        "die" => {
            let code = actor.attributes.and_then(|a| a.get("exitCode")?.parse().ok());
            let inner = Arc::clone(inner);
            tokio::spawn(async move { inner.settle(&id, &known, code).await });
        }
        _ => {}
    }
}

/// Which containers have ended while nobody listened.
async fn look_again(inner: &Arc<Inner>) -> Result<(), super::call::CallError> {
    let before = inner.containers.all();
    let listed = inner.list().await?;
    for (id, known) in before {
        if known.has_ended() {
            continue;
        }
        match listed.iter().find(|container| container.id == id.0) {
            Some(container) if container.state != ListedState::Ended => {}
            Some(_) => inner.settle(&id, &known, None).await,
            None => known.end(Exit::default()),
        }
    }
    Ok(())
}

impl Inner {
    /// Says how a container ended that does not run any more.
    async fn settle(&self, id: &ContainerId, known: &Known, code: Option<i32>) {
        let mut exit = as_exit(code);
        if code.is_none_or(|code| code == KILLED) {
            let options = None::<InspectContainerOptions>;
            let inspected = self.docker.inspect_container(&id.0, options).await;
            if let Some(state) = inspected.ok().and_then(|container| container.state) {
                let code = code.or(state.exit_code.and_then(|code| i32::try_from(code).ok()));
                exit = as_exit(code);
                exit.out_of_memory = state.oom_killed.unwrap_or(false);
            }
            if !exit.out_of_memory && !known.was_out_of_memory() {
                tokio::time::sleep(OUT_OF_MEMORY_NEWS).await;
            }
        }
        known.end(exit);
    }
}

fn as_exit(code: Option<i32>) -> Exit {
    Exit {
        code,
        signal: code.map(|code| code - 128).filter(|n| (1..=64).contains(n)),
        out_of_memory: false,
    }
}
