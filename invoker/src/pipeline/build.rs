//! BUILDDAG and profiling: once per action revision, and per slice profile.
//!
//! Each runs in a container of the action's own, which is gone when the answer is here. Neither
//! counts as `initTime` nor against the action's time limit of a run.

use super::{Example, Pipelines, access, find};
use crate::completion::response::{self, Verdict};
use crate::container::action_proxy::{self, BodyLimit, Connect, Outcome};
use crate::container::{Container, LaneSpec, SliceAccess};
use proto::ffs::build::{BuildRequest, ProfileRequest, ProfileRows};
use proto::ffs::dag::DagDocument;
use proto::ffs::migs::MigsDocument;
use proto::id::{ProfileName, SliceUuid};
use proto::unit::{Bytes, Millis};
use scheduler::fault::Fault;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tracing::{info, warn};

/// Largest answer; a DAG of 64 components is far smaller.
const LARGEST: Bytes = Bytes::mib(4);
const MIN_RUNS: u32 = 3;
const MAX_RUNS: u32 = 30;
/// Time for the runs of one component, once the least number is done.
const BUDGET: Millis = Millis(2000.0);
/// Profiling runs every component several times, and each may take the action's limit.
const PROFILE_FACTOR: u32 = 10;

/// What is to be measured, and where.
#[derive(Debug)]
pub struct Profile {
    pub slice: SliceUuid,
    pub kind: ProfileName,
    pub memory: Bytes,
}

impl Pipelines {
    /// Finds out the DAG of an action.
    ///
    /// # Errors
    /// Whose fault it is, with a sentence.
    pub async fn build(&self, example: &Example, memory: Bytes) -> Result<DagDocument, Fault> {
        let request = BuildRequest {
            function: example.revision.action.clone(),
            revision: example.revision.revision.clone(),
            example: example.arguments(),
        };
        let limit = example.executable.time_limit();
        let body = serde_json::to_vec(&request).expect("JSON values are JSON");
        self.ask(example, "build", memory, None, "/ffs/build", body, limit)
            .await
    }

    /// Measures every component of an action on one slice.
    ///
    /// # Errors
    /// Whose fault it is, with a sentence.
    pub async fn profile(
        &self,
        work: &Profile,
        example: &Example,
        migs: &MigsDocument,
    ) -> Result<ProfileRows, Fault> {
        let slice = find(migs, &work.slice)
            .ok_or_else(|| Fault::whisk(format!("slice {} is not there any more", work.slice)))?;
        let request = ProfileRequest {
            kind: work.kind.clone(),
            example: example.arguments(),
            min_runs: MIN_RUNS,
            max_runs: MAX_RUNS,
            budget_ms: BUDGET,
        };
        let limit = example.executable.time_limit() * PROFILE_FACTOR;
        let body = serde_json::to_vec(&request).expect("JSON values are JSON");
        // A component that does not fit the slice is seen by its numbers: memory is measured here, not
        // enforced, or the inputs of those behind it could not be made.
        let mut slice = access(slice);
        if let Some(limits) = &mut slice.simulated {
            limits.memory = limits.memory.max(work.memory);
        }
        self.ask(
            example,
            "profile",
            work.memory,
            Some(slice),
            "/ffs/profile",
            body,
            limit,
        )
        .await
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one question, asked from the two functions above"
    )]
    async fn ask<T: DeserializeOwned>(
        &self,
        example: &Example,
        what: &str,
        memory: Bytes,
        slice: Option<SliceAccess>,
        path: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<T, Fault> {
        let simulated = slice.as_ref().and_then(|slice| slice.simulated);
        let lane = LaneSpec {
            config_layer: None,
            shared_memory: None,
            uid: self.next_uid(),
            network: false,
            slice,
        };
        let spec = self.spec(example, what, memory, lane);
        let container = self
            .engine
            .start(&spec)
            .await
            .map_err(|error| super::start::as_fault(&error))?;
        let answer = async {
            if let Some(limits) = simulated {
                let limited = self.engine.limit(&container.id, limits).await;
                limited.map_err(|error| super::start::as_fault(&error))?;
            }
            self.put_question(example, &container, path, body, limit).await
        }
        .await;
        if let Err(error) = self.engine.remove(&container.id).await {
            warn!(
                container = container.name,
                error = &error as &dyn std::error::Error,
                "not removed"
            );
        }
        info!(function = %example.revision, what, ok = answer.is_ok(), "done");
        answer
    }

    async fn put_question<T: DeserializeOwned>(
        &self,
        example: &Example,
        container: &Container,
        path: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<T, Fault> {
        let kept = BodyLimit {
            most: LARGEST,
            cut: LARGEST,
        };
        let action_limit = example.executable.time_limit();
        let init = example.init_body();
        let exchange = action_proxy::post(
            &container.address,
            "/init",
            init.into(),
            action_limit,
            kept,
            Connect::Patiently,
            self.engine.ended(&container.id),
        )
        .await;
        match response::of_init(&exchange, action_limit, LARGEST, false) {
            Verdict::Initialized => {}
            Verdict::Elsewhere => return Err(Fault::whisk("the container is shutting down")),
            Verdict::Ended { response, .. } => return Err(response::as_fault(&response)),
        }
        let ended = self.engine.ended(&container.id);
        let exchange = action_proxy::post(
            &container.address,
            path,
            body.into(),
            limit,
            kept,
            Connect::Once,
            ended,
        )
        .await;
        match exchange.outcome {
            Outcome::Response {
                status: 200, body, ..
            } if !body.is_cut() => serde_json::from_str(&body.text()).map_err(|error| {
                Fault::developer(format!("the answer to {path} is not what was expected: {error}"))
            }),
            Outcome::Response { status: 404, .. } => Err(Fault::developer(format!(
                "image {} does not know FluidFaaS (404 to {path}): give \"dag\" and \"profile\" in the annotation \"ffs\"",
                example.executable.image.name
            ))),
            Outcome::Response { body, .. } => {
                let error = proto::json::Json::parse(&body.text())
                    .ok()
                    .and_then(|json| json.member("error"));
                let error = error.and_then(|error| error.decode().ok());
                Err(Fault {
                    blame: scheduler::fault::Blame::Developer,
                    error: error.unwrap_or_else(|| body.text().into()),
                })
            }
            Outcome::TimedOut => Err(Fault::developer(format!(
                "{path} did not answer within {} ms",
                limit.as_millis()
            ))),
            Outcome::Unsendable(error) => Err(Fault::whisk(format!("{path} could not be called: {error}"))),
            Outcome::Refused | Outcome::Broken | Outcome::NoResponse => {
                let exit =
                    tokio::time::timeout(Duration::from_secs(2), self.engine.ended(&container.id)).await;
                let why = exit.map_or_else(|_| "it broke the connection".to_owned(), |exit| exit.to_string());
                Err(Fault::developer(format!("{path}: the container ended: {why}")))
            }
        }
    }
}
