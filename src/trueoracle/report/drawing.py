"""Vector pictures as text: scales with ticks, axes and marks. Colours and fonts are the page's, by class."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import ArrayLike, NDArray

# Points of one path are painted once where they overlap; many short paths let a dense cloud look dense.
_POINTS_A_PATH = 400


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A linear or logarithmic map of data from [`low`, `high`] to pixels from `start` to `end`; `whole` numbers have no
    ticks between them.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    @classmethod
    def around(cls, values: ArrayLike, start: float, end: float, *, log: bool = False, margin: float = 0.04) -> "Scale":
        """The scale that shows all finite `values`, with a margin on both sides."""
        finite = np.asarray(values, float).ravel()
        finite = finite[np.isfinite(finite) & ((finite > 0) | (not log))]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        if log:
            factor = (high / low) ** margin if high > low else 1.1
            return cls(low=low / factor, high=high * factor, start=start, end=end, log=True)
        pad = margin * (high - low) or margin * abs(high) or margin
        return cls(low=low - pad, high=high + pad, start=start, end=end)

    def __call__(self, values: ArrayLike) -> NDArray[np.float64]:
        """Pixels."""
        data, low, high = np.asarray(values, float), self.low, self.high
        if self.log:
            data, low, high = np.log(data), np.log(low), np.log(high)
        return np.asarray(self.start + (data - low) / (high - low) * (self.end - self.start))

    def at(self, value: float) -> float:
        """One pixel."""
        return float(self(value))

    def holds(self, value: float) -> bool:
        """Whether `value` lies on the scale."""
        return self.low <= value <= self.high

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers on the scale, about `most` of them."""
        linear = MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=self.whole)
        locator = LogLocator(subs=(1.0, 2.0, 5.0)) if self.log else linear
        return [float(tick) for tick in locator.tick_values(self.low, self.high) if self.holds(tick)]

    def labels(self, ticks: Sequence[float]) -> list[str]:
        """What stands at `ticks`: as many decimals as tell them apart."""
        if self.log:
            return [f"{tick:g}" for tick in ticks]
        step = min(np.diff(ticks), default=1.0)
        decimals = next((places for places in range(8) if abs(round(step, places) - step) < 1e-9), 8)
        return [f"{tick + 0.0:.{decimals}f}".replace("-", "−") for tick in ticks]  # noqa: RUF001 - a true minus


def picture(width: int, height: int, title: str, parts: Iterable[Markup], *, kind: str = "") -> Markup:
    """An SVG image of `parts`; `title` is what it says to those who do not see it."""
    body = Markup("").join(parts)
    return Markup('<svg class="picture {}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        kind, width, height, title, body
    )


def group(kind: str, parts: Iterable[Markup]) -> Markup:
    """Parts under one class."""
    return Markup('<g class="{}">{}</g>').format(kind, Markup("").join(parts))


def text(x: float, y: float, words: str, kind: str = "", *, anchor: str = "start") -> Markup:
    """Words at a point."""
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, _px(x), _px(y), anchor, words
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, *map(_px, (x1, y1, x2, y2)))


def box(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    """A rectangle."""
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        kind, *map(_px, (x, y, max(width, 0), max(height, 0)))
    )


def curve(x: NDArray[np.float64], y: NDArray[np.float64], kind: str) -> Markup:
    """A line through points in pixels."""
    return Markup('<path class="{}" d="{}"/>').format(kind, _through(x, y))


def band(x: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], kind: str) -> Markup:
    """The area between two lines over the same x, in pixels."""
    there, back = _through(x, low), _through(x[::-1], high[::-1]).replace("M", "L", 1)
    return Markup('<path class="{}" d="{}{}z"/>').format(kind, there, back)


def dots(x: NDArray[np.float64], y: NDArray[np.float64], kind: str) -> Markup:
    """A point each, as round ends of lines of no length: 14 bytes a point."""
    return _marks(x, y, "h0", kind)


def diamonds(x: NDArray[np.float64], y: NDArray[np.float64], kind: str, radius: float) -> Markup:
    """A diamond each."""
    r = _px(radius)
    return _marks(x, y - radius, f"l{r} {r}-{r} {r}-{r}-{r}z", kind)


