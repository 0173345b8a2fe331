//! One action: initialised once, then run, until the container leaves.
//!
//! What a request has begun is finished, with its logs, even if the one who asked has gone.

use super::answer::{Refusal, Reply};
use super::request;
use crate::child::process::Exit;
use crate::child::protocol::{Failure, ToChild};
use crate::child::{Ask, Child, End, Gone};
use crate::logs::{BlockEnd, Logs};
use axum::body::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// The action in this container. In a pipeline, the part that this lane has in it.
#[derive(Debug)]
pub struct Action {
    child: Child,
    logs: Arc<Logs>,
    lane: Option<LaneRole>,
    phase: Mutex<Phase>,
    requests: TaskTracker,
    /// Of the requests in flight, by number.
    deadlines: Mutex<BTreeMap<u64, SystemTime>>,
}

/// What an action is besides when it is a lane.
#[derive(Debug)]
pub struct LaneRole {
    /// `lane s0l0 (components …) on slice …`
    pub label: String,
    pub head: bool,
    pub loading: watch::Sender<Loading>,
}

/// How far a lane's components are. They load when the invoker has put the slice's limits in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loading {
    Forbidden,
    Allowed,
    Loaded,
    /// The lane cannot go on, now or ever.
    Failed(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    Initializing,
    Ready,
    /// The user's code could not be loaded.
    Broken,
    Leaving,
}

impl Action {
    pub fn new(child: Child, logs: Arc<Logs>, lane: Option<LaneRole>) -> Arc<Self> {
        Arc::new(Self {
            child,
            logs,
            lane,
            phase: Mutex::new(Phase::Fresh),
            requests: TaskTracker::new(),
            deadlines: Mutex::default(),
        })
    }

    /// `POST /init`.
    pub async fn init(self: Arc<Self>, body: Bytes) -> Reply {
        if let Some(lane) = &self.lane
            && !lane.head
        {
            return Refusal::NotTheHead(lane.label.clone()).into();
        }
        match self.begin_init(&body) {
            Err(refusal) => refusal.into(),
            Ok(value) => {
                let action = Arc::clone(&self);
                let outcome = self
                    .requests
                    .spawn(async move { action.finish_init(value).await })
                    .await;
                match outcome.unwrap_or_else(|lost| Err(Refusal::NotLoaded(lost.to_string()))) {
                    Ok(()) => Reply::initialized(),
                    Err(refusal) => refusal.into(),
                }
            }
        }
    }

    /// Loads the user's code from the body of `/init`; a lane then loads its components as soon as
    /// it may.
    ///
    /// # Errors
    /// What `/init` answers. A lane has then failed.
    pub async fn load(&self, body: &Bytes) -> Result<(), Refusal> {
        let value = self.begin_init(body)?;
        self.finish_init(value).await
    }

    fn begin_init(&self, body: &Bytes) -> Result<Bytes, Refusal> {
        let mut phase = self.phase();
        match *phase {
            Phase::Initializing | Phase::Ready | Phase::Broken => Err(Refusal::InitializedBefore),
            Phase::Leaving => Err(Refusal::Leaving),
            Phase::Fresh => {
                let value = request::init_value(body)?;
                *phase = Phase::Initializing;
                Ok(value)
            }
        }
    }

    async fn finish_init(&self, value: Bytes) -> Result<(), Refusal> {
        let outcome = self.try_init(value).await;
        self.end_init(if outcome.is_ok() {
            Phase::Ready
        } else {
            Phase::Broken
        });
        if outcome.is_err() {
            self.logs.end_without_request().await;
        }
        outcome
    }

    fn end_init(&self, now: Phase) {
        let mut phase = self.phase();
        if *phase == Phase::Initializing {
            *phase = now;
        }
    }

