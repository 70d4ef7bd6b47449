"""Line charts as inline SVG: drawn without a library, read without a script."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 225
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 30, 34
#: Places on the x-axis that are drawn and answer to the mouse.
MOST = 200


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: in the legend.
        points: (x, y).
        style: class of the style sheet, "a" to "h".
    """

    label: str
    points: Sequence[tuple[float, float]]
    style: str


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str = "epoch",
    mark: tuple[float, float] | None = None,
    square: bool = False,
    legend: bool = True,
) -> Markup:
    """A line chart whose values appear where the mouse is.

    Args:
        title: above it, and its name for a screen reader.
        lines: at least one with a point.
        x_label: below it; as "epoch", the x-axis has whole numbers only.
        mark: a point to be circled.
        square: both axes go from 0 to 1, with the diagonal.
        legend: name the lines beside the title, if there are several.
    """
    lines = [line for line in lines if line.points]
    xs = sorted({x for line in lines for x, _ in line.points})
    keep = set(_thin(xs, MOST))
    if mark is not None:
        keep.add(mark[0])
    drawn = [Line(line.label, [p for p in line.points if p[0] in keep], line.style) for line in lines]
    if square:
        x_low, x_high, y_low, y_high = 0.0, 1.0, 0.0, 1.0
    else:
        values = [y for line in lines for _, y in line.points]
        y_low, y_high = _range(min(values), max(values))
        x_low, x_high = (xs[0] - 1, xs[0] + 1) if len(xs) == 1 else (xs[0], xs[-1])

    def px(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><desc>{escape(_describe(drawn, x_label))}</desc>",
        f'<text class="head" x="{LEFT}" y="17">{escape(title)}</text>',
    ]
    for y in ticks(y_low, y_high, 5):
        parts.append(f'<path class="grid" d="M{LEFT} {py(y):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 7}" y="{py(y) + 4:.1f}">{_short(y)}</text>')
    for x in ticks(x_low, x_high, 5):
        if x_label == "epoch" and (x != round(x) or x < xs[0] or x > xs[-1]):
            continue
        parts.append(f'<text class="tick mid" x="{px(x):.1f}" y="{HEIGHT - BOTTOM + 16}">{_short(x)}</text>')
    parts.append(f'<text class="tick mid" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 3}">{escape(x_label)}</text>')
    if square:
        parts.append(f'<path class="diagonal" d="M{px(0):.1f} {py(0):.1f}L{px(1):.1f} {py(1):.1f}"/>')
    for line in drawn:
        path = "L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in line.points)
        parts.append(f'<path class="line {line.style}" d="M{path}"/>')
        if len(line.points) <= 30:
            parts += [f'<circle class="dot {line.style}" cx="{px(x):.1f}" cy="{py(y):.1f}" r="3"/>'
                      for x, y in line.points]  # fmt: skip
    if mark is not None:
        parts.append(f'<circle class="mark" cx="{px(mark[0]):.1f}" cy="{py(mark[1]):.1f}" r="6.5"/>')
    parts += _legend(drawn) if legend else []
    places = sorted(keep)
    edges = [LEFT, *((px(a) + px(b)) / 2 for a, b in itertools.pairwise(places)), WIDTH - RIGHT]
    for x, (left, right) in zip(places, itertools.pairwise(edges), strict=True):
        parts.append(_tip(x, left, right, px(x), [(line, dict(line.points).get(x)) for line in drawn], x_label))
    return Markup("".join(parts) + "</svg>")


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two others, at most about so many."""
    step = (high - low) / most
    size = 10 ** math.floor(math.log10(step))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= step * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def thinned(count: int) -> int:
    """Of how many epochs one is drawn."""
    return max(1, math.ceil(count / MOST))


def _thin(xs: Sequence[float], most: int) -> list[float]:
    """Every n-th, counted back from the last, so that at most about `most` are left; the first stays."""
    every = max(1, math.ceil(len(xs) / most))
    return [*xs[:1], *xs[len(xs) - 1 :: -every]]


def _range(low: float, high: float) -> tuple[float, float]:
    """A little more than from `low` to `high`."""
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    below = low - room
    return (0.0 if low >= 0 > below else below), high + room


def _legend(lines: Sequence[Line]) -> list[str]:
    """Names of the lines, from right to left beside the title."""
    parts, right = [], float(WIDTH - RIGHT)
    for line in reversed(lines if len(lines) > 1 else []):
        parts.append(f'<text class="tick end" x="{right:.0f}" y="17">{escape(line.label)}</text>')
        right -= 6.1 * len(line.label) + 6
        parts.append(f'<path class="line {line.style}" d="M{right - 16:.0f} 13h16"/>')
        right -= 28
    return parts


def _tip(
    x: float, left: float, right: float, at: float, values: Sequence[tuple[Line, float | None]], x_label: str
) -> str:
    """What is shown while the mouse is between `left` and `right`."""
    rows = [f"{x_label} {_short(x)}", *(f"{line.label}: {_value(y)}" for line, y in values if y is not None)]
    width = 6.4 * max(map(len, rows)) + 14
    box = at + 8 if at + 8 + width < WIDTH else at - 8 - width
    text = "".join(
        f'<tspan x="{box + 7:.1f}" y="{TOP + 18 + 15 * n}">{escape(row)}</tspan>' for n, row in enumerate(rows)
    )
    return (
        f'<g class="at"><rect x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{HEIGHT - TOP - BOTTOM}"/>'
        f'<g class="tip"><path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        f'<rect x="{box:.1f}" y="{TOP + 2}" width="{width:.1f}" height="{15 * len(rows) + 9}" rx="4"/>'
        f"<text>{text}</text></g></g>"
    )


def _describe(lines: Sequence[Line], x_label: str) -> str:
    return "; ".join(
        f"{line.label}: {_value(line.points[0][1])} at {x_label} {_short(line.points[0][0])}, "
        f"{_value(line.points[-1][1])} at {x_label} {_short(line.points[-1][0])}, "
        f"lowest {_value(min(y for _, y in line.points))}, highest {_value(max(y for _, y in line.points))}"
        for line in lines
    )


def _short(value: float) -> str:
    """A tick: 0.002, 7.5e-4, 1000."""
    if value and abs(value) < 0.001:
        digits, _, power = f"{value:e}".partition("e")
        return f"{float(digits):.4g}e{int(power)}"
    return f"{value:.6g}"


def _value(value: float) -> str:
    """A value under the mouse."""
    if value and abs(value) < 0.001:
        digits, _, power = f"{value:.2e}".partition("e")
        return f"{digits}e{int(power)}"
    return f"{value:.4f}"
