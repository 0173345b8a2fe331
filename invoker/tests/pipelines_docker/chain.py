"""Three components with 60 MiB of weights each; the second one also does what the arguments say."""

import os
import signal
import time

import FluidFaaS as FFS
import numpy as np

WEIGHTS = 60 * 2**20 // 4
SIZE = 4096


class Part(FFS.Module):
    def load(self):
        self.weights = np.full(WEIGHTS, 0.1, np.float32)
        self.weights[:SIZE] = np.linspace(0.5, 2.0 + self.number, SIZE, dtype=np.float32)


class First(Part):
    number = 0

    def forward(self, x, told):
        return np.cos(x * self.weights[:SIZE]), told


class Second(Part):
    number = 1

    def forward(self, x, told):
        what = bytes(told).rstrip(b"\0").decode()
        if what:
            misbehave(what)
        return np.sin(x * self.weights[:SIZE])


class Third(Part):
    number = 2

    def forward(self, x):
        return x * self.weights[:SIZE]


def misbehave(what):
    if what == "exit":
        os._exit(3)
    elif what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "memory":
        hoard = []
        while True:
            hoard.append(np.ones(2**22))
    elif what == "hang":
        time.sleep(600)
    elif what == "wait":
        time.sleep(10)
    elif what == "pause":
        time.sleep(3)
    elif what == "ring":
        for name in os.listdir("/dev/shm"):
            with open(f"/dev/shm/{name}", "r+b") as ring:
                ring.write(os.urandom(4096))
    elif what == "fill":
        with open("/dev/shm/full", "wb", buffering=0) as file:
            while file.write(bytes(2**16)):
                pass
    elif what == "config":
        for path in ("state", "assignment.json", "mine"):
            with open(f"/ffs/config/{path}", "w") as file:
                file.write("{}")


class Chain(FFS.FFaaS):
    def pre(self, event):
        told = np.zeros(16, np.uint8)
        text = event.get("told", "").encode()
        told[: len(text)] = list(text)
        return {"x": np.linspace(0, event.get("x", 1), SIZE, dtype=np.float32), "told": told}

    def defDAG(self, x, told):
        first, passed = First.reg(self, x, told)
        return {"y": Third.reg(self, Second.reg(self, first, passed))}

    def post(self, outputs, event):
        y = outputs["y"]
        print("asked for", event.get("x", 1))
        return {"sum": float(y.sum()), "some": y[:: SIZE // 64].tolist()}


main = FFS.entry(Chain)
