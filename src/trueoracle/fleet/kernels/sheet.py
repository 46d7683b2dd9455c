"""The text of one function and of the module that it is part of, while they are written."""

from dataclasses import dataclass, field
from math import prod

from trueoracle.fleet.chain import Pool, Product, Stage
from trueoracle.fleet.kernels.layout import Layout, padded
from trueoracle.fleet.tiling import Run
from trueoracle.lanes import LANES, Target

_NO_SUMS = ("route_tile", "four_tile")
ARGUMENTS = "images, marks, w, g, s, t, sample"
KINDS = "float32[::1], uint8[::1], float32[::1], float32[::1], float32[::1], int32[::1], int64"


@dataclass
class Lines:
    """Text of one function, with its depth of indentation, and the tiles that it calls."""

    depth: int = 1
    lines: list[str] = field(default_factory=list)

    def put(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def loop(self, name: str, run: Run) -> None:
        """Open a loop over the starts of tiles."""
        self.put(f"for {name} in range({run.first}, {run.end}, {run.size}):")
        self.depth += 1


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A module for one layout and target. `tiles` has the tiles that its functions call, by what makes them."""

    layout: Layout
    target: Target
    tiles: dict[str, str] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """From image to logits."""
        return self.layout.chain.stages

    @property
    def selects(self) -> bool:
        """Whether the first stage's weight gradient chooses, of a window's four positions, the one that pooling picked."""
        return self.target.permutes and self.layout.selects

    @property
    def trained(self) -> int:
        """The first stage with weights: no gradient goes further back."""
        return min(n for n, stage in enumerate(self.stages) if isinstance(stage, Product))

    def tile(self, call: str) -> str:
        """The name of the tile that `call` makes; one that holds sums is told how many numbers a register takes."""
        if not call.startswith(_NO_SUMS):
            call = call.replace("(", f"({self.target.numbers}, ", 1)
        return self.tiles.setdefault(call, f"tile_{len(self.tiles)}")

    def reads(self, n: int) -> tuple[str, str, int]:
        """Array and place that stage n reads, and how many numbers there are to a pixel."""
        if n == 0 and self.layout.shared:
            return "images", f"sample * {self.layout.size}", 1
        return "s", str(self.layout.entries[n]), LANES

    def writes(self, n: int) -> tuple[int, int, int]:
        """Place, vectors a channel and vectors a row of what stage n writes: the next one's entry, inside its zeros."""
        if n + 1 == len(self.stages):
            return self.layout.entries[-1], 1, 1
        later = self.stages[n + 1]
        if later.entry != self.stages[n].exit:  # flattened in between: the numbers follow one another all the same
            _, height, width = self.stages[n].exit
            return self.layout.entries[n + 1], height * width, width
        down, across = later.padding if isinstance(later, Product) else (0, 0)
        _, height, width = padded(later)
        return self.layout.entries[n + 1] + (down * width + across) * LANES, height * width, width

    def routes(self, n: int, stage: Product) -> bool:
        """Whether the gradient of the sums differs from that of the stage's exit."""
        return not (self.selects and n == 0) and (stage.relu or prod(stage.window) > 1)


def function(name: str, text: Lines) -> str:
    """A kernel of this name."""
    head = f'@njit("void({KINDS})", nogil=True, cache=True)\ndef {name}({ARGUMENTS}):\n'
    return head + "\n".join(text.lines) + "\n"


def pool_loops(stage: Pool) -> Lines:
    """Loops over the cells of a pooling and, as `rows` and `columns`, over each one's window."""
    text = Lines()
    channels, down, across = stage.exit
    text.loop("c", Run(first=0, end=channels, size=1))
    text.loop("y", Run(first=0, end=down, size=1))
    text.loop("x", Run(first=0, end=across, size=1))
    text.put(f"cell = ((c * {down} + y) * {across} + x) * {LANES}")
    text.put(f"top = y * {stage.stride[0]} - {stage.padding[0]}")
    text.put(f"left = x * {stage.stride[1]} - {stage.padding[1]}")
    text.put(f"rows = range(max(top, 0), min(top + {stage.kernel[0]}, {stage.entry[1]}))")
    text.put(f"columns = range(max(left, 0), min(left + {stage.kernel[1]}, {stage.entry[2]}))")
    if stage.mean:
        area = str(prod(stage.kernel)) if stage.whole else "(len(rows) * len(columns))"
        text.put(f"share = lift(1.0 / {area})")
    return text


def cleared(place: int, size: int) -> str:
    """Scratch set to zero; a loop, for Numba takes seconds to compile an assignment to a slice."""
    return f"    for k in range({place}, {place + size}):\n        s[k] = 0.0\n"


def renamed(text: Lines) -> Lines:
    """Sums of different lengths are of different types, so each tile's get a name of their own."""
    lines, number = [], 0
    for line in text.lines:
        if line.lstrip().startswith("sums = ") and "(sums," not in line:
            number += 1
        lines.append(line.replace("sums", f"sums_{number}"))
    return Lines(lines=lines)
