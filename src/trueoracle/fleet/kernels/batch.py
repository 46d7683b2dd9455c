"""The source of the kernels that train one chain in lanes: forward, loss, backward, all for one sample at a time.

All arrays but the images end in an axis of 16 lanes. In a fleet a lane is a network and an image is one number a
pixel for all of them; with `lone`, a lane is a sample, sixteen of one network at a time. The kernels address flat
arrays: `w` weights and `g` their gradients, in the order of the network's own parameters; `s` and `t` floats and
integers of scratch, laid out here.
"""

from collections.abc import Iterator
from math import prod

from trueoracle.fleet.chain import Pool, Product, Relu, Stage
from trueoracle.fleet.kernels import backward, forward
from trueoracle.fleet.kernels.layout import Layout, padded
from trueoracle.fleet.kernels.sheet import ARGUMENTS, KINDS, Sheet, cleared, function
from trueoracle.lanes import LANES, Target

_IMPORTS = """\
from trueoracle.lanes.tiles import (
    add_tile, as_index, divide, equals, four_tile, multiply_tile, pool_tile, route_tile, select_tile, start_tile,
    store_tile, zero_tile,
)
"""
_LOSSES = """\
@njit("void(float32[:, :, :], int64[::1], float64[:, ::1])", nogil=True, cache=True)
def losses(logits, labels, found):
    for n in range(logits.shape[0]):
        for lane in range(logits.shape[2]):
            highest = logits[n, 0, lane]
            for k in range(1, logits.shape[1]):
                highest = max(highest, logits[n, k, lane])
            whole = 0.0
            for k in range(logits.shape[1]):
                whole += numpy.exp(numpy.float64(logits[n, k, lane]) - highest)
            found[n, lane] = numpy.log(whole) - (numpy.float64(logits[n, labels[n], lane]) - highest)
"""
"""The cross-entropy of each image. Here, because NumPy's own logarithm of many numbers differs among processors in the last bit."""
_BATCH = "float32[::1], uint8[::1], int64[::1], int64[::1], float32[::1], float32[::1], float32[::1], int32[::1]"


def source(layout: Layout, target: Target) -> str:
    """The module's text for the registers of `target`."""
    sheet = Sheet(layout=layout, target=target)
    functions = [text for n, stage in enumerate(sheet.stages) for text in _stage(sheet, n, stage)]
    functions += [_loss(sheet), _read(sheet), *_heard(sheet), _both(sheet), _train(sheet), _logits(sheet)]
    tiles = [f"{name} = {call}" for call, name in sheet.tiles.items()]
    return "\n".join([_IMPORTS, *tiles, "", *functions, _LOSSES])


def _stage(sheet: Sheet, n: int, stage: Stage) -> Iterator[str]:
    match stage:
        case Product():
            yield function(f"forward_{n}", forward.product_forward(sheet, n, stage))
            if n == 0 and sheet.layout.skips:
                yield function("blank", forward.blank(sheet, stage))
            yield function(f"route_{n}", backward.route(sheet, n, stage))
            chosen = sheet.selects and n == 0
            weigh = backward.select_weigh(sheet, stage) if chosen else backward.weigh(sheet, n, stage)
            yield function(f"weigh_{n}", weigh)
            if n > sheet.trained:
                yield function(f"backward_{n}", backward.product_backward(sheet, n, stage))
        case Pool():
            yield function(f"forward_{n}", forward.pool_forward(sheet, n, stage))
            if n > sheet.trained:
                yield function(f"backward_{n}", backward.pool_backward(sheet, n, stage))
        case Relu():
            yield function(f"forward_{n}", forward.relu_forward(sheet, n, stage))
            if n > sheet.trained:
                yield function(f"backward_{n}", backward.relu_backward(sheet, n, stage))


