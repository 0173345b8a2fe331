"""The paper's four applications: every cut over real lanes and rings gives the bytes of the unsplit function."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import zipfile
from functools import cache
from itertools import product

import actions
import numpy as np
import pytest
from forked import ForkedChild
from PIL import Image
from pipeline import Pipeline

APPLICATIONS = actions.EXAMPLES / "applications"

CHAINS = {
    "image_classification": ["SuperResolution", "Segmentation", "Classification"],
    "depth_recognition": ["Deblur", "SuperResolution", "Depth"],
    "background_elimination": ["SuperResolution", "Deblur", "BackgroundRemoval"],
    "expanded_image_classification": [
        "Deblur", "SuperResolution", "BackgroundRemoval", "Segmentation", "Classification",
    ],
}  # fmt: skip

#: Parameters of the published networks, in millions.
PARAMETERS = {
    "SuperResolution": 1.55,
    "Deblur": 11.38,
    "Segmentation": 58.63,
    "Classification": 25.56,
    "Depth": 105.36,
    "BackgroundRemoval": 44.01,
}


def cuts(chain):
    """All partitions of a chain: each gap is cut or not."""
    for gaps in product(",|", repeat=len(chain) - 1):
        yield "".join(part for pair in zip(chain, (*gaps, "")) for part in pair)


@cache
def code():
    """The examples' folder as an action's zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as action:
        for source in APPLICATIONS.glob("*.py"):
            action.write(source, source.name)
    return base64.b64encode(file.getvalue()).decode()


def tensor(seed, batch=1):
    pixels = np.random.default_rng(seed).random((batch, 3, 32, 32), dtype=np.float32)
    data = base64.b64encode(pixels.tobytes()).decode()
    return {"image": {"dtype": "float32", "shape": list(pixels.shape), "data": data}}


#: The batch of two is what nobody has said before, and has just room in the rings.
REQUESTS = [tensor(1), tensor(2), tensor(3, batch=2)]


@pytest.fixture
def start(tmp_path):
    children = []

    def start(**environment):
        children.append(ForkedChild(tmp_path, **environment))
        assert children[-1].said("hello")
        return children[-1]

    yield start
    for child in children:
        child.end()


def action(start, name):
    child = start()
    assert child.init(code(), binary=True, main=name) is None
    return child


UNSPLIT = {}


@pytest.fixture
def unsplit(start):
    """The DAG of an application, and the answers of the unsplit function; asked for once."""

    def unsplit(name):
        if name not in UNSPLIT:
            built = action(start, name).build(REQUESTS[0])
            assert built["status"] == 200, built
            plain = action(start, name)
            UNSPLIT[name] = built["body"], [plain.run(request)["body"] for request in REQUESTS]
        return UNSPLIT[name]

    return unsplit


@pytest.mark.parametrize(
    "name, plan", [(name, plan) for name, chain in CHAINS.items() for plan in cuts(chain)]
)
def test_every_cut_gives_the_bytes_of_the_unsplit_function(start, unsplit, tmp_path, name, plan):
    dag, expected = unsplit(name)
    split = Pipeline(start, tmp_path, code(), dag, plan, binary={"binary": True, "main": name}).loaded()
    for request, body in zip(REQUESTS, expected):
        answer = split.run(request)
        assert answer["status"] == 200, answer
        assert json.dumps(answer["body"]) == json.dumps(body)
    assert len(split.children) == plan.count("|") + 1
    for child in split.children.values():
        child.end()
    assert [file for file in os.listdir("/dev/shm") if split.id in file] == []


@pytest.mark.parametrize("name, chain", CHAINS.items())
def test_an_application_is_a_chain_whose_answer_depends_on_the_picture(unsplit, name, chain):
    dag, (one, other, both) = unsplit(name)
    assert [node["id"] for node in dag["nodes"]] == chain
    (output,) = one
    values = [
        np.frombuffer(base64.b64decode(body[output]["data"]), np.float32).reshape(body[output]["shape"])
        for body in (one, other, both)
    ]
    assert all(np.isfinite(value).all() and value.std() > 0 for value in values)
    assert not np.array_equal(values[0], values[1]) and values[2].shape == (2, *values[0].shape[1:])


def test_picture_files_are_answered_for_a_person(start):
    file = io.BytesIO()
    Image.linear_gradient("L").resize((50, 40)).save(file, "PNG")
    picture = {"image": base64.b64encode(file.getvalue()).decode()}

    classes = action(start, "image_classification").run(picture)["body"]["classes"]
    assert len({one["class"] for one in classes}) == 5
    assert sorted(classes, key=lambda one: -one["probability"]) == classes

    for name, output, mode in (
        ("depth_recognition", "depth", "L"),
        ("background_elimination", "image", "RGB"),
    ):
        answer = action(start, name).run(picture)["body"][output]
        shown = Image.open(io.BytesIO(base64.b64decode(answer)))
        assert (shown.size, shown.mode) == ((128, 128), mode)
        assert np.asarray(shown).std() > 0


def test_arguments_that_cannot_be_used_are_named(start):
    child = action(start, "depth_recognition")
    assert child.run(REQUESTS[0])["status"] == 200
    odd = {"dtype": "float32", "shape": [1, 3, 8, 8], "data": base64.b64encode(bytes(768)).decode()}
    for arguments, sentence in (
        ({}, "the argument 'image' is missing: the function asks for image"),
        ({"image": "AAAA"}, "the argument 'image' is no base64 text of a PNG or JPEG file: "),
        ({"image": odd}, "the argument 'image' has the shape [1, 3, 8, 8]: expected [N, 3, H, W] with H and W multiples of 32"),
        (REQUESTS[0] | {"size": "huge"}, "the argument 'size' is 'huge': expected one of small, real"),
        (REQUESTS[0] | {"size": "real"}, "the argument 'size' differs from that of the first activation"),
    ):  # fmt: skip
        assert child.run(arguments)["body"]["error"].startswith(sentence)


@pytest.mark.parametrize("name, millions", PARAMETERS.items())
def test_the_real_size_has_the_parameters_of_the_published_network(monkeypatch, name, millions):
    monkeypatch.setattr(sys, "path", [str(APPLICATIONS), *sys.path])
    import deblurgan
    import deeplab
    import midas
    import resnet
    import srgan
    import u2net

    (network,) = (
        getattr(module, name)
        for module in (deblurgan, deeplab, midas, resnet, srgan, u2net)
        if hasattr(module, name)
    )
    count = sum(parameter.numel() for parameter in network(1.0).parameters())
    assert round(count / 1e6, 2) == millions
