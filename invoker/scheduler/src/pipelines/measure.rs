//! What has to be found out before a function can be placed: its DAG, and its costs per kind of slice.
//!
//! BUILDDAG needs no slice. Measuring leases one free slice at a time, the largest kind first; the
//! kinds that nobody waits for are measured when everything rests.

use super::Pipelines;
use crate::command::Command;
use crate::containers::Pool;
use crate::decision::What;
use crate::fault::Fault;
use crate::free::{FreeSlices, Kind};
use crate::instant::Instant;
use crate::knowledge::{Graph, Measuring};
use crate::reason::{Refusal, Waiting};
use crate::slices::Holder;
use crate::step::Step;
use crate::work::{ActionRevision, FunctionKey};
use proto::ffs::build::ProfileRows;
use proto::ffs::dag::DagDocument;
use proto::ffs::migs::{InventorySource, Slice};
use proto::ffs::profile::ProfileSource;
use proto::id::SliceUuid;
use std::sync::Arc;

impl Pipelines {
    pub(crate) fn built(
        &mut self,
        of: &ActionRevision,
        result: Result<Box<DagDocument>, Fault>,
        step: &mut Step<'_>,
    ) {
        let Some(knowledge) = self.knowledge.get_mut(of) else {
            return;
        };
        let Graph::Building { memory } = knowledge.graph else {
            return;
        };
        step.memory.give(memory);
        knowledge.graph = Graph::Unknown;
        let known = result.and_then(|dag| {
            let about =
                |sentence| Fault::developer(format!("The DAG of the function is not valid: {sentence}"));
            knowledge.know_dag(Arc::from(dag)).map_err(about)
        });
        match known {
            Ok(()) => self.save(of, step),
            Err(fault) => self.refuse_revision(of, &Refusal::NotBuilt { fault }, step),
        }
    }

    pub(crate) fn profiled(
        &mut self,
        of: &ActionRevision,
        slice: &SliceUuid,
        result: Result<Box<ProfileRows>, Fault>,
        step: &mut Step<'_>,
    ) {
        let (Some(knowledge), Some(ledger)) = (self.knowledge.get_mut(of), &mut self.ledger) else {
            return;
        };
        let asked = |m: &mut Measuring| m.lease.slices() == std::slice::from_ref(slice);
        let Some(Measuring { kind, lease, memory }) = knowledge.measuring.take_if(asked) else {
            return;
        };
        step.memory.give(memory);
        let quota = ledger
            .document()
            .slices
            .into_iter()
            .find(|s| s.uuid == *slice)
            .and_then(|s| s.cpu_quota);
        let source = match (ledger.source(), quota) {
            // A slice without a quota is only said to be smaller than another.
            (InventorySource::Simulated, None) => ProfileSource::Simulated,
            (InventorySource::Simulated | InventorySource::Nvml | InventorySource::None, _) => {
                ProfileSource::Measured
            }
        };
        ledger.release(lease);
        let learnt = result.and_then(|mut rows| {
            rows.kind = kind.clone();
            let about = |sentence| Fault::whisk(format!("the measurement is not valid: {sentence}"));
            knowledge
                .learn(of, *rows, source, ledger.gpu_model())
                .map_err(about)
        });
        match learnt {
            Ok(()) => self.save(of, step),
            Err(fault) => {
                knowledge.failed.insert(kind.clone(), fault.clone());
                let because = format!("measuring on {kind} failed: {fault}");
                self.note(step, What::Profile, &of.to_string(), because);
            }
        }
    }

    pub(super) fn build(&mut self, key: &FunctionKey, pool: &mut Pool, step: &mut Step<'_>) {
        let function = &self.functions[key];
        let (memory, arrival) = (function.memory, function.head());
        let Some(example) = function.queue.front().map(|job| job.activation) else {
            return;
        };
        if !self.take_memory(key, memory, arrival, pool, step) {
            return;
        }
        self.wait_for(key, Waiting::Build, step);
        let knowledge = self.knowledge.entry(key.of.clone()).or_default();
        knowledge.graph = Graph::Building { memory };
        knowledge.example = Some(example);
        self.note(
            step,
            What::Build,
            &key.to_string(),
            "its DAG is not known".to_owned(),
        );
        step.say(Command::Build {
            function: key.of.clone(),
            example,
            memory,
        });
    }

    /// Measures the largest kind of slice that might tell something new and is free; if there is
    /// nothing left to measure, `otherwise` says how the function ends.
    pub(super) fn measure(
        &mut self,
        key: &FunctionKey,
        otherwise: impl FnOnce(&Self) -> Refusal,
        pool: &mut Pool,
        step: &mut Step<'_>,
    ) {
        if self
            .knowledge
            .get(&key.of)
            .is_some_and(|knowledge| knowledge.measuring.is_some())
        {
            let because = "a measurement is under way".to_owned();
            return self.wait_for(key, Waiting::Profile { because }, step);
        }
        let open = self.open_kinds(&key.of);
        if open.is_empty() {
            let refusal = otherwise(self);
            self.refuse_all(key, &refusal, step);
            if let Some(knowledge) = self.knowledge.get_mut(&key.of) {
                // The next activation may bring a better example.
                knowledge.failed.clear();
            }
            return;
        }
        let Some(slice) = self.free_slice_of(&open) else {
            let because = format!("every {} slice is in use", names(&open));
            self.wait_for(key, Waiting::Profile { because }, step);
            let wanted = |free: &FreeSlices| free.iter().any(|slice| open.contains(&Kind::of(slice)));
            return self.make_way(key, wanted, step);
        };
        let arrival = self.functions[key].head();
        if self.take_memory(key, self.functions[key].memory, arrival, pool, step) {
            let because = format!("{} is being measured", slice.profile);
            self.wait_for(key, Waiting::Profile { because }, step);
            self.start_measuring(key, &slice, "nothing that is measured can be placed", step);
        }
    }

