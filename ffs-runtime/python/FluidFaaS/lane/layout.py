"""What the config layer says about this lane."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import _native
from ..dag import Dag, Input, Port, Source
from ..errors import DefinitionError

__all__ = ["HEAD", "Layout", "Ring", "read", "read_again"]

#: The lane that answers requests.
HEAD = "s0l0"


@dataclass(frozen=True)
class Ring:
    """A ring and what it carries."""

    id: str
    path: str
    slots: int
    slot_bytes: int
    producer: str
    consumer: str
    tensors: tuple[Source, ...]

    @property
    def inputs_only(self) -> bool:
        """Whether it carries nothing that a component makes."""
        return all(isinstance(source, Input) for source in self.tensors)


@dataclass(frozen=True)
class Layout:
    """One lane of an assignment."""

    lane: str
    epoch: int
    dag: Dag
    components: tuple[str, ...]
    #: By the lane before this one: a ring from it, or one from each of its replicas in their order.
    groups_in: tuple[tuple[Ring, ...], ...]
    #: The same for the lanes behind it.
    groups_out: tuple[tuple[Ring, ...], ...]
    #: Lane → `lane s1l0 (components cls) on slice MIG-…`, in the order of the assignment.
    labels: dict[str, str]
    #: Lane → its components in the order in which they run, in the order of the assignment.
    lanes: dict[str, tuple[str, ...]]
    #: Component ids by stage and lane, without replicas.
    stages: list[list[list[str]]]
    #: Which of its replicas this lane is, and how many there are.
    place: int = 0
    of: int = 1
    #: Most requests that run at once, where the components allow it.
    batch: int = 1
    #: Slice UUIDs in the order of the lanes.
    migs: list[str] = field(default_factory=list)
    #: Whether the slice is shared with other instances, so that the lane computes in turns.
    shared: bool = False
    #: NUMA node of the slice's GPU, if it is known.
    numa: int | None = None

    @property
    def is_head(self) -> bool:
        return self.lane == HEAD

    @property
    def label(self) -> str:
        return self.labels[self.lane]

    @property
    def rings_in(self) -> list[Ring]:
        return [ring for group in self.groups_in for ring in group]

    @property
    def rings_out(self) -> list[Ring]:
        return [ring for group in self.groups_out for ring in group]

    def check(self) -> None:
        """Raises if the lane does not get what its components read, or cannot send what it has to."""
        have: set[Source] = {Input(name) for name in self.dag.inputs} if self.is_head else set()
        for ring in self.rings_in:
            have.update(ring.tensors)
        for id in self.components:
            node = self.dag.node(id)
            for source in node.sources:
                if source not in have:
                    raise DefinitionError(
                        f"assignment.json gives {self.label} no ring with {source}, which {id} reads"
                    )
            have.update(Port(id, port) for port in range(len(node.outputs)))
        for ring in self.rings_out:
            for source in ring.tensors:
                if source not in have:
                    raise DefinitionError(
                        f"ring {ring.id} is to carry {source}, which {self.label} does not have"
                    )
        if not self.is_head and not self.rings_in:
            raise DefinitionError(f"assignment.json gives {self.label} no ring to read from")


def read(folder: Path, lane: str) -> Layout:
    """Reads `dag.json`, `assignment.json` and, if it is there, `migs.json`.

    Raises :class:`DefinitionError` naming the file and what is wrong with it.
    """
    return _layout(folder, lane, _document(folder, "assignment"))


def read_again(folder: Path, now: Layout) -> Layout:
    """The lane in the assignment that the folder has by now; without rings if it is not in it any more.

    Raises :class:`DefinitionError`, as :func:`read`.
    """
    assignment = _document(folder, "assignment")
    if all(item["id"] != now.lane for item in _lanes(assignment)):
        return replace(now, epoch=assignment["epoch"], groups_in=(), groups_out=())
    return _layout(folder, now.lane, assignment)


def _lanes(assignment: Any) -> list[dict[str, Any]]:
    return [item for stage in assignment["stages"] for item in stage["lanes"]]


def _layout(folder: Path, lane: str, assignment: Any) -> Layout:
    dag = Dag.from_document(_document(folder, "dag"))
    lanes = _lanes(assignment)
    own = next((item for item in lanes if item["id"] == lane), None)
    if own is None:
        raise DefinitionError(
            f"FFS_LANE is {lane!r}; assignment.json has {', '.join(item['id'] for item in lanes)}"
        )
    rings = {item["id"]: _ring(item) for item in assignment["rings"]}
    shared, numa = _own_slice(folder, own["mig"])
    original = {item["id"]: item.get("replica_of") or item["id"] for item in lanes}
    replicas = [id for id in original if original[id] == original[lane]]
    layout = Layout(
        lane=lane,
        epoch=assignment["epoch"],
        dag=dag,
        components=tuple(own["components"]),
        groups_in=_groups(
            (_named(rings, id, own) for id in own["rings_in"]), lambda ring: ring.producer, original
        ),
        groups_out=_groups(
            (_named(rings, id, own) for id in own["rings_out"]), lambda ring: ring.consumer, original
        ),
        labels={
            item[
                "id"
            ]: f"lane {item['id']} (components {', '.join(item['components'])}) on slice {item['mig']['uuid']}"
            for item in lanes
        },
        lanes={item["id"]: tuple(item["components"]) for item in lanes},
        stages=[
            [list(item["components"]) for item in stage["lanes"] if original[item["id"]] == item["id"]]
            for stage in assignment["stages"]
        ],
        place=replicas.index(lane),
        of=len(replicas),
        batch=assignment["batch"]["max"],
        migs=[item["mig"]["uuid"] for item in lanes],
        shared=shared,
        numa=numa,
    )
    layout.check()
    return layout


def _document(folder: Path, name: str) -> Any:
    file = folder / f"{name}.json"
    try:
        text = file.read_text(encoding="utf-8")
        _native.check_document(name, text)
    except (OSError, ValueError) as error:
        raise DefinitionError(f"{file} cannot be used: {error}") from None
    return json.loads(text)


def _ring(item: dict[str, Any]) -> Ring:
    sources = [Input(s["input"]) if "input" in s else Port(s["node"], s["port"]) for s in item["tensors"]]
    return Ring(
        id=item["id"],
        path=item["path"],
        slots=item["slots"],
        slot_bytes=item["bytes"] // item["slots"],
        producer=item["producer"],
        consumer=item["consumer"],
        tensors=tuple(sources),
    )


def _groups(
    rings: Iterable[Ring], peer: Callable[[Ring], str], original: dict[str, str]
) -> tuple[tuple[Ring, ...], ...]:
    """The rings by the lane that is at the other end, or that the lane there is a replica of."""
    order = list(original)
    groups: dict[str, list[Ring]] = {}
    for ring in sorted(rings, key=lambda ring: order.index(peer(ring))):
        groups.setdefault(original[peer(ring)], []).append(ring)
    return tuple(tuple(group) for group in groups.values())


def _named(rings: dict[str, Ring], id: str, lane: dict[str, Any]) -> Ring:
    if id not in rings:
        raise DefinitionError(
            f"lane {lane['id']} has the ring {id!r}, which assignment.json does not describe"
        )
    return rings[id]


def _own_slice(folder: Path, mig: dict[str, Any]) -> tuple[bool, int | None]:
    """Whether the slice is shared, and the NUMA node of its GPU."""
    if not (folder / "migs.json").exists():
        return False, None
    migs = _document(folder, "migs")
    shared = any(item["uuid"] == mig["uuid"] and item["state"] == "shared" for item in migs["slices"])
    numa = next((item.get("numa") for item in migs["gpus"] if item["uuid"] == mig["gpu_uuid"]), None)
    return shared, numa
