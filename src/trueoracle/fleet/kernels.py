"""The source of the kernels that train one chain in lanes: forward, loss, backward, all for one sample at a time.

All arrays but the images end in an axis of 16 lanes. In a fleet a lane is a network and an image is one number a
pixel for all of them; with `lone`, a lane is a sample, sixteen of one network at a time. The kernels address flat
arrays: `w` weights and `g` their gradients, in the order of the network's own parameters; `s` and `t` floats and
integers of scratch, laid out here.

Letters: o outputs, i inputs, y x rows and columns of windows, p q of a kernel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

from trueoracle.fleet.chain import Chain, Pair, Pool, Product, Relu, Size, Stage
from trueoracle.fleet.tiling import Run, tiles
from trueoracle.lanes import LANES

_ARGUMENTS = "images, marks, w, g, s, t, sample"
_KINDS = "float32[::1], uint8[::1], float32[::1], float32[::1], float32[::1], int32[::1], int64"
_IMPORTS = """\
from trueoracle.lanes.tiles import (
    add_tile, as_index, divide, equals, multiply_tile, pool_tile, route_tile, select_tile, start_tile, store_tile, zero_tile,
)
"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where things lie, in elements, and how much scratch there is; -1 where there is no such thing."""

    chain: Chain
    lone: bool
    weights: dict[str, int]
    entries: tuple[int, ...]
    gradients: tuple[int, ...]
    indices: tuple[int, ...]
    routed: int
    fours: int
    blank: int
    blank_index: int
    blank_gradient: int
    active: int
    labels: int
    shares: int
    floats: int
    integers: int

    @property
    def shared(self) -> bool:
        """Whether the first stage reads the image as one number for all lanes."""
        return not self.lone and isinstance(self.chain.stages[0], Product)

    @property
    def skips(self) -> bool:
        """Whether the first stage leaves out windows that are all background."""
        first = self.chain.stages[0]
        return self.shared and isinstance(first, Product) and prod(first.window) > 1

    @property
    def size(self) -> int:
        """Numbers in an image with its padding."""
        return prod(padded(self.chain.stages[0]))


def padded(stage: Stage) -> Size:
    """The size of what a stage reads, with the zeros around it."""
    channels, height, width = stage.entry
    down, across = stage.padding if isinstance(stage, Product) else (0, 0)
    return channels, height + 2 * down, width + 2 * across


