"""The kernels' source, written for one structure: sixteen images in the lanes, a whole layer in the registers.

Letters in the source: v a vector of sixteen images (V of them in a block), W the packed weights, Z the last
layer's weights relative to the true class of each image, C rows of contributions. All places are counted in
elements of float32; every vector takes sixteen.
"""

from trueoracle.oracle.exact.structure import PLACES, Structure, Sum, output_group

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
    group, width = output_group(outputs), 2 * side + 4
    taps = "\n".join(
        f"acc = scale_add(acc, load({from_array}, at + {kx * 16}), W, w + {kx * group})" for kx in range(5)
    )
    stores = "\n".join(f"store({to_array}, to + {o * side * side * 16}, best[{o}])" for o in range(group))
    return f"""
for g in range({outputs // group}):
    for y in range({side}):
        for x in range({side}):
            best = zero_row({group})
            for phase in range(4):
                acc = spread_row(W, {structure.offsets[f"b{layer}"]} + g * {group}, {group})
                for c in range({inputs}):
                    for ky in range(5):
                        at = {base} + ((c * {width} + 2 * y + phase // 2 + ky) * {width} + 2 * x + phase % 2) * 16
                        w = {structure.offsets[f"w{layer}"]} + ((g * {inputs} + c) * 5 + ky) * {5 * group}
{_indent(taps, 6)}
                best = max_rows(best, acc)
            to = {target} + (g * {group * side * side} + y * {side} + x) * 16
{_indent(stores, 3)}
"""


def _dense_chain(structure: Structure, begin: int, end: int) -> str:
    """`h`, after layer `begin`, becomes what layer `end` gives, ReLU included."""
    lines = []
    for layer in range(begin + 1, end + 1):
        offsets, outputs = structure.offsets, structure.widths[layer]
        bias = f"spread_row(W, {offsets[f'b{layer}']}, {outputs})"
        lines.append(f"h = relu_row(dense({bias}, h, W, {offsets[f'w{layer}']}))")
    return "\n".join(lines)


def _contributions(structure: Structure, consumer: int, rows: int, target: str) -> str:
    """Rows of the units' outputs in S, each through its own weights of the consumer, stored from C[target]."""
    outputs = structure.outputs(consumer)
    if consumer == structure.last:
        row = f"weigh_add(zero_row({outputs}), Z, z + (1 + channels[r]) * {outputs * 16}, 16, load(S, units[r] * 16))"
        return f"for r in range({rows}):\n    store_row(C, {target} + r * {outputs * 16}, {row})"
    weights = structure.offsets[f"w{consumer}"]
    if consumer == 2:
        return f"""
for r in range({rows}):
    acc = zero_row({outputs})
    for q in range({PLACES}):
        acc = scale_add(acc, load(S, (units[r] * {PLACES} + q) * 16), W, {weights} + (r * {PLACES} + q) * {outputs})
    store_row(C, {target} + r * {outputs * 16}, acc)
"""
    row = f"scale_add(zero_row({outputs}), load(S, units[r] * 16), W, {weights} + r * {outputs})"
    return f"for r in range({rows}):\n    store_row(C, {target} + r * {outputs * 16}, {row})"


def _relative(structure: Structure) -> str:
    return f"z = v * {structure.rivals * (1 + structure.widths[-2]) * 16}"


def _prefix(structure: Structure) -> str:
    """Everything up to the first site, all units; and the rows of that site, but where the tree starts at the images.

    A holds, of each vector of images, the first convolution's pooled activations; S those of the site.
    """
    image, pooled = structure.channels * 32 * 32 * 16, structure.widths[0] * 14 * 14 * 16
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
            body += (
                _flattened(structure) + "\n" + _dense_chain(structure, 2, structure.first) + "\nstore_row(S, 0, h)\n"
            )
        body += _contributions(structure, structure.sums[0].consumer, rows, f"v * {rows * outputs * 16}")
    return _function("prefix", arguments, f"for v in range(V):\n{_indent(body, 1)}")


def _flattened(structure: Structure) -> str:
    """The third convolution: its kernel covers all places, so that it is a dense layer of them."""
    outputs = structure.widths[2]
    return f"""
h = spread_row(W, {structure.offsets["b2"]}, {outputs})
for i in range({structure.widths[1] * PLACES}):
    h = scale_add(h, load(S, i * 16), W, {structure.offsets["w2"]} + i * {outputs})
h = relu_row(h)
"""


