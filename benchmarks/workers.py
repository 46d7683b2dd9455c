"""What another worker gives: trials an hour of one process and of several on one store.

    python benchmarks/workers.py [--workers 2] [--rounds 3] [--repeats 6] [--executor ray]

Small networks (LeNet5-Mini on the built-in digits), every worker of one thread. The rivals take turns, so that what else the
machine does falls on both. Two clocks: hours on the wall, from the first stored trial to the last, and core-seconds of all
workers for a trial, everything included. Where the machine is shared only the second says something of the program: it
grows by what workers cost each other, and `workers` times one's over several's is the speed-up on cores of their own.
Of Ray's tasks, in a cluster of this machine that has a core a worker, only the wall is known.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from os import getloadavg
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic

from measure import machine
from sqlalchemy import func, select

from trueoracle import Study
from trueoracle.store import Store
from trueoracle.store.schema import trials
from trueoracle.words.progress import Quiet
from trueoracle.words.spec import StudySpec, parse_spec


def spec(repeats: int, epochs: int) -> StudySpec:
    """All 45 masks of a layer, so many times."""
    sgd = {"optimiser": "sgd", "momentum": 0.9, "batch_size": 64}
    return parse_spec(
        {
            "name": "workers", "model": "lenet5-mini", "data": "digits", "final": "last", "repeats": repeats,
            "train": {**sgd, "lr": 0.02, "epochs": 1}, "retrain": {**sgd, "lr": 0.002, "epochs": epochs},
            "cells": [{"prune": {"conv3": 0.2}}],
        },
        "workers",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """How fast a run was: trials an hour between the first stored fleet and the last, core-seconds a trial over all."""

    an_hour: float
    core_seconds: float | None
    seconds: float


def run(what: StudySpec, workers: int, executor: str) -> Run:
    """The study from nothing, by so many processes."""
    with TemporaryDirectory() as folder, cluster(workers) if executor == "ray" else nullcontext():
        store = f"sqlite:///{Path(folder) / 'store.db'}"
        study = Study(what, store=store, executor=executor, workers=workers, threads=1, progress=Quiet())
        with children_core_seconds() as spent:
            begin = monotonic()
            total = study.run().finished
            seconds = monotonic() - begin
        ((first, last),) = Store(store).read(select(func.min(trials.c.at), func.max(trials.c.at)))
        ((before,),) = Store(store).read(select(func.count()).where(trials.c.at == first))
    core_seconds = spent[0] / total if executor == "local" else None
    return Run(an_hour=3600 * (total - before) / (last - first), core_seconds=core_seconds, seconds=seconds)


@contextmanager
def cluster(cores: int) -> Iterator[None]:
    """A Ray cluster of this machine."""
    import ray

    ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def children_core_seconds() -> Iterator[list[float]]:
    """One number, known at the end: the processor time of the processes that were started and ended in between."""
    spent = [0.0]
    before = getrusage(RUSAGE_CHILDREN)
    yield spent
    after = getrusage(RUSAGE_CHILDREN)
    spent[0] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run the rivals in turns and print what each did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--executor", default="local", choices=("local", "ray"))
    asked = parser.parse_args()
    what = spec(asked.repeats, asked.epochs)
    print(json.dumps({**machine(), "load": getloadavg()[0], "trials": 45 * asked.repeats}))
    found: dict[int, list[Run]] = {1: [], asked.workers: []}
    for _ in range(asked.rounds):
        for workers, runs in found.items():
            runs.append(run(what, workers, asked.executor))
            print(json.dumps({"workers": workers, **runs[-1].__dict__}), flush=True)
    rates = [several.an_hour / one.an_hour for one, several in zip(*found.values(), strict=True)]
    costs = [
        asked.workers * one.core_seconds / more.core_seconds
        for one, more in zip(*found.values(), strict=True)
        if one.core_seconds is not None and more.core_seconds is not None
    ]
    for name, ratios in (("on the wall", rates), ("by core-seconds", costs)):
        if ratios:
            print(
                f"{name}: {median(ratios):.2f} times, {min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} rounds"
            )


if __name__ == "__main__":
    main()
