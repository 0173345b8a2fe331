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
        self._start, self._code, self._binary = start, code, options.get("binary", {})
        self._begin([lane["id"] for lane in self._lanes])

    def _begin(self, lanes: list[str]) -> None:
        begun = [self._start(FFS_CONFIG=str(self.config), FFS_LANE=lane) for lane in lanes]
        self.children |= zip(lanes, begun)
        for child in begun:
            assert child.init(self._code, **self._binary) is None
        for child in begun:
            child.send({"type": "serve"})

    def loaded(self) -> Pipeline:
        """Waits until all lanes are ready."""
        for child in self.children.values():
            said = child.said("loaded")
            assert said["load_ms"] >= 0 and said["resident_bytes"] > 0
        return self

    def widen(self, of: str) -> str:
        """Starts one more replica of a lane, lets requests take it too, and returns its name."""
        lane, others = self.join(of), list(self.children)
        self.tell(others[:-1])
        assert self.children[lane].said("loaded")
        self.switch()
        return lane

    def join(self, of: str) -> str:
        """Starts a replica that nobody sends anything yet."""
        self.assignment = replicated(self.assignment, of)
        self.write("assignment", self.assignment)
        lane = self.assignment["stages"][int(of[1])]["lanes"][-1]["id"]
        self._begin([lane])
        return lane

    def tell(self, lanes: list[str]) -> None:
        """Tells the lanes that there is another assignment."""
        epoch = self.assignment["epoch"]
        for lane in lanes:
            self.children[lane].send({"type": "assignment", "epoch": epoch, "switch": False})
        for lane in lanes:
            said = self.children[lane].said("assignment")
            assert said == {"type": "assignment", "epoch": epoch, "switched": False, "error": None}

    def switch(self) -> None:
        """Lets requests take its ways."""
        epoch = self.assignment["epoch"]
        self.head.send({"type": "assignment", "epoch": epoch, "switch": True})
        assert self.head.said("assignment") == {
            "type": "assignment", "epoch": epoch, "switched": True, "error": None
        }  # fmt: skip

    def narrow(self, lane: str) -> None:
        """Lets no request take the replica any more, and ends it."""
        self.assignment = without(self.assignment, lane)
        self.write("assignment", self.assignment)
        self.tell(list(self.children))
        self.switch()
        self.children.pop(lane).end()

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


def replicated(assignment: dict[str, Any], of: str) -> dict[str, Any]:
    """The assignment with one more replica of a lane."""
    new: dict[str, Any] = json.loads(json.dumps(assignment))
    new["epoch"] += 1
    lanes = new["stages"][int(of[1])]["lanes"]
    lane = f"{of.split('l')[0]}l{len(lanes)}"
    own = next(item for item in lanes if item["id"] == of)

    def doubled(end: str) -> list[dict[str, Any]]:
        found = [ring for ring in assignment["rings"] if ring[end] == of]
        return [
            {**ring, "id": f"{ring['id']}-{lane}", "path": f"{ring['path']}-{new['epoch']}", end: lane}
            for ring in found
        ]

    new["rings"] += doubled("consumer") + doubled("producer")
    lanes.append({**own, "id": lane, "replica_of": of, "mig": {**own["mig"], "uuid": f"MIG-{lane}"}})
    name_rings(new)
    return new


def without(assignment: dict[str, Any], lane: str) -> dict[str, Any]:
    """The assignment without a replica."""
    new: dict[str, Any] = json.loads(json.dumps(assignment))
    new["epoch"] += 1
    new["rings"] = [ring for ring in new["rings"] if lane not in (ring["producer"], ring["consumer"])]
    for stage in new["stages"]:
        stage["lanes"] = [item for item in stage["lanes"] if item["id"] != lane]
    name_rings(new)
    return new


def name_rings(assignment: dict[str, Any]) -> None:
    """Every lane names the rings that lead to it and come from it."""
    for lane in (lane for stage in assignment["stages"] for lane in stage["lanes"]):
        for member, end in (("rings_in", "consumer"), ("rings_out", "producer")):
            lane[member] = [ring["id"] for ring in assignment["rings"] if ring[end] == lane["id"]]


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
        }  # fmt: skip

    document = {
        "schema": "ffs.assignment/1", "instance": instance, "function": dag["function"], "revision": dag["revision"],
        "epoch": 1, "policy": "fluidfaas", "rank": 0, "cv": 0.0, "batch": {"max": batch, "wait_ms": 0}, "rings": rings,
        "stages": [
            {"index": s, "lanes": [describe(lane) for lane in lanes if lane.startswith(f"s{s}l")]} for s in range(len(stages))
        ],
    }  # fmt: skip
    name_rings(document)
    return document