def _loss(sheet: Sheet) -> str:
    """Softmax less one-hot, times each sample's share of the batch.

    With a teacher that is one part, and the other is its softened answer less from the softened softmax: their factors and
    that of logits in powers of 2 stand at `lesson`.
    """
    at, last = sheet.layout, sheet.layout.gradients[-1]
    target = f"equals(load(t, {at.labels}), k)"
    fault = f"subtract(chance, {target})"
    soften = ""
    if at.distills:
        whole = f"load(s, {at.lesson + 2 * LANES})"
        soften = f"""\
    softened = lift(0.0)
    for k in range({at.chain.classes}):
        power = exp2(multiply(subtract(load(s, {at.entries[-1]} + k * {LANES}), highest), {whole}))
        store(s, {at.softened} + k * {LANES}, power)
        softened = add(softened, power)
"""
        apart = f"subtract(divide(load(s, {at.softened} + k * {LANES}), softened), load(s, {at.taught} + k * {LANES}))"
        fault = f"multiply_add({apart}, load(s, {at.lesson + LANES}), multiply({fault}, load(s, {at.lesson})))"
    return f"""\
@njit("void({KINDS})", nogil=True, cache=True)
def loss({ARGUMENTS}):
    highest = load(s, {at.entries[-1]})
    for k in range(1, {at.chain.classes}):
        highest = maximum(load(s, {at.entries[-1]} + k * {LANES}), highest)
    whole = lift(0.0)
    for k in range({at.chain.classes}):
        power = exp2(multiply(subtract(load(s, {at.entries[-1]} + k * {LANES}), highest), lift(1.4426950408889634)))
        store(s, {last} + k * {LANES}, power)
        whole = add(whole, power)
{soften}    share = load(s, {at.shares})
    for k in range({at.chain.classes}):
        chance = divide(load(s, {last} + k * {LANES}), whole)
        store(s, {last} + k * {LANES}, multiply({fault}, share))
"""


def _read(sheet: Sheet) -> str:
    """Samples order[begin ...] and their labels; with `lone`, up to sixteen of them, the rest of no weight."""
    at = sheet.layout
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


def _heard(sheet: Sheet) -> Iterator[str]:
    """The teacher's softened answers to the samples that `read` reads."""
    at = sheet.layout
    if not at.distills:
        return
    classes = at.chain.classes
    head = """\
@njit("void(float32[::1], float32[::1], int64[::1], int64, float32[::1])", nogil=True, cache=True)
def hear(taught, lesson, order, begin, s):
"""
    lines = [f"    for k in range(3):\n        store(s, {at.lesson} + k * {LANES}, spread(lesson, k))"]
    if at.lone:
        lines += [
            f"    for lane in range({LANES}):",
            "        sample = order[min(begin + lane, len(order) - 1)]",
            f"        for k in range({classes}):",
            f"            s[{at.taught} + k * {LANES} + lane] = taught[sample * {classes} + k]",
        ]
    else:
        lines += [
            f"    for k in range({classes}):",
            f"        store(s, {at.taught} + k * {LANES}, spread(taught, order[begin] * {classes} + k))",
        ]
    yield head + "\n".join(lines) + "\n"


def _both(sheet: Sheet) -> str:
    forward = [f"    forward_{n}({ARGUMENTS})" for n in range(len(sheet.stages))]
    backward = []
    for n in range(len(sheet.stages) - 1, sheet.trained - 1, -1):
        if isinstance(sheet.stages[n], Product):
            backward += [f"    route_{n}({ARGUMENTS})", f"    weigh_{n}({ARGUMENTS})"]
        if n > sheet.trained:
            backward.append(f"    backward_{n}({ARGUMENTS})")
    return "\n".join(
        [
            f'@njit("void({KINDS})", nogil=True, cache=True)',
            f"def forward({ARGUMENTS}):",
            *forward,
            "",
            f'@njit("void({KINDS})", nogil=True, cache=True)',
            f"def backward({ARGUMENTS}):",
            f"    loss({ARGUMENTS})",
            *backward,
            "",
        ]
    )


def _train(sheet: Sheet) -> str:
    at, step = sheet.layout, LANES if sheet.layout.lone else 1
    blank = "    blank(background, marks, w, g, s, t, 0)\n" if at.skips else ""
    clear, finish = "", ""
    kinds, names, hear = "", "", ""
    if at.distills:
        kinds, names = ", float32[::1], float32[::1]", ", taught, lesson"
        hear = "        hear(taught, lesson, order, begin, s)\n"
    first = sheet.stages[0]
    if sheet.selects and isinstance(first, Product):
        taps = prod(first.kernel)
        clear = cleared(at.blank_gradient, first.outputs * LANES)
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
@njit("void({_BATCH}, float32[::1], float64{kinds})", nogil=True, cache=True)
def gradients(images, marks, labels, order, w, g, s, t, background, share{names}):
{clear}{blank}\
    for begin in range(0, len(order), {step}):
        read(images, labels, order, begin, share, s, t)
{hear}\
        forward(images, marks, w, g, s, t, order[begin])
        backward(images, marks, w, g, s, t, order[begin])
{finish}"""


def _logits(sheet: Sheet) -> str:
    """Logits of the samples of `order`, lanes last."""
    at, step = sheet.layout, LANES if sheet.layout.lone else 1
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
