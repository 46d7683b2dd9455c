"""What the store takes: results a second, a million trials in one store, and what storing adds to a run.

    python benchmarks/store.py [--quick] [--parts write million overhead] [--postgresql URL]

`write`: trials a second by the way of a worker (claim under a lease, checksums, curves, answers, the claim settled in the
transaction that stores them), 16 trials a piece: one writer on SQLite, and eight on PostgreSQL where `--postgresql` names a server
(`.ci/postgresql start FOLDER` prints one; it must run on this machine). A trial has a curve of 8 epochs and answers to 10,000 test and
1,000 validation images. Beside it: bare inserts of the very same rows.

`million`: a study of 10^6 trials conducted from its beginning through the real stages, executor and store, with a training that does
nothing: trials a second, the most memory, the size of the file; then `trueoracle status` and `trueoracle trials -o` on it.

`overhead`: a study whose trainings take their time asleep, 20 a second; what else the process spends.

Two clocks: the wall, and core-seconds of all processes that take part, a database's too. Where the machine is shared only the second
says something of the program. Rates by it are those of one core, of several writers those of all cores. `--quick` is a hundredth.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from functools import cache
from importlib import import_module
from itertools import islice, pairwise
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, process_time, sleep
from typing import Any
from unittest.mock import patch

import numpy as np
from measure import machine, show
from sqlalchemy import create_engine, make_url, text

from trueoracle import Study
from trueoracle.executors import Stop
from trueoracle.fleet import Trained
from trueoracle.store import CellRecord, Claim, MaskRecord, Piece, Store, StudyRecord
from trueoracle.study.conduct import record_of
from trueoracle.study.retrain import FleetTask, Retraining
from trueoracle.study.sharing import sharing
from trueoracle.words.mask import AnyMask
from trueoracle.words.progress import Quiet
from trueoracle.words.spec import StudySpec, parse_spec
from trueoracle.words.trial import Figures, Outcome, SplitAnswers, Trial

Facts = dict[str, Any]

FLEET, EPOCHS, CHUNKS = 16, 8, 8
DIGEST = "d" * 64
DIGITS = 8
KINDS = 97


def answers(images: int) -> SplitAnswers:
    """Some."""
    return SplitAnswers.of(np.random.default_rng(0).random(images) < 0.9)


ANSWERS = {"test": answers(10_000), "validation": answers(1_000)}


@cache
def curve(kind: int) -> tuple[Figures, ...]:
    """A learning curve, one of several kinds."""
    at = [1 / (epoch + kind / KINDS) for epoch in range(1, EPOCHS + 1)]
    return tuple(
        Figures(train_loss=x, train_accuracy=1 - x / 2, test_loss=1.1 * x, test_accuracy=0.9 - x / 3,
                validation_loss=1.1 * x, validation_accuracy=0.9 - x / 4)
        for x in at
    )  # fmt: skip


def trial(mask: int) -> Trial:
    """As a worker has it after a training."""
    points = curve(mask % KINDS)
    return Trial(cell=0, mask=mask, repeat=0, seed=mask, outcome=Outcome.FINISHED, curve=points, final=points[-1],
                 seconds=0.05, answers=ANSWERS)  # fmt: skip


class Writer:
    """Takes part in a study of made-up trials, and knows when each fleet was stored by both clocks."""

    def __init__(self, url: str) -> None:
        self.store = Store(url)
        self.run = self.store.begin_run(DIGEST, 1, {})
        self.stored = [(monotonic(), process_time())]

    def write(self) -> None:
        """Whatever pieces are left."""

        def made(piece: Piece, _stop: Stop) -> list[Trial]:
            return [trial(mask) for mask in range(piece.start, piece.stop)]

        def keep(claim: Claim, fleet: list[Trial]) -> None:
            assert self.store.put_trials(DIGEST, fleet, DIGITS, self.run, claim=claim)
            self.stored.append((monotonic(), process_time()))

        with sharing(self.store, DIGEST) as ours:
            ours.stage("retraining", list, made, keep)

    def rates(self) -> list[tuple[float, float]]:
        """Trials a second by the wall and by core-seconds, of each of `CHUNKS` parts of the run."""
        step = (len(self.stored) - 1) // CHUNKS
        marks = self.stored[:: max(1, step)]
        return [
            (FLEET * step / (wall - wall0), FLEET * step / (core - core0))
            for (wall0, core0), (wall, core) in pairwise(marks)
        ]


def begun(url: str, trials: int) -> None:
    """A store with a study of so many trials, listed in fleets."""
    store = Store(url, create=True)
    store.add_study(StudyRecord(digest=DIGEST, name="written", spec="{}"))
    store.put_cells(
        DIGEST, [CellRecord(index=0, base=0, name="c", sites={}, space=10**DIGITS, masks=trials, parameters=1, macs=1)]
    )
    pieces = [Piece(cell=0, start=start, stop=start + FLEET) for start in range(0, trials, FLEET)]
    store.open_stage(DIGEST, "retraining", lambda: pieces)


def write_sqlite(trials: int) -> Facts:
    """One writer."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        url = f"sqlite:///{path}"
        begun(url, trials)
        writer = Writer(url)
        writer.write()
        assert Store(url).status(DIGEST, trials).finished == trials
        rates = writer.rates()
        return {
            "trials": trials, **spread("trials_a_second", [wall for wall, _ in rates]),
            **spread("trials_a_core_second", [core for _, core in rates]),
            "bytes_a_trial": path.stat().st_size / trials, "bare_inserts_a_core_second": bare(path, trials),
        }  # fmt: skip


