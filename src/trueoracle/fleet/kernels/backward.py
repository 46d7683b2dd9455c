"""Stages backward: the gradient through pooling and ReLU, that of the weights, and that of what came in."""

from collections.abc import Sequence
from math import prod

from trueoracle.fleet.chain import Pool, Product, Relu
from trueoracle.fleet.kernels.layout import padded
from trueoracle.fleet.kernels.sheet import Lines, Sheet, cleared, pool_loops, renamed
from trueoracle.fleet.tiling import Run, taps_at_once, tiles
from trueoracle.lanes import LANES

_Pattern = tuple[int, int, int, list[tuple[int, list[int | None]]]]


def route(sheet: Sheet, n: int, stage: Product) -> Lines:
    """The gradient through pooling and ReLU, and its sum for the biases."""
    text = Lines()
    (down, across), (_, width) = stage.cells, stage.grid
    chosen = sheet.selects and n == 0
    targets = [(p * width + q) * LANES for p in range(stage.window[0]) for q in range(stage.window[1])]
    route = sheet.tile(f"route_tile({[] if chosen else targets})")
    text.loop("o", Run(first=0, end=stage.outputs, size=1))
    text.put("bias = lift(0.0)")
    if chosen:
        text.put("behind = bias")
    text.loop("y", Run(first=0, end=down, size=1))
    text.loop("x", Run(first=0, end=across, size=1))
    text.put(f"cell = ((o * {down} + y) * {across} + x) * {LANES}")
    text.put(f"d = load(s, {sheet.layout.gradients[n]} + cell)")
    if chosen or sheet.routes(n, stage):
        grid = f"{sheet.layout.routed} + ((o * {stage.grid[0]} + y * {stage.window[0]}) * {width} + x * {stage.window[1]}) * {LANES}"
        text.put(f"d = {route}(d, t, {sheet.layout.indices[n]} + cell, s, {grid})")
    text.put("bias = add(bias, d)")
    if chosen:
        text.put(f"store(s, {sheet.layout.gradients[n]} + cell, d)")
        text.put(f"if marks[sample * {down * across} + y * {across} + x]:")
        text.put("    behind = add(behind, d)")
    text.depth = 2
    if stage.bias is not None:
        bias = f"{sheet.layout.weights[stage.bias]} + o * {LANES}"
        text.put(f"store(g, {bias}, add(load(g, {bias}), bias))")
    if chosen:
        blank = f"{sheet.layout.blank_gradient} + o * {LANES}"
        text.put(f"store(s, {blank}, add(load(s, {blank}), behind))")
    return text


def weigh(sheet: Sheet, n: int, stage: Product) -> Lines:
    """The gradient of the weights: for each of them, a sum over the grid."""
    text = Lines()
    array, place, unit = sheet.reads(n)
    inputs, height, width = padded(stage)
    (kernel_down, kernel_across), (step_down, step_across) = stage.kernel, stage.stride
    grid_down, grid_across = stage.grid
    gradient = sheet.layout.routed if sheet.routes(n, stage) else sheet.layout.gradients[n]
    row_runs, tap_runs = tiles(sheet.target, stage.outputs, kernel_across, scalars=unit == 1, streamed=False)
    for rows in row_runs:
        for taps in tap_runs:
            unroll = 2 if grid_across % 2 == 0 else 1
            text.depth = 1
            text.loop("o", rows)
            text.loop("i", Run(first=0, end=inputs, size=1))
            text.loop("p", Run(first=0, end=kernel_down, size=1))
            text.loop("q", taps)
            text.put(f"sums = {sheet.tile(f'zero_tile({rows.size * taps.size})')}()")
            text.loop("y", Run(first=0, end=grid_down, size=1))
            text.loop("x", Run(first=0, end=grid_across, size=unroll))
            gradients = [[(r * grid_down * grid_across + u) * LANES for r in range(rows.size)] for u in range(unroll)]
            pixels = [[(u * step_across + q) * unit for q in range(taps.size)] for u in range(unroll)]
            multiply = sheet.tile(f"multiply_tile({gradients}, {pixels}, scalars={unit == 1})")
            text.put(
                f"sums = {multiply}(sums, s, {gradient} + ((o * {grid_down} + y) * {grid_across} + x) * {LANES}, {array}, "
                f"{place} + ((i * {height} + y * {step_down} + p) * {width} + x * {step_across} + q) * {unit})"
            )
            text.depth -= 2
            kernel = kernel_down * kernel_across
            add = sheet.tile(f"add_tile({[(r * inputs * kernel + q) * LANES for r in range(rows.size) for q in range(taps.size)]})")  # fmt: skip
            weight = f"{sheet.layout.weights[stage.weight]} + ((o * {inputs} + i) * {kernel} + p * {kernel_across} + q) * {LANES}"
            text.put(f"{add}(sums, g, {weight})")
    return renamed(text)


