"""Components with 130 MiB of weights each, as many as the first line of the code says; each takes its time, as a GPU
would, and no CPU. The last one takes so long that it gets a replica where a slice is free."""

import time

import FluidFaaS as FFS
import numpy as np

SIZE = 4096


class Part(FFS.Module):
    seconds = 0.05

    def load(self):
        self.weights = np.full(130 * 2**20 // 4, self.factor, np.float32)

    def forward(self, x):
        time.sleep(self.seconds)
        return x * self.weights[:SIZE]


class Double(Part):
    factor = 2


class Triple(Part):
    factor = 3


class Fourfold(Part):
    factor = 4
    seconds = 0.15


class Chain(FFS.FFaaS):
    def pre(self, event):
        return {"x": np.full(SIZE, event["x"], np.float32)}

    def defDAG(self, x):
        for part in (Double, Triple, Fourfold)[:PARTS]:
            x = part.reg(self, x)
        return {"y": x}

    def post(self, outputs, event):
        y = outputs["y"]
        print("asked for", event["x"])
        return {"least": float(y.min()), "most": float(y.max())}


main = FFS.entry(Chain)
