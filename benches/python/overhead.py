"""What a stage costs per request besides its component: a real lane with a component that does nothing.

    python benches/python/overhead.py [--requests 20000] [--bytes 4096] [--profile FILE]

This process plays the head of a two-lane pipeline. It sends frames to a real lane (`python -m FluidFaaS.child`) and
takes back what comes. "In the lane" is its time from the moment a frame is in its hands until what it makes is sent,
request by request: with one in flight that includes waking this process, and the lane has just been asleep itself;
with several it always has work. From
outside, a round trip, beside one through a process that only passes frames on with the native module. `--profile` leaves
what cProfile says of the lane's loop.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from FluidFaaS import _native
from FluidFaaS.dag import Port
from FluidFaaS.lane.envelope import Envelope
from FluidFaaS.lane.frames import Inbox, Outbox
from FluidFaaS.lane.layout import Ring

SLOTS = 8
ACTION = """
import FluidFaaS as FFS

class Begin(FFS.Module):
    def forward(self, x):
        return x

class Pass(FFS.Module):
    def forward(self, x):
        return x

class F(FFS.FFaaS):
    def defDAG(self, x):
        return Pass.reg(self, Begin.reg(self, x))

main = FFS.entry(F)
"""

#: Runs before the lane does: notes when each request was in its hands and when its result was sent.
MEASURE = """
import atexit, array, cProfile, os, sys, time
from FluidFaaS.lane import frames, worker
spent, began = array.array("d"), [0.0, 0.0]
loop, receive, send = worker.loop, frames.Inbox.receive, frames.Outbox.send

class Timed:
    def __init__(self, consumer):
        self._consumer = consumer
        self.handle = consumer.handle
    def recv(self, **options):
        frame = self._consumer.recv(**options)
        began[:] = time.perf_counter(), time.thread_time()
        return frame

def timed_send(self, *arguments):
    send(self, *arguments)
    spent.extend((time.perf_counter() - began[0], time.thread_time() - began[1]))

def timed_loop(layout, entrances, stage, switch):
    for inbox in entrances.ends:
        inbox.native = Timed(inbox.native)
    profile = cProfile.Profile() if os.environ["MEASURE_PROFILE"] else None
    try:
        given = layout, entrances, stage, switch
        profile.runcall(loop, *given) if profile else loop(*given)
    finally:
        with open(os.environ["MEASURE_OUT"], "wb") as out:
            spent.tofile(out)
        if profile:
            profile.dump_stats(os.environ["MEASURE_PROFILE"])

frames.Outbox.send, worker.loop = timed_send, timed_loop
"""

ECHO = """
import sys
from FluidFaaS import _native
here, there = sys.argv[1:]
producer = _native.Producer(there, {slots}, {size}, 1)
consumer = _native.Consumer(here, 1, timeout_ms=60_000)
try:
    while True:
        frame = consumer.recv()
        (tensor,) = frame.tensors
        producer.reserve("tensors", frame.request, [("uint8", ({bytes},), tensor)]).commit(b"")
except _native.RingClosed:
    pass