    async fn try_init(&self, value: Bytes) -> Result<(), Refusal> {
        match self.child.init(value).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                let refusal = Refusal::NotLoaded(failure.to_string());
                self.fail(failure);
                return Err(refusal);
            }
            Err(Gone) => return Err(Refusal::NotLoaded(self.mourn().await.to_string())),
        }
        let Some(lane) = &self.lane else { return Ok(()) };
        tokio::select! {
            outcome = self.load_components(lane) => outcome.map_err(|failure| Refusal::NotLoaded(failure.to_string())),
            failure = self.mourn() => Err(Refusal::NotLoaded(failure.to_string())),
        }
    }

    async fn load_components(&self, lane: &LaneRole) -> Result<(), Failure> {
        let mut loading = lane.loading.subscribe();
        let mut asked = false;
        loop {
            match &*loading.borrow_and_update() {
                Loading::Forbidden => {}
                Loading::Allowed if asked => {}
                Loading::Allowed => {
                    asked = true;
                    self.child.send(ToChild::Serve);
                }
                Loading::Loaded => return Ok(()),
                Loading::Failed(failure) => return Err(failure.clone()),
            }
            if loading.changed().await.is_err() {
                unreachable!("the sender is a part of the lane that is borrowed here");
            }
        }
    }

    /// Waits for the end of the process, and says how it was; with its last words, because an
    /// uncaught exception is the last thing that it says.
    pub async fn mourn(&self) -> Failure {
        let end = self.child.ended().await;
        let sentence = match (&end, self.logs.last_words().await) {
            (End::Exited(Exit::Code(1..)), Some(words)) => format!("{end}: {words}"),
            _ => end.to_string(),
        };
        self.about_lane(Failure { sentence, at: None })
    }

    /// The failure as one of this lane, if it is a lane.
    pub fn about_lane(&self, mut failure: Failure) -> Failure {
        if let Some(lane) = &self.lane
            && !failure.sentence.starts_with("lane ")
        {
            failure.sentence = format!("{}: {}", lane.label, failure.sentence);
        }
        failure
    }

    /// `POST /run`, `/ffs/build` and `/ffs/profile`.
    pub async fn ask(self: Arc<Self>, what: Ask, body: Bytes) -> Reply {
        let request = match self.admit(what, &body) {
            Ok(request) => request,
            Err(refusal) => return refusal.into(),
        };
        let action = Arc::clone(&self);
        let outcome = self
            .requests
            .spawn(async move { action.carry_out(what, body, request).await })
            .await;
        match outcome.unwrap_or(Err(Refusal::Exited)) {
            Ok(reply) => reply,
            Err(refusal) => refusal.into(),
        }
    }

    fn admit(&self, what: Ask, body: &Bytes) -> Result<request::RunRequest, Refusal> {
        let path = match what {
            Ask::Run => "/run",
            Ask::Build => "/ffs/build",
            Ask::Profile => "/ffs/profile",
        };
        match (&self.lane, what) {
            (Some(lane), Ask::Run) if !lane.head => return Err(Refusal::NotTheHead(lane.label.clone())),
            (Some(lane), Ask::Build | Ask::Profile) => {
                return Err(Refusal::Serving {
                    label: lane.label.clone(),
                    path,
                });
            }
            _ => {}
        }
        let request = match what {
            Ask::Run => request::run(body)?,
            Ask::Build => request::build(body).map(|()| request::RunRequest::default())?,
            Ask::Profile => request::profile(body).map(|()| request::RunRequest::default())?,
        };
        match *self.phase() {
            Phase::Fresh | Phase::Initializing | Phase::Broken => Err(Refusal::NotInitialized(path)),
            Phase::Leaving => Err(Refusal::Leaving),
            Phase::Ready => match self.child.end() {
                Some(_) if self.lane.is_none() => Err(Refusal::ExitedBefore),
                Some(end) => {
                    let failure = self.about_lane(Failure {
                        sentence: end.to_string(),
                        at: None,
                    });
                    Err(Refusal::LaneLost(failure.to_string()))
                }
                None => Ok(request),
            },
        }
    }

    async fn carry_out(
        &self,
        what: Ask,
        body: Bytes,
        request: request::RunRequest,
    ) -> Result<Reply, Refusal> {
        let id = self.child.next_id();
        if let Some(deadline) = request.deadline {
            self.deadlines().insert(id, deadline);
        }
        self.logs.begin(id).await;
        let answer = self.child.ask(id, what, body).await;
        let end = match (what, &self.lane, request.activation_id) {
            (Ask::Build | Ask::Profile, ..) => BlockEnd::Nothing,
            (Ask::Run, Some(_), Some(activation)) => BlockEnd::SentinelOf(activation),
            (Ask::Run, ..) => BlockEnd::Sentinel,
        };
        let lines = answer.as_ref().map_or(&[][..], |answer| &answer.logs);
        self.logs.finish(id, lines, &end).await;
        self.deadlines().remove(&id);
        match answer {
            Ok(answer) => Reply::from_child(answer),
            Err(Gone) if self.lane.is_none() => Err(Refusal::Exited),
            Err(Gone) => Err(Refusal::LaneLost(self.mourn().await.to_string())),
        }
    }

    /// A lane's components may load: the limits of its slice are in force.
    ///
    /// Returns whether they were forbidden before.
    pub fn allow_loading(&self) -> bool {
        self.load_state(|now| *now == Loading::Forbidden, Loading::Allowed)
    }

    /// The lane's components are loaded. Returns whether they were to be.
    pub fn loaded(&self) -> bool {
        self.load_state(|now| *now == Loading::Allowed, Loading::Loaded)
    }

    /// The lane cannot go on. The first reason stays.
    pub fn fail(&self, failure: Failure) {
        self.load_state(|now| !matches!(now, Loading::Failed(_)), Loading::Failed(failure));
    }

    fn load_state(&self, from: impl Fn(&Loading) -> bool, to: Loading) -> bool {
        let Some(lane) = &self.lane else { return false };
        lane.loading.send_if_modified(|loading| {
            let changes = from(loading);
            if changes {
                *loading = to;
            }
            changes
        })
    }

    /// Whether the lane computes: it can be told what to do with the requests in its rings.
    pub fn serves(&self) -> bool {
        self.lane
            .as_ref()
            .is_some_and(|lane| *lane.loading.borrow() == Loading::Loaded)
    }

    /// Why the lane cannot go on; waits until that is so. An ordinary action waits for ever.
    pub async fn failed(&self) -> Failure {
        if let Some(lane) = &self.lane {
            let mut loading = lane.loading.subscribe();
            if let Ok(now) = loading.wait_for(|now| matches!(now, Loading::Failed(_))).await
                && let Loading::Failed(failure) = &*now
            {
                return failure.clone();
            }
        }
        std::future::pending().await
    }

    /// Accepts nothing new from now on; what runs may end.
    pub fn leave(&self) {
        *self.phase() = Phase::Leaving;
        self.requests.close();
    }

    /// Waits, after [`Self::leave`], until nothing runs.
    pub async fn idle(&self) {
        self.requests.wait().await;
    }

    /// When the time of the last request in flight ends.
    pub fn last_deadline(&self) -> Option<SystemTime> {
        self.deadlines().values().max().copied()
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deadlines(&self) -> MutexGuard<'_, BTreeMap<u64, SystemTime>> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
