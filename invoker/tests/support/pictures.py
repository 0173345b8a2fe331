"""Renders pictures of text into the directory that is named: one PNG each, and the text beside it.

Varied fonts and sizes, one upside down, one as a camera would see a page that is not quite flat.
"""

import json
import math
import random
import sys

from PIL import Image, ImageDraw, ImageFilter, ImageFont

FONTS = "/usr/share/fonts/truetype/"
SANS = FONTS + "dejavu/DejaVuSans.ttf"
BOLD = FONTS + "dejavu/DejaVuSans-Bold.ttf"
MONO = FONTS + "dejavu/DejaVuSansMono.ttf"
SERIF = FONTS + "liberation/LiberationSerif-Regular.ttf"


def page(lines, font, size, width, spacing=1.6, margin=30):
    typeface = ImageFont.truetype(font, size)
    height = int(margin * 2 + len(lines) * size * spacing)
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for i, line in enumerate(lines):
        draw.text((margin, margin + i * size * spacing), line, font=typeface, fill="black")
    return picture


def photographed(picture):
    """Perspective, light from one side, blur and noise."""
    width, height = picture.size
    corners = (-12, -8, 6, height + 10, width + 14, height - 6, width - 9, 12)
    picture = picture.transform(picture.size, Image.QUAD, corners, Image.BICUBIC, fillcolor="white")
    light = Image.new("L", picture.size)
    light.putdata([int(150 + 90 * (x / width) ** 0.7 * math.cos(y / height)) for y in range(height) for x in range(width)])
    dark = Image.new("RGB", picture.size, (30, 28, 25))
    picture = Image.composite(picture, dark, light).filter(ImageFilter.GaussianBlur(0.7))
    noise = random.Random(7)
    grain = Image.new("L", picture.size)
    grain.putdata([128 + int(noise.gauss(0, 9)) for _ in range(width * height)])
    return Image.blend(picture, Image.merge("RGB", [grain] * 3), 0.12)


PICTURES = {
    "headline": (["Slices of a GPU"], lambda lines: page(lines, BOLD, 56, 640)),
    "letter": (
        ["Dear reader,", "this page was rendered by a test.", "It has four lines of text", "and nothing else."],
        lambda lines: page(lines, SERIF, 34, 640),
    ),
    "listing": (["let answer = 42;", "return answer;"], lambda lines: page(lines, MONO, 28, 480)),
    "upside-down": (
        ["This side is up", "once it is turned"],
        lambda lines: page(lines, SANS, 40, 560).transpose(Image.ROTATE_180),
    ),
    "photograph": (
        ["The camera was not quite", "above the page, and the", "light came from one side."],
        lambda lines: photographed(page(lines, SERIF, 40, 600, margin=40)),
    ),
}

out = sys.argv[1]
for name, (lines, render) in PICTURES.items():
    render(lines).save(f"{out}/{name}.png")
    with open(f"{out}/{name}.json", "w") as text:
        json.dump(lines, text)
