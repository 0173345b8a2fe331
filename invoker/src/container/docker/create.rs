//! From a [`ContainerSpec`] to a container that runs: the original's `docker run`, and its outcomes.
//!
//! Two requests create and start it, one asks for its address. It is not waited for its server: `/init` is
//! tried until somebody listens (C-40). Source: `DockerContainer.scala`, `DockerClient.scala`; contract L-02,
//! L-10 … L-18.

use super::call::{CallError, Outage, call, call_through_outages};
use super::known::Known;
use super::log_file::LogFile;
use super::{Inner, describe, image, sockets};
use crate::container::{Address, Container, ContainerId, ContainerSpec, Error};
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions,
};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

/// Where OpenWhisk's action containers listen.
const PORT: u16 = 8080;

/// What the command line says when there is nothing to execute (exit code 127).
const NOT_EXECUTABLE: [&str; 3] = [
    "executable file not found",
    "no such file or directory",
    "system cannot find the file specified",
];

impl Inner {
    /// Goes on to its end even if the caller gives up waiting; then it is removed again.
    pub(super) async fn start(self: &Arc<Self>, spec: &ContainerSpec) -> Result<Container, Error> {
        let (tell, told) = oneshot::channel();
        let (inner, spec) = (Arc::clone(self), spec.clone());
        let name = spec.name.clone();
        self.note_start(&name);
        self.starts.spawn(async move {
            let started = inner.create(&spec, &tell).await;
            inner
                .starting
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .remove(&spec.name);
            if let Err(Ok(container)) = tell.send(started) {
                debug!(container = spec.name, "nobody waits for this container any more");
                if let Err(error) = inner.remove(&container.id).await {
                    warn!(
                        container = spec.name,
                        error = &error as &dyn std::error::Error,
                        "not removed"
                    );
                }
            }
        });
        told.await.unwrap_or_else(|_| {
            Err(Error::Failed {
                operation: "started",
                name,
                source: "its task ended".into(),
            })
        })
    }

    async fn create(
        self: &Arc<Self>,
        spec: &ContainerSpec,
        asked: &oneshot::Sender<Result<Container, Error>>,
    ) -> Result<Container, Error> {
        let image = image::resolve(&spec.image, &self.settings);
        let mut pulled = Ok(());
        if spec.image.pull {
            pulled = self.pull(&image).await;
            if let Err(error) = &pulled {
                info!(image, %error, "not pulled");
                if image::split(&image).1 == "latest" {
                    return Err(Error::NotPulled { image });
                }
            }
        }
        let _permit = match &self.runs {
            Some(runs) => Some(runs.acquire().await.expect("it is never closed")),
            None => None,
        };
        if asked.is_closed() {
            return Err(failed(spec, "it was given up before it was created".into()));
        }
        sockets::make(&self.sockets, spec).map_err(|error| failed(spec, error.into()))?;
        let body = describe::body(
            spec,
            &image,
            &self.settings,
            &self.extra,
            &self.sockets,
            self.devices,
        );
        if !self.settings.mask_run_args {
            debug!(container = spec.name, ?body, "docker run");
        }
        let started = self.run(spec, &image, &body).await;
        if started.is_err() {
            self.clean_up(spec);
        }
        match (started, pulled) {
            (Ok(container), _) => Ok(container),
            (Err(Error::NoExecutable { image }), _) => Err(Error::NoExecutable { image }),
            (Err(_), Err(_)) => Err(Error::NotPulled { image }),
            (Err(error), Ok(())) => Err(error),
        }
    }

