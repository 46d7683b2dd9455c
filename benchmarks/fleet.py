"""What training and evaluating in lanes cost beside PyTorch: core-seconds a network and epoch, in one process.

python benchmarks/fleet.py [--data-dir DATA] [--json] [--images N] [CASE ...]

The rival is one network at a time in a loop tuned for a CPU core: images in memory, channels-last weights, a fused
optimiser, one thread; evaluation without gradients, in batches that stay in the cache. Both see the same N images a
round, in batches of 256, and take turns; figures are medians over the rounds, scaled to 60,000 images. Compiling is
left out. `fraction_of_peak` counts the products of dense layers, those too that lanes skip because they know the
result; the peak is measured in the same process. `two_threads` goes by the clock and needs a machine that does
nothing else; beside its ratio stands what the second thread costs the first in core-seconds, which needs none.
"""

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from measure import core_seconds, data_folder, in_turns, machine, show
from torch import nn

from trueoracle.data import Dataset, Split, images_of, load_dataset
from trueoracle.fleet import assign
from trueoracle.fleet.lanes import LaneFleet, kernels
from trueoracle.lanes import LANES
from trueoracle.nets import build, channels_last, cost, evaluate, find_sites, remove
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.mask import Mask
from trueoracle.words.progress import Bars, Quiet
from trueoracle.words.shape import InputShape, Shape
from trueoracle.words.spec import Recipe

RECIPE = Recipe(optimiser="sgd", lr=0.001, momentum=0.9, weight_decay=1e-4, batch_size=256, epochs=1)
EPOCH, ROUNDS = 60_000, 5
CASES = {
    f"{what}, {filters}{where}": (what, filters, data)
    for filters, data, where in (
        ("5-10-10", "mnist", ", MNIST"), ("10-10-10", "mnist", ", MNIST"), ("5-10-10", "noise", ", RGB noise")
    )
    for what in ("train", "evaluate")
}  # fmt: skip


