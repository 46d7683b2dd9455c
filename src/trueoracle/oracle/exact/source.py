"""The kernels' source, written for one structure: sixteen images in the lanes, a whole layer in the registers.

Letters in the source: v a vector of sixteen images (V of them in a block), W the packed weights, Z the last
layer's weights relative to the true class of each image, C rows of contributions. All places are counted in
elements of float32; every vector takes sixteen.

Where a layer does not fit the registers its values lie in the scratch S, and the next layer's are summed up in
groups that do fit, in the same order.
"""

from collections.abc import Callable

from trueoracle.lanes import LANES
from trueoracle.oracle.exact.chain import CONVOLUTIONS
from trueoracle.oracle.exact.structure import PLACES, Structure, Sum

# Beyond these powers of two an image, or the product over images, is brought back to the middle of float32's range.
# Together with 100 classes they stay below 2^127.
_FAR, _FULL = 40.0, 2.0**78

_F, _I, _D = "float32[::1]", "int64[::1]", "float64[::1]"


def source(structure: Structure) -> str:
    """The text of the module: `prefix`, `first` where the tree starts at the images, `sum0` ..., and the leaves."""
    parts = [_prefix(structure)]
    if structure.tree_starts_at_images:
        parts.append(_first(structure))
    parts += [_middle(structure, index) for index in range(len(structure.sums) - 1)]
    parts += [_leaves_by_table(structure), _leaves_by_list(structure)]
    return "\n\n".join(parts) + "\n"


def _function(name: str, arguments: list[tuple[str, str]], body: str) -> str:
    kinds = ", ".join(kind for _, kind in arguments)
    names = ", ".join(name for name, _ in arguments)
    return f'@njit("void({kinds})", nogil=True, cache=True)\ndef {name}({names}):\n{_indent(body, 1)}'


def _indent(text: str, steps: int) -> str:
    return "\n".join("    " * steps + line if line else line for line in text.strip("\n").split("\n"))


def _pooled_convolution(
    structure: Structure, layer: int, from_array: str, base: str, to_array: str, target: str, side: int
) -> str:
    """ReLU and 2x2 max-pooling of a 5x5 convolution; `side` is that of the pooled result."""
    outputs, inputs = structure.widths[layer], structure.widths[0] if layer else structure.channels
    group, width = structure.equal_group(outputs), 2 * side + 4
    taps = "\n".join(
        f"acc = scale_add(acc, load({from_array}, at + {kx * LANES}), W, w + {kx * group})" for kx in range(5)
    )
    stores = "\n".join(f"store({to_array}, to + {o * side * side * LANES}, best[{o}])" for o in range(group))
    return f"""
for g in range({outputs // group}):
    for y in range({side}):
        for x in range({side}):
            best = zero_row({group})
            for phase in range(4):
                acc = spread_row(W, {structure.offsets[f"b{layer}"]} + g * {group}, {group})
                for c in range({inputs}):
                    for ky in range(5):
                        at = {base} + ((c * {width} + 2 * y + phase // 2 + ky) * {width} + 2 * x + phase % 2) * {LANES}
                        w = {structure.offsets[f"w{layer}"]} + ((g * {inputs} + c) * 5 + ky) * {5 * group}
{_indent(taps, 6)}
                best = max_rows(best, acc)
            to = {target} + (g * {group * side * side} + y * {side} + x) * {LANES}
{_indent(stores, 3)}
"""


def _keep(
    structure: Structure, layer: int, sums: Callable[[int, int], str], steps: str = "", *, relu: bool = True
) -> str:
    """`h`, the values of a layer: group by group `sums(first, size)`, then `steps` on `acc`, then ReLU.

    In `steps`, FIRST and SIZE stand for the group's.
    """
    lines, outputs = [], structure.outputs(layer)
    for group in [range(outputs)] if structure.in_registers else structure.groups(outputs):
        acc = f"acc_{len(group)}"
        lines.append(f"{acc} = {sums(group.start, len(group))}")
        own = steps.strip("\n").replace("acc", acc).replace("FIRST", str(group.start)).replace("SIZE", str(len(group)))
        lines += [own] if own else []
        value = f"relu_row({acc})" if relu else acc
        place = structure.place(layer) + group.start * LANES
        lines.append(f"h = {value}" if structure.in_registers else f"store_row(S, {place}, {value})")
    return "\n".join(lines)


