"""What it takes to let every unit criterion judge a large network: core-seconds of one thread, and memory.

    python benchmarks/criteria.py [--images 256] [--json] [resnet50 | vit-b16 | lenet5-mini] ...

Random weights, random images, a process a network. `core_seconds` is all that `trueoracle criteria --model` does once the sites are
found, of which `gathering` is the pass that all criteria share; `peak_gb` is the process's largest resident memory, torch and
the network included. Of each criterion `added` is what its own figures cost after that pass, in core-seconds, with what it alone
makes and what it is the first to make; `share` is that of the whole.
"""

import argparse
import resource
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import measure
import torch

from trueoracle.criteria import Collected, every_unit_criterion, gathered, judged_of
from trueoracle.data import Split
from trueoracle.nets import build, find_sites, usual_shape
from trueoracle.words.shape import InputShape

CASES = {"resnet50": "hf-resnet50", "vit-b16": "vit-b16", "lenet5-mini": "lenet5-mini"}


def noise(shape: InputShape, images: int) -> Split:
    """Random images with random labels."""
    chance = torch.Generator().manual_seed(0)
    return Split(
        images_NCHW=torch.randn(images, shape.channels, shape.height, shape.width, generator=chance),
        labels_N=torch.randint(shape.classes, (images,), generator=chance),
    )


def case(model: str, images: int) -> dict[str, Any]:
    """The figures of one network, for a process of its own."""
    torch.set_num_threads(1)
    shape = usual_shape(model)
    assert isinstance(shape, InputShape)
    net = build(model, shape)
    sites, examples, criteria = find_sites(net, shape), noise(shape, images), every_unit_criterion()
    collected: dict[str, Collected] = {}
    gathering = measure.core_seconds(lambda: collected.update(gathered(net, sites, examples, criteria)))
    added = {
        name: measure.core_seconds(lambda: judged_of(collected, {name: criterion}))  # noqa: B023 - called at once
        for name, criterion in criteria.items()
    }
    whole = gathering + sum(added.values())
    return {
        "sites": len(sites),
        "units": sum(site.units for site in sites.values()),
        "images": images,
        "core_seconds": whole,
        "gathering": gathering,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "added": dict(sorted(added.items(), key=lambda one: -one[1])),
        "share": {name: seconds / whole for name, seconds in added.items()},
    }


def in_words(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A paragraph's facts: of the criteria a line each."""
    shown = {name: value for name, value in facts.items() if name not in ("added", "share")}
    return shown | {
        f"  {name}": f"{seconds:.3g} core-seconds, {facts['share'][name]:.1%}"
        for name, seconds in facts["added"].items()
    }


def main() -> None:
    """Measure the cases that are asked for, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", choices=[*CASES, []], default=["resnet50", "vit-b16"])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    for name in asked.cases:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            facts = pool.submit(case, CASES[name], asked.images).result()
        measure.show({name: facts if asked.json else in_words(facts)}, as_json=asked.json)


if __name__ == "__main__":
    main()
