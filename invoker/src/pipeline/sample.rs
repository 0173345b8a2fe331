//! One document of each kind, all about the same function of two components, for the tests of this part.

use super::config_layer::Documents;
use proto::ffs::assignment::AssignmentDocument;
use proto::ffs::dag::DagDocument;
use proto::ffs::migs::MigsDocument;
use proto::ffs::profile::ProfileDocument;
use proto::ffs::ranking::RankingDocument;
use proto::ffs::state::{Desired, StateDocument, StateSchema};

pub(super) const INIT: &[u8] = br#"{"value":{"name":"two","main":"main","binary":false,"code":"..."}}"#;

pub(super) struct Sample {
    pub(super) dag: DagDocument,
    profile: ProfileDocument,
    ranking: RankingDocument,
    assignment: AssignmentDocument,
    migs: MigsDocument,
    state: StateDocument,
}

impl Sample {
    pub(super) fn documents(&self) -> Documents<'_> {
        Documents {
            dag: &self.dag,
            profile: &self.profile,
            ranking: &self.ranking,
            assignment: &self.assignment,
            migs: &self.migs,
            state: &self.state,
            init: INIT,
        }
    }
}

pub(super) fn sample() -> Sample {
    Sample {
        dag: read(DAG),
        profile: read(PROFILE),
        ranking: read(RANKING),
        assignment: read(ASSIGNMENT),
        migs: read(MIGS),
        state: state(1, Desired::Run),
    }
}

pub(super) fn state(epoch: u64, desired: Desired) -> StateDocument {
    StateDocument {
        schema: StateSchema::V1,
        epoch,
        desired,
        lanes: None,
        shared: None,
        deadline_ms: None,
    }
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("it has the document's form")
}

const DAG: &str = r#"{
  "schema": "ffs.dag/1",
  "function": "guest/two",
  "revision": "1-a",
  "built_at": "2026-01-02T03:04:05Z",
  "inputs": [{"name": "x", "dtype": "float32", "shape": ["B", 3, 224, 224]}],
  "nodes": [{"id": "seg", "module": "app:Seg", "inputs": [{"port": 0, "from": {"input": "x"}}], "outputs": [{"port": 0, "dtype": "float32", "shape": ["B", 21, 224, 224]}]}, {"id": "cls", "module": "app:Cls", "weights_key": "resnet50", "inputs": [{"port": 0, "from": {"node": "seg", "port": 0}}], "outputs": [{"port": 0, "dtype": "float32", "shape": ["B", 1000]}]}],
  "outputs": [{"name": "y", "node": "cls", "port": 0}],
  "symbols": {"B": 1}
}"#;

const PROFILE: &str = r#"{
  "schema": "ffs.profile/1",
  "function": "guest/two",
  "revision": "1-a",
  "source": "measured",
  "gpu_model": "NVIDIA A100 80GB PCIe",
  "batch": 1,
  "context_bytes": 419430400,
  "components": {"seg": {"weights_bytes": 245000000, "workspace_bytes": 1200000000, "load_ms": 410.0, "swap_in_ms": 41.0, "swap_out_ms": 22.0, "by_mig": {"1g.10gb": {"exec_ms_p50": 35.0, "exec_ms_p95": 36.2, "samples": 30}, "2g.20gb": {"exec_ms_p50": 19.5, "exec_ms_p95": 20.1, "samples": 30}}}, "cls": {"weights_bytes": 102000000, "workspace_bytes": 300000000, "load_ms": 107.0, "swap_in_ms": 23.5, "swap_out_ms": 9.0, "by_mig": {"1g.10gb": {"exec_ms_p50": 12.0, "exec_ms_p95": 12.4, "samples": 30}}}},
  "edges": {"seg:0->cls:0": {"bytes": 4214784}}
}"#;

const RANKING: &str = r#"{
  "schema": "ffs.ranking/1",
  "function": "guest/two",
  "revision": "1-a",
  "profile_hash": "sha256:00ff",
  "mode": "lanes",
  "std": "population",
  "reference": "min_fit",
  "atoms": [["seg"], ["cls"]],
  "total": 2,
  "kept": 2,
  "partitions": [{"rank": 0, "key": "seg,cls", "cv": 0.0, "stages": [{"time_ms": 47.0, "lanes": [{"components": ["seg", "cls"], "memory_bytes": 1966430400, "min_profile": "1g.10gb", "time_ms": 47.0}]}]}, {"rank": 1, "key": "seg|cls", "cv": 0.489362, "stages": [{"time_ms": 35.0, "lanes": [{"components": ["seg"], "memory_bytes": 1864430400, "min_profile": "1g.10gb", "time_ms": 35.0}]}, {"time_ms": 12.0, "lanes": [{"components": ["cls"], "memory_bytes": 821430400, "min_profile": "1g.10gb", "time_ms": 12.0}]}]}]
}"#;

const ASSIGNMENT: &str = r#"{
  "schema": "ffs.assignment/1",
  "instance": "i-7",
  "function": "guest/two",
  "revision": "1-a",
  "epoch": 1,
  "policy": "fluidfaas",
  "rank": 1,
  "cv": 0.489362,
  "slo_ms": 141.0,
  "stages": [{"index": 0, "lanes": [{"id": "s0l0", "components": ["seg"], "mig": {"uuid": "MIG-11111111-1111-5111-8111-111111111111", "profile": "1g.10gb", "gpu_uuid": "GPU-aaaaaaaa-0000-0000-0000-000000000000", "memory_bytes": 10334765056}, "rings_in": [], "rings_out": ["r0"]}]}, {"index": 1, "lanes": [{"id": "s1l0", "components": ["cls"], "mig": {"uuid": "MIG-22222222-1111-5111-8111-111111111111", "profile": "1g.10gb", "gpu_uuid": "GPU-aaaaaaaa-0000-0000-0000-000000000000", "memory_bytes": 10334765056}, "rings_in": ["r0"], "rings_out": ["ret"]}]}],
  "rings": [{"id": "r0", "path": "/dev/shm/r0", "bytes": 33554432, "slots": 4, "producer": "s0l0", "consumer": "s1l0", "tensors": [{"node": "seg", "port": 0}]}, {"id": "ret", "path": "/dev/shm/ret", "bytes": 1048576, "slots": 4, "producer": "s1l0", "consumer": "s0l0", "tensors": [{"node": "cls", "port": 0}]}],
  "batch": {"max": 1, "wait_ms": 0}
}"#;

const MIGS: &str = r#"{
  "schema": "ffs.migs/1",
  "taken_at": "2026-01-02T03:04:05Z",
  "source": "nvml",
  "driver": "570.86.10",
  "gpus": [{"uuid": "GPU-aaaaaaaa-0000-0000-0000-000000000000", "index": 0, "model": "NVIDIA A100 80GB PCIe", "memory_bytes": 85899345920, "mig": true, "numa": 0, "pci": "00000000:3B:00.0"}],
  "slices": [{"uuid": "MIG-11111111-1111-5111-8111-111111111111", "gpu_uuid": "GPU-aaaaaaaa-0000-0000-0000-000000000000", "profile": "1g.10gb", "gi": 13, "ci": 0, "placement": {"start": 6, "size": 1}, "compute_slices": 1, "sms": 14, "memory_bytes": 10334765056, "state": "hot", "owners": ["i-7"]}]
}"#;
