"""Weights from safetensors files: what is read of them, where they lie, and what becomes of them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from weights_store import Store

import FluidFaaS as FFS
from FluidFaaS import homes, mapped, torch_support
from FluidFaaS.safetensors import write


class Net(torch.nn.Module):
    """Parameters, buffers, and one tensor with two names."""

    def __init__(self, seed: int, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = torch.nn.Linear(3, width)
        self.norm = torch.nn.BatchNorm1d(width)
        self.last = torch.nn.Linear(width, width, bias=False)
        self.tied = torch.nn.Linear(width, width, bias=False)
        self.tied.weight = self.last.weight

    def forward(self, x):
        return self.tied(self.last(self.norm(self.first(x))))


def save(path: Path, module: torch.nn.Module, prefix: str = "") -> Path:
    arrays = {
        prefix + name: (torch_support.dtype_of(t), tuple(t.shape), torch_support.to_numpy(t.detach()))
        for name, t in module.state_dict().items()
    }
    with path.open("wb") as file:
        write(file, arrays)
    return path


def written(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def entry(dtype="U8", shape=(4,), begin=0, end=4) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_files_of_the_formats_own_package_are_read_and_ours_by_it(tmp_path):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3), "flag": np.array([True, False]), "none": np.zeros((0, 2)),
        "n": np.array(7, dtype=np.int64), "half": np.array([1.5], dtype=np.float16),
    }  # fmt: skip
    safetensors.numpy.save_file(arrays, tmp_path / "theirs.safetensors", metadata={"format": "np"})
    found = FFS.weights(tmp_path / "theirs.safetensors")
    assert sorted(found) == sorted(arrays) and found.digest is None
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name
    file = io.BytesIO()
    write(file, {name: (str(array.dtype), array.shape, array) for name, array in arrays.items()})
    theirs = safetensors.numpy.load(file.getvalue())
    assert all(np.array_equal(theirs[name], array) for name, array in arrays.items())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"\x02\0\0\0", "it has 4 bytes, expected at least 8"),
        (written(b"{}")[:9], "its header is said to have 2 bytes, and the file has 9"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "its header is said to have 1099511627776 bytes"),
        (written(b"[]"), "its header is list, expected an object"),
        (written(b'{"w":'), "its header is not JSON"),
        (written(b"[" * 100_000), "its header is not JSON"),
        (written(b'{"w":{},"w":{}}'), "the name 'w' is there twice"),
        (written(json.dumps({"w": entry()}).encode(), b"123"), "its tensors end at byte"),
        (written(json.dumps({"w": entry()}).encode(), b"12345"), "its tensors end at byte"),
        (written(json.dumps({"w": entry(begin=1, end=5)}).encode(), b"12345"), "the tensor w begins at byte"),
        (written(json.dumps({"w": entry(end=3)}).encode(), b"123"), "expected 4"),
        (written(json.dumps({"w": entry(shape=(-4,))}).encode(), b"1234"), "-4: expected a whole number"),
        (written(json.dumps({"w": entry(shape=(True, 4))}).encode(), b"1234"), "True: expected a whole number"),
        (written(json.dumps({"w": entry(dtype="X9")}).encode(), b"1234"), "KeyError('X9')"),
        (written(b'{"w":7}'), "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_whole_file_is_named(tmp_path, content, says):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(FFS.DefinitionError) as failure:
        FFS.weights(path)
    assert says in str(failure.value) and str(path) in str(failure.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path, says in [(tmp_path / "none", "No such file"), (tmp_path, "s a directory")]:
        with pytest.raises(FFS.DefinitionError, match=says):
            FFS.weights(path)


def test_a_module_computes_the_same_with_mapped_weights(tmp_path):
    saved, module = Net(1).eval(), Net(2).eval()
    x = torch.arange(6.0).reshape(2, 3)
    FFS.load_weights(module, save(tmp_path / "w.safetensors", saved))
    assert torch.equal(module(x), saved(x))
    assert all(mapped.find(tensor.data_ptr()) for tensor in [*module.parameters(), *module.buffers()])
    assert module.tied.weight is module.last.weight, "what was one tensor still is"
    assert isinstance(module.first.weight, torch.nn.Parameter)


def test_tensors_outlive_the_weights_that_they_came_from(tmp_path):
    path = save(tmp_path / "w.safetensors", Net(1))
    tensor = FFS.weights(path).tensor("first.weight")
    path.unlink()
    assert torch.equal(tensor, Net(1).first.weight)
    address = tensor.data_ptr()
    del tensor
    assert mapped.find(address) is None, "and nothing is left of them"


def test_names_shapes_and_dtypes_have_to_fit(tmp_path):
    path = save(tmp_path / "w.safetensors", Net(1), "model.")
    module = Net(2)
    FFS.load_weights(module, path, prefix="model.")
    assert torch.equal(module.first.weight, Net(1).first.weight)
    for target, options, says in [
        (Net(2), {}, "lacks first.bias, first.weight"),
        (module.first, {"prefix": "model.first.weig"}, "lacks"),
        (torch.nn.Linear(3, 9), {"prefix": "model.first."}, r"shape \[8, 3\]: expected \[9, 3\]|shape \[8\]: expected \[9\]"),
        (torch.nn.Sequential(), {}, "has what the module lacks: model.first.bias"),
        (7, {}, "was given int: expected a torch.nn.Module"),
    ]:  # fmt: skip
        with pytest.raises(FFS.DefinitionError, match=says):
            FFS.load_weights(target, path, **options)
    before = Net(2).first
    FFS.load_weights(before, path, strict=False)
    assert torch.equal(before.weight, Net(2).first.weight), "nothing of it was there"
    double = torch.nn.Linear(3, 8).double()
    FFS.load_weights(double, path, prefix="model.first.")
    assert double.weight.dtype is torch.float64 and torch.equal(double.weight, Net(1).first.weight.double())


def test_arrays_are_read_only_and_who_writes_into_a_tensor_has_it_alone(tmp_path):
    path = save(tmp_path / "w.safetensors", Net(1))
    content = path.read_bytes()
    found, other = FFS.weights(path), FFS.weights(path)
    with pytest.raises(ValueError, match="read-only"):
        found["first.weight"][0] = 1
    found.tensor("first.weight").zero_()
    assert not found["first.weight"].any() and other["first.weight"].any()
    assert path.read_bytes() == content


def test_tensors_at_odd_places_are_copied(tmp_path):
    path = tmp_path / "w.safetensors"
    header = json.dumps({"w": entry("F32", (1,), 0, 4)}).encode()
    header += b" " * (2 - len(header) % 4)  # valid, though no writer does it
    path.write_bytes(written(header, np.float32(2.5).tobytes()))
    found = FFS.weights(path)
    assert found["w"][0] == 2.5 and found.tensor("w").item() == 2.5


def test_in_a_lane_the_nodes_memory_is_mapped(tmp_path, monkeypatch):
    path = save(tmp_path / "w.safetensors", Net(1))
    store = Store(tmp_path)
    monkeypatch.setenv("FFS_CONFIG", str(tmp_path))
    found = FFS.weights(path)
    assert store.asked == [path.read_bytes()]
    assert found.digest is not None and found.digest.startswith("sha256:")
    assert "memfd:ffs-weights" in Path("/proc/self/maps").read_text()
    assert np.array_equal(found["first.weight"], Net(1).first.weight.detach().numpy())
    found.tensor("first.weight").zero_()
    assert FFS.weights(path)["first.weight"].any(), "others see nothing of it"


@pytest.mark.parametrize("answer", ["refused", "shorter", "applause\n", "", "{}\n", "7\n"])
def test_without_the_nodes_memory_the_file_itself_is_mapped(tmp_path, monkeypatch, answer):
    path = save(tmp_path / "w.safetensors", Net(1))
    store = Store(tmp_path, answer)
    monkeypatch.setenv("FFS_CONFIG", str(tmp_path))
    found = FFS.weights(path)
    assert len(store.asked) == 1 and found.digest is None
    assert np.array_equal(found["first.weight"], Net(1).first.weight.detach().numpy())


def test_weights_leave_a_device_without_a_copy_and_return(tmp_path):
    """The CPU stands for the device: what is copied there is memory of its own, too."""
    saved, module = Net(1).eval(), Net(2).eval()
    FFS.load_weights(module, save(tmp_path / "w.safetensors", saved))
    x = torch.arange(6.0).reshape(2, 3)
    tensors = dict(module.named_parameters())
    home = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    kept = homes.Homes(module)
    assert len(kept) == len([*module.parameters(), *module.buffers()])

    kept.enter(torch.device("cpu"))
    assert not any(mapped.find(tensor.data_ptr()) for tensor in tensors.values())
    assert dict(module.named_parameters())["first.weight"] is tensors["first.weight"], "it is where it was"
    with torch.no_grad():
        module.norm.weight.fill_(3)
    expected = module(x)
    kept.leave()
    own = module.norm.weight.data_ptr()
    assert mapped.find(own) is None, "what was written to is kept"
    assert all(t.data_ptr() == home[n] for n, t in tensors.items() if n != "norm.weight"), (
        "the rest is let go"
    )
    assert torch.equal(module(x), expected)
    kept.enter(torch.device("cpu"))
    assert torch.equal(module(x), expected)
