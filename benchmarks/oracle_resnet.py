"""Core-seconds of the batched oracle on ResNet56 against the loop, one thread, real CIFAR-10 images.

    python benchmarks/oracle_resnet.py --data-dir DIR [--case resnet56 ...] [--json]

Each case is one site of ResNet56, half pruned, 12,870 masks on 2,000 images. Both paths are timed on some of the
masks and extrapolated to all: what the batched path computes once an image block is charged to those few in full.
The weights are random, which no operation's time depends on. The paths alternate, and each counts by its best round.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from trueoracle.data import load_dataset
from trueoracle.examples import Examples
from trueoracle.nets import build, cost, find_sites, remove
from trueoracle.oracle import Batched, Loop, batched
from trueoracle.progress import Quiet
from trueoracle.shape import InputShape
from trueoracle.space import MaskSpace, SiteChoice

# A site in the first block, in the middle and in the last block; how many of the masks the batched path is timed on.
CASES = {
    "resnet56": ("layer1.0.conv1", 24),
    "resnet56_middle": ("layer2.4.conv1", 48),
    "resnet56_last": ("layer3.8.conv1", 1000),
}
MASKS = 12_870  # C(16, 8), all of the first site's; as many drawn ones of the others'
LOOP_MASKS = 2


def main() -> None:
    """Measure, check against the loop, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print nothing but one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset("cifar10", options.data_dir, torch.device("cpu"), Quiet())
    images = data.train.take(slice(options.images))
    peak = multiply_add_peak()
    results = {}
    for case in options.case:
        results[case] = measure(*CASES[case], data.shape, images, options.rounds, peak)
        if not options.json:
            print(case, json.dumps(results[case], indent=2), flush=True)
    if options.json:
        json.dump(results, sys.stdout)


def measure(
    site: str, timed: int, shape: InputShape, images: Examples, rounds: int, peak: float
) -> dict[str, float | list[float]]:
    """One case; `*_of_peak` is a path's share of the machine's multiply-add peak, by the pruned network's operations."""
    net = build("resnet56", shape, seed=0)
    sites = find_sites(net, shape)
    units = sites[site].units
    space = MaskSpace((SiteChoice(site=site, units=units, pruned=units // 2),))
    ranks = range(MASKS) if space.count == MASKS else space.draw(MASKS, seed=0)
    fast, loop = batched(net, space, shape), Loop(net=net, space=space, shape=shape)
    check(fast, loop, ranks[:LOOP_MASKS], images.take(slice(50)))
    each: dict[str, list[float]] = {"fast": [], "loop": [], "removal": []}
    for _ in range(rounds):
        each["fast"].append(seconds(lambda: fast.sums(ranks[:timed], images)) / timed)
        each["loop"].append(seconds(lambda: loop.sums(ranks[:LOOP_MASKS], images)) / LOOP_MASKS)
        each["removal"].append(seconds(lambda: remove(net, space.unrank(ranks[0]), sites)))
    best = {name: min(times) for name, times in each.items()}
    operations = cost(remove(net, space.unrank(ranks[0]), sites), shape).macs * len(images)
    return {
        "core_seconds": best["fast"] * MASKS,
        "loop_core_seconds": best["loop"] * MASKS,
        "ratio": best["loop"] / best["fast"],
        "ratio_of_rounds": [round(slow / quick, 3) for slow, quick in zip(each["loop"], each["fast"], strict=True)],
        "masks": MASKS,
        "masks_timed": timed,
        "loop_masks_timed": LOOP_MASKS,
        "images": len(images),
        "removal_seconds": best["removal"],
        "peak_gmacs": peak / 1e9,
        "loop_of_peak": operations / best["loop"] / peak,
        "whole_forwards_of_peak": operations / best["fast"] / peak,
    }


def check(fast: Batched, loop: Loop, ranks: Sequence[int], images: Examples) -> None:
    """Both paths agree, or the benchmark means nothing."""
    found, wanted = fast.sums(ranks, images), loop.sums(ranks, images)
    np.testing.assert_allclose(found.loss_M, wanted.loss_M, rtol=1e-5)  # both in float32


def multiply_add_peak() -> float:
    """Multiply-adds a second of one thread in a large matrix product."""
    a = torch.randn(2048, 2048)
    return 2048**3 / min(seconds(lambda: a @ a) for _ in range(5))


def seconds(work: Callable[[], object]) -> float:
    """Core-seconds of this process, all of it on one thread."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
