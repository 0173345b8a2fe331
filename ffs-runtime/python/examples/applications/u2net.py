"""Background removal: U²-Net (Qin et al., 2020)."""

import torch
from layers import scaled, standardised
from torch import nn
from torch.nn import functional

import FluidFaaS as FFS

#: Depth of each U on the way down, its channels inside and out; then on the way up. Depth 0: dilated, without pooling.
DOWN = [(7, 32, 64), (6, 32, 128), (5, 64, 256), (4, 128, 512), (0, 256, 512), (0, 256, 512)]
UP = [(0, 256, 512), (4, 128, 256), (5, 64, 128), (6, 32, 64), (7, 16, 64)]


class BackgroundRemoval(FFS.Module):
    """A picture in [0, 1] times the likelihood that a pixel belongs to what it shows."""

    def __init__(self, width):
        super().__init__()
        torch.manual_seed(6)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        channels, skipped = 3, []
        for depth, inner, outer in DOWN:
            self.down.append(U(depth, channels, scaled(inner, width), scaled(outer, width)))
            channels = scaled(outer, width)
            skipped.append(channels)
        sides = [skipped.pop()]
        for depth, inner, outer in UP:
            self.up.append(U(depth, channels + skipped.pop(), scaled(inner, width), scaled(outer, width)))
            channels = scaled(outer, width)
            sides.append(channels)
        self.sides = nn.ModuleList(nn.Conv2d(side, 1, 3, padding=1) for side in sides)
        self.fuse = nn.Conv2d(len(sides), 1, 1)

    def forward(self, image):
        x, levels = standardised(image), []
        for u in self.down:
            x = u(x if not levels else halved(x))
            levels.append(x)
        maps = [self.sides[0](levels.pop())]
        for u, side in zip(self.up, self.sides[1:]):
            level = levels.pop()
            x = u(torch.cat((like(x, level), level), 1))
            maps.append(side(x))
        return image * self.fuse(torch.cat([like(each, image) for each in maps], 1)).sigmoid()


class U(nn.Module):
    """A U-shaped block with a residual around it (the paper's RSU)."""

    def __init__(self, depth, channels, inner, outer):
        super().__init__()
        self.pools = depth > 0
        dilations = [1] * (depth - 1) if self.pools else [1, 2, 4]
        self.enter = convolution(channels, outer)
        self.down = nn.ModuleList(
            convolution(inner if n else outer, inner, dilation) for n, dilation in enumerate(dilations)
        )
        self.bottom = convolution(inner, inner, 2 if self.pools else 8)
        self.up = nn.ModuleList(
            convolution(inner * 2, inner if n else outer, dilation) for n, dilation in enumerate(dilations)
        )

    def forward(self, x):
        x = entered = self.enter(x)
        levels = []
        for layer in self.down:
            x = layer(halved(x) if self.pools and levels else x)
            levels.append(x)
        x = self.bottom(x)
        for layer in reversed(self.up):
            level = levels.pop()
            x = layer(torch.cat((like(x, level), level), 1))
        return entered + x


def convolution(channels, outer, dilation=1):
    return nn.Sequential(
        nn.Conv2d(channels, outer, 3, padding=dilation, dilation=dilation), nn.BatchNorm2d(outer), nn.ReLU()
    )


def halved(x):
    return functional.max_pool2d(x, 2, ceil_mode=True)


def like(x, other):
    if x.shape[2:] == other.shape[2:]:
        return x
    return functional.interpolate(x, other.shape[2:], mode="bilinear", align_corners=False)
