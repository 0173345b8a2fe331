"""When each component ran in which lane, as a picture: SVG, or a page of HTML around it."""

from __future__ import annotations

from html import escape

__all__ = ["page", "svg"]

#: Lane, component, begin and end in seconds of one clock.
Span = tuple[str, str, float, float]

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
_LEFT, _WIDTH, _ROW, _TOP = 90, 900, 34, 56


def svg(title: str, spans: list[Span]) -> str:
    """One row for each lane, one box for each run of a component; the number in it is that of its request."""
    lanes = list(dict.fromkeys(lane for lane, *_ in spans))
    components = list(dict.fromkeys(component for _, component, *_ in spans))
    start = min((begin for *_, begin, _ in spans), default=0.0)
    length = max((end - start for *_, end in spans), default=0.0) or 1e-6
    scale = _WIDTH / length
    legend_y = _TOP + _ROW * len(lanes) + 46
    height = legend_y + 20 * len(components)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 30}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="{_LEFT}" y="24" font-size="15">{escape(title)}</text>',
    ]
    for number, lane in enumerate(lanes):
        y = _TOP + _ROW * number
        parts.append(f'<text x="10" y="{y + 18}">{escape(lane)}</text>')
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y + 28}" y2="{y + 28}" stroke="#ddd"/>')
    requests: dict[str, int] = {}
    for lane, component, begin, end in sorted(spans, key=lambda span: span[2]):
        requests[component] = requests.get(component, 0) + 1
        x, width = _LEFT + (begin - start) * scale, max((end - begin) * scale, 1.0)
        y = _TOP + _ROW * lanes.index(lane)
        label = f"{component}, request {requests[component]}: {(end - begin) * 1000:.3f} ms"
        parts.append(
            f'<g><title>{escape(label)}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="26" '
            f'fill="{_colour(components, component)}" stroke="white" stroke-width="0.5"/>'
            + (
                f'<text x="{x + 3:.1f}" y="{y + 17}" fill="white">{requests[component]}</text>'
                if width > 14
                else ""
            )
            + "</g>"
        )
    axis = _TOP + _ROW * len(lanes) + 16
    for tick in range(6):
        x, at = _LEFT + _WIDTH * tick / 5, length * 1000 * tick / 5
        parts.append(f'<text x="{x:.0f}" y="{axis}" text-anchor="middle" fill="#555">{at:.4g} ms</text>')
    for number, component in enumerate(components):
        y = legend_y + 20 * number
        parts.append(
            f'<rect x="{_LEFT}" y="{y - 11}" width="12" height="12" fill="{_colour(components, component)}"/>'
        )
        parts.append(f'<text x="{_LEFT + 18}" y="{y}">{escape(component)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def page(title: str, picture: str) -> str:
    """The picture as HTML; pointing at a box tells how long it took."""
    return f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n{picture}</html>\n'


def _colour(components: list[str], component: str) -> str:
    return _COLOURS[components.index(component) % len(_COLOURS)]
