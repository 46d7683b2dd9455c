"""A small study that runs once undisturbed, and again after every fault: what the soak holds against each other.

Runs are processes of their own, forked from one that has loaded everything and planned the study: a fault costs a
second, not the start of a program.
"""

import gc
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from traceback import print_exc

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from trueoracle import Study, TrueOracleError
from trueoracle.store import Store
from trueoracle.words.progress import Quiet

SGD = {"optimiser": "sgd", "lr": 0.02, "momentum": 0.9, "batch_size": 32, "epochs": 2}
STUDY = {
    "name": "soak", "model": "lenet5-mini", "data": "./pictures", "train": SGD, "retrain": SGD, "repeats": 2,
    "final": "last", "cells": [{"prune": {"conv1": 0.5}, "draw": 8}, {"prune": {"conv3": 0.2}, "draw": 4}],
}  # fmt: skip
IMAGES = {"train": 96, "test": 48}
SAME, REFUSED, WRONG, CRASHED = 0, 2, 3, 4  # how a run of the study ends; a signal that killed it is a negative number
LONGEST_SECONDS = 300  # a run that hangs is killed, and counts as crashed
Tables = tuple[pd.DataFrame, pd.DataFrame]
But = Callable[[pd.DataFrame], pd.DataFrame]
TRIAL = ["base", "cell", "mask", "repeat"]


class Soak:
    """A folder, the undisturbed tables of the study, stores to begin from, and the chance of one injection."""

    chance: random.Random

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache, self.file = folder, folder / "cache", folder / "store.db"
        self.url = f"sqlite:///{self.file}"
        make_pictures(folder)
        (folder / "soak.yaml").write_text(yaml.safe_dump(STUDY))
        first = self.study()
        first.run()  # compiles, too
        self.calm = tables(first)
        self.whole = self.file.read_bytes()
        self.half = self._half()
        self.studies = {threads: self.study(threads) for threads in (1, 2)}  # run by forks alone, each of them once
        gc.freeze()  # forks copy no page for a count of references
        self.fresh()
        begin = time.monotonic()
        assert self.checked() == SAME
        self.seconds = time.monotonic() - begin

    def study(self, threads: int = 1) -> Study:
        return Study("soak.yaml", store=self.url, threads=threads, progress=Quiet())

    def begin(self, number: int, seed: int) -> None:
        """As the injection of this number finds everything."""
        self.chance = random.Random(f"{seed} {number}")
        for name in ("refused", "wrong"):
            (self.folder / name).unlink(missing_ok=True)

    def fresh(self, content: bytes | None = None) -> None:
        """No store, or one of this content; and no training in the making."""
        shutil.rmtree(self.cache / "unfinished", ignore_errors=True)
        for path in self.folder.glob("store.db*"):
            path.unlink()
        if content is not None:
            self.file.write_bytes(content)

    def finish(self, threads: int = 1) -> Study:
        """Run the study to its end, in a fork."""
        study = self.studies[threads]
        study.store_url = self.url
        study.run()
        return study

    def check(self, but: But = lambda table: table) -> None:
        """Run to the end, in a fork; `Wrong` where a table is another."""
        harm = Counter[str]()
        for found, calm in zip(tables(self.finish()), self.calm, strict=True):
            harm += differing(but(found), but(calm))
        if harm:
            (self.folder / "wrong").write_text(json.dumps(harm))
            raise Wrong

    def fork(self, work: Callable[[], object]) -> int:
        """A process that does `work`; it exits with what the work came to."""
        pid = os.fork()
        if pid:
            return pid
        signal.alarm(LONGEST_SECONDS)
        code = CRASHED
        try:
            work()
            code = SAME
        except Wrong:
            code = WRONG
        except TrueOracleError as error:
            code = REFUSED
            (self.folder / "refused").write_text(str(error))
        except BaseException:
            print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def wait(self, *pids: int) -> int:
        """What the processes came to; of several, the first that was not well."""
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        return next((code for code in codes if code != SAME), SAME)

    def done(self, work: Callable[[], object]) -> int:
        return self.wait(self.fork(work))

    def checked(self, but: But = lambda table: table) -> int:
        return self.done(lambda: self.check(but))

    def killed(self, pid: int) -> None:
        """Some time later."""
        time.sleep(self.moment())
        os.kill(pid, signal.SIGKILL)
        self.wait(pid)

    def moment(self, times: float = 1.0) -> float:
        """Some time of a run, in seconds."""
        return self.chance.uniform(0, self.seconds * times)

    def _half(self) -> bytes:
        """The store with half of its trials."""
        with closing(sqlite3.connect(self.file)) as connection:
            for table in ("trials", "learning_curves", "answers"):
                connection.execute(f"DELETE FROM {table} WHERE repeat = 1")
            connection.commit()
        Store(self.url).studies()
        return self.file.read_bytes()


class Wrong(Exception):
    """A table is not the undisturbed one."""


def make_pictures(folder: Path) -> None:
    """Blots of ten classes, which a network learns a little of."""
    numbers = np.random.default_rng(0)
    centres = numbers.integers(60, 200, (10, 32, 32))
    for split, count in IMAGES.items():
        for index in range(count):
            pixels = np.clip(centres[index % 10] + numbers.normal(0, 60, (32, 32)), 0, 255).astype(np.uint8)
            path = folder / "pictures" / split / str(index % 10) / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def tables(study: Study) -> Tables:
    return study.trials().drop(columns="seconds"), study.curves()


def differing(found: pd.DataFrame, calm: pd.DataFrame) -> Counter[str]:
    """How many rows of a table are lost, doubled or changed; nothing where it is the same, bit for bit."""
    key = [*TRIAL, *({"epoch"} & set(calm.columns))]
    found, calm = (table.sort_values(key).reset_index(drop=True) for table in (found, calm))
    if found.equals(calm):
        return Counter()
    known, once = calm.set_index(key), found.drop_duplicates(key).set_index(key)
    both = known.index.intersection(once.index)
    same = known.loc[both].eq(once.loc[both]) | (known.loc[both].isna() & once.loc[both].isna())
    harm = Counter(
        lost=len(known.index.difference(once.index)),
        doubled=len(found) - len(once) + len(once.index.difference(known.index)),
        changed=int((~same.all(axis=1)).sum()),
    )
    return harm if harm.total() else Counter(changed=len(calm))  # of other types, or in other columns
