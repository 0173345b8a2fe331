"""A plan as `assignment.json`, as the invoker makes it: one ring for each pair of lanes with an edge."""

from __future__ import annotations

from typing import Any

from ..dag import Dag, Input, Port, Source
from ..errors import DefinitionError

__all__ = ["assignment", "every_component", "parse"]

#: Values may be that many times as large as the example's.
GROWTH = 2
#: Bytes of a slot besides tensors: headers, times, output.
EXTRA = 80 * 1024

#: Component ids by stage and lane.
Plan = list[list[list[str]]]


def every_component(dag: Dag) -> Plan:
    """Each component in a lane of its own, one after the other."""
    return [[[node.id]] for node in dag.nodes]


def parse(key: str, dag: Dag) -> Plan:
    """Reads `m1;m2|m3,m4`: stages, lanes side by side, components. Raises :class:`DefinitionError`."""
    plan = [[lane.split(",") for lane in stage.split(";")] for stage in key.split("|")]
    named = [id for stage in plan for lane in stage for id in lane]
    known = [node.id for node in dag.nodes]
    if sorted(named) != sorted(known):
        raise DefinitionError(
            f"the plan {key!r} has the components {', '.join(named)}: expected each of {', '.join(known)} once, "
            "with | between stages, ; between lanes side by side and , between components of a lane"
        )
    stage_of = {id: index for index, stage in enumerate(plan) for lane in stage for id in lane}
    lane_of = _lanes(plan)
    for source, target in dag.edges():
        same_lane = lane_of[source.node] == lane_of[target.node]
        if stage_of[source.node] > stage_of[target.node] or (
            stage_of[source.node] == stage_of[target.node] and not same_lane
        ):
            raise DefinitionError(
                f"the plan {key!r} runs {target.node} before {source.node}, whose output it reads: "
                "expected it in the same lane or in a later stage"
            )
    for stage in plan:
        for lane in stage:
            lane.sort(key=dag.order)
    return plan


def assignment(instance: str, dag: Dag, plan: Plan) -> dict[str, Any]:
    """The document for `plan`."""
    lane_of = _lanes(plan)
    carried: dict[tuple[str, str], list[Source]] = {}

    def carry(producer: str, consumer: str, source: Source | None) -> None:
        if producer != consumer:
            sources = carried.setdefault((producer, consumer), [])
            if source is not None and source not in sources:
                sources.append(source)

    for node in dag.nodes:
        if not node.sources:
            carry("s0l0", lane_of[node.id], None)
        for source in node.sources:
            origin = "s0l0" if isinstance(source, Input) else lane_of[source.node]
            carry(origin, lane_of[node.id], source)
    for port in dag.outputs.values():
        carry(lane_of[port.node], "s0l0", port)
    rings = []
    slots = len(plan) + 2
    for number, ((producer, consumer), sources) in enumerate(carried.items()):
        room = sum(-(-dag.type_of(source).largest() * GROWTH // 64) * 64 for source in sources)
        rings.append({
            "id": f"r{number}", "path": f"/dev/shm/ffs-{instance}-r{number}", "slots": slots,
            "bytes": slots * (room + EXTRA), "producer": producer, "consumer": consumer,
            "tensors": [_tensor(source) for source in sources],
        })  # fmt: skip

    def lane(id: str) -> dict[str, Any]:
        return {
            "id": id, "components": [node.id for node in dag.nodes if lane_of[node.id] == id],
            "mig": {"uuid": f"MIG-{id}", "profile": "full", "gpu_uuid": "GPU-local", "memory_bytes": 1 << 40},
            "rings_in": [ring["id"] for ring in rings if ring["consumer"] == id],
            "rings_out": [ring["id"] for ring in rings if ring["producer"] == id],
        }  # fmt: skip

    return {
        "schema": "ffs.assignment/1", "instance": instance, "function": dag.function, "revision": dag.revision,
        "epoch": 1, "policy": "fluidfaas", "rank": 0, "cv": 0.0, "batch": {"max": 1, "wait_ms": 0}, "rings": rings,
        "stages": [
            {"index": index, "lanes": [lane(f"s{index}l{number}") for number in range(len(stage))]}
            for index, stage in enumerate(plan)
        ],
    }  # fmt: skip


def _lanes(plan: Plan) -> dict[str, str]:
    return {
        id: f"s{index}l{number}"
        for index, stage in enumerate(plan)
        for number, lane in enumerate(stage)
        for id in lane
    }


def _tensor(source: Source) -> dict[str, Any]:
    return {"node": source.node, "port": source.port} if isinstance(source, Port) else {"input": source.name}
