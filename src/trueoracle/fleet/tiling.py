"""How a table of sums is cut into tiles that fit the registers of a CPU."""

from dataclasses import dataclass
from itertools import product

REGISTERS = 32
# Measured: what a core's second-level cache gives, in cycles a vector, where a first-level one gives two a cycle.
_CYCLES_A_STREAMED_VECTOR = 2.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """Tiles of one size side by side: they begin at `first`, `first + size`, ... up to `end`."""

    first: int
    end: int
    size: int


def cut(length: int, parts: int) -> tuple[Run, ...]:
    """`length` in `parts` near-equal tiles: at most two runs, the larger tiles first."""
    size, larger = divmod(length, parts)
    border = larger * (size + 1)
    runs = (Run(first=0, end=border, size=size + 1), Run(first=border, end=length, size=size))
    return tuple(run for run in runs if run.end > run.first)


def tiles(rows: int, columns: int, width: int = 1, *, streamed: bool = True) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The cheapest cuts of `rows` and of `columns`, each column being `width` vectors.

    The vector of each row (a weight) is read once a tile, from the second-level cache if `streamed`.
    """
    choices = product(range(1, rows + 1), range(1, columns + 1))
    cuts = [(cut(rows, a), cut(columns, b)) for a, b in choices]
    fitting = [(r, c) for r, c in cuts if _registers(r[0].size, c[0].size * width) <= REGISTERS]
    return min(fitting or [cuts[-1]], key=lambda cuts: _cycles(cuts[0], cuts[1], width, streamed))


def _registers(rows: int, columns: int) -> int:
    return rows * columns + rows + 1


def _cycles(rows: tuple[Run, ...], columns: tuple[Run, ...], width: int, streamed: bool) -> float:
    return sum(
        (r.end - r.first) // r.size * ((c.end - c.first) // c.size) * _tile_cycles(r.size, c.size * width, streamed)
        for r, c in product(rows, columns)
    )


def _tile_cycles(rows: int, columns: int, streamed: bool) -> float:
    """Two multiply-adds or two reads a cycle; a sum waits four cycles for its last term; a loop costs one."""
    reading = rows * _CYCLES_A_STREAMED_VECTOR if streamed else 0.0
    return 0.5 + max(rows * columns / 2, (rows + columns) / 2, 4.0, reading)
