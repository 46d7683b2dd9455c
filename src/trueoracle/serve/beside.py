"""What takes long, beside the pages: another process analyses and draws, as `report` does, while pages are answered.

One study at a time, each in a process of its own with the lowest claim on the machine: it may be the one that retrains. What is
shown says as of when it is; it is made anew once the store knows more, and as often as it is worth.
"""

import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from signal import SIG_IGN, SIGINT, signal
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from time import monotonic, time
from typing import Generic, TypeVar
from zipfile import ZIP_DEFLATED, ZipFile

from trueoracle.analysis.best import BestMask, best_mask
from trueoracle.analysis.result import CellAnalysis
from trueoracle.report.figures import save_figures
from trueoracle.report.findings import Findings, find
from trueoracle.report.page import context, environment, render
from trueoracle.serve.summary import Summary
from trueoracle.store import CellRecord, Store
from trueoracle.words.errors import TrueOracleError
from trueoracle.words.progress import Quiet

MOST_TRIALS = 200_000
MOST_POINTS = 5_000
_READING = 30.0  # seconds that a question may take: a study's trials are read at once
_LEAST_PAUSE, _SHARE = 15.0, 4  # seconds between two analyses of a study, and how many times as long as one takes
_LONGEST = 3600.0  # seconds, after which the work is given up
_PARTS = ("verdict", "results", "criteria", "networks", "run")


@dataclass(frozen=True, kw_only=True)
class AsOf:
    """As of what something was made: the `stamp` of the study, and how many `trials` were done by then.

    `at` is when, in seconds since 1970, and `took` for how long it was made, in seconds.
    """

    stamp: str
    at: float
    took: float
    trials: int


@dataclass(frozen=True, kw_only=True)
class Analysed:
    """A study analysed and drawn: the report's parts by name, and those of cells by index; `page` is the whole report, packed by zlib.

    `pictures` are the scatter and the curves of each cell by index.
    """

    as_of: AsOf
    parts: Mapping[str, str]
    cells: Mapping[int, str]
    analyses: Mapping[int, CellAnalysis]
    best: BestMask
    pictures: Mapping[int, tuple[str, str, str]]
    page: bytes


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A study's figures for a manuscript, `files` of them, as a ZIP archive."""

    as_of: AsOf
    files: int
    archive: bytes


Made = TypeVar("Made", Analysed, Figures)


@dataclass(frozen=True, kw_only=True)
class State(Generic[Made]):
    """What there is of a study: the newest that was made, a newer one in the making, or why there is none."""

    newest: Made | None = None
    working: bool = False
    problem: str = ""

    @property
    def stamp(self) -> str:
        """Another one for each state."""
        return f"{self.newest.as_of.stamp if self.newest else ''}{'+' * self.working}{self.problem and '!'}"


class Beside(Generic[Made]):
    """Makes something of the studies that are looked at, by the function `make`, and keeps the newest."""

    def __init__(self, url: str, make: Callable[[Findings, str, AsOf], Made]) -> None:
        self._url = url
        self._make: Callable[[Findings, str, AsOf], Made] = make
        self._states: dict[str, State[Made]] = {}
        self._tried: dict[str, tuple[str, float]] = {}  # digest -> the stamp of the last attempt, and when it ended
        self._lock = Lock()
        self._orders: SimpleQueue[Summary] = SimpleQueue()
        Thread(target=self._work, daemon=True).start()

    def known(self, study: Summary) -> State[Made]:
        """What there is now."""
        with self._lock:
            return self._states.get(study.record.digest, State())

    def of(self, study: Summary) -> State[Made]:
        """What there is now; a new one is ordered where the study has changed and it is time."""
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
            took = state.newest.as_of.took if state.newest else 0.0
            if stamp == study.stamp or (stamp and monotonic() - ended < max(_LEAST_PAUSE, _SHARE * took)):
                return state
            state = self._states[digest] = replace(state, working=True)
            self._orders.put(study)
            return state

    def _work(self) -> None:
        while True:
            study = self._orders.get()
            found = _in_another_process(self._url, study, self._make)
            digest = study.record.digest
            with self._lock:
                known = self._states[digest].newest
                self._states[digest] = (
                    State(newest=known, problem=found) if isinstance(found, str) else State(newest=found)
                )
                self._tried[digest] = (study.stamp, monotonic())


def _in_another_process(url: str, study: Summary, make: Callable[[Findings, str, AsOf], Made]) -> Made | str:
    """What was made, or the sentence that says why it was not."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(
        target=_answer, args=(theirs, url, study.record.digest, study.stamp, study.key, make), daemon=True
    )
    process.start()
    theirs.close()
    try:
        found: Made | str = ours.recv() if ours.poll(_LONGEST) else f"it took longer than {_LONGEST:.0f} s"
    except EOFError:
        found = "the process was killed: perhaps there is too little memory for it"
    finally:
        process.kill()
        process.join()
        ours.close()
    return found


def _answer(
    answer: Connection, url: str, digest: str, stamp: str, key: str, make: Callable[[Findings, str, AsOf], Made]
) -> None:
    """In the other process: find what there is of a study, and make of it what is wanted."""
    os.nice(10)
    signal(SIGINT, SIG_IGN)  # the server is interrupted, and ends this
    began = monotonic()
    made: Made | str
    try:
        found = find(Store.for_reading(url, _READING), digest, Quiet())
        done = found.status.finished + found.status.diverged
        made = make(found, key, AsOf(stamp=stamp, at=time(), took=0.0, trials=done))
        made = replace(made, as_of=replace(made.as_of, took=monotonic() - began))
    except TrueOracleError as error:
        made = str(error)
    with suppress(BrokenPipeError):  # nobody waits any more
        answer.send(made)


def analysed(found: Findings, key: str, as_of: AsOf) -> Analysed:
    """The report and its parts; cells are linked to their pages under the study's `key`."""

    def href(cell: CellRecord) -> str:
        return f"/studies/{key}/cells/{cell.index}"

    facts, templates = context(found, Quiet(), href, MOST_POINTS), environment()
    cell = templates.get_template("cell.html")
    return Analysed(
        as_of=as_of,
        parts={name: templates.get_template(f"{name}.html").render(facts) for name in _PARTS},
        cells={section.cell.record.index: cell.render(**facts, section=section) for section in facts["sections"]},
        analyses={one.record.index: one.analysis for one in found.cells},
        best=best_mask([one.masks for one in found.cells]),
        pictures={
            one.cell.record.index: (str(one.scatter), str(one.loss_curves), str(one.result_curves))
            for one in facts["sections"]
        },
        page=zlib.compress(render(found, Quiet()).encode()),
    )


def figures(found: Findings, key: str, as_of: AsOf) -> Figures:
    """The figures, in a folder of the archive that is called after the study."""
    packed = BytesIO()
    with TemporaryDirectory() as folder, ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        written = save_figures(found, Path(folder) / "figures", Quiet())
        for path in written:
            archive.write(path, f"figures-{key}/{path.name}")
    return Figures(as_of=as_of, files=len(written), archive=packed.getvalue())
