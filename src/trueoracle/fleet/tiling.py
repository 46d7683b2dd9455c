"""How a table of sums is cut into tiles that fit the registers of a CPU."""

from dataclasses import dataclass
from itertools import product

from trueoracle.lanes import LANES, Target

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


def tiles(
    target: Target, rows: int, columns: int, width: int = 1, *, scalars: bool = False, streamed: bool = True
) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The cheapest cuts of `rows` and of `columns`, each column being `width` vectors, that the registers can hold.

    The vector of each row (a weight) is read once a tile, from the second-level cache if `streamed`; with `scalars`
    a column is one number for all lanes.
    """
    table = _Table(target=target, scalars=scalars, streamed=streamed)
    choices = product(range(1, rows + 1), range(1, columns + 1))
    cuts = [(cut(rows, a), cut(columns, b)) for a, b in choices]
    fitting = [(r, c) for r, c in cuts if table.registers(r[0].size, c[0].size * width) <= target.registers]
    return min(fitting or [cuts[-1]], key=lambda cuts: table.cycles(cuts[0], cuts[1], width))


def taps_at_once(target: Target, taps: int) -> list[range]:
    """The fewest near-equal parts of `taps` sums that each choose one of four numbers by lane, as `select_tile` does.

    Beside the sums: gradient and index in all their parts, what is chosen from and the choice.
    """
    parts = LANES // target.numbers
    others = 2 * parts + 2
    most = max(1, (target.registers - others) // parts)
    return [range(a, a + run.size) for run in cut(taps, -(-taps // most)) for a in range(run.first, run.end, run.size)]


@dataclass(frozen=True, kw_only=True)
class _Table:
    """What a table of sums costs on a target."""

    target: Target
    scalars: bool
    streamed: bool

    @property
    def _parts(self) -> int:
        return LANES // self.target.numbers

    def registers(self, rows: int, columns: int) -> int:
        """Sums in all their parts, the rows' factors, and a column's: of one part at a time, or a scalar for all."""
        return self._parts * rows * columns + rows * (self._parts if self.scalars else 1) + 1

    def cycles(self, rows: tuple[Run, ...], columns: tuple[Run, ...], width: int) -> float:
        """Of all tiles."""
        return sum(
            (r.end - r.first) // r.size * ((c.end - c.first) // c.size) * self._tile_cycles(r.size, c.size * width)
            for r, c in product(rows, columns)
        )

    def _tile_cycles(self, rows: int, columns: int) -> float:
        """Two multiply-adds or two reads a cycle; a sum waits four cycles for its last term; a loop costs one."""
        reads = self._parts * rows + columns * (1 if self.scalars else self._parts)
        streaming = rows * _CYCLES_A_STREAMED_VECTOR if self.streamed else 0.0
        return 0.5 + max(self._parts * rows * columns / 2, reads / 2, 4.0, streaming)