def _first(structure: Structure) -> str:
    """Masks of the first convolution, through the second and its pooling, to the rows of the next site.

    Unit by unit of the second convolution, so that the table of all parts' sums stays in the cache. P holds the
    rows of one unit: its pre-activation, 10 x 10 places, the four of a pooling window side by side.
    """
    third, rows = structure.sums[0], structure.first_rows
    outputs, table = structure.outputs(2), 100 * 16
    is_site = third.rows > 1
    taps = "\n".join(f"acc = weigh_add(acc, A, at + {kx * 16}, 16, spread(W, w + {kx}))" for kx in range(5))
    stores = "\n".join(f"store(P, to + {((x // 2) * 4 + x % 2) * 16}, acc[{x}])" for x in range(10))
    window = "load_row(T, entries[m * {parts} + {part}] * {table} + q * 64, 4)"
    windows = [
        window.format(parts=structure.first_parts, part=part, table=table) for part in range(structure.first_parts)
    ]
    total = windows[0]
    for other in windows[1:]:
        total = f"add_rows({total}, {other})"
    target = f"((m * V + v) * {third.rows} + {'r' if is_site else '0'}) * {outputs * 16}"
    begin = f"zero_row({outputs})" if is_site else f"load_row(C, {target}, {outputs})"
    adds = "\n".join(f"acc = scale_add(acc, load(S, (q + {i}) * 16), W, w + (q + {i}) * {outputs})" for i in range(5))
    body = f"""
for at in range(0 if {is_site} else count * V * {outputs * 16}):
    C[at] = 0
for v in range(V):
    for u in range({structure.widths[1]}):
        for r in range({rows}):
            for y in range(10):
                acc = zero_row(10)
                for ky in range(5):
                    at = v * {structure.widths[0] * 196 * 16} + (units[r] * 196 + (y + ky) * 14) * 16
                    w = {structure.offsets["w1"]} + (u * {rows} + r) * 25 + ky * 5
{_indent(taps, 5)}
                to = r * {table} + ((y // 2) * 20 + (y % 2) * 2) * 16
{_indent(stores, 4)}
        bias = spread(W, {structure.offsets["b1"]} + u)
        for at in range(0, {table}, 16):
            store(T, at, lift(0.0))
            store(T, {table} + at, bias)
        for step in range(0, steps.size, 3):
            for at in range(0, {table}, 160):
                row = add_rows(load_row(T, steps[step + 1] * {table} + at, 10), load_row(P, steps[step + 2] * {table} + at, 10))
                store_row(T, steps[step] * {table} + at, row)
        for m in range(count):
            for q in range({PLACES}):
                store(S, q * 16, maximum(lift(0.0), max_of_row({total})))
            for r in range(row_starts[u], row_starts[u + 1]):
                acc = {begin}
                w = {structure.offsets["w2"]} + r * {PLACES * outputs}
                for q in range(0, {PLACES}, 5):
{_indent(adds, 5)}
                store_row(C, {target}, acc)
"""
    arguments = [(name, _F) for name in ("A", "W", "P", "T", "S", "C")]
    arguments += [(name, _I) for name in ("units", "steps", "entries", "row_starts")]
    return _function("first", [*arguments, ("count", "int64"), ("V", "int64")], body)


def _chosen(structure: Structure, item: Sum, index: str) -> str:
    """`pre`: what the mask at `index` of the list leaves in front of the consumer."""
    outputs = structure.outputs(item.consumer)
    row = f"rows[picks[{index}] * {item.kept} + i]"
    return f"""
pre = {_bias(structure, item)}
for i in range({item.kept}):
    pre = add_rows(pre, load_row(B, (parents[{index}] * V + v) * {item.rows * outputs * 16} + {row} * {outputs * 16}, {outputs}))
"""


def _bias(structure: Structure, item: Sum) -> str:
    outputs = structure.outputs(item.consumer)
    if item.consumer == structure.last:
        return f"load_row(Z, z, {outputs})"
    return f"spread_row(W, {structure.offsets[f'b{item.consumer}']}, {outputs})"


def _middle(structure: Structure, index: int) -> str:
    """A list of masks of a site in the middle of the tree, each under its parent; from rows B to the next site's rows C."""
    item, following = structure.sums[index], structure.sums[index + 1]
    outputs = structure.outputs(following.consumer)
    target = f"(j * V + v) * {following.rows * outputs * 16}"
    body = f"""
for j in range(parents.size):
    for v in range(V):
        {_relative(structure)}
{_indent(_chosen(structure, item, "j"), 2)}
        h = relu_row(pre)
{_indent(_dense_chain(structure, item.consumer, following.consumer - 1), 2)}
        store_row(S, 0, h)
{_indent(_contributions(structure, following.consumer, following.rows, target), 2)}
"""
    arguments = [(name, _F) for name in ("B", "W", "Z", "S", "C")]
    arguments += [(name, _I) for name in ("parents", "picks", "rows", "units", "channels")]
    return _function(f"sum{index}", [*arguments, ("V", "int64")], body)


