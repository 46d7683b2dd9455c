"""Faults injected into a small study, and what was lost by them.

    python benchmarks/soak.py [--minutes 1] [--seed 1] [--only WORDS] [--postgresql] [--log FILE]

The study runs once undisturbed. Then, as long as time allows, one fault after another is injected into a run of it or
into what a run has left; the study is run to its end, and its tables are held against the undisturbed ones, bit for
bit. What a fault may do is cost time, or be refused in words. The table counts, for each kind of fault, how many were
injected and how many runs recovered or were refused, and the trials that were lost, doubled or changed, and the
runs that ended otherwise; the exit code is 1 where one of the last four is not 0, or where nothing was injected.

Runs are processes of their own, forked from this one, which has loaded everything and planned the study: a fault costs
a second, not the start of a program. A kill is a SIGKILL of such a process, in the middle of its work. Which fault is
injected next depends on the seed and its number alone; when a kill falls into the work depends on the clock, too.

With `--log` each injection is a line of that file, and the next call goes on after the last one, with the same seed or
another; the table is of all of them.
"""

import argparse
import gc
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from traceback import print_exc

os.environ.setdefault("OMP_NUM_THREADS", "1")  # forks of a process with threads of its own may hang

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image
from sqlalchemy import Engine, create_engine, event, text

from trueoracle import Study, TrueOracleError
from trueoracle.fleet import checkpoint, training
from trueoracle.fleet.fleet import Fleet
from trueoracle.store import Store
from trueoracle.study import retrain
from trueoracle.words.folders import cache_folder
from trueoracle.words.progress import Quiet

HERE = Path(__file__).parent
SGD = {"optimiser": "sgd", "lr": 0.02, "momentum": 0.9, "batch_size": 32, "epochs": 2}
STUDY = {
    "name": "soak", "model": "lenet5-mini", "data": "./pictures", "train": SGD, "retrain": SGD, "repeats": 2,
    "final": "last", "cells": [{"prune": {"conv1": 0.5}, "draw": 8}, {"prune": {"conv3": 0.2}, "draw": 4}],
}  # fmt: skip
IMAGES = {"train": 96, "test": 48}
SAME, REFUSED, WRONG, CRASHED = 0, 2, 3, 4  # how a run of the study ends; a signal that killed it is a negative number
LONGEST_SECONDS = 300  # a run that hangs is killed, and counts as crashed
HARM = ("lost", "doubled", "changed", "crashed")
COLUMNS = ("injected", "recovered", "refused", *HARM)
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


def flipped(content: bytes, chance: random.Random, most: int = 1) -> bytes:
    found = bytearray(content)
    for _ in range(chance.randint(1, most)):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def damage(path: Path, chance: random.Random) -> None:
    """Some of its bits flipped, or its end cut off."""
    content = path.read_bytes()
    cut = chance.random() < 0.2
    path.write_bytes(content[: chance.randrange(len(content))] if cut else flipped(content, chance, 3))


def flip_finished_store(soak: Soak) -> int:
    soak.fresh(flipped(soak.whole, soak.chance, 40))
    return soak.checked()


def flip_half_store(soak: Soak) -> int:
    soak.fresh(flipped(soak.half, soak.chance, 40))
    return soak.checked()


def flip_weights(soak: Soak) -> int:
    """The base network's, in a store that has trials left."""
    soak.fresh(soak.half)
    with closing(sqlite3.connect(soak.file)) as connection:
        (weights,) = connection.execute("SELECT weights FROM bases").fetchone()
        connection.execute("UPDATE bases SET weights = ?", (flipped(weights, soak.chance),))
        connection.commit()
    return soak.checked()


def damage_checkpoint(soak: Soak) -> int:
    """Checkpoints are written all the time; after some of them the run is killed, and the last one damaged."""
    soak.fresh(soak.chance.choice([None, soak.half]))
    left = soak.chance.randint(1, 12)

    def eagerly() -> None:
        checkpoint._LEAST_SECONDS = checkpoint._TIMES_THE_WRITING = 0.0  # type: ignore[assignment]
        keep = checkpoint.Checkpoint.keep

        def keep_so_many(self: checkpoint.Checkpoint, *what: object) -> None:
            nonlocal left
            keep(self, *what)  # type: ignore[arg-type]
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoint.Checkpoint.keep = keep_so_many  # type: ignore[assignment, method-assign]
        soak.finish()

    assert soak.done(eagerly) == -signal.SIGKILL
    (path,) = (soak.cache / "unfinished").glob("*.safetensors")
    damage(path, soak.chance)
    return soak.checked()


