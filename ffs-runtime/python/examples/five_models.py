"""The example of the FluidFaaS paper: five models, two of them side by side, and a late input.

           x ──► M1 ──┐
           │          ├──► M3 ──► M4 ──► M5 ──► result
           └───► M2 ──┘                  ▲
           y ────────────────────────────┘

The models are small networks in NumPy, so that it runs anywhere:

    python five_models.py
"""

import json

import numpy as np

import FluidFaaS as FFS


class Dense(FFS.Module):
    """One fully connected layer with weights made from a seed."""

    width = 16

    def __init__(self, seed):
        self.seed = seed

    def load(self):
        generator = np.random.default_rng(self.seed)
        self.weights = generator.standard_normal((self.width, self.width), dtype=np.float32)

    def forward(self, x):
        return np.tanh(x @ self.weights)


class M1(Dense):
    def __init__(self):
        super().__init__(seed=1)


class M2(Dense):
    def __init__(self):
        super().__init__(seed=2)


class M3(Dense):
    def __init__(self):
        super().__init__(seed=3)

    def forward(self, left, right):
        return super().forward(left + right)


class M4(Dense):
    def __init__(self, seed):
        super().__init__(seed)

    def forward(self, x):
        print("M4 has seen", x.shape)
        return super().forward(x)


class M5(Dense):
    def __init__(self):
        super().__init__(seed=5)

    def forward(self, x, y):
        return super().forward(x) * y


class FiveModels(FFS.FFaaS):
    """y = m5(m4(m3(m1(x), m2(x))), y)"""

    def defDAG(self, x, y):
        x1 = M1.reg(self, x)
        x2 = M2.reg(self, x)
        x3 = M3.reg(self, x1, x2)
        x4 = M4.reg(self, x3, init={"seed": 4})
        return M5.reg(self, x4, y)


# The two entry points of the paper …
def FiveModels_run(event, context):
    return FiveModels(event, context, FFS.RUN).run()


def FiveModels_buildDAG(event, context):
    return FiveModels(event, context, FFS.BUILDDAG).profile()


# … or, in one line:
main = FFS.entry(FiveModels)


if __name__ == "__main__":
    example = {"x": [[0.5] * Dense.width], "y": [[2.0] * Dense.width]}
    print(json.dumps(main(example)))
    print(json.dumps(FiveModels_buildDAG(example, None), indent=1))