def _dense(structure: Structure, layer: int) -> str:
    """A linear layer's values from those of the one before, ReLU included."""
    offsets, outputs = structure.offsets, structure.widths[layer]
    weights, bias = offsets[f"w{layer}"], offsets[f"b{layer}"]
    if structure.in_registers:
        return f"h = relu_row(dense(spread_row(W, {bias}, {outputs}), h, W, {weights}))"
    steps = f"""
for i in range({structure.widths[layer - 1]}):
    acc = scale_add(acc, load(S, {structure.place(layer - 1)} + i * {LANES}), W, {weights} + i * {outputs} + FIRST)
"""
    return _keep(structure, layer, lambda first, size: f"spread_row(W, {bias + first}, {size})", steps)


def _dense_chain(structure: Structure, begin: int, end: int) -> str:
    """The values after layer `begin` become those after layer `end`, ReLU included."""
    return "\n".join(_dense(structure, layer) for layer in range(begin + 1, end + 1))


def _contributions(structure: Structure, consumer: int, rows: int, target: str) -> str:
    """Rows of the units' outputs in S, each through its own weights of the consumer, stored from C[target]."""
    outputs, lines = structure.outputs(consumer), []
    at = 0 if consumer == CONVOLUTIONS - 1 else structure.place(consumer - 1)
    for group in structure.groups(outputs):
        first, size = group.start, len(group)
        acc = f"acc_{size}"
        if consumer == structure.last:
            place = f"z + ((1 + channels[r]) * {outputs} + {first}) * {LANES}"
            row = f"{acc} = weigh_add(zero_row({size}), Z, {place}, {LANES}, load(S, {at} + units[r] * {LANES}))\nhold_loads()"
        else:
            places = PLACES if consumer == CONVOLUTIONS - 1 else 1
            weights = f"{structure.offsets[f'w{consumer}'] + first} + (r * {places} + q) * {outputs}"
            row = f"""\
{acc} = zero_row({size})
for q in range({places}):
    {acc} = scale_add({acc}, load(S, {at} + (units[r] * {places} + q) * {LANES}), W, {weights})"""
        lines += [row, f"store_row(C, {target} + (r * {outputs} + {first}) * {LANES}, {acc})"]
    return f"for r in range({rows}):\n" + _indent("\n".join(lines), 1)


def _relative(structure: Structure) -> str:
    return f"z = v * {structure.rivals * (1 + structure.widths[-2]) * LANES}"


def _prefix(structure: Structure) -> str:
    """Everything up to the first site, all units; and the rows of that site, but where the tree starts at the images.

    A holds, of each vector of images, the first convolution's pooled activations; S those of the site.
    """
    image, pooled = structure.channels * 32 * 32 * LANES, structure.widths[0] * 14 * 14 * LANES
    arguments = [(name, _F) for name in ("images", "W", "Z", "A", "S", "C")]
    arguments += [("units", _I), ("channels", _I), ("V", "int64")]
    place = f"v * {pooled}" if structure.tree_starts_at_images else "0"
    body = _pooled_convolution(structure, 0, "images", f"v * {image}", "A", place, 14)
    if not structure.tree_starts_at_images:
        second = _pooled_convolution(structure, 1, "A", "0", "S", "0", 5)
        outputs = structure.outputs(structure.sums[0].consumer)
        rows = structure.sums[0].rows
        body += _relative(structure) + "\n" + second
        if structure.first >= 2:
            body += "\n".join([_flattened(structure), _dense_chain(structure, 2, structure.first)]) + "\n"
            if structure.in_registers:
                body += f"store_row(S, {structure.place(structure.first)}, h)\n"
        body += _contributions(structure, structure.sums[0].consumer, rows, f"v * {rows * outputs * LANES}")
    return _function("prefix", arguments, f"for v in range(V):\n{_indent(body, 1)}")


def _flattened(structure: Structure) -> str:
    """The third convolution: its kernel covers all places, so that it is a dense layer of them."""
    outputs, weights, bias = structure.widths[2], structure.offsets["w2"], structure.offsets["b2"]
    steps = f"""
for i in range({structure.widths[1] * PLACES}):
    acc = scale_add(acc, load(S, i * {LANES}), W, {weights} + i * {outputs} + FIRST)
"""
    return _keep(structure, 2, lambda first, size: f"spread_row(W, {bias + first}, {size})", steps)