def _logits(structure: Structure) -> str:
    """`t`, from `pre`: each rival's logit less the true class's, in bits."""
    item = structure.sums[-1]
    if item.consumer == structure.last:
        return "t = pre"
    chain = _dense_chain(structure, item.consumer, structure.last - 1)
    bias = f"load_row(Z, z, {structure.rivals})"
    return f"h = relu_row(pre)\n{chain}\nt = dense_by_lane({bias}, h, Z, z + {structure.rivals * 16})"


_NOTE = f"""
worst = max_of_row(t)
odds = sum_of_exp2(t)
old = load(Q, at)
new = multiply_add(odds, old, add(odds, old))
if any_lane(either(greater(new, lift({_FULL})), greater(worst, lift({_FAR})))):
    shift = maximum(worst, lift(0.0))
    near = add(sum_of_exp2(lower_row(t, shift)), exp2(subtract(lift(0.0), shift)))
    whole = multiply(add(old, lift(1.0)), near)
    parts = split_exponent(whole)
    store(X, at, add(load(X, at), add(shift, parts[1])))
    new = add(subtract(parts[0], lift(1.0)), subtract(whole, whole))
store(Q, at, new)
store(N, at, count_up(load(N, at), greater(worst, lift(0.0))))
"""
"""An image's part: its odds against the true class, sum of 2^t, so that the loss is log2(1 + odds).

Q + 1 is the product of (1 + odds) over images so far, less 2^X: one logarithm for all of them. Kept less 1, it holds
small losses to a relative 1e-7 too. The product's power of two goes to X before it could overflow; so does that of
an image whose largest logit is far above the true one's. whole - whole is 0, or not a number where it is none."""

_SUM_UP = """
q = load(Q, at)
parts = split_exponent(add(q, lift(1.0)))
large = add(parts[1], log2_near_one(subtract(parts[0], lift(1.0))))
bits = choose(greater(lift(1.0), q), log2_near_one(q), large)
losses[to] += total(add(add(bits, load(X, at)), subtract(q, q))) * 0.6931471805599453
wrongs[to] += total(load(N, at))
"""
"""The one logarithm; q - q is 0, or not a number where q is none."""

_RESULTS = [("Q", _F), ("X", _F), ("N", "int32[::1]"), ("losses", _D), ("wrongs", _I)]


def _leaves_by_table(structure: Structure) -> str:
    """All masks of the last site under each of `nodes` parents: two tables, one addition a mask."""
    item = structure.sums[-1]
    outputs = structure.outputs(item.consumer)
    row = outputs * 16
    body = f"""
for i in range(nodes):
    for at in range(entries.size // 2 * 16):
        Q[at] = 0
        X[at] = 0
        N[at] = 0
    for v in range(V):
        {_relative(structure)}
        base = (i * V + v) * {item.rows * row}
        store_row(T, 0, zero_row({outputs}))
        store_row(T, {row}, {_bias(structure, item)})
        for step in range(0, steps.size, 3):
            partial = add_rows(load_row(T, steps[step + 1] * {row}, {outputs}), load_row(B, base + steps[step + 2] * {row}, {outputs}))
            store_row(T, steps[step] * {row}, partial)
        for m in range(entries.size // 2):
            at = m * 16
            pre = add_rows(load_row(T, entries[2 * m] * {row}, {outputs}), load_row(T, entries[2 * m + 1] * {row}, {outputs}))
{_indent(_logits(structure), 3)}
{_indent(_NOTE, 3)}
    for m in range(entries.size // 2):
        at = m * 16
        to = i * (entries.size // 2) + m
{_indent(_SUM_UP, 2)}
"""
    arguments = [(name, _F) for name in ("B", "W", "Z", "T")] + [(name, _I) for name in ("steps", "entries")]
    return _function("leaves_by_table", [*arguments, *_RESULTS, ("nodes", "int64"), ("V", "int64")], body)


def _leaves_by_list(structure: Structure) -> str:
    """A list of masks of the last site, each under its parent."""
    body = f"""
for to in range(parents.size):
    at = 0
    for lane in range(16):
        Q[lane] = 0
        X[lane] = 0
        N[lane] = 0
    for v in range(V):
        {_relative(structure)}
{_indent(_chosen(structure, structure.sums[-1], "to"), 2)}
{_indent(_logits(structure), 2)}
{_indent(_NOTE, 2)}
{_indent(_SUM_UP, 1)}
"""
    arguments = [(name, _F) for name in ("B", "W", "Z")] + [(name, _I) for name in ("parents", "picks", "rows")]
    return _function("leaves_by_list", [*arguments, *_RESULTS, ("V", "int64")], body)
