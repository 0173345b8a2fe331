"""Rings and pipelines on a GPU: what a tensor's way from one process's GPU memory to another's takes.

    python benches/python/gpu.py [--device cuda] [--out FILE.json] [--seconds 200] [--only machine,rings,lifetime,profile,applications]

Needs PyTorch, NumPy, torchvision with Pillow (for the applications) and FluidFaaS; neither Docker nor Kafka. `--device cpu` tries
the same without a GPU, with small networks. Parts, each of which may fail without taking the others along:

machine       GPU, driver, PyTorch, memory for rings
rings         a tensor of 1, 16 and 64 MiB from the GPU into a ring, and from the ring to the GPU in another process: rings that are
              registered with CUDA and rings that are not, beside PyTorch's own pinned memory in one process, and beside its
              queue between processes
lifetime      requests as fast as they go through two lanes, each with a tensor of its own: a slot that its writer gets back before the
              GPU has read it would show
profile       what a profile of one of them says
applications  the examples' applications unsplit and with each network in a lane of its own, on one GPU: equal results, time per request
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import multiprocessing as mp
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing
from FluidFaaS import _native, torch_support
from FluidFaaS.dag import Input
from FluidFaaS.lane.envelope import Envelope
from FluidFaaS.lane.frames import Inbox, Outbox
from FluidFaaS.lane.layout import Ring
from FluidFaaS.local import assignment, source
from FluidFaaS.local.lanes import Instance, Process

APPLICATIONS = Path(__file__).resolve().parents[2] / "ffs-runtime/python/examples/applications"
NAMES = ["expanded_image_classification", "depth_recognition", "background_elimination", "image_classification"]
MIB = 1 << 20
SLOTS = 3
#: Rounds that do not count.
WARM_UP = 5
#: Longest wait for the other process, in seconds.
PATIENCE = 60.0

#: Two lanes, of which the first makes a large tensor of one number and the second says what it got.
LIFETIME = """
import torch
import FluidFaaS as FFS

class Make(FFS.Module):
    def forward(self, x):
        return x.reshape(1).expand(ELEMENTS).contiguous()

class Look(FFS.Module):
    def forward(self, y):
        return torch.stack((y.min(), y.max(), y[0], y[-1]))

class F(FFS.FFaaS):
    def pre(self, event):
        return {"x": torch.tensor(float(event["x"]))}

    def defDAG(self, x):
        return Look.reg(self, Make.reg(self, x))

main = FFS.entry(F)
"""


# The machine.


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What this is measured on."""
    shm = shutil.disk_usage("/dev/shm")
    found: dict[str, Any] = {
        "python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__, "cpus": os.cpu_count(),
        "kernel": os.uname().release, "shm_free_mib": shm.free // MIB, "device": options.device,
    }  # fmt: skip
    for name, file in (
        ("huge_pages_in_shm", "/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        ("numa_nodes", "/sys/devices/system/node/online"),
    ):
        with contextlib.suppress(OSError):
            found[name] = Path(file).read_text().strip()
    if options.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "gpu_mib": properties.total_memory // MIB, "cuda": torch.version.cuda}
        fields = "driver_version,compute_mode,mig.mode.current,pcie.link.gen.current,pcie.link.width.current"
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            asked = subprocess.run(
                ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
                capture_output=True, text=True, timeout=20,
            )  # fmt: skip
            found["nvidia_smi"] = (asked.stdout or asked.stderr).strip()
    for name, value in found.items():
        print(f"{name}: {value}")
    return found


# Rings.


class Side:
    """The process that reads. `requests` is a pipe to it."""

    def __init__(self, device: str) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self.queue = context.Queue()
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self.queue, device), daemon=True)
        self._process.start()
        self.heard()

    def ask(self, *what: Any) -> None:
        self._ours.send(what)

    def heard(self) -> Any:
        """What it says next. Raises `RuntimeError` with its traceback, or if it says nothing."""
        try:
            if not self._ours.poll(PATIENCE):
                raise RuntimeError("the reading process said nothing")
            kind, value = self._ours.recv()
        except EOFError:
            raise RuntimeError(
                f"the reading process ended with exit code {self._process.exitcode}"
            ) from None
        if kind == "failed":
            raise RuntimeError(f"in the reading process:\n{value}")
        return value

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.ask("end")
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