def lay_out(chain: Chain, sizes: dict[str, int], *, lone: bool) -> Layout:
    """The layout for parameters of these `sizes`, by name in the network's order."""
    weights, numbers = {}, _Counter()
    for name, size in sizes.items():
        weights[name] = numbers.take(size)
    floats, integers = _Counter(), _Counter()
    stages = chain.stages
    first = stages[0]
    shared = not lone and isinstance(first, Product)
    products = [stage for stage in stages if isinstance(stage, Product)]
    entries = [-1 if shared and n == 0 else floats.take(prod(padded(stage))) for n, stage in enumerate(stages)]
    return Layout(
        chain=chain,
        lone=lone,
        weights=weights,
        entries=(*entries, floats.take(chain.classes)),
        gradients=tuple(floats.take(prod(stage.exit)) for stage in stages),
        indices=tuple(integers.take(prod(stage.exit)) for stage in stages),
        routed=floats.take(max(stage.outputs * prod(stage.grid) for stage in products)),
        fours=floats.take(prod(padded(first)) // 4 + 1),
        blank=floats.take(first.exit[0]),
        blank_index=integers.take(first.exit[0]),
        blank_gradient=floats.take(first.exit[0]),
        active=integers.take(prod(first.exit[1:]) // LANES + 1),
        labels=integers.take(1),
        shares=floats.take(1),
        floats=floats.total,
        integers=integers.total,
    )


@dataclass(kw_only=True)
class _Counter:
    total: int = 0

    def take(self, vectors: int) -> int:
        place = self.total
        self.total += vectors * LANES
        return place


def source(layout: Layout, *, select: bool) -> str:
    """The module's text; `select` says that the machine can choose one of four numbers a lane in one instruction."""
    writer = _Writer(layout, select=select and layout.skips and _two_by_two(layout.chain.stages[0]))
    return writer.module()


def _two_by_two(stage: Stage) -> bool:
    return isinstance(stage, Product) and stage.window == (2, 2)


@dataclass
class _Lines:
    """Text of one function, with its depth of indentation, and the tiles that it calls."""

    depth: int = 1
    lines: list[str] = field(default_factory=list)

    def put(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def loop(self, name: str, run: Run) -> None:
        """Open a loop over the starts of tiles."""
        self.put(f"for {name} in range({run.first}, {run.end}, {run.size}):")
        self.depth += 1


class _Writer:
    def __init__(self, layout: Layout, *, select: bool) -> None:
        self._at, self._select = layout, select
        self._stages = layout.chain.stages
        self._trained = min(n for n, stage in enumerate(self._stages) if isinstance(stage, Product))
        self._tiles: dict[str, str] = {}

    def module(self) -> str:
        functions = [text for n, stage in enumerate(self._stages) for text in self._stage(n, stage)]
        functions += [self._loss(), self._read(), self._both(), self._train(), self._logits()]
        tiles = [f"{name} = {call}" for call, name in self._tiles.items()]
        return "\n".join([_IMPORTS, *tiles, "", *functions])

    def _tile(self, call: str) -> str:
        """The name of the tile that `call` makes."""
        return self._tiles.setdefault(call, f"tile_{len(self._tiles)}")

    def _stage(self, n: int, stage: Stage) -> Iterator[str]:
        match stage:
            case Product():
                yield self._function(f"forward_{n}", self._product_forward(n, stage))
                if n == 0 and self._at.skips:
                    yield self._function("blank", self._blank(stage))
                yield self._function(f"route_{n}", self._route(n, stage))
                chosen = self._select and n == 0
                weigh = self._select_weigh(stage) if chosen else self._weigh(n, stage)
                yield self._function(f"weigh_{n}", weigh)
                if n > self._trained:
                    yield self._function(f"backward_{n}", self._product_backward(n, stage))
            case Pool():
                yield self._function(f"forward_{n}", self._pool_forward(n, stage))
                if n > self._trained:
                    yield self._function(f"backward_{n}", self._pool_backward(n, stage))
            case Relu():
                yield self._function(f"forward_{n}", self._relu_forward(n, stage))
                if n > self._trained:
                    yield self._function(f"backward_{n}", self._relu_backward(n, stage))

    def _function(self, name: str, text: _Lines) -> str:
        head = f'@njit("void({_KINDS})", nogil=True, cache=True)\ndef {name}({_ARGUMENTS}):\n'
        return head + "\n".join(text.lines) + "\n"

    # Convolutions and dense layers ------------------------------------------------------------------------------

    def _from(self, n: int) -> tuple[str, str, int]:
        """Array and place that stage n reads, and how many numbers there are to a pixel."""
        if n == 0 and self._at.shared:
            return "images", f"sample * {self._at.size}", 1
        return "s", str(self._at.entries[n]), LANES

    def _out(self, n: int) -> tuple[int, int, int]:
        """Place, vectors a channel and vectors a row of what stage n writes: the next one's entry, inside its zeros."""
        if n + 1 == len(self._stages):
            return self._at.entries[-1], 1, 1
        later = self._stages[n + 1]
        if later.entry != self._stages[n].exit:  # flattened in between: the numbers follow one another all the same
            _, height, width = self._stages[n].exit
            return self._at.entries[n + 1], height * width, width
        down, across = later.padding if isinstance(later, Product) else (0, 0)
        _, height, width = padded(later)
        return self._at.entries[n + 1] + (down * width + across) * LANES, height * width, width

    def _product_tiles(self, n: int, stage: Product) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
        window = prod(stage.window)
        if n == 0 and self._at.skips:
            rows, _ = tiles(stage.outputs, 1, window, streamed=False)
            return rows, (Run(first=0, end=stage.cells[1], size=1),)
        return tiles(stage.outputs, stage.cells[1], window)

    def _product_forward(self, n: int, stage: Product) -> _Lines:
        text = _Lines()
        skips = n == 0 and self._at.skips
        row_runs, column_runs = self._product_tiles(n, stage)
        place, channel, row = self._out(n)
        down, across = stage.cells
        for rows in row_runs:
            for columns in column_runs:
                text.depth = 1
                text.loop("o", rows)
                text.loop("y", Run(first=0, end=down, size=1))
                text.loop("x", columns)
                if skips:
                    text.put(f"if marks[sample * {down * across} + y * {across} + x]:")
                    text.depth += 1
                    for r in range(rows.size):
                        out = f"{place} + ((o + {r}) * {channel} + y * {row} + x) * {LANES}"
                        index = f"{self._at.indices[n]} + (((o + {r}) * {down} + y) * {across} + x) * {LANES}"
                        text.put(f"store(s, {out}, load(s, {self._at.blank} + (o + {r}) * {LANES}))")
                        text.put(f"store(t, {index}, load(t, {self._at.blank_index} + (o + {r}) * {LANES}))")
                    text.put("continue")
                    text.depth -= 1
                self._window_sums(text, n, stage, rows.size, columns.size)
                outputs = [(r * channel + c) * LANES for r in range(rows.size) for c in range(columns.size)]
                indices = [(r * down * across + c) * LANES for r in range(rows.size) for c in range(columns.size)]
                pool = self._tile(f"pool_tile({prod(stage.window)}, {stage.relu}, {outputs}, {indices})")
                out = f"{place} + (o * {channel} + y * {row} + x) * {LANES}"
                index = f"{self._at.indices[n]} + ((o * {down} + y) * {across} + x) * {LANES}"
                text.put(f"{pool}(sums, s, {out}, t, {index})")
        return _renamed(text)

    def _window_sums(self, text: _Lines, n: int, stage: Product, rows: int, columns: int) -> None:
        """`sums` of the convolution for windows (y, x ...) and outputs (o ...)."""
        array, place, unit = self._from(n)
        inputs, height, width = padded(stage)
        (kernel_down, kernel_across), (step_down, step_across) = stage.kernel, stage.stride
        taps = kernel_down * kernel_across
        window = [(p, c * stage.window[1] + q) for c in range(columns) for p in range(stage.window[0]) for q in range(stage.window[1])]  # fmt: skip
        self._start(text, stage, rows, len(window))
        weights = [[(r * inputs * taps + q) * LANES for r in range(rows)] for q in range(kernel_across)]
        pixels = [
            [(y * step_down * width + x * step_across + q) * unit for y, x in window] for q in range(kernel_across)
        ]
        multiply = self._tile(f"multiply_tile({weights}, {pixels}, scalars={unit == 1})")
        depth = text.depth
        text.loop("i", Run(first=0, end=inputs, size=1))
        text.loop("p", Run(first=0, end=kernel_down, size=1))
        weight = (
            f"{self._at.weights[stage.weight]} + ((o * {inputs} + i) * {kernel_down} + p) * {kernel_across * LANES}"
        )
        down, across = stage.window[0] * step_down, stage.window[1] * step_across
        pixel = f"{place} + ((i * {height} + y * {down} + p) * {width} + x * {across}) * {unit}"
        text.put(f"sums = {multiply}(sums, w, {weight}, {array}, {pixel})")
        text.depth = depth

    def _start(self, text: _Lines, stage: Product, rows: int, columns: int) -> None:
        if stage.bias is None:
            text.put(f"sums = {self._tile(f'zero_tile({rows * columns})')}()")
        else:
            start = self._tile(f"start_tile({[r * LANES for r in range(rows)]}, {columns})")
            text.put(f"sums = {start}(w, {self._at.weights[stage.bias]} + o * {LANES})")

    def _blank(self, stage: Product) -> _Lines:
        """What a window of nothing but background gives, by the same sums: `images` holds one such image."""
        text = _Lines()
        for rows in self._product_tiles(0, stage)[0]:
            text.depth = 1
            text.put("y = x = 0")
            text.loop("o", rows)
            self._window_sums(text, 0, stage, rows.size, 1)
            places = [r * LANES for r in range(rows.size)]
            pool = self._tile(f"pool_tile({prod(stage.window)}, {stage.relu}, {places}, {places})")
            text.put(f"{pool}(sums, s, {self._at.blank} + o * {LANES}, t, {self._at.blank_index} + o * {LANES})")
        return _renamed(text)

    def _routes(self, n: int, stage: Product) -> bool:
        """Whether the gradient of the sums differs from that of the stage's exit."""
        return not (self._select and n == 0) and (stage.relu or prod(stage.window) > 1)

    def _route(self, n: int, stage: Product) -> _Lines:
        """The gradient through pooling and ReLU, and its sum for the biases."""
        text = _Lines()
        (down, across), (_, width) = stage.cells, stage.grid
        chosen = self._select and n == 0
        targets = [(p * width + q) * LANES for p in range(stage.window[0]) for q in range(stage.window[1])]
        route = self._tile(f"route_tile({[] if chosen else targets})")
        text.loop("o", Run(first=0, end=stage.outputs, size=1))
        text.put(f"bias = {self._tile('zero_tile(1)')}()[0]")
        if chosen:
            text.put("behind = bias")
        text.loop("y", Run(first=0, end=down, size=1))
        text.loop("x", Run(first=0, end=across, size=1))
        text.put(f"cell = ((o * {down} + y) * {across} + x) * {LANES}")
        text.put(f"d = load(s, {self._at.gradients[n]} + cell)")
        if chosen or self._routes(n, stage):
            grid = f"{self._at.routed} + ((o * {stage.grid[0]} + y * {stage.window[0]}) * {width} + x * {stage.window[1]}) * {LANES}"
            text.put(f"d = {route}(d, t, {self._at.indices[n]} + cell, s, {grid})")
        text.put("bias = add(bias, d)")
        if chosen:
            text.put(f"store(s, {self._at.gradients[n]} + cell, d)")
            text.put(f"if marks[sample * {down * across} + y * {across} + x]:")
            text.put("    behind = add(behind, d)")
        text.depth = 2
        if stage.bias is not None:
            bias = f"{self._at.weights[stage.bias]} + o * {LANES}"
            text.put(f"store(g, {bias}, add(load(g, {bias}), bias))")
        if chosen:
            blank = f"{self._at.blank_gradient} + o * {LANES}"
            text.put(f"store(s, {blank}, add(load(s, {blank}), behind))")
        return text

    def _weigh(self, n: int, stage: Product) -> _Lines:
        """The gradient of the weights: for each of them, a sum over the grid."""
        text = _Lines()
        array, place, unit = self._from(n)
        inputs, height, width = padded(stage)
        (kernel_down, kernel_across), (step_down, step_across) = stage.kernel, stage.stride
        grid_down, grid_across = stage.grid
        gradient = self._at.routed if self._routes(n, stage) else self._at.gradients[n]
        row_runs, tap_runs = tiles(stage.outputs, kernel_across, streamed=False)
        for rows in row_runs:
            for taps in tap_runs:
                unroll = 2 if grid_across % 2 == 0 else 1
                text.depth = 1
                text.loop("o", rows)
                text.loop("i", Run(first=0, end=inputs, size=1))
                text.loop("p", Run(first=0, end=kernel_down, size=1))
                text.loop("q", taps)
                text.put(f"sums = {self._tile(f'zero_tile({rows.size * taps.size})')}()")
                text.loop("y", Run(first=0, end=grid_down, size=1))
                text.loop("x", Run(first=0, end=grid_across, size=unroll))
                gradients = [
                    [(r * grid_down * grid_across + u) * LANES for r in range(rows.size)] for u in range(unroll)
                ]
                pixels = [[(u * step_across + q) * unit for q in range(taps.size)] for u in range(unroll)]
                multiply = self._tile(f"multiply_tile({gradients}, {pixels}, scalars={unit == 1})")
                text.put(
                    f"sums = {multiply}(sums, s, {gradient} + ((o * {grid_down} + y) * {grid_across} + x) * {LANES}, {array}, "
                    f"{place} + ((i * {height} + y * {step_down} + p) * {width} + x * {step_across} + q) * {unit})"
                )
                text.depth -= 2
                kernel = kernel_down * kernel_across
                add = self._tile(f"add_tile({[(r * inputs * kernel + q) * LANES for r in range(rows.size) for q in range(taps.size)]})")  # fmt: skip
                weight = f"{self._at.weights[stage.weight]} + ((o * {inputs} + i) * {kernel} + p * {kernel_across} + q) * {LANES}"
                text.put(f"{add}(sums, g, {weight})")
        return _renamed(text)

    def _select_weigh(self, stage: Product) -> _Lines:
        """`_weigh` of 2x2 windows on a shared image: only one of a window's four positions has a gradient."""
        text = _Lines()
        inputs, height, width = padded(stage)
        (kernel_down, kernel_across), (step_down, step_across) = stage.kernel, stage.stride
        down, across = stage.cells
        at = self._at
        text.put(f"corner = sample * {at.size}")
        text.put(f"for k in range({at.size - step_down * width - step_across}):")
        for j, step in enumerate([0, step_across, step_down * width, step_down * width + step_across]):
            text.put(f"    s[{at.fours} + 4 * k + {j}] = images[corner + k + {step}]")
        text.put("count = 0")
        text.put(f"for cell in range({down * across}):")
        text.put(f"    if not marks[sample * {down * across} + cell]:")
        text.put(f"        t[{at.active} + count] = cell")
        text.put("        count += 1")
        rows_at_once = max(1, 25 // kernel_across)
        for first in range(0, kernel_down, rows_at_once):
            taps = [(p, q) for p in range(first, min(first + rows_at_once, kernel_down)) for q in range(kernel_across)]
            select = self._tile(f"select_tile({[4 * (p * width + q) for p, q in taps]})")
            add = self._tile(f"add_tile({[(p * kernel_across + q) * LANES for p, q in taps]})")
            text.depth = 1
            text.loop("o", Run(first=0, end=stage.outputs, size=1))
            text.loop("i", Run(first=0, end=inputs, size=1))
            text.put(f"sums = {self._tile(f'zero_tile({len(taps)})')}()")
            text.put("for k in range(count):")
            text.depth += 1
            text.put(f"cell = t[{at.active} + k]")
            text.put(f"place = (o * {down * across} + cell) * {LANES}")
            pixel = f"(i * {height} + (cell // {across}) * {2 * step_down}) * {width} + (cell % {across}) * {2 * step_across}"
            text.put(
                f"sums = {select}(sums, load(s, {at.gradients[0]} + place), t, {at.indices[0]} + place, "
                f"s, {at.fours} + 4 * ({pixel}))"
            )
            text.depth -= 1
            weight = f"{at.weights[stage.weight]} + (o * {inputs} + i) * {kernel_down * kernel_across * LANES}"
            text.put(f"{add}(sums, g, {weight})")
        return _renamed(text)

    def _product_backward(self, n: int, stage: Product) -> _Lines:
        """The gradient of what came in: for each pixel, a sum over the outputs and the kernel."""
        text = _Lines()
        inputs, height, width = stage.entry
        (kernel_down, kernel_across), (step_down, _) = stage.kernel, stage.stride
        grid_down, grid_across = stage.grid
        gradient = self._at.routed if self._routes(n, stage) else self._at.gradients[n]
        row_runs, column_runs = tiles(inputs, width)
        for rows in row_runs:
            for first, end, size, steps in _patterns(stage, column_runs):
                text.depth = 1
                text.loop("i", rows)
                text.loop("y", Run(first=0, end=height, size=1))
                text.loop("x", Run(first=first, end=end, size=size))
                text.put(f"sums = {self._tile(f'zero_tile({rows.size * size})')}()")
                text.loop("o", Run(first=0, end=stage.outputs, size=1))
                text.put(f"for p in range({kernel_down}):")
                text.depth += 1
                text.put(f"row = (y + {stage.padding[0]} - p)")
                text.put(f"if row < 0 or row % {step_down} or row >= {grid_down * step_down}:")
                text.put("    continue")
                weights = [[(r * kernel_down * kernel_across + q) * LANES for r in range(rows.size)] for q, _ in steps]
                places = [[None if x is None else x * LANES for x in columns] for _, columns in steps]
                multiply = self._tile(f"multiply_tile({weights}, {places})")
                weight = f"{self._at.weights[stage.weight]} + (((o * {inputs} + i) * {kernel_down}) + p) * {kernel_across * LANES}"
                place = f"{gradient} + ((o * {grid_down} + row // {step_down}) * {grid_across} + x // {stage.stride[1]}) * {LANES}"
                text.put(f"sums = {multiply}(sums, w, {weight}, s, {place})")
                text.depth -= 2
                store = self._tile(f"store_tile({[(r * height * width + c) * LANES for r in range(rows.size) for c in range(size)]})")  # fmt: skip
                text.put(
                    f"{store}(sums, s, {self._at.gradients[n - 1]} + ((i * {height} + y) * {width} + x) * {LANES})"
                )
        return _renamed(text)

    # Pooling and ReLU on their own ------------------------------------------------------------------------------

    def _pool_loops(self, stage: Pool) -> _Lines:
        text = _Lines()
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

    def _pool_forward(self, n: int, stage: Pool) -> _Lines:
        text = self._pool_loops(stage)
        depth = text.depth
        place, channel, row = self._out(n)
        text.put("best = lift(0.0)" if stage.mean else 'best = lift(-float("inf"))')
        text.put("first = as_index(-1)")
        text.put("for p in rows:")
        text.put("    for q in columns:")
        text.depth += 2
        text.put(f"place = (c * {stage.entry[1]} + p) * {stage.entry[2]} + q")
        text.put(f"value = load(s, {self._at.entries[n]} + place * {LANES})")
        if stage.mean:
            text.put("best = multiply_add(value, share, best)")
        else:
            text.put("higher = greater(value, best)")
            text.put("first = choose(higher, as_index(place), first)")
            text.put("best = choose(higher, value, best)")
        text.depth = depth
        text.put(f"store(s, {place} + (c * {channel} + y * {row} + x) * {LANES}, best)")
        text.put(f"store(t, {self._at.indices[n]} + cell, first)")
        return text

    def _pool_backward(self, n: int, stage: Pool) -> _Lines:
        place = self._at.gradients[n - 1]
        clear = _cleared(place, prod(stage.entry) * LANES).splitlines()
        text = self._pool_loops(stage)
        text.put(f"d = load(s, {self._at.gradients[n]} + cell)")
        if not stage.mean:
            text.put(f"first = load(t, {self._at.indices[n]} + cell)")
        text.put("for p in rows:")
        text.put("    for q in columns:")
        text.depth += 2
        text.put(f"place = (c * {stage.entry[1]} + p) * {stage.entry[2]} + q")
        text.put(f"pixel = {place} + place * {LANES}")
        factor = "share" if stage.mean else "equals(first, place)"
        text.put(f"store(s, pixel, multiply_add(d, {factor}, load(s, pixel)))")
        return _Lines(lines=clear + text.lines)

    def _relu_forward(self, n: int, stage: Relu) -> _Lines:
        text = _Lines()
        place, channel, row = self._out(n)
        channels, height, width = stage.entry
        text.put(f"for c in range({channels}):")
        text.put(f"    for y in range({height}):")
        text.put(f"        for x in range({width}):")
        text.depth = 4
        text.put(f"pixel = ((c * {height} + y) * {width} + x) * {LANES}")
        text.put(f"value = maximum(lift(0.0), load(s, {self._at.entries[n]} + pixel))")
        text.put(f"store(s, {place} + (c * {channel} + y * {row} + x) * {LANES}, value)")
        return text

    def _relu_backward(self, n: int, stage: Relu) -> _Lines:
        text = _Lines()
        text.put(f"for pixel in range(0, {prod(stage.entry) * LANES}, {LANES}):")
        text.depth = 2
        text.put(f"alive = greater(load(s, {self._at.entries[n]} + pixel), lift(0.0))")
        text.put(f"d = choose(alive, load(s, {self._at.gradients[n]} + pixel), lift(0.0))")
        text.put(f"store(s, {self._at.gradients[n - 1]} + pixel, d)")
        return text

    # Samples, loss, batches -------------------------------------------------------------------------------------

    def _loss(self) -> str:
        """Softmax less one-hot, times each sample's share of the batch."""
        at, last = self._at, self._at.gradients[-1]
        target = f"equals(load(t, {at.labels}), k)"
        return f"""\
@njit("void({_KINDS})", nogil=True, cache=True)
def loss({_ARGUMENTS}):
    highest = load(s, {at.entries[-1]})
    for k in range(1, {at.chain.classes}):
        highest = maximum(load(s, {at.entries[-1]} + k * {LANES}), highest)
    whole = lift(0.0)
    for k in range({at.chain.classes}):
        power = exp2(multiply(subtract(load(s, {at.entries[-1]} + k * {LANES}), highest), lift(1.4426950408889634)))
        store(s, {last} + k * {LANES}, power)
        whole = add(whole, power)
    share = load(s, {at.shares})
    for k in range({at.chain.classes}):
        chance = divide(load(s, {last} + k * {LANES}), whole)
        store(s, {last} + k * {LANES}, multiply(subtract(chance, {target}), share))
"""

    def _read(self) -> str:
        """Samples order[begin ...] and their labels; with `lone`, up to sixteen of them, the rest of no weight."""
        at = self._at
        head = """\
@njit("void(float32[::1], int64[::1], int64[::1], int64, float64, float32[::1], int32[::1])", nogil=True, cache=True)
def read(images, labels, order, begin, share, s, t):
"""
        if at.lone:
            return (
                head
                + f"""\
    for lane in range({LANES}):
        sample = order[min(begin + lane, len(order) - 1)]
        t[{at.labels} + lane] = labels[sample]
        s[{at.shares} + lane] = share if begin + lane < len(order) else 0.0
        for k in range({at.size}):
            s[{at.entries[0]} + k * {LANES} + lane] = images[sample * {at.size} + k]
"""
            )
        lines = [
            "    sample = order[begin]",
            f"    store(t, {at.labels}, as_index(labels[sample]))",
            f"    store(s, {at.shares}, lift(share))",
        ]
        if not at.shared:
            lines += [
                f"    for k in range({at.size}):",
                f"        store(s, {at.entries[0]} + k * {LANES}, spread(images, sample * {at.size} + k))",
            ]
        return head + "\n".join(lines) + "\n"

    def _both(self) -> str:
        forward = [f"    forward_{n}({_ARGUMENTS})" for n in range(len(self._stages))]
        backward = []
        for n in range(len(self._stages) - 1, self._trained - 1, -1):
            if isinstance(self._stages[n], Product):
                backward += [f"    route_{n}({_ARGUMENTS})", f"    weigh_{n}({_ARGUMENTS})"]
            if n > self._trained:
                backward.append(f"    backward_{n}({_ARGUMENTS})")
        return "\n".join(
            [
                f'@njit("void({_KINDS})", nogil=True, cache=True)',
                f"def forward({_ARGUMENTS}):",
                *forward,
                "",
                f'@njit("void({_KINDS})", nogil=True, cache=True)',
                f"def backward({_ARGUMENTS}):",
                f"    loss({_ARGUMENTS})",
                *backward,
                "",
            ]
        )

    def _train(self) -> str:
        at, step = self._at, LANES if self._at.lone else 1
        blank = "    blank(background, marks, w, g, s, t, 0)\n" if at.skips else ""
        clear, finish = "", ""
        first = self._stages[0]
        if self._select and isinstance(first, Product):
            taps = prod(first.kernel)
            clear = _cleared(at.blank_gradient, first.outputs * LANES)
            finish = f"""\
    for o in range({first.outputs}):
        for i in range({first.entry[0]}):
            for k in range({taps}):
                place = {at.weights[first.weight]} + ((o * {first.entry[0]} + i) * {taps} + k) * {LANES}
                behind = load(s, {at.blank_gradient} + o * {LANES})
                pixel = spread(background, i * {prod(padded(first)[1:])})
                store(g, place, multiply_add(pixel, behind, load(g, place)))
"""
        return f"""\
@njit("void({_BATCH}, float32[::1], float64)", nogil=True, cache=True)
def gradients(images, marks, labels, order, w, g, s, t, background, share):
{clear}{blank}\
    for begin in range(0, len(order), {step}):
        read(images, labels, order, begin, share, s, t)
        forward(images, marks, w, g, s, t, order[begin])
        backward(images, marks, w, g, s, t, order[begin])
{finish}"""

    def _logits(self) -> str:
        """Logits of the samples of `order`, lanes last."""
        at, step = self._at, LANES if self._at.lone else 1
        blank = "    blank(background, marks, w, g, s, t, 0)\n" if at.skips else ""
        size = at.chain.classes * LANES
        return f"""\
@njit("void({_BATCH}, float32[::1], float32[::1])", nogil=True, cache=True)
def logits(images, marks, labels, order, w, g, s, t, background, out):
{blank}\
    for begin in range(0, len(order), {step}):
        read(images, labels, order, begin, 0.0, s, t)
        forward(images, marks, w, g, s, t, order[begin])
        place = begin // {step} * {size}
        for k in range({size}):
            out[place + k] = s[{at.entries[-1]} + k]
"""


_BATCH = "float32[::1], uint8[::1], int64[::1], int64[::1], float32[::1], float32[::1], float32[::1], int32[::1]"

_Pattern = tuple[int, int, int, list[tuple[int, list[int | None]]]]


def _patterns(stage: Product, runs: Sequence[Run]) -> list[_Pattern]:
    """For tiles of columns of the entry: first, end, size, and for each column of the kernel where its gradients lie.

    Tiles that look alike, relative to where they begin, are one loop.
    """
    found: list[_Pattern] = []
    for run in runs:
        for x in range(run.first, run.end, run.size):
            steps = _sources(stage, x, run.size)
            if found and found[-1][2:] == (run.size, steps) and (run.size % stage.stride[1] == 0):
                found[-1] = (found[-1][0], x + run.size, run.size, steps)
            else:
                found.append((x, x + run.size, run.size, steps))
    return found


def _sources(stage: Product, first: int, size: int) -> list[tuple[int, list[int | None]]]:
    """For each column q of the kernel, the grid's column of each pixel `first ...`, relative to first // stride."""
    step, across = stage.stride[1], stage.grid[1]
    steps: list[tuple[int, list[int | None]]] = []
    for q in range(stage.kernel[1]):
        shifted = [x + stage.padding[1] - q for x in range(first, first + size)]
        columns = [v // step - first // step if v % step == 0 and 0 <= v // step < across else None for v in shifted]
        if any(column is not None for column in columns):
            steps.append((q, columns))
    return steps


def _cleared(place: int, size: int) -> str:
    """Scratch set to zero; a loop, for Numba takes seconds to compile an assignment to a slice."""
    return f"    for k in range({place}, {place + size}):\n        s[k] = 0.0\n"


def _renamed(text: _Lines) -> _Lines:
    """Sums of different lengths are of different types, so each tile's get a name of their own."""
    lines, number = [], 0
    for line in text.lines:
        if line.lstrip().startswith("sums = ") and "(sums," not in line:
            number += 1
        lines.append(line.replace("sums", f"sums_{number}"))
    return _Lines(lines=lines)


__all__ = ["Layout", "Pair", "lay_out", "padded", "source"]
