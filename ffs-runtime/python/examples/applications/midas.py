"""Depth: encoder and decoder as in MiDaS 2.1 (Ranftl et al., 2020), over a ResNeXt-101 32x8d."""

import torch
from layers import ScaledResNet, scaled, standardised
from torch import nn
from torch.nn import functional

import FluidFaaS as FFS


class Depth(FFS.Module):
    """The inverse depth of each pixel of a picture in [0, 1], up to scale and shift."""

    def __init__(self, width):
        super().__init__()
        torch.manual_seed(5)
        channels = scaled(256, width)
        self.encoder = ScaledResNet([3, 4, 23, 3], width, groups=32, width_per_group=8)
        del self.encoder.fc
        depths = [scaled(planes, width) * 4 for planes in (64, 128, 256, 512)]
        self.reductions = nn.ModuleList(
            nn.Conv2d(depth, channels, 3, padding=1, bias=False) for depth in depths
        )
        self.fusions = nn.ModuleList(Fusion(channels) for _ in depths)
        self.before = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.after = nn.Sequential(
            nn.Conv2d(channels // 2, scaled(32, width), 3, padding=1), nn.ReLU(),
            nn.Conv2d(scaled(32, width), 1, 1), nn.ReLU(),
        )  # fmt: skip
        nn.init.constant_(self.after[2].bias, 1.0)  # so that an untrained answer is no plain zero

    def forward(self, image):
        encoder = self.encoder
        x = encoder.maxpool(encoder.relu(encoder.bn1(encoder.conv1(standardised(image)))))
        levels = []
        for layer, reduction in zip(
            (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4), self.reductions
        ):
            x = layer(x)
            levels.append(reduction(x))
        path = None
        for level, fusion in zip(reversed(levels), self.fusions):
            path = doubled(fusion(level, path))
        return self.after(doubled(self.before(path))).squeeze(1)


class Fusion(nn.Module):
    """Takes a level of the encoder into what came from the deeper ones."""

    def __init__(self, channels):
        super().__init__()
        self.of_level, self.of_both = Residual(channels), Residual(channels)

    def forward(self, level, path):
        return self.of_both(level if path is None else path + self.of_level(level))


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x):
        return x + self.layers(x)


def doubled(x):
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
