"""Faults injected into a small study, and what was lost by them: `python benchmarks/soak.py --minutes N --seed S`.

The study runs once undisturbed. Then, as long as time allows, one fault after another is injected into a run of it or
into what a run has left; the study is run to its end, and its tables are held against the undisturbed ones, bit for
bit. What a fault may do is cost time, or be refused in words. The table counts, for each kind of fault, how many were
injected and how many runs recovered or were refused, and the trials that were lost, doubled or changed, and the
errors that were no words; the exit code is 1 where one of the last four is not 0.

Runs are forks of this process, which has loaded everything: a fault costs a second, not the start of a program.
"""

import argparse
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
from collections.abc import Callable
from contextlib import closing
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
from trueoracle.fleet import checkpoint
from trueoracle.store import Store
from trueoracle.study import retrain
from trueoracle.words.folders import cache_folder
from trueoracle.words.progress import Quiet

HERE = Path(__file__).parent
SGD = {"optimiser": "sgd", "lr": 0.02, "momentum": 0.9, "batch_size": 32, "epochs": 2}
STUDY = {
    "name": "soak", "model": "lenet5-mini", "data": "./pictures.parquet", "train": SGD, "retrain": SGD, "repeats": 2,
    "final": "last", "cells": [{"prune": {"conv1": 0.5}, "draw": 20}, {"prune": {"conv3": 0.2}, "draw": 20}],
}  # fmt: skip
SAME, REFUSED, WRONG, CRASHED = 0, 2, 3, 4
Tables = tuple[pd.DataFrame, pd.DataFrame]
KEY = ["base", "cell", "mask", "repeat"]