    /// Kinds of slices that might tell something new, the largest first. Smaller ones than those
    /// that a measurement failed on are not tried while nothing is known.
    fn open_kinds(&self, of: &ActionRevision) -> Vec<Kind> {
        let (Some(knowledge), Some(ledger)) = (self.knowledge.get(of), &self.ledger) else {
            return Vec::new();
        };
        let too_small = |kind: &Kind| {
            let failed = ledger
                .kinds()
                .iter()
                .filter(|k| knowledge.failed.contains_key(&k.profile));
            !knowledge.has_times() && failed.max().is_some_and(|largest| kind < largest)
        };
        let kinds = ledger.kinds().iter().rev();
        kinds
            .filter(|kind| knowledge.is_open(kind) && !too_small(kind))
            .cloned()
            .collect()
    }

    fn free_slice_of(&self, kinds: &[Kind]) -> Option<Arc<Slice>> {
        let free = self.ledger.as_ref()?.free();
        kinds
            .iter()
            .find_map(|kind| free.iter().find(|slice| Kind::of(slice) == *kind).cloned())
    }

    /// Whether a slice that might tell something new is free.
    pub(super) fn could_measure(&self, of: &ActionRevision) -> bool {
        let at_work = self
            .knowledge
            .get(of)
            .is_some_and(|knowledge| knowledge.measuring.is_some());
        !at_work && self.free_slice_of(&self.open_kinds(of)).is_some()
    }

    /// How a function ends of which nothing could be measured.
    pub(super) fn not_measured(&self, of: &ActionRevision) -> Refusal {
        let knowledge = &self.knowledge[of];
        let kinds = self.ledger.as_ref().map_or(&[][..], |ledger| ledger.kinds());
        let failed = kinds.iter().rev().find_map(|kind| {
            let fault = knowledge.failed.get(&kind.profile)?;
            Some((kind.profile.clone(), fault.clone()))
        });
        match (failed, knowledge.without_times()) {
            (Some((kind, fault)), _) => Refusal::NotProfiled { kind, fault },
            (None, Some(component)) => Refusal::NeverFits {
                because: format!("component {component} ran on none of {}", names(kinds)),
            },
            (None, None) => Refusal::NeverFits {
                because: "no slice is in order".to_owned(),
            },
        }
    }

    fn start_measuring(&mut self, key: &FunctionKey, slice: &Slice, because: &str, step: &mut Step<'_>) {
        let memory = self.functions[key].memory;
        let (Some(knowledge), Some(ledger)) = (self.knowledge.get_mut(&key.of), &mut self.ledger) else {
            return step.memory.give(memory);
        };
        let holder = Holder::Profiling(key.of.clone());
        let (Some(dag), Some(example), Some(lease)) = (
            knowledge.dag().cloned(),
            knowledge.example,
            ledger.lease(std::slice::from_ref(&slice.uuid), &holder),
        ) else {
            return step.memory.give(memory);
        };
        let kind = slice.profile.clone();
        knowledge.measuring = Some(Measuring {
            kind: kind.clone(),
            lease,
            memory,
        });
        self.log.push(crate::decision::Decision {
            chosen: Some(kind.to_string()),
            ..crate::decision::Decision::new(step.now, What::Profile, key.to_string(), because.to_owned())
        });
        step.say(Command::Profile {
            function: key.of.clone(),
            slice: slice.uuid.clone(),
            kind,
            dag,
            example,
            memory,
        });
    }

    /// Measures one further kind when nothing waits and nothing runs, and memory is free anyway.
    pub(super) fn measure_in_rest(&mut self, pool: &Pool, step: &mut Step<'_>) {
        let rests = |at: Instant| step.now.since(at) >= step.settings.profile_rest;
        let at_rest = self
            .functions
            .values()
            .all(|f| f.queue.is_empty() && rests(f.active))
            && self.running.is_empty()
            && pool.blocked().is_none()
            && !self
                .knowledge
                .values()
                .any(crate::knowledge::Knowledge::is_at_work);
        if !at_rest {
            return;
        }
        let next = self.functions.iter().find_map(|(key, function)| {
            let known = self.knowledge.get(&key.of)?;
            let ready = function.superseded.is_none() && known.has_times() && known.example.is_some();
            let slice = ready.then(|| self.free_slice_of(&self.open_kinds(&key.of)))??;
            Some((key.clone(), function.memory, slice))
        });
        let Some((key, memory, slice)) = next else { return };
        if step.memory.take(memory) {
            self.start_measuring(&key, &slice, "nothing waits and the slice is free", step);
        } else {
            self.wants_memory = true;
        }
    }
}

fn names(kinds: &[Kind]) -> String {
    let mut names: Vec<&str> = kinds.iter().map(|kind| kind.profile.as_str()).collect();
    names.dedup();
    names.join(" and ")
}
