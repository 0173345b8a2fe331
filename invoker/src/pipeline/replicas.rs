//! A replica joins a running instance, or leaves it: the other lanes go on meanwhile.
//!
//! ```text
//! join:   assignment.json ─► container ─► hello ─► state run ─► loaded ─┐
//!                                           └─► other lanes: open rings ─┴─► head: switch ─► switched
//! leave:  assignment.json ─► all lanes: open rings (none) ─► head: switch ─► switched ─► container goes
//! ```
//! Up to the switch a failure is the replica's alone. From there on requests go through it, and its end is that of
//! the instance.

use super::control::{Heard, LaneEvent};
use super::instance::{Instance, Lane, Report};
use super::start::{self, CHANGE_LIMIT, LEAST_START_LIMIT, LaneOf, Scaffold};
use super::{Example, Pipelines};
use crate::container::{Container, SliceLimits};
use crate::readiness::because;
use proto::ffs::assignment::{AssignmentDocument, Lane as AssignedLane};
use proto::ffs::control::InvokerMessage;
use proto::ffs::migs::MigsDocument;
use proto::ffs::state::Desired;
use proto::id::LaneId;
use scheduler::command::Rewrite;
use scheduler::fault::Fault;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Longest wait for a connection to close whose lane has gone.
const CLOSING: Duration = Duration::from_secs(1);

impl Pipelines {
    /// Starts one more lane of an instance, and lets requests go through it.
    ///
    /// # Errors
    /// Whose fault it is, with a sentence; nothing of the lane is left, and the instance is as it was.
    pub async fn join(
        &self,
        instance: &Arc<Instance>,
        join: &Rewrite,
        example: &Example,
    ) -> Result<(), Fault> {
        let _alone = instance.moving.lock().await;
        let mut scaffold = Scaffold::default();
        let limit = example.executable.time_limit().max(LEAST_START_LIMIT);
        let outcome = tokio::select! {
            outcome = self.add_lane(instance, join, example, &mut scaffold) => outcome,
            () = instance.stopping.cancelled() => Err(Fault::whisk("the instance is being stopped")),
            () = tokio::time::sleep(limit) => {
                Err(Fault::developer(format!("the replica did not load within {} ms", limit.as_millis())))
            }
        };
        let switched = match outcome {
            Ok(epoch) => self.switch(instance, epoch).await,
            Err(fault) => {
                warn!(instance = %instance.id, lane = %join.lane, %fault, "a replica did not come up");
                scaffold.settle().await;
                self.take_down(instance, join.lane, &scaffold.containers).await;
                return Err(fault);
            }
        };
        info!(instance = %instance.id, lane = %join.lane, switched, "joined");
        Ok(())
    }

    /// Lets no more requests go through a lane, and takes it down; says whether it is gone. If that does not work, the
    /// instance is given up or is being stopped, and the lane goes with the others.
    pub async fn leave(&self, instance: &Arc<Instance>, leave: &Rewrite) -> bool {
        let _alone = instance.moving.lock().await;
        let lane = leave.lane;
        let assignment = AssignmentDocument {
            epoch: instance.changes.next(),
            ..leave.assignment.clone()
        };
        let told = tokio::select! {
            told = tell_all(instance, &assignment) => told,
            () = instance.stopping.cancelled() => return false,
        };
        if let Err((lane, why)) = told {
            give_up(instance, lane, &why);
            return false;
        }
        if !self.switch(instance, assignment.epoch).await {
            return false;
        }
        let Some(leaving) = instance.lane(lane) else {
            return true;
        };
        leaving.leaves.store(true, Ordering::Release);
        instance.changes.leave(lane);
        let container = std::slice::from_ref(&leaving.container);
        self.take_down(instance, lane, container).await;
        instance.change_lanes(|lanes| lanes.remove(&lane));
        info!(instance = %instance.id, %lane, "left");
        true
    }

