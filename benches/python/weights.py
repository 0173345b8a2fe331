"""Memory and time of ResNet-50 in four instances, with weights of its own in each and with shared ones.

    python benches/python/weights.py [--invoker target/debug/ffs-invoker] [--instances 4]
    python benches/python/weights.py --device cuda

The first starts `ffs-invoker standalone` twice, each time with one function of so many instances, each of one lane in a
container of the process engine on a simulated slice. Weights are torchvision's from a fixed seed. One time each component
reads a file of its own with `torch.load` and `load_state_dict`, the other time it takes it with `FFS.load_weights`: the
first lane then finds nothing (cold), those after it find the content there (shared). All lanes load at once. The memory
is each Python process's proportional share (PSS) of what it maps; the pages that the invoker holds for them are in it.

The second has no invoker: it measures in one process what a lane does on a GPU, from a file in shared memory, as a memfd is:
cold (read and copied), from shared memory (mapped, pinned and copied), leaving (evict) and from warm (resume).
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ACTION = """
import os
import time
import torch
import torchvision
import FluidFaaS as FFS
from FluidFaaS import safetensors, torch_support

SHARED = {shared}

def save():
    torch.manual_seed(1)
    state = torchvision.models.resnet50(weights=None).state_dict()
    if SHARED:
        with open("resnet50.safetensors", "wb") as file:
            safetensors.write(file, {{n: (torch_support.dtype_of(t), tuple(t.shape), torch_support.to_numpy(t)) for n, t in state.items()}})
    else:
        torch.save(state, "resnet50.pt")

class Classify(FFS.Module):
    def load(self):
        save()
        torch.manual_seed(2)
        self.net = torchvision.models.resnet50(weights=None)
        began = time.perf_counter()
        if SHARED:
            FFS.load_weights(self.net, "resnet50.safetensors")
        else:
            self.net.load_state_dict(torch.load("resnet50.pt", map_location="cpu"))
        self.ms = (time.perf_counter() - began) * 1000
        self.net.eval()
        self.id = os.urandom(8).hex()

    def forward(self, x):
        began = time.perf_counter()
        label = int(self.net(x).argmax())
        return {{"process": self.id, "load_ms": self.ms, "run_ms": (time.perf_counter() - began) * 1000, "label": label}}

class F(FFS.FFaaS):
    def pre(self, event):
        torch.manual_seed(3)
        return {{"x": torch.rand(1, 3, 224, 224)}}
    def defDAG(self, x):
        return {{"out": Classify.reg(self, x)}}
    def post(self, outputs, event):
        return outputs["out"]

main = FFS.entry(F)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--invoker", default="target/debug/ffs-invoker")
    parser.add_argument("--instances", type=int, default=4)
    parser.add_argument("--device", help="measure one process on this device (cuda, or cpu to try it) instead of instances of an invoker")
    options = parser.parse_args()
    if options.device is not None:
        on_device(options.device)
        return
    for shared in (False, True):
        print(json.dumps(instances(options.invoker, options.instances, shared)), flush=True)


