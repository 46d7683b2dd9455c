"""A stage of a study shared among workers: each claims a piece, does it and stores it, until none is left.

Workers are processes that know of each other only by the store. One that dies is noticed: its lease ends, or at once
where it ran on this machine, for then the lock that it held on a file of the cache folder is free.
"""

import os
import platform
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from secrets import token_hex
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import IO, TypeVar

from trueoracle.executors import Stop
from trueoracle.store import LEASE_SECONDS, Claim, Piece, Store
from trueoracle.words.errors import StoreAway, StoreError
from trueoracle.words.folders import cache_folder

R = TypeVar("R")
Run = Callable[[Callable[[Claim, Stop], tuple[Claim, R]], Iterable[Claim]], Generator[tuple[Claim, R]]]
"""Does independent work, and yields results as they come: `Executor.run`, or `one_by_one`."""

_WAIT_SECONDS = 0.5
_PATIENCE_SECONDS = 300.0
_BEATS = 4  # in the time of a lease, so that one that is late costs nothing


def one_by_one(work: Callable[[Claim, Stop], tuple[Claim, R]], items: Iterable[Claim]) -> Generator[tuple[Claim, R]]:
    """Work that is spread over threads within, or cannot be."""
    for item in items:
        yield work(item, lambda: False)


def in_pieces(left: Iterable[int], at_once: int, cell: int, repeat: int = 0) -> Iterator[Piece]:
    """Places of masks among the ranks of their cell, `at_once` a piece."""
    places = iter(left)
    while together := tuple(islice(places, at_once)):
        yield Piece(cell=cell, repeat=repeat, start=together[0], stop=together[-1] + 1)


def patiently(ask: Callable[[], R], stop: Stop = lambda: False) -> R:
    """What the store is asked for, asked again while its database is away, for some minutes: a restart ends no worker.

    All that a worker writes may be written twice: a piece is settled once, and what is known already stays.
    """
    end = monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except StoreAway:
            if stop() or monotonic() > end:
                raise
        sleep(_WAIT_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """The part of one worker in a study: `worker` is its name, `held` the pieces that are its own at the moment."""

    store: Store
    study: str
    worker: str
    held: dict[str, Claim] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def stage(
        self,
        name: str,
        missing: Callable[[], Iterable[Piece]],
        work: Callable[[Piece, Stop], R],
        keep: Callable[[Claim, R], object],
        run: "Run[R]" = one_by_one,
    ) -> None:
        """Take part in a stage until nothing of it is left, by anyone.

        `missing` lists its pieces if nobody has; `keep` stores what `work` found and settles the claim.
        """
        patiently(lambda: self.store.open_stage(self.study, name, missing))

        def done(claim: Claim, stop: Stop) -> tuple[Claim, R]:
            return claim, patiently(lambda: work(claim.piece, stop), stop)

        while True:
            with closing(run(done, self._claims(name))) as results:  # whatever happens, nobody works on unseen
                for claim, found in results:
                    patiently(lambda claim=claim, found=found: keep(claim, found))  # type: ignore[misc]
                    with self.lock:
                        del self.held[claim.token]
            if not patiently(lambda: self.store.pieces_left(self.study, name)):
                return
            sleep(_WAIT_SECONDS)  # others are at the rest of it

    def _claims(self, stage: str) -> Iterator[Claim]:
        there = patiently(lambda: self.store.in_flight(self.study))
        dead = dead_among({one.worker for one in there} - {self.worker})
        while (claim := patiently(lambda: self.store.claim(self.study, stage, self.worker, dead=dead))) is not None:
            with self.lock:
                self.held[claim.token] = claim
            yield claim


@contextmanager
def sharing(store: Store, study: str) -> Iterator[Sharing]:
    """Be a worker of the study: while it lasts, what is held stays held; then it is given back."""
    with _alive() as worker:
        ours = Sharing(store=store, study=study, worker=worker)
        over = Event()

        def beat() -> None:
            while not over.wait(LEASE_SECONDS / _BEATS):
                with ours.lock:
                    held = list(ours.held.values())
                with suppress(StoreError):  # the next one may reach the store
                    store.prolong(held)

        heart = Thread(target=beat, daemon=True)
        heart.start()
        try:
            yield ours
        finally:
            over.set()
            heart.join()
            with suppress(StoreError):
                store.give_back(list(ours.held.values()))


@contextmanager
def _alive() -> Iterator[str]:
    """A name of this worker, and a file of that name whose lock the system frees when it ends, however it ends."""
    name = f"{platform.node()}-{os.getpid()}-{token_hex(4)}"
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with path.open("w") as file:
        _locked(file)
        try:
            yield name
        finally:
            path.unlink(missing_ok=True)


def dead_among(workers: Iterable[str]) -> list[str]:
    """Those that ran on this machine and do so no more; of others nothing is known but their leases."""
    return [name for name in workers if _is_dead(_folder() / name)]


def _is_dead(path: Path) -> bool:
    try:
        with path.open("r+") as file:
            free = _locked(file)
    except OSError:
        return False
    return free


def _locked(file: IO[str]) -> bool:
    """Whether the file's lock was free, and is ours now."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows: leases alone tell
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _folder() -> Path:
    return cache_folder() / "workers"
