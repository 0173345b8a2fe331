"""Actions that several tests run."""

from __future__ import annotations

from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"
FIVE_MODELS = (EXAMPLES / "five_models.py").read_text()


def five_example(n: int = 0) -> dict:
    """Arguments for the five models, others for every `n`."""
    return {"x": [[0.01 * n + 0.1 * i for i in range(16)]], "y": [[float(i - n) for i in range(16)]]}


#: Two components around one that is the test's own.
CHAIN = """
import numpy as np
import FluidFaaS as FFS

class First(FFS.Module):
    def forward(self, x):
        print("first saw", x.tolist())
        return x + 1

class Second(FFS.Module):
    def forward(self, x):
        print("second saw", x.tolist())
        {body}
        return x * 2

class Third(FFS.Module):
    def forward(self, x):
        return x - 3

class Chain(FFS.FFaaS):
    def defDAG(self, x):
        return Third.reg(self, Second.reg(self, First.reg(self, x)))

main = FFS.entry(Chain)
"""


def chain(body: str = "pass") -> str:
    return CHAIN.replace("{body}", body.replace("\n", "\n        "))