class Soak:
    """A folder, the undisturbed tables of the study, and chance."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.cache = folder / "cache"
        self.url = f"sqlite:///{folder / 'store.db'}"
        self.lost = self.doubled = self.changed = 0
        self._make_pictures()
        self.file = folder / "store.db"
        self.calm = self.tables(self.finish())  # compiles, too
        self.fresh()
        begin = time.monotonic()
        self.check()
        self.seconds = time.monotonic() - begin
        self.whole, self.half = self._contents()

    def finish(self, *, threads: int = 1) -> Study:
        """Run the study to its end."""
        study = Study("soak.yaml", store=self.url, threads=threads, progress=Quiet())
        study.run()
        return study

    @staticmethod
    def tables(study: Study) -> Tables:
        return study.trials().drop(columns="seconds"), study.curves()

    def fresh(self, content: bytes | None = None) -> None:
        """No store, or one of this content."""
        for path in self.folder.glob("store.db*"):
            path.unlink()
        if content is not None:
            self.file.write_bytes(content)

    def fork(self, work: Callable[[], object], *, seed: int = 0) -> int:
        """A process that does `work`; it exits with what the work came to."""
        pid = os.fork()
        if pid:
            return pid
        code = CRASHED
        try:
            self.chance = random.Random(seed)
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

    def wait(self, pid: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def moment(self, times: float = 1.0) -> float:
        """Some time of a run, in seconds."""
        return self.chance.uniform(0, self.seconds * times)

    def check(self, but: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table) -> None:
        """Run to the end; `Wrong` where a table is another."""
        found = self.tables(self.finish())
        for mine, calm in zip(found, self.calm, strict=True):
            mine, calm = but(mine).reset_index(drop=True), but(calm).reset_index(drop=True)
            if mine.equals(calm):
                continue
            keys, known = (list(map(tuple, table[KEY].to_numpy())) for table in (mine, calm))
            facts = {"lost": len(set(known) - set(keys)), "doubled": len(mine) - len(mine.drop_duplicates())}
            (self.folder / "wrong").write_text(f"{facts['lost']} {facts['doubled']} {int(not any(facts.values()))}")
            raise Wrong

    def checked(self, but: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table) -> int:
        return self.wait(self.fork(lambda: self.check(but)))

    def _make_pictures(self) -> None:
        """Blots of ten classes, which a network learns a little of."""
        numbers = np.random.default_rng(0)
        centres = numbers.integers(60, 200, (10, 32, 32))
        rows = []
        for split, count in (("train", 240), ("test", 80)):
            for index in range(count):
                pixels = np.clip(centres[index % 10] + numbers.normal(0, 60, (32, 32)), 0, 255).astype(np.uint8)
                path = self.folder / "picture.png"
                Image.fromarray(pixels).save(path)
                rows.append({"image": {"bytes": path.read_bytes(), "path": None}, "label": index % 10, "split": split})
        pd.DataFrame(rows).to_parquet(self.folder / "pictures.parquet")
        (self.folder / "soak.yaml").write_text(yaml.safe_dump(STUDY))

    def _contents(self) -> tuple[bytes, bytes]:
        """The store as a finished run leaves it, and with half of its trials."""
        whole = self.file.read_bytes()
        with closing(sqlite3.connect(self.file)) as connection:
            for table in ("trials", "learning_curves", "answers"):
                connection.execute(f"DELETE FROM {table} WHERE repeat = 1")
            connection.commit()
        Store(self.url).studies()
        half = self.file.read_bytes()
        self.fresh()
        return whole, half


class Wrong(Exception):
    """A table is not the undisturbed one."""


def flipped(content: bytes, chance: random.Random, most: int = 1) -> bytes:
    found = bytearray(content)
    for _ in range(chance.randint(1, most)):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def kill_driver(soak: Soak) -> int:
    soak.fresh()
    for _ in range(soak.chance.randint(1, 3)):
        pid = soak.fork(lambda: soak.finish(threads=2))
        time.sleep(soak.moment())
        os.kill(pid, signal.SIGKILL)
        soak.wait(pid)
    return soak.checked()


def two_drivers(soak: Soak) -> int:
    soak.fresh()
    pids = [soak.fork(lambda: soak.finish(threads=soak.chance.randint(1, 2)), seed=index) for index in range(2)]
    codes = [soak.wait(pid) for pid in pids]
    return max(codes) if any(codes) else soak.checked()


def kill_one_of_two(soak: Soak) -> int:
    soak.fresh()
    other, killed = (soak.fork(soak.finish) for _ in range(2))
    time.sleep(soak.moment())
    os.kill(killed, signal.SIGKILL)
    soak.wait(killed)
    return soak.wait(other) or soak.checked()


def stop_one_of_two(soak: Soak) -> int:
    """One hangs for a while, and goes on when the other is further."""
    soak.fresh()
    other, hung = (soak.fork(soak.finish) for _ in range(2))
    time.sleep(soak.moment())
    os.kill(hung, signal.SIGSTOP)
    time.sleep(soak.moment(2))
    os.kill(hung, signal.SIGCONT)
    codes = soak.wait(other), soak.wait(hung)
    return max(codes) if any(codes) else soak.checked()


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


def flip_checkpoint(soak: Soak) -> int:
    """Killed while checkpoints are written all the time; then one of them is damaged, or cut short."""
    soak.fresh()

    def eagerly() -> None:
        checkpoint._LEAST_SECONDS = checkpoint._TIMES_THE_WRITING = 0.0  # type: ignore[assignment]
        soak.finish()

    pid = soak.fork(eagerly)
    time.sleep(soak.moment())
    os.kill(pid, signal.SIGKILL)
    soak.wait(pid)
    for path in (soak.cache / "unfinished").glob("*.safetensors"):
        content = path.read_bytes()
        cut = soak.chance.random() < 0.2
        path.write_bytes(content[: soak.chance.randrange(len(content))] if cut else flipped(content, soak.chance, 3))
    return soak.checked()


def flip_data_cache(soak: Soak) -> int:
    files = [
        path for path in soak.cache.rglob("*") if path.suffix in (".pixels", ".labels") or path.name == "facts.json"
    ]
    path = soak.chance.choice(files)
    content = path.read_bytes()
    path.write_bytes(content[:-1] if soak.chance.random() < 0.1 else flipped(content, soak.chance, 3))
    soak.fresh()
    return soak.checked()


def flip_kernels(soak: Soak) -> int:
    """A new process, for this one has its kernels."""
    files = [path for path in (soak.cache / "kernels").rglob("*") if path.is_file()]
    path = soak.chance.choice(files)
    path.write_bytes(flipped(path.read_bytes(), soak.chance, 3))
    soak.fresh()
    words = [sys.executable, "-m", "trueoracle", "run", "soak.yaml", "--store", soak.url]
    code = subprocess.run(words, capture_output=True, check=False).returncode
    return (code and CRASHED) or soak.checked()


def fill_disk(soak: Soak) -> int:
    """No file may grow beyond some size."""
    content = soak.chance.choice([None, soak.half])
    soak.fresh(content)
    least = len(content or b"")
    most = least + soak.chance.randrange(4096, 2 * len(soak.whole))

    def cramped() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        soak.finish()

    code = soak.wait(soak.fork(cramped))
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

    code = soak.wait(soak.fork(as_nobody))
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

    code = soak.wait(soak.fork(jumpy, seed=soak.chance.randrange(2**32)))
    return code or soak.checked()


def nan_members(soak: Soak) -> int:
    """Some networks are spoilt as their training begins: they diverge, and their fleet's others end as ever."""
    soak.fresh()
    spoilt = {rank for rank in set(soak.calm[0]["mask"]) if soak.chance.random() < 0.2}

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
        if set(trials.loc[trials["outcome"] != "finished", "mask"]) != spoilt:
            raise Wrong

    return soak.wait(soak.fork(spoiling)) or soak.checked(lambda table: table[~table["mask"].isin(spoilt)])