"""


class Ends:
    """The rings to a process and back."""

    def __init__(self, folder: Path, size: int) -> None:
        self.id = f"bench-{uuid.uuid4().hex[:12]}"
        self.folder = folder
        self.there = Ring(
            "r0", f"/dev/shm/ffs-{self.id}-r0", SLOTS, size, "s0l0", "s1l0", (Port("Begin", 0),)
        )
        self.back = Ring("r1", f"/dev/shm/ffs-{self.id}-r1", SLOTS, size, "s1l0", "s0l0", (Port("Pass", 0),))

    def configure(self, payload: int) -> None:
        """Writes the config layer of a lane between the two rings."""
        tensor = {"port": 0, "dtype": "uint8", "shape": [payload]}
        dag = {
            "schema": "ffs.dag/1", "function": "guest/bench", "revision": "1-a", "built_at": "2026-01-01T00:00:00Z",
            "inputs": [{"name": "x", "dtype": "uint8", "shape": [payload]}],
            "nodes": [
                {"id": "Begin", "module": "main__:Begin", "inputs": [{"port": 0, "from": {"input": "x"}}], "outputs": [tensor]},
                {"id": "Pass", "module": "main__:Pass", "inputs": [{"port": 0, "from": {"node": "Begin", "port": 0}}], "outputs": [tensor]},
            ],
            "outputs": [{"name": "output", "node": "Pass", "port": 0}],
        }  # fmt: skip

        def lane(id: str, component: str, rings_in: str, rings_out: str) -> dict[str, Any]:
            mig = {"uuid": f"MIG-{id}", "profile": "1g.10gb", "gpu_uuid": "GPU-0", "memory_bytes": 1 << 30}
            return {
                "id": id,
                "components": [component],
                "mig": mig,
                "rings_in": [rings_in],
                "rings_out": [rings_out],
            }

        assignment = {
            "schema": "ffs.assignment/1", "instance": self.id, "function": "guest/bench", "revision": "1-a", "epoch": 1,
            "policy": "fluidfaas", "rank": 0, "cv": 0.0, "batch": {"max": 1, "wait_ms": 0},
            "stages": [{"index": 0, "lanes": [lane("s0l0", "Begin", "r1", "r0")]}, {"index": 1, "lanes": [lane("s1l0", "Pass", "r0", "r1")]}],
            "rings": [
                {
                    "id": ring.id, "path": ring.path, "slots": ring.slots, "bytes": ring.slots * ring.slot_bytes, "producer": ring.producer,
                    "consumer": ring.consumer, "tensors": [{"node": ring.tensors[0].node, "port": 0}],
                }
                for ring in (self.there, self.back)
            ],
        }  # fmt: skip
        for name, document in (("dag", dag), ("assignment", assignment)):
            (self.folder / f"{name}.json").write_text(json.dumps(document))


def send(proxy: socket.socket, message: dict[str, Any]) -> None:
    text = json.dumps(message).encode()
    proxy.sendall(struct.pack("<I", len(text)) + text)


def lane(ends: Ends, profile: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Starts the lane, and says to it what its proxy would."""
    ours, theirs = socket.socketpair()
    environment = os.environ | {
        "FFS_CHILD_FD": str(theirs.fileno()), "FFS_CONFIG": str(ends.folder), "FFS_LANE": "s1l0", "OMP_NUM_THREADS": "1",
        "MEASURE_OUT": str(ends.folder / "spent"), "MEASURE_PROFILE": profile,
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", f"{MEASURE}\nfrom FluidFaaS import child\nchild.main()"],
        env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()
    send(ours, {"type": "init", "value": {"name": "app", "main": "main", "binary": False, "code": ACTION}})
    send(ours, {"type": "serve"})
    return process, ours


def through_lane(
    requests: int, payload: int, in_flight: int, profile: str = ""
) -> tuple[list[float], list[float], list[float]]:
    """Seconds inside the lane, of them on a CPU, and for a round trip."""
    with tempfile.TemporaryDirectory() as folder:
        ends = Ends(Path(folder), -(-payload // 64) * 64 + 8192)
        ends.configure(payload)
        outbox = Outbox(ends.there, 1)
        process, proxy = lane(ends, profile)
        inbox = Inbox(ends.back, 1, 60_000)
        value = np.arange(payload, dtype=np.uint32).astype(np.uint8)
        rounds: list[float] = []
        wanted = [("uint8", (payload,), value)]
        text = Envelope().encode(["numpy"], None, ends.there.id, 0.01)
        producer, consumer = outbox.native, inbox.native
        for number in range(requests + in_flight - 1):
            began = time.perf_counter()
            if number < requests:
                deadline_ms = int((time.time() + 60) * 1000)
                producer.reserve("tensors", number + 1, wanted, deadline_ms=deadline_ms).commit(text)
            if number >= in_flight - 1:
                frame = consumer.recv()
                rounds.append(time.perf_counter() - began)
                assert frame.request == len(rounds) and np.array_equal(np.asarray(frame.tensors[0]), value)
                del frame
        outbox.poison("stopped", "the measurement is over")
        spent = ends.folder / "spent"
        while not (spent.exists() and spent.stat().st_size == 16 * requests):
            time.sleep(0.05)
        proxy.close()
        process.wait()
        wall, cpu = np.fromfile(spent).reshape(-1, 2).T.tolist()
        return wall, cpu, rounds


def through_echo(requests: int, payload: int) -> list[float]:
    """Seconds for a round trip with nothing but the native module, whose other end passes the frame on."""
    with tempfile.TemporaryDirectory() as folder:
        size = -(-payload // 64) * 64 + 8192
        ends = Ends(Path(folder), size)
        producer = _native.Producer(ends.there.path, SLOTS, size, 1)
        code = ECHO.format(slots=SLOTS, size=size, bytes=payload)
        process = subprocess.Popen([sys.executable, "-c", code, ends.there.path, ends.back.path])
        consumer = _native.Consumer(ends.back.path, 1, timeout_ms=60_000)
        value = np.ones(payload, np.uint8)
        rounds = []
        for number in range(requests):
            began = time.perf_counter()
            producer.reserve("tensors", number, [("uint8", (payload,), value)]).commit(b"")
            consumer.recv()
            rounds.append(time.perf_counter() - began)
        producer.handle().close()
        process.wait()
        return rounds


def row(what: str, seconds: list[float]) -> None:
    micros = sorted(value * 1e6 for value in seconds[len(seconds) // 10 :])
    p50, p90, p99 = statistics.median(micros), micros[len(micros) * 9 // 10], micros[len(micros) * 99 // 100]
    print(f"| {what} | {p50:.1f} µs | {p90:.1f} µs | {p99:.1f} µs |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=4096)
    parser.add_argument("--profile", default="", metavar="FILE")
    options = parser.parse_args()
    inside, inside_cpu, rounds = through_lane(options.requests, options.bytes, 1, options.profile)
    busy, busy_cpu, _ = through_lane(options.requests, options.bytes, SLOTS - 1)
    bare = through_echo(options.requests, options.bytes)
    print("| what | p50 | p90 | p99 |\n| --- | --- | --- | --- |")
    row("in the lane, 1 in flight", inside)
    row("… of it on a CPU", inside_cpu)
    row(f"in the lane, {SLOTS - 1} in flight", busy)
    row("… of it on a CPU", busy_cpu)
    row("round trip through the lane", rounds)
    row("round trip through a process that passes frames on", bare)


if __name__ == "__main__":
    main()