def bare(path: Path, trials: int) -> float:
    """What SQLite itself takes: the rows that were written, a transaction a fleet, as trials a core-second."""
    with closing(sqlite3.connect(path)) as written:
        rows = {
            table: written.execute(f"SELECT * FROM {table} ORDER BY rank").fetchall()
            for table in ("trials", "learning_curves", "answers")
        }
    url = f"sqlite:///{path.with_name('bare.db')}"
    Store(url, create=True)
    with closing(sqlite3.connect(path.with_name("bare.db"), isolation_level=None)) as bare:
        bare.execute("PRAGMA synchronous = NORMAL")
        begin = process_time()
        for start in range(0, trials, FLEET):
            bare.execute("BEGIN IMMEDIATE")
            for table, whole in rows.items():
                many = len(whole) // trials
                part = whole[many * start : many * (start + FLEET)]
                bare.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(part[0]))})", part)
            bare.execute("COMMIT")
        return trials / (process_time() - begin)


def write_postgresql(server: str, trials: int, writers: int = 8) -> Facts:
    """Several writers, a process each, on a database of its own: the rate while all of them were at it."""
    url = make_url(server).set(database="trueoracle_benchmark").render_as_string(hide_password=False)
    engine = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS trueoracle_benchmark WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE trueoracle_benchmark"))
        ours = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        postmaster = int(_stat(ours)[1])
        begun(url, trials)
        before = _family_seconds(postmaster)
        with ProcessPoolExecutor(writers, get_context("fork")) as pool:
            marks = list(pool.map(_written, [url] * writers))
        of_server = _family_seconds(postmaster) - before
        assert Store(url).status(DIGEST, trials).finished == trials
        connection.execute(text("DROP DATABASE trueoracle_benchmark WITH (FORCE)"))
    engine.dispose()
    first, last = max(of_one[0][0] for of_one in marks), min(of_one[-1][0] for of_one in marks)
    together = FLEET * sum(first < wall <= last for of_one in marks for wall, _ in of_one)
    of_writers = sum(of_one[-1][1] - of_one[0][1] for of_one in marks)
    cores = os.cpu_count() or 1
    return {
        "trials": trials, "writers": writers, "trials_a_second": together / (last - first),
        "core_ms_a_trial_of_writers": 1000 * of_writers / trials,
        "core_ms_a_trial_of_the_server": 1000 * of_server / trials,
        f"trials_a_second_of_{cores}_cores": cores * trials / (of_writers + of_server),
    }  # fmt: skip


def _written(url: str) -> list[tuple[float, float]]:
    writer = Writer(url)
    writer.write()
    return writer.stored