    /// `docker run`, again if Docker went away under it, and the container's address.
    async fn run(
        self: &Arc<Self>,
        spec: &ContainerSpec,
        image: &str,
        body: &ContainerCreateBody,
    ) -> Result<Container, Error> {
        let mut outage = Outage::default();
        let id = loop {
            let run = call(
                "run",
                &spec.name,
                self.settings.timeouts.run,
                self.create_and_start(spec, image, body),
            );
            match run.await {
                Ok(id) => break id,
                Err(error) if error.is_outage() && outage.wait().await => {
                    // Nobody knows how far it came.
                    let _ = self.remove_from_docker(&spec.name, false).await;
                }
                Err(error) => {
                    let lower = error.message().to_ascii_lowercase();
                    if NOT_EXECUTABLE.iter().any(|text| lower.contains(text)) && error.status() != Some(404) {
                        return Err(Error::NoExecutable {
                            image: image.to_owned(),
                        });
                    }
                    return Err(failed(spec, with_image(image, error)));
                }
            }
        };
        let inspected = call_through_outages("inspect", &spec.name, self.settings.timeouts.inspect, || {
            self.docker
                .inspect_container(&id.0, None::<InspectContainerOptions>)
        });
        let inspected = inspected.await.map_err(|error| failed(spec, error.into()))?;
        let address = self.address(spec, &inspected).ok_or_else(|| {
            failed(
                spec,
                format!("it has no address in network {}", self.network(spec)).into(),
            )
        })?;
        if let (Some(known), Some(path)) = (self.containers.find(&id), inspected.log_path) {
            known.has_log_on_host(PathBuf::from(path));
        }
        Ok(Container {
            id,
            name: spec.name.clone(),
            address,
        })
    }

    async fn create_and_start(
        self: &Arc<Self>,
        spec: &ContainerSpec,
        image: &str,
        body: &ContainerCreateBody,
    ) -> Result<ContainerId, bollard::errors::Error> {
        let options = CreateContainerOptionsBuilder::default().name(&spec.name).build();
        let create = || self.docker.create_container(Some(options.clone()), body.clone());
        let created = match create().await {
            // As `docker run` does for an image that is not there (L-16).
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 404,
                message,
            }) if message.contains("No such image") && !spec.image.pull => {
                debug!(image, "not here, so it is pulled");
                self.pull_once(image).await.map_err(|error| match error {
                    CallError::Docker(error) => error,
                    CallError::TimedOut { .. } => bollard::errors::Error::RequestTimeoutError,
                })?;
                create().await?
            }
            outcome => outcome?,
        };
        let id = ContainerId(created.id);
        // Before it starts, so that its end is not missed.
        let log = LogFile::new(&self.settings.containers, &id.0, spec.concurrency);
        self.containers
            .add(id.clone(), Arc::new(Known::new(&spec.name, log)));
        self.docker
            .start_container(&id.0, None::<StartContainerOptions>)
            .await?;
        Ok(id)
    }

    /// Removes what a failed start may have left, in the background: by its name, since its id may not be known
    /// (L-18).
    fn clean_up(self: &Arc<Self>, spec: &ContainerSpec) {
        let (inner, name) = (Arc::clone(self), spec.name.clone());
        self.starts.spawn(async move {
            if let Err(error) = inner.remove_from_docker(&name, false).await {
                warn!(container = name, %error, "a container that did not start could not be removed");
            }
            sockets::remove(&inner.sockets, &name);
            inner.containers.forget_named(&name);
        });
    }

    fn network(&self, spec: &ContainerSpec) -> &str {
        match &spec.lane {
            Some(lane) if !lane.network => "none",
            _ => &self.settings.network,
        }
    }

    /// L-17. Without a network there is none: what serves there does so on a Unix socket.
    fn address(&self, spec: &ContainerSpec, inspected: &ContainerInspectResponse) -> Option<Address> {
        if self.network(spec) == "none" && spec.lane.is_some() {
            return Some(Address::Unix(sockets::path(&self.sockets, &spec.name)));
        }
        let networks = inspected.network_settings.as_ref()?.networks.as_ref()?;
        let mode = inspected
            .host_config
            .as_ref()
            .and_then(|host| host.network_mode.as_deref());
        // An extra argument may have named another one.
        let network = networks
            .get(mode.unwrap_or_default())
            .or_else(|| networks.get(self.network(spec)));
        let network = network.or_else(|| networks.values().next())?;
        let ip: IpAddr = network.ip_address.as_deref()?.parse().ok()?;
        Some(Address::Tcp(SocketAddr::new(ip, PORT)))
    }
}

fn failed(spec: &ContainerSpec, source: crate::container::Cause) -> Error {
    Error::Failed {
        operation: "started",
        name: spec.name.clone(),
        source,
    }
}

/// Docker's own sentence does not always name the image.
fn with_image(image: &str, error: CallError) -> crate::container::Cause {
    format!("image {image}: {error}").into()
}
