"""Analyses of studies beside the pages: another process computes and draws, as `report` does, while pages are answered.

One study at a time, each in a process of its own with the lowest claim on the machine: it may be the one that retrains. What is
shown says as of when it is; it is made anew once the store knows more, and as often as it is worth.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import SimpleQueue
from signal import SIG_IGN, SIGINT, signal
from threading import Lock, Thread
from time import monotonic, time

from trueoracle.analysis.best import BestMask, best_mask
from trueoracle.analysis.result import CellAnalysis
from trueoracle.report.findings import find
from trueoracle.report.page import context, environment
from trueoracle.serve.summary import Summary
from trueoracle.store import CellRecord, Store
from trueoracle.words.errors import TrueOracleError
from trueoracle.words.progress import Quiet

MOST_TRIALS = 200_000
MOST_POINTS = 5_000
_READING = 30.0  # seconds that a question may take: a study's trials are read at once
_LEAST_PAUSE, _SHARE = 15.0, 4  # seconds between two analyses of a study, and how many times as long as one takes
_LONGEST = 3600.0  # seconds, after which an analysis is given up
_PARTS = ("verdict", "results", "networks", "run")


@dataclass(frozen=True, kw_only=True)
class Analysed:
    """A study analysed and drawn, as of `stamp`: the report's parts by name, and those of cells by index.

    `at` is when, in seconds since 1970, and `took` for how long; `trials` were done by then.
    """

    stamp: str
    at: float
    took: float
    trials: int
    parts: Mapping[str, str]
    cells: Mapping[int, str]
    analyses: tuple[CellAnalysis, ...]
    best: BestMask


@dataclass(frozen=True, kw_only=True)
class State:
    """What there is of a study: the newest analysis, a newer one in the making, or why there is none."""

    newest: Analysed | None = None
    working: bool = False
    problem: str = ""

    @property
    def stamp(self) -> str:
        """Another one for each state."""
        return f"{self.newest.stamp if self.newest else ''}{'+' * self.working}{self.problem and '!'}"


class Analyst:
    """Keeps the analyses of the studies that are looked at."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._states: dict[str, State] = {}
        self._tried: dict[str, tuple[str, float]] = {}  # digest -> the stamp of the last attempt, and when it ended
        self._lock = Lock()
        self._orders: SimpleQueue[Summary] = SimpleQueue()
        Thread(target=self._work, daemon=True).start()

    def of(self, study: Summary) -> State:
        """What there is now; a new analysis is ordered where the study has changed and it is time."""
        digest, done = study.record.digest, study.status.finished
        with self._lock:
            state = self._states.get(digest, State())
            if state.working or not done:
                return state
            if done > MOST_TRIALS:
                return State(
                    problem=f"more than {MOST_TRIALS:,} trials are not analysed while you wait: `trueoracle report` does it"
                )
            stamp, ended = self._tried.get(digest, ("", 0.0))
            took = state.newest.took if state.newest else 0.0
            if stamp == study.stamp or (stamp and monotonic() - ended < max(_LEAST_PAUSE, _SHARE * took)):
                return state
            state = self._states[digest] = replace(state, working=True)
            self._orders.put(study)
            return state

    def _work(self) -> None:
        while True:
            study = self._orders.get()
            found = _in_another_process(self._url, study)
            digest = study.record.digest
            with self._lock:
                newest = found if isinstance(found, Analysed) else self._states[digest].newest
                self._states[digest] = State(newest=newest, problem=found if isinstance(found, str) else "")
                self._tried[digest] = (study.stamp, monotonic())


def _in_another_process(url: str, study: Summary) -> Analysed | str:
    """The analysis, or the sentence that says why there is none."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(
        target=_analyse, args=(theirs, url, study.record.digest, study.stamp, study.key), daemon=True
    )
    process.start()
    theirs.close()
    try:
        found: Analysed | str = (
            ours.recv() if ours.poll(_LONGEST) else f"the analysis took longer than {_LONGEST:.0f} s"
        )
    except EOFError:
        found = "the analysis was killed: perhaps there is too little memory for it"
    finally:
        process.kill()
        process.join()
        ours.close()
    return found


def _analyse(answer: Connection, url: str, digest: str, stamp: str, key: str) -> None:
    """In the other process: analyse a study and draw the report's parts of it."""
    os.nice(10)
    signal(SIGINT, SIG_IGN)  # the server is interrupted, and ends this
    began = monotonic()
    try:
        found: Analysed | str = _analysed(Store.for_reading(url, _READING), digest, stamp, key, began)
    except TrueOracleError as error:
        found = str(error)
    with suppress(BrokenPipeError):  # nobody waits any more
        answer.send(found)


def _analysed(store: Store, digest: str, stamp: str, key: str, began: float) -> Analysed:
    found = find(store, digest, Quiet())

    def href(cell: CellRecord) -> str:
        return f"/studies/{key}/cells/{cell.index}"

    facts, templates = context(found, Quiet(), href, MOST_POINTS), environment()
    cell = templates.get_template("cell.html")
    return Analysed(
        stamp=stamp,
        at=time(),
        took=monotonic() - began,
        trials=found.status.finished + found.status.diverged,
        parts={name: templates.get_template(f"{name}.html").render(facts) for name in _PARTS},
        cells={section.cell.record.index: cell.render(**facts, section=section) for section in facts["sections"]},
        analyses=tuple(one.analysis for one in found.cells),
        best=best_mask([one.masks for one in found.cells]),
    )