def _stat(process: int | str) -> list[str]:
    """What Linux says of a process, from its state on: the parent is the second, processor times stand from the twelfth."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _family_seconds(postmaster: int) -> float:
    """Processor time of a server: its own, that of its processes that live, and of those that ended."""
    own = sum(map(int, _stat(postmaster)[11:15]))
    alive = 0
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            facts = _stat(path.name)
            alive += sum(map(int, facts[11:13])) if int(facts[1]) == postmaster else 0
    return (own + alive) / os.sysconf("SC_CLK_TCK")


def spec(masks: int, repeats: int) -> StudySpec:
    """So many masks of three layers together, drawn from sixteen millions."""
    sgd = {"optimiser": "sgd", "lr": 0.02, "momentum": 0.9, "batch_size": 64}
    return parse_spec(
        {
            "name": "million", "model": "lenet5-mini", "data": "digits", "final": "last", "repeats": repeats,
            "train": {**sgd, "epochs": 1}, "retrain": {**sgd, "epochs": EPOCHS},
            "cells": [{"prune": {"conv1": 0.5, "conv2": 0.5, "conv3": 0.5}, "draw": masks}],
        },
        "million",
    )  # fmt: skip


class NoTraining(Retraining):
    """Retraining that takes `seconds_each` a network, asleep, and has results at hand."""

    seconds_each = 0.0

    def _train(self, task: FleetTask, masks: Sequence[AnyMask], _stop: Stop) -> list[Trained]:
        sleep(self.seconds_each * len(masks))
        net = self.bases[task.cell.base]
        made = [
            Trained(net=net, curve=curve(mask.rank % KINDS), outcome=Outcome.FINISHED, answers=ANSWERS)
            for mask in masks
        ]
        self.advance(EPOCHS * len(masks))
        return made


def conducted(url: str, what: StudySpec, seconds_each: float) -> dict[str, float]:
    """The study from its beginning, its masks' losses made up; of the retraining alone: seconds, core-seconds, memory."""
    study = Study(what, store=url, threads=1, progress=Quiet())
    store = Store(url, create=True)
    store.add_study(record_of(study.plan))
    (cell,) = study.plan.cells
    masks = (
        MaskRecord(cell=0, rank=mask.rank, pruned=mask.pruned_json, loss=1 / (1 + mask.rank), accuracy=0.5,
                   standard_error=0.0, scores={})
        for mask in cell.masks()
    )  # fmt: skip
    while part := list(islice(masks, 10_000)):
        store.put_masks(study.plan.digest, part, cell.digits)
    marks: list[tuple[float, float]] = []
    NoTraining.seconds_each = seconds_each

    def begun_retraining(**facts: Any) -> NoTraining:
        marks.append((monotonic(), process_time()))
        return NoTraining(**facts)

    module = import_module("trueoracle.study.conduct")  # by name alone the room gives the function
    with patch.object(module, "Retraining", begun_retraining):
        status = study.run()
    assert status.left == status.failed == 0, status
    ((wall, core),) = marks
    return {
        "trials": status.total, "seconds": monotonic() - wall, "core_seconds": process_time() - core,
        "peak_mib": getrusage(RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def million(masks: int, repeats: int) -> Facts:
    """A large study conducted, looked at and written out; what is known is shown as it comes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        url = f"sqlite:///{path}"
        found = conducted(url, spec(masks, repeats), 0.0)
        size = sum(one.stat().st_size for one in Path(folder).glob("store.db*"))
        rates = {
            "trials_a_second": found["trials"] / found["seconds"],
            "trials_a_core_second": found["trials"] / found["core_seconds"],
        }
        show(
            {"conducted": {**found, **rates, "gib": size / 2**30, "bytes_a_trial": size / found["trials"]}},
            as_json=False,
        )
        sys.stdout.flush()
        for name, words in {
            "start alone": ("--help",),
            "studies": ("studies", "--store", url),
            "status": ("status", "million", "--store", url),
            "trials": ("trials", "million", "-o", str(Path(folder) / "trials.parquet"), "--store", url),
            "curves": ("trials", "million", "--curves", "-o", str(Path(folder) / "curves.parquet"), "--store", url),
        }.items():
            show({name: _command(*words)}, as_json=False)
            sys.stdout.flush()
    return {"masks": masks, "repeats": repeats}


def _command(*words: str) -> dict[str, float]:
    """What a command takes, its start included: seconds, core-seconds, and its most memory."""
    begin = monotonic()
    process = subprocess.Popen([sys.executable, "-m", "trueoracle", *words], stdout=subprocess.DEVNULL)
    peak = 0.0
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        peak = max(peak, _most_memory(process.pid))
        sleep(0.02)
    _, code, used = os.wait4(process.pid, 0)
    assert code == 0, words
    return {"seconds": monotonic() - begin, "core_seconds": used.ru_utime + used.ru_stime, "peak_mib": peak}


def _most_memory(process: int) -> float:
    """MiB that it has had at the most so far; what the system tells at its end counts what it was forked from."""
    known = Path(f"/proc/{process}/status").read_text()
    return next((int(line.split()[1]) / 1024 for line in known.splitlines() if line.startswith("VmHWM")), 0.0)


def overhead(trials: int, a_second: float = 20) -> Facts:
    """What else than trainings a run spends, as a share of the time that these take one after another."""
    with TemporaryDirectory() as folder:
        found = conducted(f"sqlite:///{Path(folder) / 'store.db'}", spec(trials, 1), 1 / a_second)
    of_trainings = trials / a_second
    return {
        "trials": trials, "trainings_a_second": a_second, "core_seconds_a_second": found["core_seconds"] / of_trainings,
        "longer_on_the_wall": found["seconds"] / of_trainings - 1,
    }  # fmt: skip


def spread(name: str, values: Sequence[float]) -> Facts:
    """The median and the best of the parts of a run."""
    return {name: median(values), f"{name}_best_of_{len(values)}": max(values)}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", nargs="+", default=["write", "million", "overhead"])
    parser.add_argument("--postgresql", metavar="URL")
    asked = parser.parse_args()
    share = 100 if asked.quick else 1
    parts: dict[str, Callable[[], Facts]] = {
        "write to SQLite": lambda: write_sqlite(128_000 // share),
        "write to PostgreSQL": lambda: write_postgresql(asked.postgresql, 128_000 // share),
        "million": lambda: million(250_000 // share, 4),
        "overhead": lambda: overhead(2_400 // (10 if asked.quick else 1)),
    }
    if asked.postgresql is None:
        del parts["write to PostgreSQL"]
    print(json.dumps({**machine(), "load": os.getloadavg()[0]}), flush=True)
    for name, measure in parts.items():
        if name.split()[0] in asked.parts:
            show({name: measure()}, as_json=False)


if __name__ == "__main__":
    main()