def instances(invoker: str, count: int, shared: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        node = Node(invoker, Path(folder), count)
        try:
            node.create("resnet", ACTION.format(shared=shared), count)
            said = {}
            with ThreadPoolExecutor(3 * count) as pool:
                while len(said) < count:  # until each instance has answered; they are started one after the other
                    answers = pool.map(node.invoke, ["resnet"] * 3 * count)
                    said.update((answer["process"], answer) for answer in answers)
            assert len({answer["label"] for answer in said.values()}) == 1, "all compute the same"
            private, proportional = node.memory()
            held = node.metric('ffs_invoker_weights_bytes{held="true"}')
        finally:
            node.stop()
    loads = sorted(answer["load_ms"] for answer in said.values())
    return {
        "weights": "shared" if shared else "own",
        "processes": len(proportional),
        "pss_mib": round(sum(proportional) / 2**20, 1),
        "pss_each_mib": [round(size / 2**20, 1) for size in proportional],
        "uss_mib": round(sum(private) / 2**20, 1),
        "held_by_invoker_mib": round(held / 2**20, 1),
        "load_ms": [round(ms, 1) for ms in loads],
        "run_ms": round(statistics.median(answer["run_ms"] for answer in said.values()), 1),
    }


class Node:
    """`ffs-invoker standalone`, with a slice for each instance."""

    def __init__(self, invoker: str, folder: Path, slices: int) -> None:
        arguments = [
            invoker, "standalone", "--listen", "127.0.0.1:0", "--state", str(folder / "state"), "--run", str(folder / "run"),
            "--topology", f"{slices}x[full]@A100-80GB", "--gpu-memory", "2GiB", "--gpu-cpus", "1", "--python", sys.executable,
        ]  # fmt: skip
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("OpenWhisk API"):
                self._host = line.split()[2]
            if line.startswith("Ready"):
                break
        else:
            raise SystemExit(f"the invoker did not start:\n{(folder / 'log').read_text()}")
        key = (folder / "state/auth").read_text().strip().encode()
        self._headers = {
            "Authorization": f"Basic {base64.b64encode(key).decode()}",
            "Content-Type": "application/json",
        }

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self._log.close()

    def _call(self, method: str, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._host + path, data, self._headers, method=method)
        with urllib.request.urlopen(request, timeout=300) as answer:
            return bytes(answer.read())

    def create(self, name: str, code: str, instances: int) -> None:
        body = {
            "exec": {"kind": "python:default", "code": code},
            "annotations": [{"key": "ffs", "value": {"slo_ms": 60000, "min_instances": instances, "max_instances": instances}}],
            "limits": {"memory": 1536, "timeout": 240000},
        }
        self._call("PUT", f"/api/v1/namespaces/_/actions/{name}?overwrite=true", body)

    def invoke(self, name: str) -> dict[str, Any]:
        path = f"/api/v1/namespaces/_/actions/{name}?blocking=true&result=true"
        said = json.loads(self._call("POST", path, {}))
        while "activationId" in said:  # it takes longer than a blocking invocation may
            time.sleep(1)
            try:
                record = json.loads(
                    self._call("GET", f"/api/v1/namespaces/_/activations/{said['activationId']}")
                )
            except urllib.error.HTTPError:
                continue
            said = record["response"]["result"]
        assert "label" in said, said
        return dict(said)

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self._call("GET", "/metrics").decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def memory(self) -> tuple[list[int], list[int]]:
        """Private and proportional bytes of each lane's Python process."""
        private, proportional = [], []
        for process in descendants(self.process.pid):
            command = Path(f"/proc/{process}/cmdline").read_bytes()
            if b"FluidFaaS.child" in command:
                rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
                sizes = {key: int(size) << 10 for key, size in re.findall(r"^(\w+): +(\d+) kB", rollup, re.MULTILINE)}
                private.append(sizes["Private_Clean"] + sizes["Private_Dirty"])
                proportional.append(sizes["Pss"])
        return private, proportional


def descendants(root: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                pass  # it has ended
    found = [root]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found[1:]


def on_device(name: str) -> None:
    import torch
    import torchvision
    from FluidFaaS import homes, mapped, safetensors, torch_support

    device = torch.device(name)
    torch.zeros(1, device=device)  # what starting CUDA takes is not a matter of weights
    torch.manual_seed(1)
    made = torchvision.models.resnet50()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # shmem, as a memfd is
        path = os.path.join(folder, "resnet50.safetensors")
        with open(path, "wb") as file:
            state = made.state_dict().items()
            safetensors.write(
                file,
                {n: (torch_support.dtype_of(t), tuple(t.shape), torch_support.to_numpy(t)) for n, t in state},
            )
        torch.save(made.state_dict(), os.path.join(folder, "resnet50.pt"))
        x = torch.rand(1, 3, 224, 224)
        times: dict[str, list[float]] = {}

        def timed(what: str, work: Any) -> None:
            began = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.setdefault(what, []).append((time.perf_counter() - began) * 1000)

        def cold(net: Any) -> None:
            net.load_state_dict(torch.load(os.path.join(folder, "resnet50.pt"), map_location="cpu"))
            net.to(device)

        results = []
        for _ in range(5):
            net = torchvision.models.resnet50().eval()
            timed("cold: torch.load, load_state_dict, to the device", lambda: cold(net))
            timed("leaving as a module does: to host memory of its own", lambda: net.to("cpu"))
            timed("returning as a module does", lambda: net.to(device))
            with torch.no_grad():
                results.append(net(x.to(device)).cpu())

            net = torchvision.models.resnet50().eval()
            timed("shared: mapped", lambda: mapped.load_weights(net, path))
            kept = homes.Homes(net)
            timed("shared: pinned and copied to the device", lambda: kept.enter(device))
            timed("evict: let go", kept.leave)
            timed("resume: from warm", lambda: kept.enter(device))
            with torch.no_grad():
                results.append(net(x.to(device)).cpu())
            pinned = [item is not None for item in kept._pinned.values()]
            del net, kept
        assert all(torch.equal(results[0], result) for result in results), "all compute the same"
        print(f"{name}: {torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'}, pinned: {pinned}")
        for what, taken in times.items():
            print(f"| {what} | {statistics.median(taken):.2f} ms |")


if __name__ == "__main__":
    main()