def damage_decoded_data(soak: Soak) -> int:
    kinds = {".pixels", ".labels", ".json"}
    damage(soak.chance.choice(sorted(path for path in soak.cache.glob("own-*/*") if path.suffix in kinds)), soak.chance)
    soak.fresh(soak.half)
    return soak.checked()


def damage_kernels(soak: Soak) -> int:
    """Read anew from the disk, as by a process that has just begun."""
    damage(
        soak.chance.choice(sorted(path for path in (soak.cache / "kernels").rglob("*") if path.is_file())), soak.chance
    )
    soak.fresh(soak.half)

    def as_new() -> None:
        for name in [name for name in sys.modules if name.startswith("trueoracle_")]:
            del sys.modules[name]
        soak.check()

    return soak.done(as_new)


def kill_driver(soak: Soak) -> int:
    soak.fresh()
    for _ in range(soak.chance.randint(1, 3)):
        soak.killed(soak.fork(lambda: soak.finish(threads=2)))
    return soak.checked()


def two_drivers(soak: Soak) -> int:
    """Each of one thread or of two."""
    soak.fresh()
    threads = [soak.chance.randint(1, 2) for _ in range(2)]
    return soak.wait(*[soak.fork(partial(soak.finish, number)) for number in threads]) or soak.checked()


def kill_one_of_two(soak: Soak) -> int:
    soak.fresh()
    other, one = soak.fork(soak.finish), soak.fork(soak.finish)
    soak.killed(one)
    return soak.wait(other) or soak.checked()


def hang_one_of_two(soak: Soak) -> int:
    """One hangs until its leases are over, for they end at once; it wakes up when the other is further."""
    soak.fresh()
    other, one = soak.fork(soak.finish), soak.fork(soak.finish)
    time.sleep(soak.moment())
    os.kill(one, signal.SIGSTOP)
    try:
        with closing(sqlite3.connect(soak.file, timeout=60)) as connection:
            connection.execute("UPDATE work SET until = 0")
            connection.commit()
    except sqlite3.OperationalError:
        pass  # it hangs before there is any work, or in the middle of writing, where all wait for it
    time.sleep(soak.moment())
    os.kill(one, signal.SIGCONT)
    return soak.wait(other, one) or soak.checked()


def fill_disk(soak: Soak) -> int:
    """No file may grow beyond some size."""
    content = soak.chance.choice([None, soak.half])
    soak.fresh(content)
    most = len(content or b"") + soak.chance.randrange(4096, 2 * len(soak.whole))

    def cramped() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        soak.finish()

    code = soak.done(cramped)
    return code if code not in (SAME, REFUSED) else soak.checked()


def read_only(soak: Soak) -> int:
    soak.fresh(soak.half)

    def as_nobody() -> None:
        if os.getuid() == 0:  # whom no mode keeps from writing
            os.setgid(65534)
            os.setuid(65534)
        else:
            soak.file.chmod(0o444)
            soak.folder.chmod(0o555)
        soak.finish()

    code = soak.done(as_nobody)
    soak.folder.chmod(0o755)
    soak.file.chmod(0o644)
    return code if code not in (SAME, REFUSED) else soak.checked()


def jump_clock(soak: Soak) -> int:
    """Every look at the clock, the process's and SQLite's, is off by up to a month either way."""
    soak.fresh(soak.chance.choice([None, soak.half]))

    def jumpy() -> None:
        month, right = 30 * 86_400.0, time.time

        def wrong() -> float:
            return right() + soak.chance.uniform(-month, month)

        def prepare(connection: sqlite3.Connection, _record: object) -> None:
            connection.create_function("julianday", 1, lambda _now: wrong() / 86_400 + 2_440_587.5)

        event.listen(Engine, "connect", prepare)
        for name, module in list(sys.modules.items()):
            if name.startswith("trueoracle.") and getattr(module, "time", None) is right:
                module.time = wrong  # type: ignore[attr-defined]
        soak.finish(threads=2)

    return soak.done(jumpy) or soak.checked()


