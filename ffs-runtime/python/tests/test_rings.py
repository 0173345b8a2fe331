"""The native rings, as Python sees them."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import uuid

import numpy as np
import pytest

from FluidFaaS import _native as native

DTYPES = {
    "float16": np.float16, "bfloat16": np.uint16, "float32": np.float32, "float64": np.float64,
    "int8": np.int8, "uint8": np.uint8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "bool": np.bool_, "bytes": np.uint8,
}  # fmt: skip


@pytest.fixture
def path():
    return f"/dev/shm/ffs-test-{uuid.uuid4().hex}"


@pytest.fixture
def ring(path):
    producer = native.Producer(path, 2, 64 * 1024, 1)
    return producer, native.Consumer(path, 1, timeout_ms=10_000)


def send(producer, *arrays, dtype="float32", json=b"", **options):
    reservation = producer.reserve("tensors", 7, [(dtype, array.shape) for array in arrays], **options)
    for tensor, array in zip(reservation.tensors, arrays):
        np.copyto(np.asarray(tensor), array)
    reservation.commit(json)


def test_a_frame_arrives_as_it_was_sent(ring):
    producer, consumer = ring
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    send(producer, array, array[:1], json=b'{"a":1}', deadline_ms=5, flags=3)
    frame = consumer.recv()
    assert (frame.kind, frame.request, frame.deadline_ms, frame.flags, frame.json) == (
        "tensors",
        7,
        5,
        3,
        b'{"a":1}',
    )
    assert [np.asarray(tensor).tolist() for tensor in frame.tensors] == [array.tolist(), array[:1].tolist()]
    assert frame.age_ms >= 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0, 3), (2, 3, 4)])
def test_every_dtype_and_shape_passes(ring, dtype, shape):
    producer, consumer = ring
    array = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(DTYPES[dtype])
    send(producer, array, dtype=dtype)
    (tensor,) = consumer.recv().tensors
    view = np.asarray(tensor)
    assert tensor.dtype == dtype and view.dtype == DTYPES[dtype] and view.shape == shape
    assert view.dtype.num == np.dtype(DTYPES[dtype]).num
    assert view.tobytes() == array.tobytes() and view.flags.writeable


def test_views_are_the_rings_memory_and_hold_the_slot(ring):
    producer, consumer = ring
    array = np.ones(4, np.float32)
    send(producer, array)
    view = np.asarray(consumer.recv().tensors[0])
    assert not view.flags.owndata
    send(producer, array)
    with pytest.raises(native.RingTimedOut):
        producer.reserve("tensors", 7, [], timeout_ms=0)
    part = view[1:3]
    part += 1
    del view
    gc.collect()
    with pytest.raises(native.RingTimedOut):
        producer.reserve("tensors", 7, [], timeout_ms=0)
    assert part.tolist() == [2.0, 2.0]
    del part
    producer.reserve("tensors", 7, [], timeout_ms=0)


def test_what_is_kept_outlives_the_ring(path):
    producer = native.Producer(path, 2, 4096, 1)
    consumer = native.Consumer(path, 1, timeout_ms=10_000)
    send(producer, np.float32([1, 2, 3]))
    view = np.asarray(consumer.recv().tensors[0])
    open_one = np.asarray(producer.reserve("tensors", 1, [("int8", [4])]).tensors[0])
    del producer, consumer
    gc.collect()
    assert not os.path.exists(path)
    assert view.tolist() == [1, 2, 3]
    open_one[:] = 9
    assert open_one.tolist() == [9] * 4


def test_tensors_are_added_late_and_filled_with_one_copy(ring):
    producer, consumer = ring
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    reservation = producer.reserve("tensors", 1, [("float32", (2, 3), data)])
    late = reservation.push(("int64", ()))
    np.asarray(late)[()] = 7
    reservation.push(("bytes", (3,), b"abc"))
    with pytest.raises(native.RingTooSmall):
        reservation.push(("int8", (1 << 20,)))
    assert [tensor.address % 64 for tensor in reservation.tensors] == [0, 0, 0]
    assert reservation.tensors[1].address == late.address
    reservation.commit(b"{}")
    first, second, third = consumer.recv().tensors
    assert np.asarray(first).tolist() == data.tolist() and np.asarray(second) == 7
    assert third.tobytes() == b"abc"


@pytest.mark.parametrize("count", [0, 1, 15, 16])
def test_a_frame_has_up_to_sixteen_tensors(ring, count):
    producer, consumer = ring
    wanted = [("int32", (2,), np.int32([n, -n])) for n in range(count)]
    producer.reserve("tensors", 1, wanted).commit(b"")
    assert [np.asarray(tensor).tolist() for tensor in consumer.recv().tensors] == [
        [n, -n] for n in range(count)
    ]
    with pytest.raises((native.RingError, ValueError), match="16"):
        producer.reserve("tensors", 1, [("int8", (1,))] * 17)


def test_strides_are_kept(ring):
    producer, consumer = ring
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    reservation = producer.reserve(
        "tensors", 1, [("float32", (4, 3), None, (1, 4)), ("int16", (5,), None, (0,))]
    )
    transposed, same = (np.asarray(tensor) for tensor in reservation.tensors)
    transposed[:] = matrix.T
    same[:1] = 9
    reservation.commit(b"")
    found, repeated = consumer.recv().tensors
    view = np.asarray(found)
    assert view.strides == (4, 16) and view.tolist() == matrix.T.tolist()
    assert np.asarray(repeated).tolist() == [9] * 5
    with pytest.raises(BufferError, match="not contiguous"):
        found.tobytes()
    with pytest.raises(BufferError, match="lent, not copied"):
        found.__dlpack__(copy=True)


def test_data_of_another_size_or_with_gaps_is_refused(ring):
    producer, _ = ring
    for data, sentence in (
        (np.zeros(3, np.float32), "the data has 12 bytes: expected 16 contiguous ones for float32"),
        (np.zeros(8, np.float32)[::2], "the data has 16 bytes with gaps: expected 16"),
    ):
        with pytest.raises(ValueError, match=sentence):
            producer.reserve("tensors", 1, [("float32", (4,), data)])


def test_a_reservation_can_be_given_up(ring):
    producer, consumer = ring
    for give_up in (lambda reservation: reservation.abort(), lambda reservation: None):
        give_up(producer.reserve("tensors", 1, []))
        send(producer, np.float32([5]))
        assert np.asarray(consumer.recv().tensors[0]).tolist() == [5]
    reservation = producer.reserve("json", 3, [])
    reservation.commit(b"{}")
    for late in (lambda: reservation.commit(b""), lambda: reservation.tensors):
        with pytest.raises(ValueError, match="the reservation is committed or aborted"):
            late()


def test_what_does_not_fit_says_how_much_does(ring):
    producer, _ = ring
    with pytest.raises(native.RingTooSmall) as caught:
        producer.reserve("tensors", 1, [("int8", [8]), ("float64", [100_000])])
    sentence, room, tensor = caught.value.args
    assert "tensor 1 of 800000 bytes does not fit" in sentence and 0 < room < 64 * 1024 and tensor == 1
    reservation = producer.reserve("json", 1, [])
    with pytest.raises(native.RingTooSmall) as caught:
        reservation.commit(b"x" * (producer.json_room + 1))
    assert caught.value.args[1:] == (producer.json_room, None)
    reservation.commit(b"x" * producer.json_room)


def test_nonsense_is_a_sentence(ring, path):
    producer, _ = ring
    for call, sentence in (
        (lambda: producer.reserve("tensor", 1, []), "kind .tensor. is not known"),
        (
            lambda: producer.reserve("tensors", 1, [("uint32", [1])]),
            "dtype .uint32. is not one that a ring carries",
        ),
        (lambda: producer.reserve("tensors", 1, [("int8", [1] * 9)]), "9 dimensions"),
        (lambda: producer.reserve("tensors", 1, [("int8", [2**62, 2**62])]), "larger than any memory"),
        (lambda: producer.handle().poison("bored", ""), "reason .bored. is not known"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()
    with pytest.raises(native.RingError, match="the path must be /dev/shm/"):
        native.Producer("/tmp/ring", 1, 4096, 1)
    with pytest.raises(native.RingError, match="already has a consumer"):
        native.Consumer(path, 1, timeout_ms=0)
    with pytest.raises(native.RingTimedOut):
        native.Consumer(path + "-none", 1, timeout_ms=0)


def test_a_buffer_without_strides_is_only_given_where_there_are_no_gaps(ring):
    producer, consumer = ring
    send(producer, np.float32([[1, 2], [3, 4]]))
    (tensor,) = consumer.recv().tensors
    assert bytes(tensor) == np.float32([1, 2, 3, 4]).tobytes()
    assert memoryview(tensor).shape == (2, 2)


def test_a_waiting_thread_wakes_when_the_ring_is_poisoned(ring):
    producer, consumer = ring
    outcome = []

    def wait():
        try:
            consumer.recv()
        except native.RingPoisoned as poisoned:
            outcome.append(poisoned.args)

    thread = threading.Thread(target=wait)
    thread.start()
    producer.handle().poison("failed", "lane s1l0 fell over")
    thread.join(60)
    ((sentence, note),) = outcome
    assert note == "lane s1l0 fell over" and sentence.endswith(
        "is poisoned: the lane failed: lane s1l0 fell over"
    )
    with pytest.raises(native.RingPoisoned):
        producer.reserve("json", 1, [])


def test_a_closed_ring_gives_what_was_sent_and_ends(ring):
    producer, consumer = ring
    send(producer, np.float32([1]))
    producer.handle().close()
    assert consumer.recv().request == 7
    with pytest.raises(native.RingClosed):
        consumer.recv()


@pytest.fixture
def progress():
    """How often another thread ran while `call` did, where threads switch only if one lets go of the lock."""
    ticks, going = [0], [True]

    def tick():
        while going[0]:
            ticks[0] += 1
            time.sleep(0)

    def progress(call):
        before = ticks[0]
        call()
        return ticks[0] - before

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    thread = threading.Thread(target=tick)
    thread.start()
    yield progress
    going[0] = False
    thread.join(60)
    sys.setswitchinterval(interval)


def test_other_threads_run_during_waits_and_copies(path, progress):
    assert progress(lambda: sum(range(1_000_000))) == 0  # so that what follows means something
    large = np.ones(16 << 20, np.uint8)
    producer = native.Producer(path, 1, (17 << 20) + 4096, 1)
    consumer = native.Consumer(path, 1, timeout_ms=10_000)

    def wait(call):
        with pytest.raises(native.RingTimedOut):
            call()

    def copy_in():
        producer.reserve("tensors", 1, [("uint8", large.shape, large)]).abort()

    def copy_late():
        reservation = producer.reserve("tensors", 1, [])
        reservation.push(("uint8", large.shape, large))
        reservation.abort()

    def runs_beside(call):
        for _ in range(200):
            moved = progress(call)
            wait(lambda: consumer.recv(timeout_ms=0))  # passes over what was given up
            if moved:
                return True
        return False

    assert runs_beside(lambda: wait(lambda: native.Consumer(path + "-none", 1, timeout_ms=20)))
    assert runs_beside(lambda: wait(lambda: consumer.recv(timeout_ms=20)))
    assert runs_beside(copy_in)
    assert runs_beside(copy_late)
    producer.reserve("tensors", 1, [("uint8", large.shape)]).commit(b"")
    frame = consumer.recv()
    assert runs_beside(frame.tensors[0].tobytes)
    assert runs_beside(lambda: wait(lambda: producer.reserve("json", 1, [], timeout_ms=20)))


def test_two_processes_pass_frames_in_order(path):
    code = (
        "import sys, numpy as np; from FluidFaaS import _native as n\n"
        f"p = n.Producer({path!r}, 3, 8192, 1)\n"
        "for i in range(2000):\n"
        "    r = p.reserve('tensors', i, [('int64', [i % 100])]); np.asarray(r.tensors[0])[:] = i; r.commit(str(i).encode())\n"
    )
    sender = subprocess.Popen([sys.executable, "-P", "-c", code])
    consumer = native.Consumer(path, 1, timeout_ms=60_000)
    for i in range(2000):
        frame = consumer.recv(timeout_ms=60_000)
        assert (frame.request, frame.json) == (i, str(i).encode())
        assert np.asarray(frame.tensors[0]).tolist() == [i] * (i % 100)
    assert sender.wait(60) == 0
