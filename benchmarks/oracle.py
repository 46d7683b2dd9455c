"""What the pruned loss of a mask costs: core-seconds of one thread, against one mask at a time.

    python benchmarks/oracle.py [--data-dir DATA] [--json] [conv1 | pairs | triples | resnet56 | two_threads] ...

`loop_core_seconds` is extrapolated from a few masks of the case: networks physically pruned by them, in memory,
evaluated by PyTorch on the same images; removal itself is not counted. `core_seconds` is all that `trueoracle oracle`
does but for writing the table: measured whole, or, where `masks_timed` are fewer than `masks`, extrapolated from so
many, which then bear alone what all masks share. Compiling is left out. Both take turns in one process; each counts
by its best round, and `ratios` has the ratio of every round. `loop_share_of_peak` is the part of the machine's
multiply-add peak that the loop reaches: without sharing work among masks, nothing is faster by more than its inverse.

`two_threads` compares seconds on the clock, which only an otherwise idle machine keeps; beside them stand the core-seconds.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import torch
from torch import nn

from trueoracle.data import Dataset, load_dataset
from trueoracle.executors import Threads
from trueoracle.fleet import train_alone
from trueoracle.nets import build, channels_last, cost, evaluate, find_sites, remove
from trueoracle.oracle import Evaluator, evaluator
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.study.survey import survey
from trueoracle.words.progress import Bars, Quiet
from trueoracle.words.spec import Recipe

# Its cost does not depend on its weights, its losses are of the usual size.
ONE_EPOCH = Recipe(optimiser="sgd", lr=0.01, momentum=0.9, batch_size=256, epochs=1)


@dataclass(frozen=True, kw_only=True)
class Case:
    """All masks of half-pruned sites, or the first `masks_timed` of them; ResNet56 has random weights."""

    model: str = "lenet5-mini"
    data: str = "mnist"
    recipe: Recipe | None = ONE_EPOCH
    sites: tuple[str, ...]
    images: int
    masks_timed: int | None = None
    loop_masks: int = 4


CASES = {
    "conv1": Case(sites=("conv1",), images=60_000),
    "pairs": Case(sites=("conv1", "conv2"), images=60_000),
    "triples": Case(sites=("conv1", "conv2", "conv3"), images=1_000),
    "resnet56": Case(
        model="resnet56",
        data="cifar10",
        recipe=None,
        sites=("layer1.0.conv1",),
        images=2_000,
        masks_timed=16,
        loop_masks=2,
    ),
}
TWO_THREADS = Case(sites=("conv1", "conv2"), images=16_384)


def main() -> None:
    """Measure the cases asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help="default: all")
    parser.add_argument("--data-dir", type=Path, default=measure.data_folder(), help="default: TRUEORACLE_DATA")
    parser.add_argument("--rounds", type=int, default=2, help="of which the best counts")
    parser.add_argument("--json", action="store_true", help="print nothing but one JSON object, with an object a case")
    asked = parser.parse_args()
    known: dict[str, Callable[[], dict[str, Any]]] = {
        name: lambda case=case: against_the_loop(Subject(case, asked.data_dir), asked.rounds)
        for name, case in CASES.items()
    }
    known["two_threads"] = lambda: two_threads(Subject(TWO_THREADS, asked.data_dir), asked.rounds)
    if unknown := [name for name in asked.cases if name not in known]:
        parser.error(f"unknown case {unknown[0]}: known are {', '.join(known)}")
    if asked.data_dir is None:
        parser.error("name the folder of data by --data-dir or TRUEORACLE_DATA")
    torch.set_num_threads(1)
    results = {"machine": measure.machine()} | {name: known[name]() for name in asked.cases or known}
    measure.show(results, as_json=asked.json)


class Subject:
    """A case with its network, its data and its oracle, compiled and warm."""

    def __init__(self, case: Case, data_dir: Path) -> None:
        self.case = case
        self.data = load_dataset(case.data, data_dir, torch.device("cpu"), Bars())
        self.images = self.data.train.take(slice(case.images))
        self.net = network(case, self.data)
        self.sites = find_sites(self.net, self.data.shape)
        units = [self.sites.named(site).units for site in case.sites]
        choices = zip(case.sites, units, strict=True)
        self.space = MaskSpace(tuple(SiteChoice(site=site, units=n, pruned=n // 2) for site, n in choices))
        self.oracle: Evaluator = evaluator(self.net, self.space, self.data.shape, progress=Bars())
        self.ranks = range(case.masks_timed or self.space.count)
        self.oracle.sums(self.ranks[:300], self.images.take(slice(16)))

    def all_masks(self, threads: int) -> None:
        """What `trueoracle oracle` does with these masks and images."""
        for _ in survey(self.oracle, self.ranks, self.images, Threads(threads), Quiet(), what=""):
            pass

    def pruned_networks(self) -> Sequence[nn.Module]:
        """As many as the loop is timed on."""
        masks = (self.space.unrank(rank) for rank in self.space.draw(self.case.loop_masks, seed=0))
        return [channels_last(remove(self.net, mask, self.sites)) for mask in masks]


def network(case: Case, data: Dataset) -> nn.Module:
    """The case's network; the same in every run."""
    net = build(case.model, data.shape, seed=0)
    return net if case.recipe is None else train_alone(net, data, case.recipe, order_seed=0, progress=Bars()).net


def against_the_loop(subject: Subject, rounds: int) -> dict[str, Any]:
    """All masks of the case, against the loop on a few of them."""
    pruned, images = subject.pruned_networks(), subject.images

    def loop() -> None:
        for net in pruned:
            evaluate(net, images)

    masks, macs = subject.space.count, cost(pruned[0], subject.data.shape).macs
    spent = measure.in_turns(rounds, fast=lambda: subject.all_masks(1), loop=loop)
    fast = [seconds * masks / len(subject.ranks) for seconds in spent["fast"]]
    slow = [seconds * masks / len(pruned) for seconds in spent["loop"]]
    return {
        "path": subject.oracle.path,
        "loop_share_of_peak": 2 * macs * len(images) * masks / min(slow) / measure.multiply_add_peak(),
        "core_seconds": min(fast),
        "loop_core_seconds": min(slow),
        "ratio": min(slow) / min(fast),
        "ratios": [round(a / b, 1) for a, b in zip(slow, fast, strict=True)],
        "masks": masks,
        "masks_timed": len(subject.ranks),
        "loop_masks_timed": len(pruned),
        "images": len(images),
        "core_microseconds_a_mask_and_image": 1e6 * min(fast) / masks / len(images),
    }


def two_threads(subject: Subject, rounds: int) -> dict[str, Any]:
    """The same work with one thread and with two."""
    rivals = {"one": lambda: subject.all_masks(1), "two": lambda: subject.all_masks(2)}
    spent = measure.in_turns(rounds, time.perf_counter, **rivals)
    of_cores = measure.in_turns(1, **rivals)
    return {
        "ratio": min(spent["one"]) / min(spent["two"]),
        "ratios": [round(a / b, 2) for a, b in zip(spent["one"], spent["two"], strict=True)],
        "seconds_one": min(spent["one"]),
        "seconds_two": min(spent["two"]),
        "core_seconds_one": of_cores["one"][0],
        "core_seconds_two": of_cores["two"][0],
        "masks": subject.space.count,
        "images": len(subject.images),
    }


if __name__ == "__main__":
    main()
