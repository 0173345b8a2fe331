"""Deblurring: the generator of DeblurGAN (Kupyn et al., 2018)."""

import torch
from layers import scaled
from torch import nn

import FluidFaaS as FFS


class Deblur(FFS.Module):
    """A picture in [0, 1] without its blur: the network's answer is added to the picture."""

    def __init__(self, width):
        super().__init__()
        torch.manual_seed(2)
        channels = scaled(64, width)
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(3, channels, 7), *normalised(channels),
            nn.Conv2d(channels, channels * 2, 3, stride=2, padding=1), *normalised(channels * 2),
            nn.Conv2d(channels * 2, channels * 4, 3, stride=2, padding=1), *normalised(channels * 4),
            *(Residual(channels * 4) for _ in range(9)),
            upsampling(channels * 4, channels * 2), *normalised(channels * 2),
            upsampling(channels * 2, channels), *normalised(channels),
            nn.ReflectionPad2d(3), nn.Conv2d(channels, 3, 7), nn.Tanh(),
        )  # fmt: skip

    def forward(self, image):
        blurred = image * 2 - 1
        return (blurred + self.layers(blurred)).clamp(-1, 1).add(1).div(2)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), *normalised(channels),
            nn.Dropout(0.5),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels),
        )  # fmt: skip

    def forward(self, x):
        return x + self.layers(x)


def normalised(channels):
    return nn.InstanceNorm2d(channels), nn.ReLU()


def upsampling(channels, fewer):
    return nn.ConvTranspose2d(channels, fewer, 3, stride=2, padding=1, output_padding=1)
