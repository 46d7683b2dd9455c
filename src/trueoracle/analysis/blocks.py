"""What a leaderboard is made of: every predictor on one cell of one study and one base network, a block.

All figures are of test images, which chose no predictor and none of its masks. Where the order of the results on some images
does not come back on others, a cell tells no predictor from another: it is named instead of ranked. Whether it does is judged over all
base networks of the cell, so that each network is judged on the same cells.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trueoracle.analysis.ceiling import ceiling
from trueoracle.analysis.cells import predictors_of, scored_trials, thrown_away, trial_masks, with_store
from trueoracle.analysis.masks import CellMasks
from trueoracle.analysis.metric import Better, metric
from trueoracle.analysis.other_images import SURE, Jackknife, OtherImages, T, answers_of, others
from trueoracle.analysis.rank import kendall_tau
from trueoracle.analysis.regret import at_k, regret_of
from trueoracle.analysis.resample import generator
from trueoracle.analysis.result import Absent, RegretBasis
from trueoracle.store import BaseRecord, CellRecord, Store
from trueoracle.words.errors import TableError, unknown
from trueoracle.words.progress import Progress
from trueoracle.words.spec import parse_spec, plain_name
from trueoracle.words.trial import FinalProtocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """One predictor on one block.

    `agreement` is Kendall's tau with the results, positive where the predictor is right. `regret` is what the best mask ends better by than
    the mask chosen, in the result's unit, on other images than picked it. `hit` is the share of the k masks it likes best that are among
    the k best; absent where there are fewer than 2k masks.
    """

    agreement: float
    regret: float
    hit: float | Absent


@dataclass(frozen=True, kw_only=True, slots=True)
class Halves:
    """Kendall's tau between a cell's results on two halves of the test images, and its variance from image to image."""

    tau: float
    variance: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One cell of one study on one base network; `case` is the cell's name with the network's number, where there are several.

    `network` names the base network by its weights, so that studies which share it (`seeds_of`) are known to. `ceiling` is
    the agreement of one who knows what each mask reaches on other images. `scores` holds the predictors that tell masks apart
    here, `silent` says of the others why they do not. `seconds` are
    core-seconds that one mask takes, of predictors whose cost was measured. `bases` say what picked the best mask and what measured it. `chance` is the `hit` of a random choice.
    """

    study: str
    cell: str
    case: str
    network: str
    masks: int
    ceiling: float | Absent
    halves: Halves | Absent
    bases: frozenset[RegretBasis]
    chance: float | Absent
    scores: Mapping[str, Scored]
    seconds: Mapping[str, float]
    silent: Mapping[str, str]
    excluded: int
    searched: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A cell, on one or all base networks, on which no predictor is judged, and why."""

    study: str
    cell: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """The blocks of one or several studies; `better` says of every predictor which values promise more."""

    found: tuple[Block, ...]
    left_out: tuple[LeftOut, ...]
    better: Mapping[str, Better]
    notes: tuple[str, ...]


def blocks_of(
    store: Store,
    studies: Sequence[str],
    xs: Sequence[str] | None,
    y: str,
    k: int,
    progress: Progress,
    better: Mapping[str, Better] | None = None,
    seed: int = 0,
) -> Blocks:
    """Every predictor of `xs`, None for all that are stored, in every cell of the studies (by name or digest) that is finished.

    `TableError` for an unknown column, or a study without trials.
    """
    found: list[Block] = []
    left_out: list[LeftOut] = []
    directions: dict[str, Better] = {}
    notes: dict[str, None] = {}
    known: set[str] = set()
    tables = {digest: scored_trials(store, digest) for digest in dict.fromkeys(store.find(s).digest for s in studies)}
    for table in tables.values():
        known |= set(predictors_of(table))
    for x in xs or ():
        if x not in known:
            raise TableError(unknown("predictor", x, sorted(known)))
    for digest, trials in tables.items():
        names = [x for x in (xs or predictors_of(trials)) if x in trials.columns]
        said = {**thrown_away(trials), **(better or {})}
        directions |= {x: metric(x, said.get(x)).better for x in names}
        study = _Study.read(store, digest, trials, y)
        notes |= dict.fromkeys(study.notes)
        with progress.task(f"judging predictors, {study.name}", len(study.cells), "cells") as advance:
            for record in study.cells:
                one = study.block(record, names, said, k, seed)
                if isinstance(one, Block):
                    found.append(one)
                else:
                    left_out.append(one)
                advance(1)
    telling, untold = _telling(found)
    return Blocks(found=telling, left_out=(*untold, *left_out), better=directions, notes=tuple(notes))


def _telling(blocks: Sequence[Block]) -> tuple[tuple[Block, ...], tuple[LeftOut, ...]]:
    """The blocks of cells whose results come back on other images, and the other cells."""
    cells: dict[tuple[str, str], list[Block]] = {}
    for block in blocks:
        cells.setdefault((block.study, block.cell), []).append(block)
    reasons = {key: _untold(of_cell) for key, of_cell in cells.items()}
    return (
        tuple(block for block in blocks if reasons[block.study, block.cell] is None),
        tuple(LeftOut(study=study, cell=cell, why=why) for (study, cell), why in reasons.items() if why is not None),
    )


def _untold(blocks: Sequence[Block]) -> str | None:
    """Why the results of a cell, over its base networks, tell nothing; None where they do, or where it is not known."""
    halves = [block.halves for block in blocks if not isinstance(block.halves, Absent)]
    if halves:
        error = math.sqrt(math.fsum(one.variance for one in halves)) / len(halves)
        if math.fsum(one.tau for one in halves) / len(halves) > T * error:
            return None
        return "the order of its masks on some images cannot be told to come back on others"
    ceilings = [block.ceiling for block in blocks if not isinstance(block.ceiling, Absent)]
    if not ceilings or max(ceilings) > SURE:
        return None
    return "retraining drowns the order of its masks"


@dataclass(frozen=True, kw_only=True)
class _Study:
    """A stored study as blocks are read from it."""

    store: Store
    digest: str
    name: str
    cells: Sequence[CellRecord]
    trials: pd.DataFrame
    networks: Mapping[int, str]
    repeats: int
    seconds: Mapping[str, Mapping[int, float]]
    y: str
    notes: Sequence[str]

    @classmethod
    def read(cls, store: Store, digest: str, trials: pd.DataFrame, y: str) -> "_Study":
        record = store.find(digest)
        spec = parse_spec(json.loads(record.spec), record.name)
        cells = store.cells(digest)
        if y not in trials.columns:
            raise TableError(unknown("column", y, map(str, trials.columns)))
        return cls(
            store=store,
            digest=digest,
            name=record.name,
            cells=cells,
            trials=trials,
            networks={
                n: _network(record.name, n, store.base(digest, n)) for n in sorted({cell.base for cell in cells})
            },
            repeats=spec.repeats,
            seconds=store.costs(digest),
            y=y,
            notes=list(_notes(record.name, spec.final, trials)),
        )

    def block(
        self, record: CellRecord, names: Sequence[str], better: Mapping[str, Better], k: int, seed: int
    ) -> Block | LeftOut:
        """What the predictors say of a cell, or why none is judged there."""
        rows = self.trials[self.trials["cell"] == record.name]
        if len(rows) < record.masks * self.repeats:
            return LeftOut(study=self.name, cell=record.name, why="not all of its trials are run yet")
        try:
            (masks,) = trial_masks(rows, [], self.y, names, better)
        except TableError as error:
            return LeftOut(study=self.name, cell=record.name, why=str(error))
        cell = with_store(masks, record, self.store, self.digest)
        top, halves = _ceiling(cell, seed)
        regrets = {x: regret_of(cell, x, seed) for x in cell.x}
        return Block(
            study=self.name,
            cell=plain_name(record.name, record.base, len(self.networks)),
            case=record.name,
            network=self.networks[record.base],
            masks=cell.n,
            ceiling=top,
            halves=halves,
            bases=frozenset(basis for _, _, basis in regrets.values()),
            chance=at_k(cell.goodness, cell.goodness, k).chance_precision if 2 * k <= cell.n else _few(k),
            scores={x: _scored(cell, x, k, regrets[x][0]) for x in cell.x},
            seconds={x: of_x[record.index] for x, of_x in self.seconds.items() if record.index in of_x},
            silent=dict(_silent(rows, [x for x in names if x not in cell.x])),
            excluded=cell.excluded,
            searched=cell.searched,
        )


def _network(study: str, number: int, base: BaseRecord | None) -> str:
    """One name for one network: its number and weights, or where they are not stored its study."""
    weights = b"" if base is None else base.weights
    return f"{number} {hashlib.sha256(weights).hexdigest()[:12] if weights else study}"


def _notes(study: str, final: FinalProtocol, trials: pd.DataFrame) -> Iterator[str]:
    if final is FinalProtocol.BEST_ON_TEST:
        yield f"{study}: the epoch that counts was chosen on the test images, which flatters all results"
    if "final_validation_accuracy" not in trials.columns:
        yield f"{study}: there is no validation split: the best mask is chosen and measured on the same images, or on parts of them"
    if "early_test_accuracy" in trials.columns:
        yield f"{study}: early_test_accuracy looked at the test images by which it is judged, which flatters it"


def _ceiling(cell: CellMasks, seed: int) -> tuple[float | Absent, Halves | Absent]:
    """The agreement that can be reached: of one who knows other images where single answers are known, else of one who knows these."""
    answers = answers_of(cell)
    if isinstance(answers, Absent):
        of_these = ceiling(cell, seed)
        return (of_these if isinstance(of_these, Absent) else of_these.tau), answers
    found = Jackknife.of([cell.y], answers.right_nRI, answers.known_nR, generator(seed, cell.group, "images"))
    none = np.zeros(1)
    elsewhere = OtherImages(found=found, number=others(answers.images), sign_K=none, retraining_K=none)
    halves = Halves(tau=float(found.half_V[0]), variance=float(found.variance(found.half_V)))
    return elsewhere.ceiling()[0], halves


def _scored(cell: CellMasks, x: str, k: int, regret: float) -> Scored:
    promise = cell.promise(x)
    return Scored(
        agreement=kendall_tau(promise, cell.goodness),
        regret=regret,
        hit=at_k(promise, cell.goodness, k).precision if 2 * k <= cell.n else _few(k),
    )


def _few(k: int) -> Absent:
    return Absent(why=f"no cell has the {2 * k} masks that {k} best among them take")


def _silent(rows: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Of predictors that say nothing of a cell's masks, why."""
    for x in names:
        values = rows[x].to_numpy(float)
        missing = int((~np.isfinite(values)).sum())
        if missing == len(values):
            yield x, "it is not measured"
        elif missing:
            yield x, "it is missing or infinite for some masks"
        else:
            yield x, "it says the same of all masks"
