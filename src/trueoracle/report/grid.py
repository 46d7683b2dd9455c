"""The paper's arrangement of cells: a row a set of sites, a column a ratio."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trueoracle.report.findings import CellFindings


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The cells of base network `base` by (sites, ratio); rows in order of appearance, columns by rising ratio."""

    base: int
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], CellFindings]


def grids(cells: Sequence[CellFindings]) -> list[Grid]:
    """One grid a base network."""
    return [_grid(base, [c for c in cells if c.record.base == base]) for base in sorted({c.record.base for c in cells})]


def _grid(base: int, cells: Sequence[CellFindings]) -> Grid:
    ratios = {cell.ratio for cell in cells}
    return Grid(
        base=base,
        rows=tuple(dict.fromkeys(cell.sites for cell in cells)),
        columns=tuple(sorted(ratios, key=lambda ratio: (ratio.count("+"), ratio))),
        cells={(cell.sites, cell.ratio): cell for cell in cells},
    )
