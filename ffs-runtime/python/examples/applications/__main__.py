"""The four applications of the FluidFaaS paper: chains of three to five PyTorch networks.

    image_classification             super-resolution → segmentation → classification
    depth_recognition                deblurring → super-resolution → depth
    background_elimination           super-resolution → deblurring → background removal
    expanded_image_classification    deblurring → super-resolution → background removal → segmentation → classification

The networks have their published shape and weights made from a seed: they take the time and the memory of
trained ones, and recognise nothing. `size` says how large they are (see SIZES).

    {"image": "<base64 of a PNG or JPEG>", "size": "small"}  ->  {"classes": …}, {"depth": …} or {"image": …}

In place of the file `image` may be a tensor `{"dtype", "shape": [N, 3, H, W], "data"}` of colours in [0, 1];
then results are tensors, too.
"""

from dataclasses import dataclass

import pictures
from deblurgan import Deblur
from deeplab import Segmentation
from midas import Depth
from resnet import Classification
from srgan import SuperResolution
from u2net import BackgroundRemoval

import FluidFaaS as FFS


@dataclass(frozen=True)
class Size:
    width: float  # times the channels of the published networks
    side: int  # to which a picture is brought, in pixels


SIZES = {"small": Size(1 / 8, 32), "real": Size(1, 128)}


class Application(FFS.FFaaS):
    """What the four have in common: pictures in, pictures or numbers out."""

    def chain(self, image, *networks):
        """Each network on what the one before it returned."""
        for network in networks:
            image = network.reg(self, image, init={"width": self.size.width})
        return image

    @property
    def size(self):
        name = self.event.get("size", "small")
        if name not in SIZES:
            raise FFS.InputError(f"the argument 'size' is {name!r}: expected one of {', '.join(SIZES)}")
        return SIZES[name]

    def pre(self, event):
        if self.dag is not None and self.dag.nodes[0].init["width"] != self.size.width:
            raise FFS.InputError(
                "the argument 'size' differs from that of the first activation, which made the networks"
            )
        if isinstance(event.get("image"), str):
            return {"image": pictures.decoded(event["image"], self.size.side)}
        return {"image": pictures.checked(super().pre(event)["image"])}

    def post(self, outputs, event):
        if not isinstance(event["image"], str):
            return super().post(outputs, event)
        return {name: pictures.shown(name, value) for name, value in outputs.items()}


class ImageClassification(Application):
    def defDAG(self, image):
        return {"classes": self.chain(image, SuperResolution, Segmentation, Classification)}


class DepthRecognition(Application):
    def defDAG(self, image):
        return {"depth": self.chain(image, Deblur, SuperResolution, Depth)}


class BackgroundElimination(Application):
    def defDAG(self, image):
        return {"image": self.chain(image, SuperResolution, Deblur, BackgroundRemoval)}


class ExpandedImageClassification(Application):
    def defDAG(self, image):
        networks = Deblur, SuperResolution, BackgroundRemoval, Segmentation, Classification
        return {"classes": self.chain(image, *networks)}


image_classification = FFS.entry(ImageClassification)
depth_recognition = FFS.entry(DepthRecognition)
background_elimination = FFS.entry(BackgroundElimination)
expanded_image_classification = FFS.entry(ExpandedImageClassification)