class Server:
    """A PostgreSQL server that is killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "postgresql"
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

    def database(self, name: str) -> str:
        engine = create_engine(self.url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url.replace("/postgres?", f"/{name}?")


def kill_server(soak: Soak, server: Server, number: int) -> int:
    own, soak.url = soak.url, server.database(f"soak{number}")
    try:
        pid = soak.fork(lambda: soak.finish(threads=2))
        time.sleep(soak.moment())
        server.kill()
        code = soak.wait(pid)
        server.start()
        return code if code not in (SAME, REFUSED) else soak.checked()
    finally:
        soak.url = own


KINDS: dict[str, tuple[Callable[[Soak], int], float]] = {
    "bits flipped in a finished store": (flip_finished_store, 10),
    "bits flipped in a store with trials left": (flip_half_store, 4),
    "a bit flipped in the base network's weights": (flip_weights, 3),
    "a checkpoint damaged after a kill": (flip_checkpoint, 2),
    "decoded data damaged": (flip_data_cache, 2),
    "compiled kernels damaged": (flip_kernels, 0.1),
    "the driver killed, one to three times": (kill_driver, 2),
    "two drivers at once": (two_drivers, 1),
    "one of two drivers killed": (kill_one_of_two, 1),
    "one of two drivers hung for a while": (stop_one_of_two, 1),
    "the disk full": (fill_disk, 2),
    "the store read-only": (read_only, 1),
    "the clock jumping by up to a month": (jump_clock, 2),
    "some networks spoilt by NaN": (nan_members, 1),
}
"""What is injected, and how often beside the others."""


def table(counts: dict[str, Counter[str]]) -> str:
    columns = ("injected", "recovered", "refused", "lost", "doubled", "changed", "crashed")
    rows = [f"| fault | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    total = sum(counts.values(), Counter[str]())
    for kind, found in [*counts.items(), ("**all**", total)]:
        rows.append(f"| {kind} | {' | '.join(f'{found[column]:,}' for column in columns)} |")
    return "\n".join(rows)


def count(found: Counter[str], code: int, soak: Soak) -> None:
    found["injected"] += 1
    if code == WRONG:
        facts = (soak.folder / "wrong").read_text().split() if (soak.folder / "wrong").exists() else "001"
        for column, number in zip(("lost", "doubled", "changed"), facts, strict=True):
            found[column] += int(number)
    else:
        found[{SAME: "recovered", REFUSED: "refused"}.get(code, "crashed")] += 1


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--minutes", type=float, default=1.0)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--only", help="kinds of fault that have this in their name")
    asked.add_argument("--no-postgresql", action="store_true")
    given = asked.parse_args()
    folder = Path(mkdtemp(prefix="soak-"))
    folder.chmod(0o755)
    if (cache_folder() / "kernels").is_dir():  # else they are compiled first
        shutil.copytree(cache_folder() / "kernels", folder / "cache" / "kernels")
    os.environ["TRUEORACLE_CACHE"] = str(folder / "cache")
    os.chdir(folder)
    torch.set_num_threads(1)
    server = None
    try:
        soak = Soak(folder, given.seed)
        end = time.monotonic() + 60 * given.minutes
        kinds = {name: kind for name, kind in KINDS.items() if given.only is None or given.only in name}
        counts = {name: Counter[str]() for name in kinds}
        print(f"undisturbed: {len(soak.calm[0])} trials in {soak.seconds:.1f} s", flush=True)
        if not given.no_postgresql and given.only is None:
            server = Server(folder)
            counts["PostgreSQL killed and started again"] = Counter()
            kinds["PostgreSQL killed and started again"] = (
                lambda soak: kill_server(soak, server, counts["PostgreSQL killed and started again"]["injected"]),
                0.5,
            )
        shown = time.monotonic()
        first = list(kinds)  # each once, then by chance
        while time.monotonic() < end:
            weights = [weight for _, weight in kinds.values()]
            name = first.pop(0) if first else soak.chance.choices(list(kinds), weights)[0]
            count(counts[name], code := kinds[name][0](soak), soak)
            if code not in (SAME, REFUSED):
                print(f"{name}: {code}", flush=True)
            if time.monotonic() - shown > 60:
                print(table(counts), flush=True)
                shown = time.monotonic()
        print(table(counts))
        bad = sum(found[column] for found in counts.values() for column in ("lost", "doubled", "changed", "crashed"))
        sys.exit(1 if bad else 0)
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
