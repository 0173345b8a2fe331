"""From one Python process to another: this ring beside what else there is, for 1, 16 and 64 MiB.

    python benches/python/transport.py [--rounds 30] [--sizes 1,16,64]

One process sends an array, another takes it and answers with one byte over a pipe once it has read an element of each
4 KiB page (a message nobody looks at costs nothing with any of them). Time is from the call that sends until the answer is
there, so every row holds the same wait; the row "answer alone" says how long that is by itself. The kinds take turns, round
by round, so that what else the machine does meets them alike. `memcpy` is one copy between two arrays in the same round.

What is not installed (PyTorch, `pip install iceoryx2`) is left out and named.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import multiprocessing as mp
import statistics
import sys
import time
import uuid
from multiprocessing import shared_memory
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from FluidFaaS import _native

SLOTS = 4
PAGE = 4096


def touch(array: Any) -> int:
    """Reads an element of each page."""
    return int(array[::PAGE].sum())


class Kind:
    """One way to send. `open_sender` and `open_reader` run in their own processes."""

    name = ""

    def __init__(self, size: int, context: Any) -> None:
        self.size = size
        self.id = uuid.uuid4().hex[:12]

    def open_reader(self) -> None: ...
    def open_sender(self, data: Any) -> None: ...
    def send(self, number: int) -> None: ...
    def read(self) -> int:
        raise NotImplementedError

    def close(self) -> None: ...


class Answer(Kind):
    name = "answer alone"

    def __init__(self, size: int, context: Any) -> None:
        super().__init__(size, context)
        self.ours, self.theirs = context.Pipe()

    def send(self, number: int) -> None:
        self.ours.send_bytes(bytes([number]))

    def read(self) -> int:
        return self.theirs.recv_bytes()[0]


class InPlace(Kind):
    """The last operation of a model writes where the reader reads: here the first byte of each page."""

    name = "ring, in place"

    @property
    def path(self) -> str:
        return f"/dev/shm/ffs-bench-{self.id}"

    def open_sender(self, data: Any) -> None:
        self.data = data
        self.producer = _native.Producer(self.path, SLOTS, self.size + 8192, 1)
        for _ in range(SLOTS):  # pages are the kernel's until they are written for the first time
            self.fill(0)
            time.sleep(0)

    def fill(self, number: int) -> None:
        reservation = self.producer.reserve("tensors", 1, [("uint8", (self.size,))])
        np.asarray(reservation.tensors[0])[:] = number
        reservation.abort()

    def open_reader(self) -> None:
        self.consumer = _native.Consumer(self.path, 1, timeout_ms=60_000)

    def send(self, number: int) -> None:
        reservation = self.producer.reserve("tensors", 1, [("uint8", (self.size,))])
        np.asarray(reservation.tensors[0])[0] = number
        reservation.commit(b"")

    def read(self) -> int:
        view = np.asarray(self.consumer.recv().tensors[0])
        first = int(view[0])
        touch(view)
        return first


class Copied(InPlace):
    name = "ring, copied"

    def send(self, number: int) -> None:
        self.data[0] = number
        self.producer.reserve("tensors", 1, [("uint8", (self.size,), self.data)]).commit(b"")


class Pickle(Kind):
    name = "pipe with pickle"

    def __init__(self, size: int, context: Any) -> None:
        super().__init__(size, context)
        self.theirs, self.ours = context.Pipe(duplex=False)

    def open_sender(self, data: Any) -> None:
        self.data = data

    def send(self, number: int) -> None:
        self.data[0] = number
        self.ours.send(self.data)

    def read(self) -> int:
        array = self.theirs.recv()
        touch(array)
        return int(array[0])


class SharedMemory(Kind):
    """One block, made once; a queue says that it is filled."""

    name = "shared_memory and a queue"

    def __init__(self, size: int, context: Any) -> None:
        super().__init__(size, context)
        self.queue = context.Queue()
        self.block = shared_memory.SharedMemory(create=True, size=size)

    def view(self) -> Any:
        return np.frombuffer(self.block.buf, np.uint8, self.size)

    def open_sender(self, data: Any) -> None:
        self.data, self.target = data, self.view()

    def open_reader(self) -> None:
        self.target = self.view()

    def send(self, number: int) -> None:
        self.data[0] = number
        np.copyto(self.target, self.data)
        self.queue.put(0)

    def read(self) -> int:
        self.queue.get()
        touch(self.target)
        return int(self.target[0])

    def close(self) -> None:
        del self.target
        self.block.unlink()


class TorchQueue(Kind):
    name = "torch.multiprocessing queue"

    def __init__(self, size: int, context: Any) -> None:
        super().__init__(size, context)
        import torch.multiprocessing

        self.queue = torch.multiprocessing.get_context("fork").Queue()

    def open_sender(self, data: Any) -> None:
        import torch

        self.data = torch.from_numpy(data)

    def send(self, number: int) -> None:
        self.data[0] = number
        self.queue.put(self.data.clone())  # what is queued is shared from then on

    def read(self) -> int:
        tensor = self.queue.get()
        touch(tensor)
        return int(tensor[0])


class Iceoryx(Kind):
    """Publish and subscribe of one slice of bytes, filled by one copy."""

    name = "iceoryx2, copied"

    def service(self) -> Any:
        import iceoryx2 as iox2

        iox2.set_log_level(iox2.LogLevel.Error)
        self.iox2 = iox2
        self.node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
        name = iox2.ServiceName.new(f"ffs-bench-{self.id}")
        builder = self.node.service_builder(name).publish_subscribe(iox2.Slice[ctypes.c_uint8])
        return builder.open_or_create()

    def open_sender(self, data: Any) -> None:
        self.data = data
        self.made = self.service()
        self.publisher = self.made.publisher_builder().initial_max_slice_len(self.size).create()

    def open_reader(self) -> None:
        self.made = self.service()
        self.subscriber = self.made.subscriber_builder().create()

    def send(self, number: int) -> None:
        self.data[0] = number
        sample = self.publisher.loan_slice_uninit(self.size)
        ctypes.memmove(sample.payload_ptr, self.data.ctypes.data, self.size)
        sample.assume_init().send()

    def read(self) -> int:
        while (sample := self.subscriber.receive()) is None:
            pass  # it has no wait without a second service
        array = np.ctypeslib.as_array(
            ctypes.cast(sample.payload_ptr, ctypes.POINTER(ctypes.c_uint8)), (self.size,)
        )
        first = int(array[0])
        touch(array)
        del array
        sample.delete()
        return first


def reader(kinds: list[Kind], orders: Connection) -> None:
    """Reads one message of the kind that it is told, and answers with its first byte."""
    for kind in kinds:
        kind.open_reader()
    orders.send(-1)
    while (which := orders.recv()) >= 0:
        orders.send(None)
        orders.send_bytes(bytes([kinds[which].read() % 256]))


def measure(size: int, rounds: int, classes: list[type[Kind]]) -> dict[str, list[float]]:
    """Seconds of each kind, round by round."""
    context = mp.get_context("fork")
    kinds = [made(size, context) for made in classes]
    data = np.ones(size, np.uint8)
    other = np.empty_like(data)
    ours, theirs = context.Pipe()
    process = context.Process(target=reader, args=(kinds, theirs), daemon=True)
    process.start()
    for kind in kinds:
        kind.open_sender(data)
    assert ours.recv() == -1
    times: dict[str, list[float]] = {kind.name: [] for kind in kinds} | {
        "the reader's look alone": [],
        "memcpy": [],
    }
    for number in range(1, rounds + 6):
        for which, kind in enumerate(kinds):
            ours.send(which)
            ours.recv()
            began = time.perf_counter()
            kind.send(number % 256)
            answer = ours.recv_bytes()
            took = time.perf_counter() - began
            assert answer == bytes([number % 256]), kind.name
            if number > 5:
                times[kind.name].append(took)
        began = time.perf_counter()
        touch(data)
        looked = time.perf_counter() - began
        began = time.perf_counter()
        ctypes.memmove(other.ctypes.data, data.ctypes.data, size)
        if number > 5:
            times["memcpy"].append(time.perf_counter() - began)
            times["the reader's look alone"].append(looked)
    ours.send(-1)
    process.join()
    for kind in kinds:
        kind.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--sizes", default="1,16,64", help="MiB, joined by commas")
    options = parser.parse_args()
    classes: list[type[Kind]] = [Answer, InPlace, Copied, SharedMemory, Pickle]
    for module, kind in (("torch", TorchQueue), ("iceoryx2", Iceoryx)):
        if importlib.util.find_spec(module) is None:
            print(f"left out: {kind.name} ({module} is not installed)", file=sys.stderr)
        else:
            classes.append(kind)
    columns = {size: measure(int(size) << 20, options.rounds, classes) for size in options.sizes.split(",")}

    def middle(size: str, name: str) -> float:
        return statistics.median(columns[size][name]) * 1000

    print("| what | " + " | ".join(f"{size} MiB" for size in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for name in [*(kind.name for kind in classes), "the reader's look alone", "memcpy"]:
        print(f"| {name} | " + " | ".join(f"{middle(size, name):.3f} ms" for size in columns) + " |")
    alone, copies = {}, {}
    for size, times in columns.items():
        rounds = list(
            zip(*(times[name] for name in ("ring, in place", "answer alone", "the reader's look alone")))
        )
        alone[size] = statistics.median(whole - answer - look for whole, answer, look in rounds) * 1000
        both = zip(times["ring, copied"], times["ring, in place"])
        copies[size] = statistics.median(copied - placed for copied, placed in both) * 1000
    print(
        "| ring, in place, less answer and look | "
        + " | ".join(f"{ms:.3f} ms" for ms in alone.values())
        + " |"
    )
    ratios = [f"{ms / middle(size, 'memcpy'):.2f}" for size, ms in copies.items()]
    print("| ring, copied, less in place: × memcpy | " + " | ".join(ratios) + " |")


if __name__ == "__main__":
    main()
