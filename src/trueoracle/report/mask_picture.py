"""A mask drawn on its network: a line a layer, a square a unit, hollow where the unit is pruned; of weights a bar a layer."""

import re
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from trueoracle.report import drawing

WIDTH = 400
_SIDE, _GAP, _ACROSS = 13, 3, 25  # of a square, and how many stand in a line
_MOST_UNITS = 2_000  # squares of a whole picture; beyond, a site is a bar
_MOST_LAYERS = 40


def mask_picture(
    what: str,
    layers: Mapping[str, Sequence[int]],
    sites: Mapping[str, tuple[int, int]],
    pruned: Mapping[str, Sequence[int]],
) -> Markup:
    """The mask called `what`, on a network whose weights have the shapes `layers`.

    `sites` says of each site how many units it has and keeps, `pruned` which ones go. Layers that are no sites are named
    with how many outputs they have. Names stand in order of their text and numbers: a store knows no other order.
    """
    each = sum(units for units, _ in sites.values()) <= _MOST_UNITS
    return _drawn(_words(what, sites, pruned), layers, sites, pruned, each=each)


def weights_picture(what: str, layers: Mapping[str, Sequence[int]], weights: Mapping[str, tuple[int, int]]) -> Markup:
    """The same of a mask of weights: `weights` says of each layer how many it has and keeps, and a bar shows the share."""
    kept = ", ".join(f"{layer} keeps {kept:,} of {n:,} weights" for layer, (n, kept) in weights.items())
    return _drawn(f"{what} drawn on its network: {kept}.", layers, weights, {}, each=False)


def _drawn(
    words: str,
    layers: Mapping[str, Sequence[int]],
    sites: Mapping[str, tuple[int, int]],
    pruned: Mapping[str, Sequence[int]],
    *,
    each: bool,
) -> Markup:
    """A square `each` unit, or a bar a site."""
    others = _others(layers, sites)
    left_out = max(0, len(others) - _MOST_LAYERS)
    names = sorted([*sites, *list(others)[:_MOST_LAYERS]], key=_by_number)
    parts, y = [], 4.0
    for name in names:
        if name in sites:
            drawn, y = _site(name, *sites[name], pruned.get(name, ()), y, each=each)
        else:
            drawn, y = [drawing.text(0, y + 12, f"{name}: {others[name]:,}", "tick")], y + 22
        parts += drawn
    if left_out:
        parts.append(drawing.text(0, y + 12, f"and {left_out:,} more layers", "tick"))
        y += 22
    return drawing.picture(WIDTH, int(y) + 4, words, parts, kind="mask")


def _others(layers: Mapping[str, Sequence[int]], sites: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Layer -> its outputs, of those with a matrix or more of weights that belong to no site."""
    found = {}
    for name, shape in sorted(layers.items(), key=lambda layer: _by_number(layer[0])):
        layer = name.removesuffix(".weight")
        if (
            name.endswith(".weight")
            and len(shape) > 1
            and not any(layer == site or layer.startswith(f"{site}.") for site in sites)
        ):
            found[layer] = shape[0]
    return found


def _site(
    name: str, units: int, kept: int, pruned: Sequence[int], y: float, *, each: bool
) -> tuple[list[Markup], float]:
    parts = [drawing.text(0, y + 12, f"{name}: {kept:,} of {units:,} kept", "title")]
    y += 18
    if not each:
        share = (WIDTH - 2) * kept / units
        bars = [drawing.box(0, y, share, _SIDE, "kept"), drawing.box(share, y, WIDTH - 2 - share, _SIDE, "pruned")]
        return [*parts, *bars], y + _SIDE + 12
    gone = frozenset(pruned)
    step = _SIDE + _GAP
    for kind, chosen in (("kept", set(range(units)) - gone), ("pruned", gone)):
        parts.append(drawing.group(kind, _squares(chosen, y, step)))
    return parts, y + step * -(-units // _ACROSS) + 10


def _squares(units: Iterable[int], y: float, step: int) -> list[Markup]:
    return [
        drawing.box(1 + step * (unit % _ACROSS), y + step * (unit // _ACROSS), _SIDE, _SIDE, "unit")
        for unit in sorted(units)
    ]


def _words(what: str, sites: Mapping[str, tuple[int, int]], pruned: Mapping[str, Sequence[int]]) -> str:
    """The picture in words."""
    gone = "; ".join(f"{site} without {', '.join(map(str, units))}" for site, units in pruned.items())
    kept = ", ".join(f"{site} keeps {kept} of {units} units" for site, (units, kept) in sites.items())
    return f"{what} drawn on its network: {gone if len(gone) < 600 else kept}."


def _by_number(name: str) -> list[tuple[int, str]]:
    """`layer2` stands before `layer10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