    /// Removes the container of a lane, and sees its connection close: the next lane of that name has one of its own.
    async fn take_down(&self, instance: &Instance, lane: LaneId, containers: &[Container]) {
        let mut news = instance.news.listen();
        self.clear(containers.iter(), None).await;
        let closed = |heard: &Heard| matches!(heard, Heard::Closed { .. });
        // It may never have had one, or it was seen to close before.
        let _ = tokio::time::timeout(CLOSING, until(&mut news, lane, closed)).await;
    }

    async fn add_lane(
        &self,
        instance: &Arc<Instance>,
        join: &Rewrite,
        example: &Example,
        scaffold: &mut Scaffold,
    ) -> Result<u64, Fault> {
        let assignment = AssignmentDocument {
            epoch: instance.changes.next(),
            ..join.assignment.clone()
        };
        let assigned = assignment
            .lane(join.lane)
            .ok_or_else(|| Fault::whisk(format!("the assignment has no lane {}", join.lane)))?;
        let news = instance.news.listen();
        write(instance, &assignment, Some(&join.migs)).await?;
        let limits = {
            let remains = instance.remains.lock().await;
            let remains = remains.as_ref().ok_or_else(stopped)?;
            let of = LaneOf {
                assignment: &assignment,
                migs: &join.migs,
                layer: remains.layer.path(),
                shared_memory: remains.shared_memory.as_ref(),
                uid: instance.uid,
                memory: join.memory,
            };
            let token = remains.control.expect(join.lane, assignment.epoch);
            let (spec, limits) = self.lane_spec(assigned, &of, token, example)?;
            scaffold.start(join.lane, spec, &self.engine);
            limits
        };
        let mut joining = Joining {
            pipelines: self,
            instance,
            assignment: &assignment,
            lane: assigned,
            news,
        };
        let container = joining.load(scaffold, limits).await?;
        let (lane, epoch) = (join.lane, assignment.epoch);
        instance.changes.join(lane, epoch);
        instance.change_lanes(|lanes| lanes.insert(lane, Lane::new(assigned, container)));
        // Whoever watches the lanes has ended with the instance, or sees this one's end from now on.
        let _ = instance.news.watched.send(lane);
        Ok(epoch)
    }

    /// Requests take the ways of the assignment of that epoch from now on; says when none is left on the old ones
    /// (true), or when the instance is being stopped or was given up.
    async fn switch(&self, instance: &Arc<Instance>, epoch: u64) -> bool {
        let mut news = instance.news.listen();
        let told = InvokerMessage::Assignment { epoch, switch: true };
        // A head that has gone is reported by whoever watches it.
        let _ = instance.speaker.send(LaneId::HEAD, told);
        let switched =
            |heard: &Heard| matches!(heard, Heard::Assignment(to) if to.switched && to.epoch == epoch);
        tokio::select! {
            () = until(&mut news, LaneId::HEAD, switched) => true,
            () = instance.stopping.cancelled() => false,
            // A request may be on its old way for as long as the action may run.
            () = tokio::time::sleep(instance.time_limit + CHANGE_LIMIT) => {
                give_up(instance, LaneId::HEAD, "requests do not take their new ways");
                false
            }
        }
    }
}

/// A replica on its way to being loaded, and the other lanes to having opened their rings to it.
struct Joining<'a> {
    pipelines: &'a Pipelines,
    instance: &'a Instance,
    assignment: &'a AssignmentDocument,
    lane: &'a AssignedLane,
    news: mpsc::UnboundedReceiver<LaneEvent>,
}