def _first(structure: Structure) -> str:
    """Masks of the first convolution, through the second and its pooling, to the rows of the next site.

    Unit by unit of the second convolution, so that the table of all parts' sums stays in the cache. P holds the
    rows of one unit: its pre-activation, 10 x 10 places, the four of a pooling window side by side.
    """
    third, rows = structure.sums[0], structure.first_rows
    outputs, table = structure.outputs(2), 100 * LANES
    row = structure.equal_group(10)
    is_site = third.rows > 1
    fence = "" if row == 10 else "\nhold_loads()"  # where all sums fit at once, so do the pixels that taps share
    taps = "\n".join(
        f"acc = weigh_add(acc, A, at + {kx * LANES}, {LANES}, spread(W, w + {kx})){fence}" for kx in range(5)
    )
    stores = "\n".join(f"store(P, to + (({x} + x) // 2 * 4 + ({x} + x) % 2) * {LANES}, acc[{x}])" for x in range(row))
    window = f"load_row(T, entries[m * {structure.first_parts} + PART] * {table} + q * {4 * LANES}, 4)"
    windows = [window.replace("PART", str(part)) for part in range(structure.first_parts)]
    total = windows[0]
    for other in windows[1:]:
        total = f"add_rows({total}, {other})"
    target = f"((m * V + v) * {third.rows} + {'r' if is_site else '0'}) * {outputs * LANES}"
    sums = []
    for group in structure.groups(outputs):
        acc, place = f"acc_{len(group)}", f"{target} + {group.start * LANES}"
        sums.append(f"{acc} = zero_row({len(group)})" if is_site else f"{acc} = load_row(C, {place}, {len(group)})")
        sums.append(f"for q in range({PLACES}):")
        sums.append(f"    {acc} = scale_add({acc}, load(S, q * {LANES}), W, w + q * {outputs} + {group.start})")
        sums.append(f"store_row(C, {place}, {acc})")
    body = f"""
for at in range(0 if {is_site} else count * V * {outputs * LANES}):
    C[at] = 0
for v in range(V):
    for u in range({structure.widths[1]}):
        for r in range({rows}):
            for y in range(10):
                for x in range(0, 10, {row}):
                    acc = zero_row({row})
                    for ky in range(5):
                        at = v * {structure.widths[0] * 196 * LANES} + (units[r] * 196 + (y + ky) * 14 + x) * {LANES}
                        w = {structure.offsets["w1"]} + (u * {rows} + r) * 25 + ky * 5
{_indent(taps, 6)}
                    to = r * {table} + ((y // 2) * 20 + (y % 2) * 2) * {LANES}
{_indent(stores, 5)}
        bias = spread(W, {structure.offsets["b1"]} + u)
        for at in range(0, {table}, {LANES}):
            store(T, at, lift(0.0))
            store(T, {table} + at, bias)
        for step in range(0, steps.size, 3):
            for at in range(0, {table}, {row * LANES}):
                before, added = steps[step + 1] * {table} + at, steps[step + 2] * {table} + at
                store_row(T, steps[step] * {table} + at, add_rows(load_row(T, before, {row}), load_row(P, added, {row})))
        for m in range(count):
            for q in range({PLACES}):
                store(S, q * {LANES}, maximum(lift(0.0), max_of_row({total})))
            for r in range(row_starts[u], row_starts[u + 1]):
                w = {structure.offsets["w2"]} + r * {PLACES * outputs}
{_indent(chr(10).join(sums), 4)}
"""
    arguments = [(name, _F) for name in ("A", "W", "P", "T", "S", "C")]
    arguments += [(name, _I) for name in ("units", "steps", "entries", "row_starts")]
    return _function("first", [*arguments, ("count", "int64"), ("V", "int64")], body)