def serve(orders: Any, tensors: Any, device: str) -> None:
    """The reading process: takes tensors to the GPU, and says how long that took and what they hold."""
    try:
        target = torch.device(device)
        torch.zeros(1, device=target)
        orders.send(("ok", None))
        inboxes: dict[str, Inbox] = {}
        while True:
            what, *rest = orders.recv()
            if what == "end":
                return
            if what == "open":
                ring, pin = rest
                inboxes[ring.path] = Inbox(ring, 1, PATIENCE * 1000)
                orders.send(("ok", registered(inboxes[ring.path]) if pin else False))
                continue
            path, number = rest
            if path:
                arrival = inboxes[path].receive()
                began = time.perf_counter()
                (value,) = arrival.values.values()
                pinned = bool(device == "cuda" and value.is_pinned())
                (there,), copying = torch_support.to_device([value], target)
                if copying is not None:
                    copying.synchronize()
                took = time.perf_counter() - began
                del value, arrival
            else:
                value = tensors.get(timeout=PATIENCE)
                began = time.perf_counter()
                there = value.to(target)
                pinned = False
                if device == "cuda":
                    torch.cuda.synchronize()
                took = time.perf_counter() - began
                del value
            orders.send(("ok", (took, pinned)))
            if (there != number).any().item():
                raise ValueError(f"it holds {there.unique()[:5].tolist()}: expected {number} alone")
            del there
            orders.send(("ok", None))
    except BaseException:
        with contextlib.suppress(OSError):
            orders.send(("failed", traceback.format_exc()))


def registered(end: Inbox | Outbox) -> bool | str:
    """Whether it is; or why not."""
    try:
        return end.pin()
    except _native.RingError as error:
        return str(error.args[0])


def ring_of(size: int) -> Ring:
    name = f"/dev/shm/ffs-bench-{uuid.uuid4().hex[:12]}"
    return Ring("r0", name, SLOTS, size + 80 * 1024, "s0l0", "s1l0", (Input("x"),))


