"""Stages forward: convolutions and dense layers with their ReLU and pooling, and pooling and ReLU on their own."""

from math import prod

from trueoracle.fleet.chain import Pool, Product, Relu
from trueoracle.fleet.kernels.layout import padded
from trueoracle.fleet.kernels.sheet import Lines, Sheet, pool_loops, renamed
from trueoracle.fleet.tiling import Run, tiles
from trueoracle.lanes import LANES


def product_forward(sheet: Sheet, n: int, stage: Product) -> Lines:
    text = Lines()
    skips = n == 0 and sheet.layout.skips
    row_runs, column_runs = _product_tiles(sheet, n, stage)
    place, channel, row = sheet.writes(n)
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
                    index = f"{sheet.layout.indices[n]} + (((o + {r}) * {down} + y) * {across} + x) * {LANES}"
                    text.put(f"store(s, {out}, load(s, {sheet.layout.blank} + (o + {r}) * {LANES}))")
                    text.put(f"store(t, {index}, load(t, {sheet.layout.blank_index} + (o + {r}) * {LANES}))")
                text.put("continue")
                text.depth -= 1
            _window_sums(sheet, text, n, stage, rows.size, columns.size)
            outputs = [(r * channel + c) * LANES for r in range(rows.size) for c in range(columns.size)]
            indices = [(r * down * across + c) * LANES for r in range(rows.size) for c in range(columns.size)]
            pool = sheet.tile(f"pool_tile({prod(stage.window)}, {stage.relu}, {outputs}, {indices})")
            out = f"{place} + (o * {channel} + y * {row} + x) * {LANES}"
            index = f"{sheet.layout.indices[n]} + ((o * {down} + y) * {across} + x) * {LANES}"
            text.put(f"{pool}(sums, s, {out}, t, {index})")
    return renamed(text)


def blank(sheet: Sheet, stage: Product) -> Lines:
    """What a window of nothing but background gives, by the same sums: `images` holds one such image."""
    text = Lines()
    for rows in _product_tiles(sheet, 0, stage)[0]:
        text.depth = 1
        text.put("y = x = 0")
        text.loop("o", rows)
        _window_sums(sheet, text, 0, stage, rows.size, 1)
        places = [r * LANES for r in range(rows.size)]
        pool = sheet.tile(f"pool_tile({prod(stage.window)}, {stage.relu}, {places}, {places})")
        text.put(f"{pool}(sums, s, {sheet.layout.blank} + o * {LANES}, t, {sheet.layout.blank_index} + o * {LANES})")
    return renamed(text)


def pool_forward(sheet: Sheet, n: int, stage: Pool) -> Lines:
    text = pool_loops(stage)
    depth = text.depth
    place, channel, row = sheet.writes(n)
    text.put("best = lift(0.0)" if stage.mean else 'best = lift(-float("inf"))')
    text.put("first = as_index(-1)")
    text.put("for p in rows:")
    text.put("    for q in columns:")
    text.depth += 2
    text.put(f"place = (c * {stage.entry[1]} + p) * {stage.entry[2]} + q")
    text.put(f"value = load(s, {sheet.layout.entries[n]} + place * {LANES})")
    if stage.mean:
        text.put("best = multiply_add(value, share, best)")
    else:
        text.put("higher = greater(value, best)")
        text.put("first = choose(higher, as_index(place), first)")
        text.put("best = choose(higher, value, best)")
    text.depth = depth
    text.put(f"store(s, {place} + (c * {channel} + y * {row} + x) * {LANES}, best)")
    text.put(f"store(t, {sheet.layout.indices[n]} + cell, first)")
    return text


def relu_forward(sheet: Sheet, n: int, stage: Relu) -> Lines:
    text = Lines()
    place, channel, row = sheet.writes(n)
    channels, height, width = stage.entry
    text.put(f"for c in range({channels}):")
    text.put(f"    for y in range({height}):")
    text.put(f"        for x in range({width}):")
    text.depth = 4
    text.put(f"pixel = ((c * {height} + y) * {width} + x) * {LANES}")
    text.put(f"value = maximum(lift(0.0), load(s, {sheet.layout.entries[n]} + pixel))")
    text.put(f"store(s, {place} + (c * {channel} + y * {row} + x) * {LANES}, value)")
    return text


def _product_tiles(sheet: Sheet, n: int, stage: Product) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    window = prod(stage.window)
    if n == 0 and sheet.layout.skips:
        rows, _ = tiles(sheet.target, stage.outputs, 1, window, scalars=True, streamed=False)
        return rows, (Run(first=0, end=stage.cells[1], size=1),)
    return tiles(sheet.target, stage.outputs, stage.cells[1], window, scalars=sheet.reads(n)[2] == 1)


def _window_sums(sheet: Sheet, text: Lines, n: int, stage: Product, rows: int, columns: int) -> None:
    """`sums` of the convolution for windows (y, x ...) and outputs (o ...)."""
    array, place, unit = sheet.reads(n)
    inputs, height, width = padded(stage)
    (kernel_down, kernel_across), (step_down, step_across) = stage.kernel, stage.stride
    taps = kernel_down * kernel_across
    window = [(p, c * stage.window[1] + q) for c in range(columns) for p in range(stage.window[0]) for q in range(stage.window[1])]  # fmt: skip
    _start(sheet, text, stage, rows, len(window))
    weights = [[(r * inputs * taps + q) * LANES for r in range(rows)] for q in range(kernel_across)]
    pixels = [[(y * step_down * width + x * step_across + q) * unit for y, x in window] for q in range(kernel_across)]
    multiply = sheet.tile(f"multiply_tile({weights}, {pixels}, scalars={unit == 1})")
    depth = text.depth
    text.loop("i", Run(first=0, end=inputs, size=1))
    text.loop("p", Run(first=0, end=kernel_down, size=1))
    weight = (
        f"{sheet.layout.weights[stage.weight]} + ((o * {inputs} + i) * {kernel_down} + p) * {kernel_across * LANES}"
    )
    down, across = stage.window[0] * step_down, stage.window[1] * step_across
    pixel = f"{place} + ((i * {height} + y * {down} + p) * {width} + x * {across}) * {unit}"
    text.put(f"sums = {multiply}(sums, w, {weight}, {array}, {pixel})")
    text.depth = depth


def _start(sheet: Sheet, text: Lines, stage: Product, rows: int, columns: int) -> None:
    if stage.bias is None:
        text.put(f"sums = {sheet.tile(f'zero_tile({rows * columns})')}()")
    else:
        start = sheet.tile(f"start_tile({[r * LANES for r in range(rows)]}, {columns})")
        text.put(f"sums = {start}(w, {sheet.layout.weights[stage.bias]} + o * {LANES})")
