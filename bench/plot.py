"""A line plot as SVG: a logarithmic axis of sizes, a linear one of costs from zero."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 20, 50
COLOURS = ("#3366cc", "#dc3912", "#109618", "#990099", "#ff9900", "#0099c6")
STYLE = "font-family:sans-serif;font-size:12px"


class Line(NamedTuple):
    """One series: (size, cost) pairs, sizes above zero."""

    name: str
    points: Sequence[tuple[float, float]]


def plot(lines: Sequence[Line], below: str, beside: str) -> str:
    """The picture, with its axes named `below` and `beside`."""
    sizes = sorted({size for line in lines for size, _ in line.points})
    step = _step(max(cost for line in lines for _, cost in line.points))
    top = step * 5
    low, high = log10(sizes[0]), log10(sizes[-1])
    span = (high - low) or 1.0

    def x(size: float) -> float:
        return LEFT + (log10(size) - low) / span * (WIDTH - LEFT - RIGHT)

    def y(cost: float) -> float:
        return HEIGHT - BOTTOM - cost / top * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" style="{STYLE}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for number in range(6):
        height = y(number * step)
        parts.append(
            f'<path d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
            f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{number * step:g}</text>'
        )
    for size in sizes:
        parts.append(
            f'<text x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
            f"{size:,.0f}</text>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(below)}</text>')
    centre = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text transform="translate(16 {centre}) rotate(-90)" text-anchor="middle">'
        f"{escape(beside)}</text>"
    )
    for line, colour in zip(lines, COLOURS, strict=False):
        path = " ".join(f"{x(size):.1f},{y(cost):.1f}" for size, cost in line.points)
        last = y(line.points[-1][1])
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{WIDTH - RIGHT + 8}" y="{last + 4:.1f}" fill="{colour}">'
            f"{escape(line.name)}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def _step(most: float) -> float:
    """A round fifth of an axis that holds `most`."""
    rough = most * 1.05 / 5
    unit = 10.0 ** ceil(log10(rough) - 1)
    return float(ceil(rough / unit) * unit)
