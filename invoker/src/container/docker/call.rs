//! One request to Docker: its time-out, its line in the log, and waiting while Docker is away.

use crate::metrics;
use bollard::errors::Error as DockerError;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long Docker may be away before a request to it fails: a restart on a busy host takes a while.
pub(super) const OUTAGE: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("Docker has not answered `{command}` within {limit:?}")]
    TimedOut { command: &'static str, limit: Duration },
    #[error(transparent)]
    Docker(#[from] DockerError),
}

impl CallError {
    /// Docker's own status code, if it answered.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Docker(DockerError::DockerResponseServerError { status_code, .. }) => Some(*status_code),
            _ => None,
        }
    }

    /// What it said; empty if it said nothing.
    pub(super) fn message(&self) -> &str {
        match self {
            Self::Docker(DockerError::DockerResponseServerError { message, .. }) => message,
            _ => "",
        }
    }

    /// Whether Docker could not be reached, or went away before it answered.
    pub(super) fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Docker(
                DockerError::HyperLegacyError { .. }
                    | DockerError::HyperResponseError { .. }
                    | DockerError::IOError { .. }
                    | DockerError::SocketNotFoundError(_)
            )
        )
    }
}

/// Does what `request` says within `limit` (P-68); `command` is what `docker` calls it (L-04, H-45).
pub(super) async fn call<T>(
    command: &'static str,
    subject: &str,
    limit: Option<Duration>,
    request: impl Future<Output = Result<T, DockerError>>,
) -> Result<T, CallError> {
    let (began, timing) = (Instant::now(), metrics::docker(command));
    let outcome = match limit {
        Some(limit) => match tokio::time::timeout(limit, request).await {
            Ok(outcome) => outcome.map_err(CallError::from),
            Err(_) => Err(CallError::TimedOut { command, limit }),
        },
        None => request.await.map_err(CallError::from),
    };
    timing.end(outcome.is_ok());
    let ms = began.elapsed().as_millis();
    match &outcome {
        Ok(_) => info!(subject, ms, "docker {command}"),
        Err(error) => warn!(subject, ms, %error, "docker {command} failed"),
    }
    outcome
}

/// The same again and again while Docker is away. For requests that do no harm when they are repeated.
pub(super) async fn call_through_outages<T, F: Future<Output = Result<T, DockerError>>>(
    command: &'static str,
    subject: &str,
    limit: Option<Duration>,
    mut request: impl FnMut() -> F,
) -> Result<T, CallError> {
    let mut outage = Outage::default();
    loop {
        match call(command, subject, limit, request()).await {
            Err(error) if error.is_outage() && outage.wait().await => {}
            outcome => return outcome,
        }
    }
}

/// Pauses between attempts, longer and longer, until [`OUTAGE`] is used up.
#[derive(Debug)]
pub(super) struct Outage {
    began: Instant,
    pause: Duration,
}

impl Default for Outage {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            pause: FIRST_PAUSE,
        }
    }
}

impl Outage {
    /// Whether there is another attempt.
    pub(super) async fn wait(&mut self) -> bool {
        if self.began.elapsed() >= OUTAGE {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}