def spoil_networks(soak: Soak) -> int:
    """Some networks are not numbers as their training begins: they diverge, and their fleet's others end as ever."""
    soak.fresh()
    masks = sorted(set(soak.calm[0]["mask"]))
    spoilt = set(soak.chance.sample(masks, soak.chance.randint(1, len(masks) // 3)))

    def spoiling() -> None:
        right = retrain.prune

        def wrong(net: torch.nn.Module, mask: object, *more: object) -> torch.nn.Module:
            found = right(net, mask, *more)  # type: ignore[arg-type]
            if mask.rank in spoilt:  # type: ignore[attr-defined]
                with torch.no_grad():
                    next(found.parameters()).view(-1)[0] = float("nan")
            return found

        retrain.prune = wrong  # type: ignore[assignment]
        trials = soak.finish().trials()
        assert set(trials.loc[trials["outcome"] != "finished", "mask"]) == spoilt

    return soak.done(spoiling) or soak.checked(lambda table: table[~table["mask"].isin(spoilt)])


def exhaust_device(soak: Soak) -> int:
    """Fleets beyond some size run out of the device's memory after some steps, as PyTorch says it: halves go on."""
    soak.fresh()
    most, steps = soak.chance.randint(1, 7), soak.chance.randint(0, 5)

    def cramped() -> None:
        train = training.train_in_lockstep

        def train_few(fleet: Fleet, data: object, recipes: Sequence[object], *more: object) -> object:
            if len(recipes) > most:
                step, left = fleet.step, iter(range(steps))

                def step_or_not(*words: object) -> None:
                    if next(left, None) is None:
                        raise torch.OutOfMemoryError("CUDA out of memory")
                    step(*words)  # type: ignore[arg-type]

                fleet.step = step_or_not  # type: ignore[assignment, method-assign]
            return train(fleet, data, recipes, *more)  # type: ignore[arg-type]

        training.train_in_lockstep = train_few  # type: ignore[assignment]
        soak.check()

    return soak.done(cramped)


class Server:
    """A PostgreSQL server that is killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.databases = folder / "postgresql", 0
        self.url = self._call("start").strip()

    def _call(self, what: str) -> str:
        words = [str(HERE.parent / ".ci" / "postgresql"), what, str(self.folder)]
        return subprocess.run(words, capture_output=True, check=True, text=True).stdout

    def kill(self) -> None:
        os.kill(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def stop(self) -> None:
        self._call("stop")

    def start(self) -> None:
        """As after a power cut: what the last one left is found, and the log is played again."""
        for _ in range(20):  # the killed one's children may still be ending
            try:
                self._call("start")
                return
            except subprocess.CalledProcessError:
                time.sleep(0.5)
        raise RuntimeError("the server does not start again")

    def database(self) -> str:
        """A new one."""
        self.databases += 1
        engine = create_engine(self.url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE soak{self.databases}"))
        engine.dispose()
        return self.url.replace("/postgres?", f"/soak{self.databases}?")


def restart_server(server: Server, soak: Soak) -> int:
    """Killed and started again under three workers, one of which is killed, too; the others wait for it."""
    own, soak.url = soak.url, server.database()
    try:
        one, *others = [soak.fork(soak.finish) for _ in range(3)]
        soak.killed(one)
        time.sleep(soak.moment())
        server.kill()
        server.start()
        return soak.wait(*others) or soak.checked()
    finally:
        soak.url = own


KINDS: dict[str, tuple[Callable[[Soak], int], float]] = {
    "bits flipped in a finished store": (flip_finished_store, 12),
    "bits flipped in a store with trials left": (flip_half_store, 8),
    "a bit flipped in the base network's weights": (flip_weights, 6),
    "a checkpoint damaged after a kill": (damage_checkpoint, 2),
    "decoded data damaged": (damage_decoded_data, 2),
    "compiled kernels damaged": (damage_kernels, 0.3),
    "the driver killed, one to three times": (kill_driver, 2),
    "two drivers at once": (two_drivers, 1),
    "one of two workers killed": (kill_one_of_two, 2),
    "one of two workers hung beyond its leases": (hang_one_of_two, 1),
    "the disk full": (fill_disk, 2),
    "the store read-only": (read_only, 1),
    "the clock jumping by up to a month": (jump_clock, 2),
    "some networks spoilt by NaN": (spoil_networks, 2),
    "the device out of memory": (exhaust_device, 2),
}
"""What is injected, and how often beside the others."""
SERVER = "PostgreSQL killed and started again, and one of three workers killed", 0.5


def injected(
    soak: Soak, kinds: Mapping[str, tuple[Callable[[Soak], int], float]], seed: int, number: int
) -> dict[str, object]:
    """Inject one fault, the first ones of a seed each once, then by chance; and what came of it."""
    soak.begin(number, seed)
    weights = [weight for _, weight in kinds.values()]
    name = [*kinds][number] if number < len(kinds) else soak.chance.choices([*kinds], weights)[0]
    begin = time.monotonic()
    code = kinds[name][0](soak)
    found: dict[str, object] = {"fault": name, "seed": seed, "number": number, "code": code, "injected": 1}
    found["seconds"] = round(time.monotonic() - begin, 1)
    if code == WRONG:
        return {**found, **json.loads((soak.folder / "wrong").read_text())}
    if code == REFUSED:
        found["said"] = (soak.folder / "refused").read_text()
    return {**found, {SAME: "recovered", REFUSED: "refused"}.get(code, "crashed"): 1}


def counted(lines: Sequence[Mapping[str, object]]) -> dict[str, Counter[str]]:
    """The columns of the table, by fault and over all."""
    names = [*KINDS, SERVER[0], *sorted({str(line["fault"]) for line in lines} - {*KINDS, SERVER[0]}), "**all**"]
    counts = {name: Counter[str]() for name in names}
    for line in lines:
        numbers = {column: int(str(line.get(column, 0))) for column in COLUMNS}
        for name in (str(line["fault"]), "**all**"):
            counts[name].update(numbers)
    return {name: found for name, found in counts.items() if found["injected"]}


def table(counts: Mapping[str, Counter[str]]) -> Iterator[str]:
    yield f"| fault | {' | '.join(COLUMNS)} |"
    yield "|---|" + "---:|" * len(COLUMNS)
    for name, found in counts.items():
        yield f"| {name} | {' | '.join(f'{found[column]:,}' for column in COLUMNS)} |"


def commit() -> str:
    """Of the code that is tried."""
    words = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--minutes", type=float, default=1.0)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--only", help="kinds of fault that have this in their name")
    asked.add_argument("--postgresql", action="store_true", help="also kill a PostgreSQL server of its own")
    asked.add_argument("--log", type=Path, help="a file of injections, a line each, that this adds to")
    given = asked.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from without"))  # as Ctrl-C: nothing is left behind
    end = time.monotonic() + 60 * given.minutes
    log = given.log.resolve() if given.log else None
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log and log.exists() else []
    number = sum(line["seed"] == given.seed for line in lines)
    tried = commit()
    folder = Path(mkdtemp(prefix="soak-"))
    folder.chmod(0o755)
    if (cache_folder() / "kernels").is_dir():  # else they are compiled first
        shutil.copytree(cache_folder() / "kernels", folder / "cache" / "kernels")
    os.environ["TRUEORACLE_CACHE"] = str(folder / "cache")
    os.chdir(folder)
    torch.set_num_threads(1)
    kinds = dict(KINDS)
    server = None
    try:
        soak = Soak(folder)
        print(f"undisturbed: {len(soak.calm[0])} trials in {soak.seconds:.1f} s", flush=True)
        if given.postgresql:
            server = Server(folder)
            kinds[SERVER[0]] = partial(restart_server, server), SERVER[1]
        kinds = {name: kind for name, kind in kinds.items() if given.only is None or given.only in name}
        while time.monotonic() < end:
            line = {**injected(soak, kinds, given.seed, number), "commit": tried}
            number += 1
            lines.append(line)
            if any(line.get(column) for column in HARM):
                print(json.dumps(line), flush=True)
            if log:
                with log.open("a") as file:
                    file.write(json.dumps(line) + "\n")
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    counts = counted(lines)
    print("\n".join(table(counts)))
    sys.exit(not counts or any(counts["**all**"][column] for column in HARM))


if __name__ == "__main__":
    main()