def _chosen(structure: Structure, item: Sum, index: str) -> str:
    """`h`: what the mask at `index` of the list leaves of the consumer; of the last layer, in front of ReLU."""
    outputs = structure.outputs(item.consumer)
    row = f"rows[picks[{index}] * {item.kept} + i]"
    place = f"((parents[{index}] * V + v) * {item.rows} + {row}) * {outputs * LANES}"
    steps = f"""
for i in range({item.kept}):
    acc = add_rows(acc, load_row(B, {place} + FIRST * {LANES}, SIZE))
"""
    return _keep(
        structure,
        item.consumer,
        lambda first, size: _bias(structure, item, first, size),
        steps,
        relu=item.consumer < structure.last,
    )


def _bias(structure: Structure, item: Sum, first: int, size: int) -> str:
    if item.consumer == structure.last:
        return f"load_row(Z, z + {first * LANES}, {size})"
    return f"spread_row(W, {structure.offsets[f'b{item.consumer}'] + first}, {size})"


def _middle(structure: Structure, index: int) -> str:
    """A list of masks of a site in the middle of the tree, each under its parent; from rows B to the next site's rows C."""
    item, following = structure.sums[index], structure.sums[index + 1]
    outputs = structure.outputs(following.consumer)
    target = f"(j * V + v) * {following.rows * outputs * LANES}"
    chain = _dense_chain(structure, item.consumer, following.consumer - 1)
    if structure.in_registers:
        chain += f"\nstore_row(S, {structure.place(following.consumer - 1)}, h)"
    body = f"""
for j in range(parents.size):
    for v in range(V):
        {_relative(structure)}
{_indent(_chosen(structure, item, "j"), 2)}
{_indent(chain, 2)}
{_indent(_contributions(structure, following.consumer, following.rows, target), 2)}
"""
    arguments = [(name, _F) for name in ("B", "W", "Z", "S", "C")]
    arguments += [(name, _I) for name in ("parents", "picks", "rows", "units", "channels")]
    return _function(f"sum{index}", [*arguments, ("V", "int64")], body)


def _logits(structure: Structure) -> str:
    """`h` becomes each rival's logit less the true class's, in bits."""
    item = structure.sums[-1]
    if item.consumer == structure.last:
        return ""
    chain, rivals = _dense_chain(structure, item.consumer, structure.last - 1), structure.rivals
    if structure.in_registers:
        return f"{chain}\nh = dense_by_lane(load_row(Z, z, {rivals}), h, Z, z + {rivals * LANES})"
    steps = f"""
for i in range({structure.widths[-2]}):
    acc = weigh_add(acc, Z, z + ((1 + i) * {rivals} + FIRST) * {LANES}, {LANES}, load(S, {structure.place(structure.last - 1)} + i * {LANES}))
    hold_loads()
"""
    return f"{chain}\n" + _keep(
        structure, structure.last, lambda first, size: f"load_row(Z, z + {first * LANES}, {size})", steps, relu=False
    )


def _worst(structure: Structure) -> str:
    """`worst`: the largest relative logit."""
    if structure.in_registers:
        return "worst = max_of_row(h)"
    at = structure.place(structure.last)
    return f"""\
worst = load(S, {at})
for k in range(1, {structure.rivals}):
    worst = maximum(load(S, {at} + k * {LANES}), worst)"""


def _odds(structure: Structure, shift: str) -> str:
    """`odds`: the sum over rivals of 2^(logit - shift)."""
    if structure.in_registers:
        return f"odds = sum_of_exp2({f'lower_row(h, {shift})' if shift else 'h'})"
    at = structure.place(structure.last)
    first, other = (f"load(S, {place})" for place in (at, f"{at} + k * {LANES}"))
    if shift:
        first, other = (f"subtract({value}, {shift})" for value in (first, other))
    return f"""\
odds = exp2({first})
for k in range(1, {structure.rivals}):
    odds = add(odds, exp2({other}))
    hold_loads()"""


def _note(structure: Structure) -> str:
    """An image's part: its odds against the true class, sum of 2^h, so that the loss is log2(1 + odds).

    Q + 1 is the product of (1 + odds) over images so far, less 2^X: one logarithm for all of them. Kept less 1, it holds
    small losses to a relative 1e-7 too. The product's power of two goes to X before it could overflow; so does that of
    an image whose largest logit is far above the true one's. whole - whole is 0, or not a number where it is none.
    """
    return f"""
{_worst(structure)}
{_odds(structure, "")}
old = load(Q, at)
new = multiply_add(odds, old, add(odds, old))
if any_lane(either(greater(new, lift({_FULL})), greater(worst, lift({_FAR})))):
    shift = maximum(worst, lift(0.0))
{_indent(_odds(structure, "shift"), 1)}
    near = add(odds, exp2(subtract(lift(0.0), shift)))
    whole = multiply(add(old, lift(1.0)), near)
    parts = split_exponent(whole)
    store(X, at, add(load(X, at), add(shift, parts[1])))
    new = add(subtract(parts[0], lift(1.0)), subtract(whole, whole))
store(Q, at, new)
store(N, at, count_up(load(N, at), greater(worst, lift(0.0))))
"""


