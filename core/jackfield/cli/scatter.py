"""A scatter plot of a few named points as an SVG text, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 400, 90, 50  # pixels
_MARGIN = 0.08  # of an axis, beside its outermost points


def scatter(points: Sequence[tuple[str, float, float]], x_label: str, y_label: str) -> str:
    """Points (name, x, y), all positive, at least one."""
    across = _Axis([x for _, x, _ in points], _LEFT, _WIDTH - 80)
    up = _Axis([y for _, _, y in points], _HEIGHT - _BOTTOM, 20)
    marks = [_mark(name, across.place(x), up.place(y)) for name, x, y in points]
    ticks = [*(_tick(across.place(x), None, x) for x in across.ends), *(_tick(None, up.place(y), y) for y in up.ends)]
    frame = f'<path d="M{_LEFT} 20V{_HEIGHT - _BOTTOM}H{_WIDTH - 80}" fill="none" stroke="#444"/>'
    labels = [
        f'<text x="{(_LEFT + _WIDTH - 80) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(18 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"'
    return "\n".join([f'{head} font-size="13">', frame, *labels, *ticks, *marks, "</svg>", ""])


class _Axis:
    """Places values between two pixels by their logarithms; `ends` are the least and the greatest."""

    def __init__(self, values: Sequence[float], first: float, last: float) -> None:
        self.ends = sorted({min(values), max(values)})
        low, high = math.log(self.ends[0]), math.log(self.ends[-1])
        spare = _MARGIN * (high - low) or 1.0
        self._low, self._size = low - spare, high - low + 2 * spare
        self._first, self._last = first, last

    def place(self, value: float) -> float:
        share = (math.log(value) - self._low) / self._size
        return round(self._first + share * (self._last - self._first), 1)


def _mark(name: str, x: float, y: float) -> str:
    return f'<circle cx="{x}" cy="{y}" r="5" fill="#1f6feb"/><text x="{x + 9}" y="{y + 4}">{escape(name)}</text>'


def _tick(x: float | None, y: float | None, value: float) -> str:
    if x is not None:
        return f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{value:,.0f}</text>'
    return f'<text x="{_LEFT - 8}" y="{(y or 0) + 4}" text-anchor="end">{value:,.0f}</text>'
