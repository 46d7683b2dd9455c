"""What a mask of one site adds up for the layer that follows: rows, sets of rows in tables, and which of them.

A row is one unit's contribution to the consumer's pre-activation. Aligned, unit u meets its own input channel.
Released, the consumer keeps the channels of the site's L1 mask, so the p-th kept unit meets the p-th of those: a
row is then a pair (u, p). All masks of a site share the sums over parts of its units, kept in a table, so that a
mask is one addition for each part but the first.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
# Tables of 2^6 sums for each part fit the caches; two parts of at most 6 are one addition a mask.
_MOST_IN_A_PART = 6


@dataclass(frozen=True, kw_only=True)
class SiteRows:
    """The rows of a site: row r is unit `unit_R[r]` through the consumer's input channel `channel_R[r]`."""

    units: int
    kept: int
    unit_R: Indices
    channel_R: Indices
    row_of: dict[tuple[int, int], int]

    def of(self, kept: tuple[int, ...]) -> list[int]:
        """The rows of a mask that keeps these units (rising)."""
        return [self.row_of[unit, place] for place, unit in enumerate(kept)]


def site_rows(units: int, kept: int, l1_kept: tuple[int, ...] | None) -> SiteRows:
    """The rows for masks that keep `kept` of `units`; `l1_kept` is the L1 mask's, or None where removal is aligned."""
    pairs = [(u, p) for u in range(units) for p in range(kept) if p <= u <= units - kept + p]
    if l1_kept is None:
        row_of = {(u, p): u for u, p in pairs}
        return SiteRows(units=units, kept=kept, unit_R=np.arange(units), channel_R=np.arange(units), row_of=row_of)
    return SiteRows(
        units=units,
        kept=kept,
        unit_R=np.array([u for u, _ in pairs]),
        channel_R=np.array([l1_kept[p] for _, p in pairs]),
        row_of={pair: row for row, pair in enumerate(pairs)},
    )


@dataclass(frozen=True, kw_only=True)
class Tables:
    """How to build a table of sums of rows, and which entries make which mask.

    Entry 0 is zero, entry 1 the consumer's bias. In turn, entry `step_T3[t, 0]` is entry `step_T3[t, 1]` plus row
    `step_T3[t, 2]`. Mask m is the sum of the entries `entry_MP[m]`, one for each part of the units.
    """

    entries: int
    step_T3: Indices
    entry_MP: Indices

    @property
    def parts(self) -> int:
        return int(self.entry_MP.shape[1])


def parts_of(units: int) -> int:
    """Into how many parts a site's units are cut: at least two."""
    return max(2, -(-units // _MOST_IN_A_PART))


def tables(rows: SiteRows, kept_M: list[tuple[int, ...]]) -> Tables:
    """Tables for these masks of a site, with no entry that none of them needs."""
    parts = parts_of(rows.units)
    borders = [rows.units * part // parts for part in range(parts + 1)]
    entry_of: dict[tuple[int, ...], int] = {}
    steps: list[tuple[int, int, int]] = []

    def entry(base: int, row_list: tuple[int, ...]) -> int:
        if not row_list:
            return base
        key = (base, *row_list)
        if key not in entry_of:
            before = entry(base, row_list[:-1])
            entry_of[key] = len(entry_of) + 2
            steps.append((entry_of[key], before, row_list[-1]))
        return entry_of[key]

    entry_MP = np.empty((len(kept_M), parts), dtype=np.int64)
    for m, kept in enumerate(kept_M):
        mask_rows = rows.of(kept)
        at = 0
        for part in range(parts):
            end = at
            while end < len(kept) and kept[end] < borders[part + 1]:
                end += 1
            entry_MP[m, part] = entry(int(part == parts - 1), tuple(mask_rows[at:end]))
            at = end
    step_T3 = np.array(steps, dtype=np.int64).reshape(-1, 3)
    return Tables(entries=len(entry_of) + 2, step_T3=step_T3, entry_MP=entry_MP)