impl Joining<'_> {
    async fn load(
        &mut self,
        scaffold: &mut Scaffold,
        limits: Option<SliceLimits>,
    ) -> Result<Container, Fault> {
        let (_, started) = scaffold
            .next()
            .await
            .ok_or_else(|| Fault::whisk("nothing was started"))?;
        let container = started.map_err(|error| start::as_fault(&error))?;
        let engine = self.pipelines.engine.as_ref();
        let id = container.id.clone();
        let ended = engine.ended(&id);
        tokio::pin!(ended);
        let (mut loaded, mut asked) = (false, None);
        while !loaded
            || asked
                .as_ref()
                .is_none_or(|asked: &BTreeSet<LaneId>| !asked.is_empty())
        {
            let event = tokio::select! {
                event = self.news.recv() => event.ok_or_else(stopped)?,
                exit = &mut ended => return Err(self.developer(&exit.to_string())),
            };
            let own = event.lane == self.lane.id;
            match event.heard {
                Heard::Hello if own => {
                    if let Some(limits) = limits {
                        let limited = engine.limit(&container.id, limits).await;
                        limited.map_err(|error| start::as_fault(&error))?;
                    }
                    let run = InvokerMessage::State(start::state(self.assignment.epoch, Desired::Run));
                    let sent = self.instance.speaker.send(event.lane, run);
                    sent.map_err(|error| Fault::whisk(error.to_string()))?;
                    asked = Some(tell(self.instance, self.assignment.epoch));
                }
                Heard::Loaded { .. } if own => loaded = true,
                Heard::Failed { sentence, at } if own => {
                    return Err(self.developer(&start::failure(&sentence, at)));
                }
                Heard::Closed { because } if own => return Err(self.developer(&because)),
                Heard::Assignment(to) if to.epoch == self.assignment.epoch => {
                    if let Some(error) = to.error {
                        return Err(Fault::developer(self.instance.in_lane(event.lane, &error)));
                    }
                    if let Some(asked) = &mut asked {
                        asked.remove(&event.lane);
                    }
                }
                _ => {}
            }
        }
        Ok(container)
    }

    fn developer(&self, why: &str) -> Fault {
        Fault::developer(start::in_lane(self.assignment, self.lane.id, why))
    }
}

/// Writes an assignment with fewer lanes, and waits until all of them know of it; else which one does not, and why.
async fn tell_all(instance: &Instance, assignment: &AssignmentDocument) -> Result<(), (LaneId, String)> {
    let mut news = instance.news.listen();
    let written = write(instance, assignment, None).await;
    written.map_err(|fault| (LaneId::HEAD, fault.to_string()))?;
    let mut asked = tell(instance, assignment.epoch);
    let limit = tokio::time::sleep(CHANGE_LIMIT);
    tokio::pin!(limit);
    while let Some(first) = asked.first().copied() {
        let event = tokio::select! {
            event = news.recv() => event,
            () = &mut limit => None,
        };
        let Some(LaneEvent { lane, heard }) = event else {
            let why = format!(
                "it took no note of another assignment within {} s",
                CHANGE_LIMIT.as_secs()
            );
            return Err((first, why));
        };
        if let Heard::Assignment(to) = heard
            && to.epoch == assignment.epoch
        {
            asked.remove(&lane);
            to.error.map_or(Ok(()), |error| Err((lane, error)))?;
        }
    }
    Ok(())
}

/// Tells the lanes that there is another assignment, and which ones will say that they are ready for it.
fn tell(instance: &Instance, epoch: u64) -> BTreeSet<LaneId> {
    let told = |lane: &LaneId| {
        let message = InvokerMessage::Assignment { epoch, switch: false };
        // One that has gone is reported by whoever watches it.
        instance.speaker.send(*lane, message).is_ok()
    };
    instance.lanes().into_keys().filter(told).collect()
}

/// Waits until the lane has said that; for ever if nobody says anything any more.
async fn until(news: &mut mpsc::UnboundedReceiver<LaneEvent>, lane: LaneId, said: impl Fn(&Heard) -> bool) {
    while let Some(event) = news.recv().await {
        if event.lane == lane && said(&event.heard) {
            return;
        }
    }
    std::future::pending().await
}

async fn write(
    instance: &Instance,
    assignment: &AssignmentDocument,
    migs: Option<&MigsDocument>,
) -> Result<(), Fault> {
    let remains = instance.remains.lock().await;
    let layer = &remains.as_ref().ok_or_else(stopped)?.layer;
    let written = layer.write_assignment(assignment, migs);
    written.map_err(|error| Fault::whisk(because(&error)))
}

fn stopped() -> Fault {
    Fault::whisk("the instance is being stopped")
}

fn give_up(instance: &Instance, lane: LaneId, why: &str) {
    let because = instance.in_lane(lane, why);
    warn!(instance = %instance.id, %because, "a lane is given up");
    instance.report.tell(Report::Died { lane, because });
}
