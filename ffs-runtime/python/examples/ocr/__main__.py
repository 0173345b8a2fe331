"""Reads printed text: three networks, cut apart wherever slices are free.

    detect  (DBNet)      picture            -> one strip of 48-pixel-high text lines, and where they were
    orient  (MobileNet)  strip              -> the strip, lines that stood on their heads turned round
    read    (SVTR)       strip              -> text

The networks are PP-OCR's, as the PyPI package rapidocr-onnxruntime carries them; `scripts/demo` puts
them beside this file. The code between the networks belongs to the neighbour that needs it.

    {"image": "<base64 of a PNG or JPEG>"}  ->  {"text": "...", "lines": [{"text", "score", "box"}]}
"""

import base64
import io
import math
import os

import numpy as np
from PIL import Image

import FluidFaaS as FFS

HERE = os.path.dirname(os.path.abspath(__file__))
HEIGHT = 48  # of a text line, as both later networks take it
MAX_LINES = 64
MAX_WIDTH = 1280  # of a line; a longer one is squeezed
CANVAS = (1024, 640)  # that detection looks at; upright for upright pictures


def session(name):
    """An ONNX Runtime session with one thread, so that every slice computes the same bits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    path = os.path.join(HERE, "models", name)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def normalised(pixels):
    """uint8 [H, W, 3] -> float32 [1, 3, H, W] in [-1, 1]."""
    return ((pixels.astype(np.float32) / 255.0 - 0.5) / 0.5).transpose(2, 0, 1)[None]


def components(mask):
    """Connected regions of a boolean picture, each as (ys, xs), by union of overlapping runs."""
    parent, runs, above = [], [], []

    def find(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for y in range(mask.shape[0]):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], mask[y].view(np.int8), [0]))))
        row = []
        for start, stop in zip(edges[::2], edges[1::2]):
            me = len(parent)
            parent.append(me)
            runs.append((y, int(start), int(stop)))
            for other in above:
                if runs[other][1] <= stop and runs[other][2] >= start:
                    parent[find(me)] = find(other)
            row.append(me)
        above = row
    regions = {}
    for i, run in enumerate(runs):
        regions.setdefault(find(i), []).append(run)
    for region in regions.values():
        ys = np.concatenate([np.full(stop - start, y) for y, start, stop in region])
        xs = np.concatenate([np.arange(start, stop) for _, start, stop in region])
        yield ys, xs


class Line:
    """One line of text in a picture: a band of even height along a parabola, so that a page may curl."""

    def __init__(self, ys, xs):
        self.cx, self.cy = xs.mean(), ys.mean()
        dx, dy = xs - self.cx, ys - self.cy
        spread = float((dx * dx).mean() - (dy * dy).mean())
        angle = 0.5 * math.atan2(2.0 * float((dx * dy).mean()), spread)
        if abs(angle) > math.pi / 4:  # what is taller than wide is still read from left to right
            angle = 0.0
        self.c, self.s = math.cos(angle), math.sin(angle)
        along, across = dx * self.c + dy * self.s, dy * self.c - dx * self.s
        long_enough = along.max() - along.min() > 4 * (across.max() - across.min())
        self.bend = np.polyfit(along, across, 2) if long_enough else np.array([across.mean()])
        off = across - np.polyval(self.bend, along)
        self.left, self.right = along.min() - 0.5, along.max() + 0.5
        self.top, self.bottom = off.min() - 0.5, off.max() + 0.5
        width, height = self.right - self.left, self.bottom - self.top
        grow = width * height * 1.6 / (2.0 * (width + height))  # DBNet marks a shrunken region
        self.left, self.right = self.left - grow, self.right + grow
        self.top, self.bottom = self.top - grow, self.bottom + grow
        self.width, self.height = width + 2 * grow, height + 2 * grow

    def point(self, along, off):
        """A point of the band, in the picture's pixels."""
        across = off + float(np.polyval(self.bend, min(max(along, self.left), self.right)))
        return self.cx + along * self.c - across * self.s, self.cy + along * self.s + across * self.c

    def corners(self):
        """Four points (x, y), clockwise from the top left."""
        ends = [
            (self.left, self.top),
            (self.right, self.top),
            (self.right, self.bottom),
            (self.left, self.bottom),
        ]
        return [self.point(*end) for end in ends]

    def strip(self, picture):
        """The band, straightened and scaled to the height of a text line: uint8 [48, width, 3]."""
        width = min(max(1, round(HEIGHT * self.width / self.height)), MAX_WIDTH)
        cuts = np.linspace(0, width, max(2, width // 64 + 1)).round().astype(int).tolist()
        mesh = []
        for start, stop in zip(cuts, cuts[1:]):
            a, b = (self.left + self.width * at / width for at in (start, stop))
            quad = self.point(a, self.top) + self.point(a, self.bottom)
            quad += self.point(b, self.bottom) + self.point(b, self.top)
            mesh.append(((start, 0, stop, HEIGHT), quad))
        return np.asarray(picture.transform((width, HEIGHT), Image.MESH, mesh, Image.BICUBIC))


class Detect(FFS.Module):
    """Finds the lines of text and cuts them out, each scaled to a height of 48 pixels."""

    outputs = (
        FFS.tensor("uint8", (HEIGHT, FFS.dim("P", max=32768), 3)),
        FFS.tensor("int32", (FFS.dim("N", max=MAX_LINES),)),
        FFS.tensor("float32", (FFS.dim("N", max=MAX_LINES), 4, 2)),
    )

    def load(self):
        self.network = session("det.onnx")

    def forward(self, image):
        picture = Image.fromarray(np.asarray(image))
        width, height = picture.size
        # Detection always looks at a canvas of the same size: its memory does not depend on the picture.
        size = CANVAS if width >= height else CANVAS[::-1]
        scale = min(size[0] / width, size[1] / height)
        canvas = Image.new("RGB", size, "white")
        canvas.paste(picture.resize([max(1, round(n * scale)) for n in (width, height)], Image.BILINEAR))
        pixels = np.asarray(canvas)
        heat = self.network.run(None, {self.network.get_inputs()[0].name: normalised(pixels)})[0][0, 0]
        lines = []
        for ys, xs in components(heat > 0.3):
            if len(xs) < 24 or heat[ys, xs].mean() < 0.5:
                continue
            line = Line((ys + 0.5) / scale, (xs + 0.5) / scale)
            if min(line.width, line.height) >= 5:
                lines.append(line)
        lines = reading_order(lines)[:MAX_LINES]
        strips = [np.zeros((HEIGHT, 0, 3), np.uint8)] + [line.strip(picture) for line in lines]
        widths = np.array([strip.shape[1] for strip in strips[1:]], np.int32)
        boxes = np.array([line.corners() for line in lines], np.float32).reshape(len(lines), 4, 2)
        return np.concatenate(strips, axis=1), widths, boxes


def reading_order(lines):
    """Top to bottom, and left to right among lines of equal height on the page."""
    rows = []
    for line in sorted(lines, key=lambda line: line.cy):
        if rows and abs(rows[-1][0].cy - line.cy) < line.height / 2:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.cx)]


