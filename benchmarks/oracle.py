"""What the exact oracle costs against one mask at a time: core-seconds in one process, one thread, on MNIST.

python benchmarks/oracle.py --data-dir DATA [--json] [conv1 | pairs | triples | two_threads] ...

The loop's cost is extrapolated from some masks: the network physically pruned by each, in memory, evaluated by
PyTorch on the same images, least of several. The exact oracle's is measured whole, compiling left out. Beside
them stands the machine's multiply-add peak, measured with twelve accumulators in registers.
"""

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, process_time

import torch
from torch import nn

from trueoracle.data import Dataset, load_dataset
from trueoracle.examples import Examples
from trueoracle.fleet import train
from trueoracle.lanes import LANES, aligned, build
from trueoracle.nets import build as build_network
from trueoracle.nets import channels_last, evaluate, find_sites, remove
from trueoracle.oracle.exact import Exact, exact
from trueoracle.progress import Bars, Quiet
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.spec import Recipe

CASES = {
    "conv1": (("conv1",), 60_000),
    "pairs": (("conv1", "conv2"), 60_000),
    "triples": (("conv1", "conv2", "conv3"), 1_000),
}
BLOCK = 2048
THREADS_IMAGES = 16_384
LOOP_MASKS, LOOP_REPEATS = 4, 3
_STEPS, _REPEATS, _ACCUMULATORS = 2_000_000, 7, 12


def main() -> None:
    """Measure the cases asked for and print one line, or one JSON object, for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help="default: all")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cases = asked.cases or [*CASES, "two_threads"]
    if unknown := sorted({*cases} - {*CASES, "two_threads"}):
        parser.error(f"unknown case {unknown[0]}: known are {', '.join(CASES)}, two_threads")
    data = load_dataset("mnist", asked.data_dir, torch.device("cpu"), Quiet())
    net = network(data)
    peak = multiply_adds_a_second()
    for name in cases:
        facts = two_threads(net, data) if name == "two_threads" else compare(name, net, data)
        show({"case": name, **facts, "peak_gflops": peak / 1e9}, as_json=asked.json)


def network(data: Dataset) -> nn.Module:
    """LeNet5-Mini after one epoch: its cost does not depend on its weights, its losses are of the usual size."""
    recipe = Recipe(optimiser="sgd", lr=0.01, momentum=0.9, batch_size=256, epochs=1)
    return train(build_network("lenet5-mini", data.shape, seed=0), data, recipe, order_seed=0).net


def multiply_adds_a_second() -> float:
    """Floating-point operations a second of one core, two for each multiply-add in each lane."""
    names = [f"x{i}" for i in range(_ACCUMULATORS)]
    lines = ['@njit("void(float32[::1], int64)", nogil=True, cache=True)', "def peak(a, steps):", "    w = load(a, 0)"]
    lines += [f"    {x} = load(a, {i * LANES})" for i, x in enumerate(names)]
    lines += ["    for _ in range(steps):", *(f"        {x} = multiply_add({x}, w, w)" for x in names)]
    lines += [f"    store(a, {i * LANES}, {x})" for i, x in enumerate(names)]
    kernel = build("peak", "\n".join(lines) + "\n", Quiet()).peak
    values = aligned(_ACCUMULATORS * LANES)
    seconds = min(core_seconds(lambda: kernel(values, _STEPS)) for _ in range(_REPEATS))
    return 2 * LANES * _ACCUMULATORS * _STEPS / seconds


def compare(name: str, net: nn.Module, data: Dataset) -> dict[str, float | int | str]:
    """One case, whole, against the loop on a few of its masks."""
    sites, count = CASES[name]
    images = data.train.take(slice(count))
    space, oracle = made(net, data, sites)
    spent = core_seconds(lambda: run(oracle, space, images))
    a_mask = loop_core_seconds(net, data, space)
    loop = a_mask / len(data.train) * count * space.count
    return {
        "masks": space.count,
        "images": count,
        "core_seconds": spent,
        "loop_core_seconds": loop,
        "loop_core_seconds_a_mask_of_60000_images": a_mask,
        "loop_extrapolated_from_masks": LOOP_MASKS,
        "ratio": loop / spent,
    }


def loop_core_seconds(net: nn.Module, data: Dataset, space: MaskSpace) -> float:
    """The least that the loop took for one of a few masks on all images; removal itself is not counted."""
    masks = (space.unrank(place) for place in space.draw(LOOP_MASKS, seed=0))
    sites = find_sites(net, data.shape)
    pruned = [channels_last(remove(net, mask, sites)) for mask in masks]
    return min(
        sum(core_seconds(lambda one=one: evaluate(one, data.train)) for one in pruned) / len(pruned)  # type: ignore[misc]
        for _ in range(LOOP_REPEATS)
    )


def two_threads(net: nn.Module, data: Dataset) -> dict[str, float | int | str]:
    """The pairs' speed with two threads over one's, by the clock: the machine must be otherwise idle."""
    images = data.train.take(slice(THREADS_IMAGES))
    space, oracle = made(net, data, ("conv1", "conv2"))
    half = len(images) // 2
    halves = [images.take(slice(half)), images.take(slice(half, None))]

    def together() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda half: run(oracle, space, half), halves))

    one = min(seconds(perf_counter, lambda: run(oracle, space, images)) for _ in range(3))
    two = min(seconds(perf_counter, together) for _ in range(3))
    return {"masks": space.count, "images": len(images), "seconds_one": one, "seconds_two": two, "ratio": one / two}


def made(net: nn.Module, data: Dataset, sites: tuple[str, ...]) -> tuple[MaskSpace, Exact]:
    """The half-pruned space of these sites and its oracle, compiled and warm."""
    space = MaskSpace(tuple(SiteChoice(site=site, units=10, pruned=5) for site in sites))
    oracle = exact(net, space, data.shape, progress=Bars())
    assert isinstance(oracle, Exact)
    oracle.sums(range(min(space.count, 1000)), data.train.take(slice(16)))
    return space, oracle


def run(oracle: Exact, space: MaskSpace, images: Examples) -> None:
    """All masks on all images, block by block."""
    ranks = range(space.count)
    for begin in range(0, len(images), BLOCK):
        oracle.sums(ranks, images.take(slice(begin, begin + BLOCK)))


def core_seconds(work: Callable[[], object]) -> float:
    """Seconds of processor time that `work` takes."""
    return seconds(process_time, work)


def seconds(clock: Callable[[], float], work: Callable[[], object]) -> float:
    """Seconds of `clock` that `work` takes."""
    begin = clock()
    work()
    return clock() - begin


def show(facts: dict[str, float | int | str], *, as_json: bool) -> None:
    """One line of JSON or of words."""
    if as_json:
        print(json.dumps(facts), flush=True)
        return
    parts = (f"{key.replace('_', ' ')} {value:,.4g}" for key, value in facts.items() if not isinstance(value, str))
    print(f"{facts['case']}: {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
