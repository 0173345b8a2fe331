"""Classification: ResNet-50 (He et al., 2016), torchvision's."""

import torch
from layers import ScaledResNet, standardised
from torch.nn import functional

import FluidFaaS as FFS

SIDE = 224  # a larger picture is shrunk to it


class Classification(FFS.Module):
    """The probability of each of ImageNet's 1000 classes for a picture in [0, 1]."""

    def __init__(self, width):
        super().__init__()
        torch.manual_seed(4)
        self.network = ScaledResNet([3, 4, 6, 3], width)

    def forward(self, image):
        if max(image.shape[2:]) > SIDE:
            image = functional.interpolate(image, (SIDE, SIDE), mode="bilinear", antialias=True)
        return self.network(standardised(image)).softmax(1)
