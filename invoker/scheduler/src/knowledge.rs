//! What is known of one revision of an action: its DAG, its profile as far as it is measured, and
//! the rankings that follow from them. Found out once, and kept over restarts by the caller.

use crate::dag::{ComponentSet, Dag};
use crate::drift::{Drift, DriftSettings};
use crate::fault::Fault;
use crate::free::Kind;
use crate::instant::Instant;
use crate::partition::enumerate;
use crate::policy::Policy;
use crate::profile::{Profile, document_hash};
use crate::ranking::{Ranking, rank};
use crate::reason::Drifted;
use crate::slices::Lease;
use crate::work::{ActionRevision, Saved};
use proto::ffs::build::ProfileRows;
use proto::ffs::dag::DagDocument;
use proto::ffs::profile::{ComponentProfile, ObservedTimes, ProfileDocument, ProfileSchema, ProfileSource};
use proto::ffs::ranking::{Mode, RankingDocument};
use proto::id::{ActivationId, ComponentId, ProfileName};
use proto::unit::{Bytes, Millis};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// SLO as a multiple of the time alone on the smallest slice. Source: FluidFaaS §10.
const SLO_SCALE: f64 = 3.0;

#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    pub(crate) graph: Graph,
    /// As measured or declared so far; components may be missing.
    document: Option<Arc<ProfileDocument>>,
    /// The same, once each component has a time somewhere.
    profile: Option<Arc<Profile>>,
    /// The author's own profile; nothing is measured then.
    pub(crate) declared: Option<Arc<ProfileDocument>>,
    /// The measurement under way: at most one.
    pub(crate) measuring: Option<Measuring>,
    /// Slice profiles on which everything was measured that runs there.
    measured: BTreeSet<ProfileName>,
    /// Slice profiles on which the measurement failed.
    pub(crate) failed: BTreeMap<ProfileName, Fault>,
    /// Whether components take as long as the profile says.
    drift: Drift,
    /// An activation that this process has seen, for measurements.
    pub(crate) example: Option<ActivationId>,
    rankings: BTreeMap<&'static str, Arc<Ranked>>,
}

#[derive(Debug, Default)]
pub(crate) enum Graph {
    #[default]
    Unknown,
    /// A container with this much memory is at it.
    Building {
        memory: Bytes,
    },
    Known(Arc<DagDocument>, Arc<Dag>),
}

#[derive(Debug)]
pub(crate) struct Measuring {
    pub(crate) kind: ProfileName,
    pub(crate) lease: Lease,
    pub(crate) memory: Bytes,
}

/// The partitions in a policy's order, with the documents that belong to them.
#[derive(Debug)]
pub(crate) struct Ranked {
    pub(crate) dag: Arc<DagDocument>,
    pub(crate) graph: Arc<Dag>,
    pub(crate) profile: Arc<ProfileDocument>,
    pub(crate) costs: Arc<Profile>,
    pub(crate) ranking: Ranking,
    pub(crate) document: Arc<RankingDocument>,
    /// Time alone, unsplit, on the smallest slice that holds the function, as it was measured.
    alone: Duration,
}