def triangles(x: NDArray[np.float64], y: NDArray[np.float64], kind: str, radius: float) -> Markup:
    """A triangle each, its tip above."""
    r = _px(radius)
    return _marks(x, y - radius, f"l{r} {_px(1.8 * radius)}h-{_px(2 * radius)}z", kind)


def shade(x: float, y: float, width: float, height: float, depth: float) -> Markup:
    """A rectangle whose colour is as deep as `depth` in (0, 1] says, and can be seen however little that is."""
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" fill-opacity="{}"/>').format(
        *map(_px, (x, y, width, height)), f"{0.15 + 0.85 * depth:.2f}"
    )


def density(x: NDArray[np.float64], y: NDArray[np.float64], kind: str, side: float) -> Markup:
    """A square of so many pixels wherever there are points, the deeper the more: opacity goes with the root of their number."""
    (across, down), counts = np.unique(np.floor(np.stack([x, y]) / side), axis=1, return_counts=True)
    depth = np.sqrt(counts / max(counts.max(initial=1), 1))
    squares = (
        shade(a * side, b * side, side, side, deep)
        for a, b, deep in zip(across.tolist(), down.tolist(), depth.tolist(), strict=True)
    )
    return Markup('<g class="{}">{}</g>').format(kind, Markup("").join(squares))


def star(x: float, y: float, radius: float, kind: str) -> Markup:
    """A star of five points."""
    angles = np.pi * np.arange(10) / 5
    radii = np.where(np.arange(10) % 2, 0.42, 1.0) * radius
    return Markup('<path class="{}" d="{}z"/>').format(
        kind, _through(x + radii * np.sin(angles), y - radii * np.cos(angles))
    )


def bottom_axis(scale: Scale, y: float, title: str, top: float | None = None, most: int = 6) -> Markup:
    """An axis along the bottom at pixel `y`, with grid lines up to pixel `top`."""
    ticks = scale.ticks(most)
    parts = [line(scale.start, y, scale.end, y, "axis")]
    for tick, label in zip(ticks, scale.labels(ticks), strict=True):
        x = scale.at(tick)
        if top is not None:
            parts.append(line(x, y, x, top, "gridline"))
        parts.append(text(x, y + 19, label, "tick", anchor="middle"))
    parts.append(text((scale.start + scale.end) / 2, y + 42, title, "title", anchor="middle"))
    return group("axes", parts)


def left_axis(scale: Scale, x: float, title: str, right: float, most: int = 6, rise: float = 13) -> Markup:
    """An axis along the left at pixel `x`, with grid lines up to pixel `right`; its title stands `rise` pixels above it.

    The title does not read upwards: so it has room where the picture is small and its words are large.
    """
    ticks = scale.ticks(most)
    parts = [line(x, scale.start, x, scale.end, "axis")]
    for tick, label in zip(ticks, scale.labels(ticks), strict=True):
        y = scale.at(tick)
        parts += [line(x, y, right, y, "gridline"), text(x - 7, y + 4, label, "tick", anchor="end")]
    parts.append(text(x, scale.end - rise, title, "title"))
    return group("axes", parts)


def _marks(x: NDArray[np.float64], y: NDArray[np.float64], mark: str, kind: str) -> Markup:
    places = [f"M{_px(a)} {_px(b)}{mark}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    paths = ("".join(places[i : i + _POINTS_A_PATH]) for i in range(0, len(places), _POINTS_A_PATH))
    return Markup('<g class="{}">{}</g>').format(
        kind, Markup("").join(Markup('<path d="{}"/>').format(d) for d in paths)
    )


def _through(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """The path through the points, broken where one is not finite."""
    steps, pen_up = [], True
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if not np.isfinite(a) or not np.isfinite(b):
            pen_up = True
            continue
        steps.append(f"{'M' if pen_up else 'L'}{_px(a)} {_px(b)}")
        pen_up = False
    return "".join(steps) + "h0" * (len(steps) == 1)


def _px(value: float) -> str:
    """A tenth of a pixel is as fine as anybody sees."""
    return f"{value:.1f}".removesuffix(".0")