def cut(strip, widths):
    """The lines of a strip, one array each."""
    ends = np.cumsum(widths)
    return [strip[:, end - width : end] for width, end in zip(widths, ends)]


class Orient(FFS.Module):
    """Turns lines that stand on their heads."""

    outputs = (
        FFS.tensor("uint8", (HEIGHT, FFS.dim("P", max=32768), 3)),
        FFS.tensor("bool", (FFS.dim("N", max=MAX_LINES),)),
    )

    def load(self):
        self.network = session("cls.onnx")

    def forward(self, strip, widths):
        strip = np.array(strip)
        turned = np.zeros(len(widths), bool)
        name = self.network.get_inputs()[0].name
        for i, line in enumerate(cut(strip, widths)):
            windows = range(0, max(1, line.shape[1] - 96), 192)
            batch = np.zeros((len(windows), 3, HEIGHT, 192), np.float32)
            for window, start in zip(batch, windows):
                pixels = normalised(line[:, start : start + 192])[0]
                window[:, :, : pixels.shape[2]] = pixels
            upside_down = self.network.run(None, {name: batch})[0][:, 1].mean()
            if upside_down > 0.5:
                line[:] = line[::-1, ::-1].copy()
                turned[i] = True
        return strip, turned


class Read(FFS.Module):
    """Reads each line; the text leaves as UTF-8 with a line feed after each line."""

    outputs = (
        FFS.tensor("uint8", (FFS.dim("B", max=16384),)),
        FFS.tensor("float32", (FFS.dim("N", max=MAX_LINES),)),
    )

    def load(self):
        self.network = session("rec.onnx")
        characters = self.network.get_modelmeta().custom_metadata_map["character"].splitlines()
        self.characters = ["", *characters, " "]  # 0 is CTC's blank

    def forward(self, strip, widths):
        name = self.network.get_inputs()[0].name
        text, scores = [], []
        for line in cut(np.asarray(strip), widths):
            if line.shape[1] < HEIGHT:
                line = np.pad(line, ((0, 0), (0, HEIGHT - line.shape[1]), (0, 0)))
            likely = self.network.run(None, {name: normalised(line)})[0][0]
            best = likely.argmax(axis=1)
            keep = (best != 0) & np.concatenate(([True], best[1:] != best[:-1]))
            text.append("".join(self.characters[i] for i in best[keep]) + "\n")
            scores.append(likely.max(axis=1)[keep].mean() if keep.any() else 0.0)
        encoded = np.frombuffer("".join(text).encode(), np.uint8)
        return encoded, np.array(scores, np.float32)


class Ocr(FFS.FFaaS):
    def pre(self, event):
        if not isinstance(event.get("image"), str):
            raise ValueError('"image" is missing: expected the base64 text of a PNG or JPEG file')
        picture = Image.open(io.BytesIO(base64.b64decode(event["image"], validate=True)))
        return {"image": np.asarray(picture.convert("RGB"))}

    def defDAG(self, image):
        strip, widths, boxes = Detect.reg(self, image)
        upright, turned = Orient.reg(self, strip, widths)
        text, scores = Read.reg(self, upright, widths)
        return {"text": text, "scores": scores, "boxes": boxes, "turned": turned}

    def post(self, outputs, event):
        lines = bytes(np.asarray(outputs["text"])).decode().split("\n")[:-1]
        found = [
            {"text": text, "score": round(float(score), 4), "box": np.round(box.astype(float), 1).tolist()}
            for text, score, box in zip(lines, outputs["scores"], outputs["boxes"])
            if score >= 0.5
        ]
        if outputs["turned"].sum() * 2 > len(lines):  # the whole page stands on its head
            found.reverse()
        return {"text": "\n".join(line["text"] for line in found), "lines": found}


main = FFS.entry(Ocr)