def main() -> None:
    """Measure the cases asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"default: all of {', '.join([*CASES, 'two_threads'])}"
    )
    parser.add_argument("--data-dir", type=Path, default=data_folder(), help="default: TRUEORACLE_DATA")
    parser.add_argument("--images", type=int, default=7_680)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    cases = asked.cases or [*CASES, "two_threads"]
    if unknown := sorted({*cases} - {*CASES, "two_threads"}):
        parser.error(f"unknown case `{unknown[0]}`: known are {', '.join([*CASES, 'two_threads'])}")
    if asked.data_dir is None:
        parser.error("name the folder of data by --data-dir or TRUEORACLE_DATA")
    torch.set_num_threads(1)
    here = machine()
    mnist = load_dataset("mnist", asked.data_dir, torch.device("cpu"), Quiet())
    data = {"mnist": part(mnist, asked.images), "noise": noise(asked.images)}
    results: dict[str, dict[str, Any]] = {"machine": here}
    for name in cases:
        if name == "two_threads":
            results[name] = two_threads(data["mnist"])
            continue
        what, filters, where = CASES[name]
        results[name] = compare(what, filters, data[where], float(here["peak_gflops_a_core"]) * 1e9)
    show(results, as_json=asked.json)


def compare(what: str, filters: str, data: Dataset, peak: float) -> dict[str, float | list[float]]:
    """Lanes and loop in turns; core-seconds a network and epoch."""
    nets = networks(filters, data)
    lanes = fleet(nets, data)
    alone = channels_last(nets[0])
    works: dict[str, Callable[[], object]] = {
        "train": partial(train_lanes, lanes, data), "evaluate": partial(evaluate_lanes, lanes),
    }  # fmt: skip
    loops: dict[str, Callable[[], object]] = {
        "train": partial(train_loop, alone, data), "evaluate": partial(evaluate_loop, alone, data),
    }  # fmt: skip
    works[what]()
    loops[what]()
    spent = in_turns(ROUNDS, lanes=works[what], loop=loops[what])
    scale = EPOCH / images_of_a_round(what, data)
    ours, theirs = (median(spent[name]) * scale / models for name, models in (("lanes", LANES), ("loop", 1)))
    return {
        "core_seconds": ours,
        "loop_core_seconds": theirs,
        "ratio": theirs / ours,
        "ratio_of_each_round": [round(a * LANES / b, 2) for a, b in zip(spent["loop"], spent["lanes"], strict=True)],
        "fraction_of_peak": operations(what, nets[0], data.shape) * EPOCH / ours / peak,
    }


def two_threads(data: Dataset) -> dict[str, float]:
    """Two fleets in two threads beside one after the other."""
    fleets = [fleet(networks("5-10-10", data), data) for _ in range(2)]

    def one_by_one() -> None:
        for lanes in fleets:
            train_lanes(lanes, data)

    def together() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(partial(train_lanes, data=data), fleets))

    one_by_one()
    by_clock = in_turns(ROUNDS, perf_counter, one=one_by_one, two=together)
    by_core = {name: core_seconds(work) for name, work in (("one", one_by_one), ("two", together))}
    return {
        "seconds_one": min(by_clock["one"]),
        "seconds_two": min(by_clock["two"]),
        "ratio": min(by_clock["one"]) / min(by_clock["two"]),
        "ratio_by_core_seconds": 2 * by_core["one"] / by_core["two"],
    }


def train_lanes(lanes: LaneFleet, data: Dataset) -> None:
    """An epoch of the fleet, without evaluation."""
    for batch in torch.split(torch.randperm(len(data.train)), RECIPE.batch_size):
        lanes.step(batch, (0, 0, 1), lambda: False)


def evaluate_lanes(lanes: LaneFleet) -> None:
    """Both splits."""
    lanes.evaluate(lambda: False)


def train_loop(net: nn.Module, data: Dataset) -> None:
    """An epoch of one network, without evaluation."""
    net.train()
    optimiser = torch.optim.SGD(
        net.parameters(), lr=RECIPE.lr, momentum=RECIPE.momentum, weight_decay=RECIPE.weight_decay, fused=True
    )
    train = images_of(data.train)
    images, labels = train.images_NCHW, train.labels_N
    for batch in torch.split(torch.randperm(len(train)), RECIPE.batch_size):
        loss = F.cross_entropy(net(images[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def evaluate_loop(net: nn.Module, data: Dataset) -> None:
    """Both splits."""
    for split in (data.train, data.test):
        evaluate(net, split)


def fleet(nets: Sequence[nn.Module], data: Dataset) -> LaneFleet:
    """Sixteen networks in lanes, compiled."""
    chain = assign(nets[0], data, RECIPE, "lanes").chain
    assert chain is not None
    code = kernels(chain, nets[0], lone=False, progress=Bars())
    lanes = LaneFleet(code, nets, data, [RECIPE] * len(nets))
    lanes.set_rates([RECIPE.lr] * len(nets))
    return lanes


def networks(filters: str, data: Dataset) -> list[nn.Module]:
    """Sixteen LeNet5-Mini with 5 or 10 filters in the first layer, all different."""
    net = build("lenet5-mini", data.shape, seed=0)
    if filters == "10-10-10":
        return [build("lenet5-mini", data.shape, seed=seed) for seed in range(LANES)]
    space = MaskSpace((SiteChoice(site="conv1", units=10, pruned=5),))
    masks: list[Mask] = [space.unrank(rank) for rank in range(LANES)]
    sites = find_sites(net, data.shape)
    return [remove(net, mask, sites) for mask in masks]


def operations(what: str, net: nn.Module, shape: Shape) -> int:
    """Floating-point operations a network and image; training, all but the gradient of the image."""
    forward = 2 * cost(net, shape).macs
    first = net.get_submodule("conv1")
    assert isinstance(first, nn.Conv2d)
    assert isinstance(shape, InputShape)
    windows = (shape.height - first.kernel_size[0] + 1) * (shape.width - first.kernel_size[1] + 1)
    return forward if what == "evaluate" else 3 * forward - 2 * first.weight.numel() * windows


def images_of_a_round(what: str, data: Dataset) -> int:
    """How many images one round of a case sees."""
    return len(data.train) + (len(data.test) if what == "evaluate" else 0)


def part(data: Dataset, images: int) -> Dataset:
    """The first images of each split; fewer of the test split where it has no more."""
    train, test = (
        Split(images_NCHW=split.images_NCHW[:images].contiguous(), labels_N=split.labels_N[:images])
        for split in (images_of(data.train), images_of(data.test))
    )
    return Dataset(name=data.name, shape=data.shape, train=train, test=test, fingerprint="")


def noise(images: int) -> Dataset:
    """Images like those of CIFAR-10, but for their content: every pixel at random, no background anywhere."""
    numbers = torch.Generator().manual_seed(0)
    train, test = (
        Split(
            images_NCHW=torch.randn(images, 3, 32, 32, generator=numbers),
            labels_N=torch.randint(0, 10, (images,), generator=numbers),
        )
        for _ in range(2)
    )
    shape = InputShape(channels=3, height=32, width=32, classes=10)
    return Dataset(name="noise", shape=shape, train=train, test=test, fingerprint="")


if __name__ == "__main__":
    main()