def select_weigh(sheet: Sheet, stage: Product) -> Lines:
    """`_weigh` of 2x2 windows on a shared image: only one of a window's four positions has a gradient."""
    text = Lines()
    inputs, height, width = padded(stage)
    (kernel_down, kernel_across), (step_down, step_across) = stage.kernel, stage.stride
    down, across = stage.cells
    at = sheet.layout
    text.put(f"corner = sample * {at.size}")
    steps = [0, step_across, step_down * width, step_down * width + step_across]
    text.put(f"for k in range({at.size - steps[-1]}):")
    text.put(f"    {sheet.tile(f'four_tile({steps})')}(images, corner + k, s, {at.fours} + 4 * k)")
    text.put("count = 0")
    text.put(f"for y in range({down}):")
    text.put(f"    for x in range({across}):")
    text.put(f"        if not marks[sample * {down * across} + y * {across} + x]:")
    text.put(f"            t[{at.active} + count] = (y * {across} + x) * {LANES}")
    text.put(f"            t[{at.corners} + count] = 8 * (y * {step_down * width} + x * {step_across})")
    text.put("            count += 1")
    all_taps = [(p, q) for p in range(kernel_down) for q in range(kernel_across)]
    for run in taps_at_once(sheet.target, len(all_taps)):
        taps = [all_taps[tap] for tap in run]
        select = sheet.tile(f"select_tile({[4 * (p * width + q) for p, q in taps]})")
        add = sheet.tile(f"add_tile({[(p * kernel_across + q) * LANES for p, q in taps]})")
        text.depth = 1
        text.loop("o", Run(first=0, end=stage.outputs, size=1))
        text.loop("i", Run(first=0, end=inputs, size=1))
        text.put(f"sums = {sheet.tile(f'zero_tile({len(taps)})')}()")
        text.put("for k in range(count):")
        text.depth += 1
        text.put(f"place = o * {down * across * LANES} + t[{at.active} + k]")
        text.put(
            f"sums = {select}(sums, s, {at.gradients[0]} + place, t, {at.indices[0]} + place, "
            f"s, {at.fours} + i * {4 * height * width} + t[{at.corners} + k])"
        )
        text.depth -= 1
        weight = f"{at.weights[stage.weight]} + (o * {inputs} + i) * {kernel_down * kernel_across * LANES}"
        text.put(f"{add}(sums, g, {weight})")
    return renamed(text)


def product_backward(sheet: Sheet, n: int, stage: Product) -> Lines:
    """The gradient of what came in: for each pixel, a sum over the outputs and the kernel."""
    text = Lines()
    inputs, height, width = stage.entry
    (kernel_down, kernel_across), (step_down, _) = stage.kernel, stage.stride
    grid_down, grid_across = stage.grid
    gradient = sheet.layout.routed if sheet.routes(n, stage) else sheet.layout.gradients[n]
    row_runs, column_runs = tiles(sheet.target, inputs, width)
    for rows in row_runs:
        for first, end, size, steps in _patterns(stage, column_runs):
            text.depth = 1
            text.loop("i", rows)
            text.loop("y", Run(first=0, end=height, size=1))
            text.put(f"top = max(y + {stage.padding[0] + 1 - grid_down * step_down}, 0)")
            if step_down > 1:
                text.put(f"top += (y + {stage.padding[0]} - top) % {step_down}")
            text.loop("x", Run(first=first, end=end, size=size))
            text.put(f"sums = {sheet.tile(f'zero_tile({rows.size * size})')}()")
            text.loop("o", Run(first=0, end=stage.outputs, size=1))
            text.put(f"for p in range(top, min(y + {stage.padding[0] + 1}, {kernel_down}), {step_down}):")
            text.depth += 1
            weights = [[(r * kernel_down * kernel_across + q) * LANES for r in range(rows.size)] for q, _ in steps]
            places = [[None if x is None else x * LANES for x in columns] for _, columns in steps]
            multiply = sheet.tile(f"multiply_tile({weights}, {places})")
            weight = f"{sheet.layout.weights[stage.weight]} + (((o * {inputs} + i) * {kernel_down}) + p) * {kernel_across * LANES}"
            place = f"{gradient} + ((o * {grid_down} + (y + {stage.padding[0]} - p) // {step_down}) * {grid_across} + x // {stage.stride[1]}) * {LANES}"
            text.put(f"sums = {multiply}(sums, w, {weight}, s, {place})")
            text.depth -= 2
            store = sheet.tile(f"store_tile({[(r * height * width + c) * LANES for r in range(rows.size) for c in range(size)]})")  # fmt: skip
            text.put(
                f"{store}(sums, s, {sheet.layout.gradients[n - 1]} + ((i * {height} + y) * {width} + x) * {LANES})"
            )
    return renamed(text)


def pool_backward(sheet: Sheet, n: int, stage: Pool) -> Lines:
    place = sheet.layout.gradients[n - 1]
    clear = cleared(place, prod(stage.entry) * LANES).splitlines()
    text = pool_loops(stage)
    text.put(f"d = load(s, {sheet.layout.gradients[n]} + cell)")
    if not stage.mean:
        text.put(f"first = load(t, {sheet.layout.indices[n]} + cell)")
    text.put("for p in rows:")
    text.put("    for q in columns:")
    text.depth += 2
    text.put(f"place = (c * {stage.entry[1]} + p) * {stage.entry[2]} + q")
    text.put(f"pixel = {place} + place * {LANES}")
    factor = "share" if stage.mean else "equals(first, place)"
    text.put(f"store(s, pixel, multiply_add(d, {factor}, load(s, pixel)))")
    return Lines(lines=clear + text.lines)


def relu_backward(sheet: Sheet, n: int, stage: Relu) -> Lines:
    text = Lines()
    text.put(f"for pixel in range(0, {prod(stage.entry) * LANES}, {LANES}):")
    text.depth = 2
    text.put(f"alive = greater(load(s, {sheet.layout.entries[n]} + pixel), lift(0.0))")
    text.put(f"d = choose(alive, load(s, {sheet.layout.gradients[n]} + pixel), lift(0.0))")
    text.put(f"store(s, {sheet.layout.gradients[n - 1]} + pixel, d)")
    return text


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
