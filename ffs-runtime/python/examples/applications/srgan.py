"""Super-resolution: the generator of SRGAN (Ledig et al., 2017)."""

import torch
from layers import scaled
from torch import nn

import FluidFaaS as FFS


class SuperResolution(FFS.Module):
    """A picture in [0, 1] with four times the side: 16 residual blocks, then two pixel shuffles."""

    def __init__(self, width):
        super().__init__()
        torch.manual_seed(1)
        channels = scaled(64, width)
        self.head = nn.Sequential(nn.Conv2d(3, channels, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *(Residual(channels) for _ in range(16)),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.tail = nn.Sequential(
            *upsampling(channels), *upsampling(channels), nn.Conv2d(channels, 3, 9, padding=4), nn.Tanh()
        )

    def forward(self, image):
        features = self.head(image)
        return self.tail(features + self.body(features)).add(1).div(2)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return x + self.layers(x)


def upsampling(channels):
    return nn.Conv2d(channels, channels * 4, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()
