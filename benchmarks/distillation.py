"""Whether learning from the dense network changes what pruned networks come to.

    python benchmarks/distillation.py STORE [--weight 0.9] [--temperature 4]

Masks of cells of the `digits` study are retrained twice, from the same base networks and in the same orders of the images: by
the study's recipe, and by the same with `distill`. What is done is kept in STORE; the same command goes on.
"""

import argparse
import json

import numpy as np
from measure import machine
from numpy.typing import NDArray

from trueoracle import api
from trueoracle.study import changed, load_spec
from trueoracle.words.spec import StudySpec

NETWORKS, MASKS = 3, 48
DRAWS = 10_000


def study_of(cell: str, distill: dict[str, float] | None) -> StudySpec:
    """Some masks of one cell, the same with and without a teacher."""
    found = load_spec("digits").only(cell)
    changes = {
        "cells.0.draw": MASKS, "base_networks": NETWORKS, "repeats": 1, "early": None, "loss_after_steps": None,
        "retrain.distill": distill,
    }  # fmt: skip
    return changed(found.facts(), changes, found.name if distill is None else f"{found.name}-taught")


def right_of(spec: StudySpec, store: str) -> NDArray[np.float64]:
    """The share of each network's masks that answer a test image right, networks x images."""
    study = api.Study(spec, store=store)
    study.run()
    return np.stack([study.answers(cell).mean((0, 1)) for cell in range(NETWORKS)])


def main() -> None:
    """Run what is left, and print the differences with the interval of the bootstrap over test images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--cells", default="conv1-0.5", help="of the study, with commas between")
    parser.add_argument("--weight", type=float, default=0.9)
    parser.add_argument("--temperature", type=float, default=4.0)
    asked = parser.parse_args()
    print(json.dumps(machine()))
    print("| cell | masks x networks | accuracy | taught | difference, points | 95% | by network |")
    print("|---|--:|--:|--:|--:|---|---|")
    for cell in asked.cells.split(","):
        plain = right_of(study_of(cell, None), asked.store)
        taught = right_of(study_of(cell, {"weight": asked.weight, "temperature": asked.temperature}), asked.store)
        more_NI = 100 * (taught - plain)
        images = more_NI.shape[1]
        counts = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), DRAWS)
        low, high = np.quantile(counts @ more_NI.mean(0) / images, [0.025, 0.975])
        each = ", ".join(f"{value:+.2f}" for value in more_NI.mean(1))
        print(
            f"| {cell} | {MASKS} x {NETWORKS} | {plain.mean():.2%} | {taught.mean():.2%} | {more_NI.mean():+.2f} "
            f"| {low:+.2f} to {high:+.2f} | {each} |"
        )


if __name__ == "__main__":
    main()
