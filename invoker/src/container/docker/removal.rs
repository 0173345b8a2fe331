//! Removing: one container, everything that an earlier process left, and what nobody knows of.
//!
//! Source: `DockerContainerFactory.scala`; contract L-26 … L-28, L-60 … L-63.

use super::call::{CallError, call, call_through_outages};
use super::{Inner, describe, shared_memory, sockets};
use crate::container::{ContainerId, Error};
use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use futures::StreamExt;
use futures::stream;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tracing::{info, warn};

/// Removals at once in a sweep.
const WIDTH: usize = 10;
/// Attempts to remove one container, and the pause between them.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is looked for containers that nobody knows of.
const RECONCILE: Duration = Duration::from_secs(300);
/// Longest wait for starts that were given up.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// A container of ours that Docker has.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) state: ListedState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListedState {
    Running,
    Paused,
    Ended,
}

impl Inner {
    /// Containers whose names begin with our prefix: Docker's filter would do with them containing it (L-62).
    pub(super) async fn list(&self) -> Result<Vec<Listed>, CallError> {
        let prefix = self.settings.name_prefix.as_str();
        let filters = HashMap::from([("name", vec![prefix])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let listed = call(
            "ps",
            prefix,
            self.settings.timeouts.ps,
            self.docker.list_containers(Some(options)),
        )
        .await?;
        let ours = listed.into_iter().filter_map(|container| {
            let names = container.names.unwrap_or_default();
            let name = names
                .iter()
                .filter_map(|name| name.strip_prefix('/'))
                .find(|name| name.starts_with(prefix))?;
            let state = match container.state {
                Some(ContainerSummaryStateEnum::PAUSED) => ListedState::Paused,
                Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::RESTARTING) => {
                    ListedState::Running
                }
                // One that was made and not started yet is about to run, or was given up.
                Some(ContainerSummaryStateEnum::CREATED) => ListedState::Running,
                _ => ListedState::Ended,
            };
            Some(Listed {
                id: container.id?,
                name: name.to_owned(),
                state,
            })
        });
        Ok(ours.collect())
    }

    /// Resumes, kills, removes: by id or by name. Retried, so that one refusal leaves nothing behind (L-26).
    pub(super) async fn remove_from_docker(&self, which: &str, paused: bool) -> Result<(), CallError> {
        if paused {
            // Whether that was needed shows when it is removed.
            let _ = call(
                "unpause",
                which,
                self.settings.timeouts.unpause,
                self.docker.unpause_container(which),
            )
            .await;
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let options = RemoveContainerOptionsBuilder::default()
                .force(true)
                .v(true)
                .build();
            let removed = call_through_outages("rm", which, self.settings.timeouts.rm, || {
                self.docker.remove_container(which, Some(options.clone()))
            });
            match removed.await {
                Err(error) if error.status() == Some(404) => return Ok(()),
                Err(error) if attempt == ATTEMPTS || matches!(error, CallError::TimedOut { .. }) => {
                    return Err(error);
                }
                Err(_) => tokio::time::sleep(PAUSE * attempt).await,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Goes on to its end even if the caller gives up waiting.
    pub(super) async fn remove(self: &Arc<Self>, id: &ContainerId) -> Result<(), Error> {
        let known = self.containers.find(id);
        let name = known
            .as_ref()
            .map_or_else(|| id.to_string(), |known| known.name.clone());
        let (inner, id) = (Arc::clone(self), id.clone());
        let removal = tokio::spawn(async move {
            let paused = known
                .as_ref()
                .is_some_and(|known| known.is_paused.load(Ordering::Relaxed));
            inner.remove_from_docker(&id.0, paused).await?;
            if let Some(known) = known {
                sockets::remove(&inner.sockets, &known.name);
            }
            inner.containers.forget(&id);
            Ok::<(), CallError>(())
        });
        let failed = |source| Error::Failed {
            operation: "removed",
            name,
            source,
        };
        match removal.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(error.into())),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Everything of this daemon's, whoever has made it.
    pub(super) async fn sweep(self: &Arc<Self>) -> Result<(), Error> {
        let prefix = self.settings.name_prefix.clone();
        let failed = |source: CallError| Error::Failed {
            operation: "swept away",
            name: format!("{prefix}…"),
            source: source.into(),
        };
        // A start that nobody waits for any more removes its container itself, once it is there.
        self.starts.close();
        if tokio::time::timeout(GIVEN_UP, self.starts.wait()).await.is_err() {
            warn!(
                starts = self.starts.len(),
                "starts that were given up are not over yet"
            );
        }
        self.starts.reopen();
        let listed = self.list().await.map_err(failed)?;
        if !listed.is_empty() {
            info!(containers = listed.len(), prefix, "removing what is left");
        }
        let removals = stream::iter(listed).map(|container| async move {
            let removed = self
                .remove_from_docker(&container.id, container.state == ListedState::Paused)
                .await;
            sockets::remove(&self.sockets, &container.name);
            self.containers.forget(&ContainerId(container.id));
            removed
                .inspect_err(|error| warn!(container = container.name, %error, "not removed"))
                .err()
        });
        let errors: Vec<_> = removals
            .buffer_unordered(WIDTH)
            .filter_map(|error| async { error })
            .collect()
            .await;
        sockets::sweep(&self.sockets);
        let volumes = shared_memory::sweep(
            &self.docker,
            &describe::owner(&self.settings),
            &self.settings.timeouts,
        )
        .await;
        match errors.into_iter().next().or(volumes.err()) {
            Some(error) => Err(failed(error)),
            None => Ok(()),
        }
    }
}

/// Now and then: containers with our prefix that nobody here knows of are removed (L-28).
pub(super) async fn reconcile(engine: Weak<Inner>) {
    loop {
        tokio::time::sleep(RECONCILE).await;
        let Some(inner) = engine.upgrade() else { return };
        inner.remove_unknown().await;
    }
}

impl Inner {
    /// What is being started is noted by its name before Docker has it.
    pub(super) async fn remove_unknown(self: &Arc<Self>) {
        let Ok(listed) = self.list().await else { return };
        for container in listed {
            let is_known = self.containers.find(&ContainerId(container.id.clone())).is_some();
            if is_known || self.is_starting(&container.name) {
                continue;
            }
            warn!(
                container = container.name,
                "nobody knows of this container: it is removed"
            );
            if let Err(error) = self
                .remove_from_docker(&container.id, container.state == ListedState::Paused)
                .await
            {
                warn!(container = container.name, %error, "not removed");
            }
        }
    }
}