_SUM_UP = """
q = load(Q, at)
parts = split_exponent(add(q, lift(1.0)))
small = greater(lift(1.0), q)
bits = log2_near_one(choose(small, q, subtract(parts[0], lift(1.0))))
bits = add(bits, choose(small, lift(0.0), parts[1]))
store(Q, at, add(add(bits, load(X, at)), subtract(q, q)))
hold_loads()
losses[to] += total(load(Q, at)) * 0.6931471805599453
wrongs[to] += total(load(N, at))
"""
"""The one logarithm; q - q is 0, or not a number where q is none."""

_RESULTS = [("Q", _F), ("X", _F), ("N", "int32[::1]"), ("losses", _D), ("wrongs", _I)]


def _leaves_by_table(structure: Structure) -> str:
    """All masks of the last site under each of `nodes` parents: two tables, one addition a mask."""
    item = structure.sums[-1]
    outputs = structure.outputs(item.consumer)
    row, lines = outputs * LANES, []
    for group in structure.groups(outputs):
        at, size = group.start * LANES, len(group)
        zero, bias = f"store_row(T, {at}, zero_row({size}))", _bias(structure, item, group.start, size)
        lines += [zero, f"store_row(T, {row + at}, {bias})", "for step in range(0, steps.size, 3):"]
        before, added = f"steps[step + 1] * {row} + {at}", f"base + steps[step + 2] * {row} + {at}"
        partial = f"add_rows(load_row(T, {before}, {size}), load_row(B, {added}, {size}))"
        lines.append(f"    store_row(T, steps[step] * {row} + {at}, {partial})")
    parts = [f"load_row(T, entries[2 * m + {part}] * {row} + FIRST, SIZE)" for part in (0, 1)]
    both = f"add_rows({parts[0]}, {parts[1]})"
    chosen = _keep(
        structure,
        item.consumer,
        lambda first, size: both.replace("FIRST", str(first * LANES)).replace("SIZE", str(size)),
        relu=item.consumer < structure.last,
    )
    body = f"""
for node in range(nodes):
    for at in range(entries.size // 2 * {LANES}):
        Q[at] = 0
        X[at] = 0
        N[at] = 0
    for v in range(V):
        {_relative(structure)}
        base = (node * V + v) * {item.rows * row}
{_indent(chr(10).join(lines), 2)}
        for m in range(entries.size // 2):
            at = m * {LANES}
{_indent(chosen, 3)}
{_indent(_logits(structure), 3)}
{_indent(_note(structure), 3)}
    for m in range(entries.size // 2):
        at = m * {LANES}
        to = node * (entries.size // 2) + m
{_indent(_SUM_UP, 2)}
"""
    arguments = [(name, _F) for name in ("B", "W", "Z", "S", "T")] + [(name, _I) for name in ("steps", "entries")]
    return _function("leaves_by_table", [*arguments, *_RESULTS, ("nodes", "int64"), ("V", "int64")], body)


def _leaves_by_list(structure: Structure) -> str:
    """A list of masks of the last site, each under its parent."""
    body = f"""
for to in range(parents.size):
    at = 0
    for lane in range({LANES}):
        Q[lane] = 0
        X[lane] = 0
        N[lane] = 0
    for v in range(V):
        {_relative(structure)}
{_indent(_chosen(structure, structure.sums[-1], "to"), 2)}
{_indent(_logits(structure), 2)}
{_indent(_note(structure), 2)}
{_indent(_SUM_UP, 1)}
"""
    arguments = [(name, _F) for name in ("B", "W", "Z", "S")] + [(name, _I) for name in ("parents", "picks", "rows")]
    return _function("leaves_by_list", [*arguments, *_RESULTS, ("V", "int64")], body)