impl Ranked {
    pub(crate) fn slo(&self, slo_ms: Option<f64>, slo_scale: Option<f64>) -> Option<Duration> {
        let seconds = match slo_ms {
            Some(ms) => ms / 1e3,
            None => self.alone.as_secs_f64() * slo_scale.unwrap_or(SLO_SCALE),
        };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

impl Knowledge {
    /// What an earlier process has found out.
    ///
    /// # Errors
    /// A sentence, if it is not valid (any more): it is found out again then.
    pub(crate) fn restore(saved: &Saved) -> Result<Self, String> {
        let mut knowledge = Self::default();
        knowledge.know_dag(Arc::clone(&saved.dag))?;
        if let Some(profile) = &saved.profile {
            let rows = profile
                .components
                .values()
                .flat_map(|component| component.by_mig.keys());
            knowledge.measured = rows.cloned().collect();
            knowledge.know_profile(Arc::clone(profile))?;
        }
        Ok(knowledge)
    }

    /// # Errors
    /// The rule that the DAG, or the profile declared for it, breaks.
    pub(crate) fn know_dag(&mut self, document: Arc<DagDocument>) -> Result<(), String> {
        let dag = Arc::new(Dag::parse(&document).map_err(|error| error.to_string())?);
        self.graph = Graph::Known(document, dag);
        if let Some(declared) = self.declared.clone() {
            self.know_profile(declared)
                .inspect_err(|_| self.graph = Graph::Unknown)?;
        }
        Ok(())
    }

    fn know_profile(&mut self, document: Arc<ProfileDocument>) -> Result<(), String> {
        let Graph::Known(_, dag) = &self.graph else {
            return Ok(());
        };
        let complete = dag.ids().iter().all(|id| document.components.contains_key(id));
        let profile = if complete || self.declared.is_some() {
            Some(Arc::new(
                Profile::parse(&document, dag).map_err(|error| error.to_string())?,
            ))
        } else {
            None
        };
        self.document = Some(document);
        self.profile = profile;
        self.rankings.clear();
        Ok(())
    }

    /// Adds what was measured on one kind of slice.
    ///
    /// # Errors
    /// What is wrong with the rows.
    pub(crate) fn learn(
        &mut self,
        of: &ActionRevision,
        rows: ProfileRows,
        source: ProfileSource,
        gpu_model: &str,
    ) -> Result<(), String> {
        let before = self.document.as_deref().cloned();
        let mut document = before.unwrap_or_else(|| ProfileDocument {
            schema: ProfileSchema::V1,
            function: of.action.clone(),
            revision: of.revision.clone(),
            source,
            gpu_model: gpu_model.to_owned(),
            batch: 1,
            context_bytes: Bytes(0),
            components: BTreeMap::new(),
            edges: BTreeMap::new(),
        });
        document.context_bytes = document.context_bytes.max(rows.context_bytes);
        for (id, row) in rows.components {
            let component = document.components.entry(id).or_insert_with(|| ComponentProfile {
                weights_bytes: Bytes(0),
                workspace_bytes: Bytes(0),
                load_ms: row.load_ms,
                swap_in_ms: row.swap_in_ms,
                swap_out_ms: row.swap_out_ms,
                by_mig: BTreeMap::new(),
            });
            component.weights_bytes = component.weights_bytes.max(row.weights_bytes);
            component.workspace_bytes = component.workspace_bytes.max(row.workspace_bytes);
            component.by_mig.insert(rows.kind.clone(), row.times);
        }
        for (edge, size) in rows.edges {
            let entry = document.edges.entry(edge).or_insert(size);
            entry.bytes = entry.bytes.max(size.bytes);
        }
        self.measured.insert(rows.kind);
        self.know_profile(Arc::new(document))
    }

    /// Holds one execution of a component on a kind of slice against what is reckoned with. If that has to be
    /// corrected, it is, and the reason is returned.
    pub(crate) fn observe(
        &mut self,
        component: &ComponentId,
        kind: &ProfileName,
        took: Duration,
        now: Instant,
        settings: &DriftSettings,
    ) -> Option<Drifted> {
        let dag = self.graph.known()?;
        let lane = ComponentSet::of(dag.position(component)?);
        let reckoned = self.profile.as_ref()?.time(lane, kind)?;
        let seen = self.drift.see(component, kind, took, reckoned, now, settings)?;
        let mut document = self.document.as_deref()?.clone();
        let row = document.components.get_mut(component)?.by_mig.get_mut(kind)?;
        let observed = ObservedTimes {
            exec_ms_p50: millis(seen.p50),
            exec_ms_p95: millis(seen.p95),
            samples: seen.runs,
        };
        let drifted = Drifted {
            component: component.clone(),
            kind: kind.clone(),
            profiled: row.exec_ms_p50,
            reckoned: row.observed.map(|before| before.exec_ms_p50),
            seen: observed.exec_ms_p50,
            runs: seen.runs,
        };
        row.observed = Some(observed);
        self.know_profile(Arc::new(document)).ok()?;
        Some(drifted)
    }

    /// What components cost, once each has a time somewhere.
    pub(crate) fn costs(&self) -> Option<&Arc<Profile>> {
        self.profile.as_ref()
    }

    pub(crate) fn dag(&self) -> Option<&Arc<DagDocument>> {
        match &self.graph {
            Graph::Known(document, _) => Some(document),
            Graph::Unknown | Graph::Building { .. } => None,
        }
    }

    pub(crate) fn profile_document(&self) -> Option<&Arc<ProfileDocument>> {
        self.document.as_ref()
    }

    /// Whether each component has a time somewhere.
    pub(crate) fn has_times(&self) -> bool {
        self.profile.is_some()
    }

    /// A component without any time.
    pub(crate) fn without_times(&self) -> Option<ComponentId> {
        let dag = self.graph.known()?;
        let measured = |id: &ComponentId| {
            self.document
                .as_ref()
                .is_some_and(|document| document.components.contains_key(id))
        };
        dag.ids().iter().find(|id| !measured(id)).cloned()
    }

    /// Whether a container finds something out right now.
    pub(crate) fn is_at_work(&self) -> bool {
        self.measuring.is_some() || matches!(self.graph, Graph::Building { .. })
    }

    /// Whether measuring on this kind of slice might tell something.
    pub(crate) fn is_open(&self, kind: &Kind) -> bool {
        let smallest = self
            .profile
            .as_ref()
            .zip(self.graph.known())
            .map(|(profile, dag)| {
                let lanes = (0..dag.len()).map(ComponentSet::of);
                lanes.map(|lane| profile.memory(lane)).min().unwrap_or_default()
            });
        self.declared.is_none()
            && !self.measured.contains(&kind.profile)
            && !self.failed.contains_key(&kind.profile)
            && smallest.is_none_or(|smallest| smallest <= kind.memory)
    }

    /// The partitions in the order of a policy; none while the DAG or a time is missing.
    ///
    /// # Errors
    /// A sentence, if they cannot be put in that order.
    pub(crate) fn ranked(
        &mut self,
        policy: &'static dyn Policy,
        kinds: &[Kind],
    ) -> Result<Option<Arc<Ranked>>, String> {
        if let Some(ranked) = self.rankings.get(policy.name()) {
            return Ok(Some(Arc::clone(ranked)));
        }
        let (Graph::Known(document, dag), Some(profile_document), Some(profile)) =
            (&self.graph, &self.document, &self.profile)
        else {
            return Ok(None);
        };
        let partitions = enumerate(dag, profile, Mode::Lanes).map_err(|error| error.to_string())?;
        let ranking = rank(dag, profile, &partitions, kinds, &policy.rank_options())
            .map_err(|error| error.to_string())?;
        let ranked = Arc::new(Ranked {
            dag: Arc::clone(document),
            graph: Arc::clone(dag),
            profile: Arc::clone(profile_document),
            costs: Arc::clone(profile),
            document: Arc::new(ranking.document(document_hash(profile_document))),
            alone: profile.promised(dag.all(), kinds),
            ranking,
        });
        self.rankings.insert(policy.name(), Arc::clone(&ranked));
        Ok(Some(ranked))
    }

    /// The kinds of slices have changed: rankings depend on them.
    pub(crate) fn forget_rankings(&mut self) {
        self.rankings.clear();
    }
}

impl Graph {
    pub(crate) fn known(&self) -> Option<&Arc<Dag>> {
        match self {
            Self::Known(_, dag) => Some(dag),
            Self::Unknown | Self::Building { .. } => None,
        }
    }
}

fn millis(time: Duration) -> Millis {
    Millis(time.as_secs_f64() * 1e3)
}
