"""What several of the networks are made of."""

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
_DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def scaled(channels, width):
    """`channels` of the published network, times the width multiplier; at least 4."""
    return max(4, round(channels * width))


def standardised(image):
    """Colours in [0, 1] as networks that begin with ImageNet's weights take them."""
    return (image - _MEAN.to(image.device)) / _DEVIATION.to(image.device)


class ScaledResNet(ResNet):
    """torchvision's ResNet with all planes behind the stem times `width`; with 1 the very same."""

    def __init__(self, layers, width, **options):
        self._width = width
        super().__init__(Bottleneck, layers, **options)
        self.fc = nn.Linear(self.inplanes, self.fc.out_features)
        for module in self.modules():
            if isinstance(module, Bottleneck):
                nn.init.constant_(module.bn3.weight, 0.25)  # else untrained blocks double the variance, each

    def _make_layer(self, block, planes, *arguments, **options):
        return super()._make_layer(block, scaled(planes, self._width), *arguments, **options)
