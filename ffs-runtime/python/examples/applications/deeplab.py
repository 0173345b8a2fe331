"""Segmentation: DeepLabV3 over ResNet-101 (Chen et al., 2017), torchvision's."""

import torch
from layers import ScaledResNet, scaled, standardised
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.deeplabv3 import ASPP, DeepLabV3

import FluidFaaS as FFS

CLASSES = 21  # Pascal VOC's; 0 is the background


class Segmentation(FFS.Module):
    """What of a picture in [0, 1] belongs to an object; the rest becomes black."""

    def __init__(self, width):
        super().__init__()
        torch.manual_seed(3)
        backbone = ScaledResNet([3, 4, 23, 3], width, replace_stride_with_dilation=[False, True, True])
        channels = scaled(256, width)
        head = nn.Sequential(  # torchvision's DeepLabHead, whose width is fixed
            ASPP(backbone.inplanes, [12, 24, 36], channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, CLASSES, 1),
        )
        self.network = DeepLabV3(IntermediateLayerGetter(backbone, {"layer4": "out"}), head)

    def forward(self, image):
        classes = self.network(standardised(image))["out"].argmax(1, keepdim=True)
        return image * (classes != 0)