def rings(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Times of each way and size; in milliseconds, medians."""
    device = torch.device(options.device)
    torch.zeros(1, device=device)
    side = Side(options.device)
    found = []
    try:
        for mib in options.sizes:
            free = shutil.disk_usage("/dev/shm").free
            if free < 2 * SLOTS * mib * MIB + 64 * MIB:
                print(f"left out: {mib} MiB, because /dev/shm has {free // MIB} MiB free")
                continue
            rows = compared(side, mib, options, device)
            found += rows
            for row in rows:
                notes = {key: value for key, value in row.items() if key.startswith(("registered", "read_from", "register_"))}
                if notes:
                    print(f"{row['way']}: {rounded(notes)}")
            print(f"\n{mib} MiB, medians of {options.rounds} rounds")
            print("| way | from the GPU | GB/s | to the GPU | GB/s | both | to the answer |")
            print("| --- | --- | --- | --- | --- | --- | --- |")
            for row in rows:
                gbs = [mib * MIB / row[key] / 1e6 for key in ("send_ms", "read_ms")]
                print(
                    f"| {row['way']} | {row['send_ms']:.3f} ms | {gbs[0]:.1f} | {row['read_ms']:.3f} ms | {gbs[1]:.1f} "
                    f"| {row['send_ms'] + row['read_ms']:.3f} ms | {row['answer_ms']:.3f} ms |",
                    flush=True,
                )
    finally:
        side.end()
    return found


def compared(side: Side, mib: int, options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """All ways for tensors of one size, taking turns round by round."""
    elements = mib * MIB // 4
    tensor = torch.zeros(elements, device=device)
    pinned_memory = options.device == "cuda"
    floor = [torch.empty(elements, pin_memory=pinned_memory) for _ in range(2)]
    boxes: dict[str, Outbox] = {}
    notes: dict[str, dict[str, Any]] = {}
    for way, pin in (("ring, registered", True), ("ring, not registered", False)):
        began = time.perf_counter()
        boxes[way] = Outbox(ring_of(mib * MIB), 1)
        made = time.perf_counter()
        here = registered(boxes[way]) if pin else False
        pinned = time.perf_counter()
        side.ask("open", boxes[way].ring, pin)
        notes[way] = {
            "registered_here": here, "registered_there": side.heard(), "made_ms": (made - began) * 1000,
            "register_ms": (pinned - made) * 1000,
        }  # fmt: skip
    ways: dict[str, Callable[[int], tuple[float, float, float]]] = {
        way: lambda number, way=way: through_ring(side, boxes[way], tensor, number, notes[way])  # type: ignore[misc]
        for way in boxes
    }
    ways["torch.multiprocessing queue"] = lambda number: through_queue(side, tensor, number)
    ways["pinned, one process"] = lambda number: pinned_copies(tensor, floor, number)
    times: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    for number in range(options.rounds + WARM_UP):
        for way, once in ways.items():
            took = once(number)
            if number >= WARM_UP:
                times[way].append(took)
    for box in boxes.values():
        box.poison("stopped", "the measurement is over")
    rows = []
    for way, each in times.items():
        send, read, answer = (statistics.median(column) * 1000 for column in zip(*each))
        row = {"way": way, "mib": mib, "rounds": len(each), "send_ms": send, "read_ms": read, "answer_ms": answer}
        rows.append(row | notes.get(way, {}))
    return rows


def settled() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def through_ring(
    side: Side, box: Outbox, tensor: torch.Tensor, number: int, notes: dict[str, Any]
) -> tuple[float, float, float]:
    tensor.fill_(number)
    settled()
    side.ask("read", box.ring.path, number)
    began = time.perf_counter()
    box.send(number + 1, 0, [tensor], Envelope())
    sent = time.perf_counter()
    took, pinned = side.heard()
    answered = time.perf_counter()
    side.heard()
    notes["read_from_pinned"] = pinned
    return sent - began, took, answered - began


def through_queue(side: Side, tensor: torch.Tensor, number: int) -> tuple[float, float, float]:
    tensor.fill_(number)
    settled()
    side.ask("read", "", number)
    began = time.perf_counter()
    side.queue.put(tensor.cpu() if tensor.is_cuda else tensor.clone())
    sent = time.perf_counter()
    took, _ = side.heard()
    answered = time.perf_counter()
    side.heard()
    return sent - began, took, answered - began


def pinned_copies(
    tensor: torch.Tensor, floor: list[torch.Tensor], number: int
) -> tuple[float, float, float]:
    """The same copies between the GPU and memory that PyTorch has pinned, without a second process."""
    tensor.fill_(number)
    settled()
    began = time.perf_counter()
    floor[0].copy_(tensor, non_blocking=True)
    settled()
    there = time.perf_counter()
    tensor.copy_(floor[0], non_blocking=True)
    settled()
    back = time.perf_counter()
    return there - began, back - there, back - began


# Pipelines.


@contextlib.contextmanager
def lanes(value: dict[str, Any], dag: Any, plan: Any, pin: bool = True) -> Iterator[Instance]:
    """The lanes of a plan, running."""
    before = os.environ.get("FFS_PIN")
    os.environ["FFS_PIN"] = "1" if pin else "0"
    try:
        with tempfile.TemporaryDirectory(prefix="ffs-bench-") as folder:
            instance = limited(lambda: Instance(Path(folder), value, dag, plan), 120)
            try:
                yield instance
            finally:
                instance.end()
    finally:
        os.environ.pop("FFS_PIN")
        if before is not None:
            os.environ["FFS_PIN"] = before


def limited(work: Callable[[], Any], seconds: float) -> Any:
    """What `work` returns. Raises `TimeoutError` if that takes longer; it then goes on by itself."""
    answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((True, work()))
        except BaseException as error:
            answers.put((False, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        went_well, result = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"not done after {seconds:.0f} s") from None
    if not went_well:
        raise result
    return result


def asked(instance: Instance, events: list[Any], in_flight: int) -> list[dict[str, Any]]:
    """The results, all of which have to be good."""
    instance.in_flight = in_flight
    results = limited(lambda: instance.run(events, 60), 90)
    for result in results:
        if result["status"] != 200 or "error" in result["body"]:
            logs = "\n".join(line["text"] for line in result["logs"])
            raise RuntimeError(f"a request failed: {str(result['body'])[:500]}\n{logs[-2000:]}")
    return results


def built(value: dict[str, Any], event: Any) -> Any:
    process = Process(value)
    try:
        process.initialized()
        return limited(lambda: process.build(event), 120)
    finally:
        process.end()


def lifetime(options: argparse.Namespace) -> dict[str, Any]:
    """Every request gets back the number that it sent."""
    free = shutil.disk_usage("/dev/shm").free
    fits = [mib for mib in (64, 16, 4) if 2 * 4 * mib * MIB < free * 3 // 4]
    mib = fits[0] if options.device == "cuda" else 4
    code = LIFETIME.replace("ELEMENTS", str(mib * MIB // 4))
    value = {"name": "app", "main": "main", "binary": False, "code": code}
    dag = built(value, {"x": 0})
    wrong = 0
    took = {}
    for pin in (True, False):
        with lanes(value, dag, assignment.every_component(dag), pin) as instance:
            asked(instance, [{"x": 0}] * 3, 3)
            began = time.perf_counter()
            results = asked(instance, [{"x": n} for n in range(options.requests * 4)], 3)
            each = (time.perf_counter() - began) * 1000 / len(results)
            for n, result in enumerate(results):
                wrong += result["body"]["output"] != [float(n)] * 4
            took["registered" if pin else "not registered"] = each
            transfer = statistics.median(result["timing"]["transfer_ms"] for result in results)
        print(
            f"{mib} MiB a request, rings {'' if pin else 'not '}registered: {each:.2f} ms each, transfer {transfer:.2f} ms"
        )
    print(f"requests that got another's tensor: {wrong}")
    return {"mib": mib, "ms_each": took, "wrong": wrong}


def event_of(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    side, size = (128, "real") if options.device == "cuda" else (32, "small")
    pixels = np.random.default_rng(seed).random((1, 3, side, side), dtype=np.float32)
    data = base64.b64encode(pixels.tobytes()).decode()
    return {"size": size, "image": {"dtype": "float32", "shape": list(pixels.shape), "data": data}}


def array_of(result: dict[str, Any]) -> Any:
    (packed,) = result["body"].values()
    return np.frombuffer(base64.b64decode(packed["data"]), packed["dtype"]).reshape(packed["shape"])


def application(options: argparse.Namespace, name: str, both: bool) -> dict[str, Any]:
    """One application, unsplit and split."""
    value = source.init_value(APPLICATIONS, name)
    events = [event_of(options, seed) for seed in range(4)]
    began = time.perf_counter()
    dag = built(value, events[0])
    found: dict[str, Any] = {"application": name, "build_s": time.perf_counter() - began}
    each = assignment.every_component(dag)
    whole = [[[node.id for node in dag.nodes]]]
    expected: list[Any] = []
    for how, plan, pin in (
        ("unsplit", whole, True),
        ("split", each, True),
        ("split, not registered", each, False),
    ):
        if not (both or pin):
            continue
        began = time.perf_counter()
        with lanes(value, dag, plan, pin) as instance:
            ready_s = time.perf_counter() - began
            asked(instance, events * 2, 1)
            alone = asked(instance, events * (options.requests // 4), 1)
            began = time.perf_counter()
            many = asked(instance, events * (options.requests // 4), len(plan) + 1)
            per_second = len(many) / (time.perf_counter() - began)
        arrays = [array_of(result) for result in alone[:4]]
        expected = expected or arrays
        scale = max(float(np.abs(array).max()) for array in expected)
        apart = max(float(np.abs(one - other).max()) for one, other in zip(arrays, expected))
        close = all(np.allclose(one, other, rtol=1e-3, atol=1e-4 * scale) for one, other in zip(arrays, expected))
        last = all(np.array_equal(array_of(one), array_of(other)) for one, other in zip(alone, many))
        lanes_ms = {
            lane["id"]: statistics.median(
                item["exec_ms"] for result in alone for item in result["timing"]["lanes"] if item["id"] == lane["id"]
            )
            for lane in alone[0]["timing"]["lanes"]
        }
        found[how] = {
            "lanes": len(instance.lanes), "ready_s": ready_s, "p50_ms": statistics.median(r["took_ms"] for r in alone),
            "transfer_ms": statistics.median(r["timing"]["transfer_ms"] for r in alone), "exec_ms": lanes_ms,
            "per_second": per_second, "in_flight": len(plan) + 1, "max_difference": apart, "largest_value": scale,
            "close": close, "same_under_load": last,
        }  # fmt: skip
        print(f"{name}, {how}: {json.dumps({k: rounded(v) for k, v in found[how].items()})}", flush=True)
    return found


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def applications(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All four, as long as there is time."""
    found = []
    for number, name in enumerate(options.applications):
        if time.monotonic() > options.until:
            print(f"left out: {name}, for want of time")
            continue
        found.append(application(options, name, number == 0))
    return found


def profile(options: argparse.Namespace) -> Any:
    """The column of the profile that a node would measure here."""
    process = Process(source.init_value(APPLICATIONS, "depth_recognition"))
    try:
        process.initialized()
        request = {
            "kind": "full", "example": event_of(options, 0), "min_runs": 3, "max_runs": 10, "budget_ms": 1000,
        }  # fmt: skip
        answer = limited(lambda: process.answer(process.ask("profile", request=request)), 120)
    finally:
        process.end()
    print(json.dumps(answer["body"])[:3000])
    if answer["status"] != 200:
        raise RuntimeError(answer["body"]["error"])
    return answer["body"]


def main() -> int:
    parts: dict[str, Callable[[argparse.Namespace], Any]] = {
        "machine": machine, "rings": rings, "lifetime": lifetime, "profile": profile, "applications": applications,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, help="takes the numbers as JSON, after each part")
    parser.add_argument("--seconds", type=float, default=200.0, help="no part or application begins later than that")
    parser.add_argument("--only", default=",".join(parts), help="parts, joined by commas")
    parser.add_argument("--sizes", default="1,16,64", help="MiB, joined by commas")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--applications", default=",".join(NAMES))
    options = parser.parse_args()
    options.sizes = [int(size) for size in options.sizes.split(",")]
    options.applications = options.applications.split(",")
    options.until = time.monotonic() + options.seconds
    found: dict[str, Any] = {}
    failed = []
    for name in options.only.split(","):
        print(f"\n## {name}", flush=True)
        if time.monotonic() > options.until:
            print("left out, for want of time")
            continue
        began = time.monotonic()
        try:
            found[name] = parts[name](options)
        except BaseException as error:
            failed.append(name)
            found[f"{name} failed"] = traceback.format_exc()
            traceback.print_exc(file=sys.stdout)
            if isinstance(error, KeyboardInterrupt):
                break
        print(f"({name}: {time.monotonic() - began:.1f} s)", flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(found, indent=1))
    if failed:
        print(f"\nfailed: {', '.join(failed)}", flush=True)
    sys.stdout.flush()
    os._exit(1 if failed else 0)  # whatever a part that failed has left waiting


if __name__ == "__main__":
    main()
