"""One small component."""

import FluidFaaS as FFS
import numpy as np


class Add(FFS.Module):
    def forward(self, x):
        return x + 1


class Neighbour(FFS.FFaaS):
    def pre(self, event):
        return {"x": np.array([event["x"]], np.float32)}

    def defDAG(self, x):
        return {"y": Add.reg(self, x)}

    def post(self, outputs, event):
        return {"y": float(outputs["y"][0])}


main = FFS.entry(Neighbour)
