"""Charts as plain inline SVG: nothing to load, colours from the page's own style."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 340, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 36

Points = Sequence[tuple[float, float]]


def line_chart(
    series: Mapping[str, Points],
    *,
    title: str,
    x_label: str,
    marked: float | None = None,
    ends: tuple[float, float] | None = None,
) -> str:
    """Return a chart of one line with dots a series.

    Args:
        series: name to its points; the first three take the page's three colours.
        title: what the chart shows, for people who cannot see it.
        x_label: of the horizontal axis.
        marked: where on it an upright line stands.
        ends: of both axes, with a diagonal between them; the range of the points if not given.
    """
    points = [point for line in series.values() for point in line if all(map(math.isfinite, point))]
    if not points:
        return ""
    x_ends = ends or (min(x for x, _ in points), max(x for x, _ in points))
    y_ends = ends or (min(0.0, *(y for _, y in points)), max(y for _, y in points))
    if min(y for _, y in points) > 0.5 * y_ends[1] and not ends:
        y_ends = (min(y for _, y in points), y_ends[1])
    y_ticks = ticks(*y_ends)
    y_ends = (min(y_ends[0], y_ticks[0]), max(y_ends[1], y_ticks[-1]))
    whole = not ends and all(float(x).is_integer() for x, _ in points)
    x_ticks = [x for x in ticks(*x_ends, whole=whole) if x_ends[0] <= x <= x_ends[1]]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ends[0]) / ((x_ends[1] - x_ends[0]) or 1.0)
        up = (y - y_ends[0]) / ((y_ends[1] - y_ends[0]) or 1.0)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = []
    for value in y_ticks:
        _, y = place(x_ends[0], value)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, "grid"))
        parts.append(_text(LEFT - 6, y + 4, f"{value:g}", "end"))
    for value in x_ticks:
        x, _ = place(value, y_ends[0])
        parts.append(_text(x, HEIGHT - BOTTOM + 16, f"{value:g}", "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_label, "middle"))
    parts.append(_line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"))
    if ends:
        parts.append(_line(*place(ends[0], ends[0]), *place(ends[1], ends[1]), "marked"))
    if marked is not None:
        x, _ = place(marked, y_ends[0])
        parts.append(_line(x, TOP, x, HEIGHT - BOTTOM, "marked"))
    for number, line in enumerate(series.values(), 1):
        places = [place(x, y) for x, y in line if math.isfinite(x) and math.isfinite(y)]
        shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="series{number}" points="{shown}"/>')
        parts += [f'<circle class="dot{number}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in places]
    legend = ""
    if len(series) > 1:
        names = "".join(f'<span class="key key{i}">{escape(name)}</span>' for i, name in enumerate(series, 1))
        legend = f'<div class="legend">{names}</div>'
    return (
        f'<figure><figcaption>{escape(title)}</figcaption>{legend}<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


def interval_bar(value: float, low: float, high: float, largest: float, series: int = 1) -> str:
    """Return a bar of `value` with a whisker from `low` to `high`, on an axis from 0 to `largest`.

    The bar has the colour of the series `series`, 1 or 2.
    """
    scale = 100.0 / (largest or 1.0)
    return (
        '<svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="fill{series}" x="0" y="2" width="{value * scale:.2f}" height="8"/>'
        f'<line class="whisker" x1="{low * scale:.2f}" y1="6" x2="{high * scale:.2f}" y2="6"/></svg>'
    )


def ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Return three to seven round numbers from about `low` to `high`.

    >>> ticks(0.0, 0.083)
    [0.0, 0.02, 0.04, 0.06, 0.08, 0.1]
    >>> ticks(1, 4, whole=True)
    [1.0, 2.0, 3.0, 4.0]
    """
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / 5))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5.0001)
    if whole:
        step = max(1.0, step)
        first, last = math.ceil(low / step), math.floor(high / step)
    else:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 10) for i in range(first, last + 1)]


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
