"""Pipelines without an invoker: writes the config layer, starts the lanes, plays their proxies."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

from proxy import Child

SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int16": 2, "int32": 4, "int64": 8}


class Pipeline:
    """The lanes of one instance."""

    def __init__(
        self, start: Any, folder: Path, code: str, dag: dict[str, Any], plan: str, **options: Any
    ) -> None:
        """`plan` is a partition key, `m1;m2|m3,m4`."""
        self.id = f"test-{uuid.uuid4().hex[:12]}"
        self.config = folder / self.id
        self.config.mkdir()
        self.assignment = assignment(self.id, dag, plan, **options)
        self.write("dag", dag)
        self.write("assignment", self.assignment)
        self._lanes = [lane for stage in self.assignment["stages"] for lane in stage["lanes"]]
        self.children: dict[str, Child] = {}
        self._begin(start, code, options.get("binary", {}))

    def _begin(self, start: Any, code: str, binary: dict[str, Any]) -> None:
        for lane in self._lanes:
            self.children[lane["id"]] = start(FFS_CONFIG=str(self.config), FFS_LANE=lane["id"])
        for child in self.children.values():
            assert child.init(code, **binary) is None
        for child in self.children.values():
            child.send({"type": "serve"})

    def loaded(self) -> Pipeline:
        """Waits until all lanes are ready."""
        for child in self.children.values():
            said = child.said("loaded")
            assert said["load_ms"] >= 0 and said["resident_bytes"] > 0
        return self

    @property
    def head(self) -> Child:
        return self.children["s0l0"]

    def begin_run(self, value: Any, deadline_s: float = 600, **members: str) -> int:
        members.setdefault("activation_id", uuid.uuid4().hex)
        members.setdefault("deadline", str(int((time.time() + deadline_s) * 1000)))
        return self.head.begin_run(value, **members)

    def run(self, value: Any, **options: Any) -> dict[str, Any]:
        return self.head.answer(self.begin_run(value, **options))

    def write(self, name: str, document: Any) -> None:
        (self.config / f"{name}.json").write_text(json.dumps(document))

    def state(self, desired: str, epoch: int = 2, **members: Any) -> None:
        for child in self.children.values():
            child.send({"type": "state", "epoch": epoch, "desired": desired, "deadline_ms": None, **members})


def assignment(
    instance: str,
    dag: dict[str, Any],
    plan: str,
    slots: int = 0,
    extra_bytes: int = 4096,
    growth: int = 2,
    batch: int = 1,
    **_: Any,
) -> dict[str, Any]:
    """The assignment of a plan, as the invoker makes it (decision 16)."""
    stages = [[lane.split(",") for lane in stage.split(";")] for stage in plan.split("|")]
    lane_of = {c: f"s{s}l{n}" for s, stage in enumerate(stages) for n, lane in enumerate(stage) for c in lane}
    lanes = list(dict.fromkeys(lane_of.values()))
    carried: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def carry(producer: str, consumer: str, tensor: dict[str, Any] | None) -> None:
        if producer != consumer:
            tensors = carried.setdefault((producer, consumer), [])
            if tensor is not None and tensor not in tensors:
                tensors.append(tensor)

    for node in dag["nodes"]:
        consumer = lane_of[node["id"]]
        if not node["inputs"]:
            carry("s0l0", consumer, None)
        for item in node["inputs"]:
            origin = item["from"]
            carry("s0l0" if "input" in origin else lane_of[origin["node"]], consumer, origin)
    for output in dag["outputs"]:
        carry(lane_of[output["node"]], "s0l0", {"node": output["node"], "port": output["port"]})

    shapes = {("", item["name"]): item for item in dag["inputs"]}
    shapes |= {(node["id"], item["port"]): item for node in dag["nodes"] for item in node["outputs"]}

    def size(tensor: dict[str, Any]) -> int:
        item = shapes[("", tensor["input"]) if "input" in tensor else (tensor["node"], tensor["port"])]
        total = SIZES.get(item["dtype"], 1) * growth
        for dim in item["shape"]:
            total *= dag.get("symbols", {}).get(dim, dim)
        return -(-total // 64) * 64

    slots = slots or len(stages) * batch + 2
    rings = []
    for number, ((producer, consumer), tensors) in enumerate(carried.items()):
        id = f"r{number}"
        rings.append({
            "id": id, "path": f"/dev/shm/ffs-{instance}-{id}", "slots": slots,
            "bytes": slots * (sum(map(size, tensors)) + extra_bytes),
            "producer": producer, "consumer": consumer, "tensors": tensors,
        })  # fmt: skip

    def describe(lane: str) -> dict[str, Any]:
        return {
            "id": lane, "components": [id for id, own in lane_of.items() if own == lane],
            "mig": {"uuid": f"MIG-{lane}", "profile": "1g.10gb", "gpu_uuid": "GPU-0", "memory_bytes": 1 << 30},
            "rings_in": [ring["id"] for ring in rings if ring["consumer"] == lane],
            "rings_out": [ring["id"] for ring in rings if ring["producer"] == lane],
        }  # fmt: skip

    return {
        "schema": "ffs.assignment/1", "instance": instance, "function": dag["function"], "revision": dag["revision"],
        "epoch": 1, "policy": "fluidfaas", "rank": 0, "cv": 0.0, "batch": {"max": batch, "wait_ms": 0}, "rings": rings,
        "stages": [
            {"index": s, "lanes": [describe(lane) for lane in lanes if lane.startswith(f"s{s}l")]} for s in range(len(stages))
        ],
    }  # fmt: skip
