"""Two components that map the same 24 MiB of weights, each from a file of its own, and say how they lie in memory."""

import re

import FluidFaaS as FFS
import numpy
from FluidFaaS import safetensors


class Mapped(FFS.Module):
    def __init__(self, file):
        self.file = file

    def load(self):
        ones = numpy.ones(6 << 20, dtype=numpy.float32)
        with open(self.file, "wb") as file:
            safetensors.write(file, {"ones": ("float32", ones.shape, ones)})
        self.weights = FFS.weights(self.file)

    def forward(self, x):
        found = {"digest": self.weights.digest, "sum": float(self.weights["ones"].sum())}
        with open("/proc/self/smaps") as file:
            for part in re.split(r"\n(?=[0-9a-f]+-)", file.read()):
                if "memfd:ffs-weights" in part.split("\n")[0]:
                    for key in ("Rss", "Pss", "Private_Dirty"):
                        found[key] = int(re.search(key + r": +(\d+) kB", part)[1]) << 10
        return found


class F(FFS.FFaaS):
    def pre(self, event):
        return {"x": numpy.zeros(1)}

    def defDAG(self, x):
        return {
            "left": self.reg(Mapped, x, id="left", init={"file": "left.safetensors"}),
            "right": self.reg(Mapped, x, id="right", init={"file": "right.safetensors"}),
        }


main = FFS.entry(F)
