"""Picture files to tensors of colours in [0, 1], and back."""

import base64
import binascii
import io

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

import FluidFaaS as FFS

STEP = 32  # pixels; what all networks can halve and double again


def decoded(text, side):
    """float32 [1, 3, side, side] from the base64 text of a PNG or JPEG file."""
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(text, validate=True))).convert("RGB")
    except (binascii.Error, UnidentifiedImageError, OSError) as error:
        raise FFS.InputError(
            f"the argument 'image' is no base64 text of a PNG or JPEG file: {error}"
        ) from None
    pixels = np.asarray(picture.resize((side, side), Image.BILINEAR))
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32)[None] / 255)


def checked(image):
    """A tensor of the arguments, if the networks can take it."""
    shape = getattr(image, "shape", ())
    if (
        len(shape) != 4
        or shape[0] < 1
        or shape[1] != 3
        or not all(side and side % STEP == 0 for side in shape[2:])
    ):
        raise FFS.InputError(
            f"the argument 'image' has the shape {list(shape)}: expected [N, 3, H, W] with H and W multiples of {STEP}"
        )
    return torch.from_numpy(image.astype(np.float32, copy=False))


def shown(name, value):
    """An output for a person: the five likeliest classes, else a PNG file in base64."""
    if name == "classes":
        likely = value[0].topk(5)
        return [{"class": int(i), "probability": float(p)} for p, i in zip(likely.values, likely.indices)]
    pixels = value[0] if name == "image" else value[0] / value[0].max().clamp(min=1e-6)
    pixels = (pixels * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0) if name == "image" else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
