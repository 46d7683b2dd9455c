"""Faults, and how each is injected into a run of the study or into what a run has left. Each returns how the study then ended."""

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from sqlalchemy import Engine, create_engine, event, text
from undisturbed import REFUSED, SAME, Soak

from trueoracle.fleet import checkpoint
from trueoracle.fleet.fleet import Fleet, train_in_lockstep
from trueoracle.nets import prune


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
        keep = checkpoint.Checkpoint.keep

        def keep_so_many(self: checkpoint.Checkpoint, *what: Any) -> None:
            nonlocal left
            keep(self, *what)
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        with (
            patch.object(checkpoint, "_LEAST_SECONDS", 0.0),
            patch.object(checkpoint, "_TIMES_THE_WRITING", 0.0),
            patch.object(checkpoint.Checkpoint, "keep", keep_so_many),
        ):
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
                vars(module)["time"] = wrong
        soak.finish(threads=2)

    return soak.done(jumpy) or soak.checked()


def spoil_networks(soak: Soak) -> int:
    """Some networks are not numbers as their training begins: they diverge, and their fleet's others end as ever."""
    soak.fresh()
    masks = sorted(set(soak.calm[0]["mask"]))
    spoilt = set(soak.chance.sample(masks, soak.chance.randint(1, len(masks) // 3)))

    def spoiling() -> None:
        def wrong(net: torch.nn.Module, mask: Any, *more: Any) -> torch.nn.Module:
            found = prune(net, mask, *more)
            if mask.rank in spoilt:
                with torch.no_grad():
                    next(found.parameters()).view(-1)[0] = float("nan")
            return found

        with patch("trueoracle.study.retrain.prune", wrong):
            trials = soak.finish().trials()
        assert set(trials.loc[trials["outcome"] != "finished", "mask"]) == spoilt

    return soak.done(spoiling) or soak.checked(lambda table: table[~table["mask"].isin(spoilt)])


def exhaust_device(soak: Soak) -> int:
    """Fleets beyond some size run out of the device's memory after some steps, as PyTorch says it: halves go on."""
    soak.fresh()
    most, steps = soak.chance.randint(1, 7), soak.chance.randint(0, 5)

    def cramped() -> None:
        def train_few(fleet: Fleet, data: Any, recipes: Sequence[Any], *more: Any) -> Any:
            if len(recipes) <= most:
                return train_in_lockstep(fleet, data, recipes, *more)
            step, left = fleet.step, iter(range(steps))

            def step_or_not(*words: Any) -> None:
                if next(left, None) is None:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                step(*words)

            with patch.object(fleet, "step", step_or_not):
                return train_in_lockstep(fleet, data, recipes, *more)

        with patch("trueoracle.fleet.training.train_in_lockstep", train_few):
            soak.check()

    return soak.done(cramped)


class Server:
    """A PostgreSQL server that is killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.databases = folder / "postgresql", 0
        self.url = self._call("start").strip()

    def _call(self, what: str) -> str:
        words = [str(Path(__file__).parents[1] / ".ci" / "postgresql"), what, str(self.folder)]
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
