"""Studies that nobody ran: as many masks and trials as a test needs, in a moment."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.store import BaseRecord, CellRecord, MaskRecord, Store, StudyRecord
from trueoracle.words.selection import Candidate, Measured, Rival, Rung, Seen, Selected
from trueoracle.words.spec import CellSpec, Recipe, StudySpec
from trueoracle.words.trial import Figures, FinalProtocol, Outcome, SplitAnswers, Trial

UNITS = 64


def made_up_study(store: Store, masks: int, *, retrained: int | None = None, curves: bool = True) -> StudyRecord:
    """Two cells of `masks` masks, of which the first `retrained` (all if not said) were retrained once, for five epochs."""
    recipe = Recipe(optimiser="sgd", lr=0.1, epochs=5, batch_size=128)
    cells = (CellSpec(prune={"conv1": 0.5}, draw=masks), CellSpec(prune={"conv2": 0.25}, draw=masks))
    spec = StudySpec(name="made-up", model="vgg19", data="cifar10", train=recipe, retrain=recipe, cells=cells, repeats=1,
                     final=FinalProtocol.LAST)  # fmt: skip
    study = StudyRecord(digest=spec.digest(), name=spec.name, spec=json.dumps(spec.facts()))
    store.add_study(study)
    store.put_base(study.digest, BaseRecord(base=0, weights=b"", train_loss=0.01, train_accuracy=1.0, test_loss=0.3, test_accuracy=0.93,
                                            parameters=1000, macs=5000, classes=10, data_fingerprint="", seconds=1.0))  # fmt: skip
    store.put_cells(study.digest, [
        CellRecord(index=index, base=0, name=cell.name, sites={space.sites[0].site: (UNITS, UNITS - space.sites[0].pruned)},
                   space=space.count, masks=masks, parameters=500, macs=2000)
        for index, (cell, space) in enumerate(zip(cells, _spaces(cells), strict=True))
    ])  # fmt: skip
    for index, space in enumerate(_spaces(cells)):
        records = [_mask(index, space, rank) for rank in space.draw(masks, seed=index)]
        store.put_masks(study.digest, records, len(str(space.count - 1)))
    more_trials(store, study, start=0, stop=masks if retrained is None else retrained, curves=curves)
    return study


def more_trials(
    store: Store, study: StudyRecord, *, start: int, stop: int, curves: bool = True, cells: tuple[int, ...] = (0, 1)
) -> None:
    """Retrain the masks of each cell from place `start` to `stop`: accuracies follow the losses loosely."""
    run = store.begin_run(study.digest, 1, {"machine": "made up"})
    for cell in (cell for cell in store.cells(study.digest) if cell.index in cells):
        rng = np.random.default_rng([cell.index, start])
        losses = sorted(store.masks(study.digest, cell.index).items())[start:stop]
        accuracies = np.clip(
            0.92 - 0.01 * np.array([loss for _, loss in losses]) + rng.normal(0, 0.005, len(losses)), 0, 1
        )
        trials = [
            _trial(cell.index, rank, loss, float(accuracy), curves=curves)
            for (rank, loss), accuracy in zip(losses, accuracies, strict=True)
        ]
        store.put_trials(study.digest, trials, len(str(cell.space - 1)), run)


def _spaces(cells: tuple[CellSpec, ...]) -> list[MaskSpace]:
    choices = [SiteChoice.at_ratio(site, UNITS, ratio) for cell in cells for site, ratio in cell.prune.items()]
    return [MaskSpace((choice,)) for choice in choices]


def _mask(cell: int, space: MaskSpace, rank: int) -> MaskRecord:
    """A loss that adds up over units."""
    mask = space.unrank(rank)
    loss = float(_effects(cell)[list(mask.sites[0].pruned)].sum())
    return MaskRecord(
        cell=cell, rank=rank, pruned=mask.pruned_json, loss=loss, accuracy=0.5, standard_error=0.0, scores={}
    )


@cache
def _effects(cell: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(cell).gamma(1.0, 0.05, UNITS)


def _trial(cell: int, rank: int, loss: float, accuracy: float, *, curves: bool) -> Trial:
    curve = tuple(Figures(train_loss=loss / epoch, train_accuracy=0.9, test_loss=0.3, test_accuracy=accuracy - 0.1 / epoch)
                  for epoch in range(1, 6))  # fmt: skip
    return Trial(cell=cell, mask=rank, repeat=0, seed=0, outcome=Outcome.FINISHED, curve=curve if curves else (),
                 final=curve[-1], seconds=0.1)  # fmt: skip


def graded_study(
    store: Store,
    *,
    name: str = "graded",
    networks: int = 3,
    seed: int = 0,
    lr: float = 0.1,
    validation: bool = True,
    diverged: int = 0,
    searched: int = 0,
    scores: Mapping[str, Callable[[np.random.Generator, float], float]] | None = None,
) -> StudyRecord:
    """Cells `conv1-0.5`, whose masks differ in worth, and `conv2-0.5`, whose masks do not; all 20 masks of each, two repeats, answers.

    `scores` say of a mask's worth what a criterion gives it (lower is better). The first `diverged` trials of every cell diverge,
    and the last `searched` masks are marked as found by a search. Studies of one seed share
    their base networks; `lr` is that of retraining.
    """
    recipe = Recipe(optimiser="sgd", lr=0.1, epochs=1, batch_size=128)
    cells = (CellSpec(prune={"conv1": 0.5}), CellSpec(prune={"conv2": 0.5}))
    spec = StudySpec(name=name, model="lenet5-mini", data="digits", train=recipe, retrain=recipe.model_copy(update={"lr": lr}), cells=cells, repeats=2,
                     base_networks=networks, final=FinalProtocol.LAST, validation_images=100 if validation else None)  # fmt: skip
    study = store.add_study(StudyRecord(digest=spec.digest(), name=name, spec=json.dumps(spec.facts())))
    run, space = store.begin_run(study.digest, 1, {}), MaskSpace((SiteChoice(site="conv1", units=6, pruned=3),))
    spaces = [space, MaskSpace((SiteChoice(site="conv2", units=6, pruned=3),))]
    records = [CellRecord(index=2 * base + number, base=base, name=f"{cell.name}, base {base}" if networks > 1 else cell.name,
                          sites={spaces[number].sites[0].site: (6, 3)}, space=20, masks=20, parameters=500, macs=2000)
               for base in range(networks) for number, cell in enumerate(cells)]  # fmt: skip
    for base in range(networks):
        weights = f"{seed} {base}".encode()
        store.put_base(study.digest, BaseRecord(base=base, weights=weights, train_loss=0.01, train_accuracy=1.0, test_loss=0.3, test_accuracy=0.9,
                                                parameters=1000, macs=5000, classes=10, data_fingerprint="", seconds=1.0))  # fmt: skip
    store.put_cells(study.digest, records)
    for record in records:
        rng = np.random.default_rng([seed, record.index])
        worth = 0.3 * rng.normal(size=6) if record.index % 2 == 0 else np.zeros(6)
        masks = [spaces[record.index % 2].unrank(rank) for rank in range(20)]
        kept_worth = {mask.rank: float(worth.sum() - worth[list(mask.sites[0].pruned)].sum()) for mask in masks}
        store.put_masks(study.digest, [
            MaskRecord(cell=record.index, rank=mask.rank, pruned=mask.pruned_json, loss=1 - kept_worth[mask.rank] + 0.1 * rng.random(),
                       accuracy=0.5, standard_error=0.0, searched=mask.rank >= 20 - searched,
                       scores={x: score(rng, kept_worth[mask.rank]) for x, score in (scores or {}).items()})
            for mask in masks
        ], 2)  # fmt: skip
        splits = {"test": 300, **({"validation": 100} if validation else {})}
        hardness = {split: rng.normal(size=images) - 1 for split, images in splits.items()}
        trials = []
        for mask in masks:
            of_mask = {split: kept_worth[mask.rank] + 0.2 * rng.normal(size=n) for split, n in splits.items()}
            for repeat in range(2):
                right = {
                    split: of_mask[split] + 0.2 * rng.normal(size=n) > hardness[split] for split, n in splits.items()
                }
                trials.append(_answered(record.index, mask.rank, repeat, right, finishes=len(trials) >= diverged))
        store.put_trials(study.digest, trials, 2, run)
    return study


def _answered(cell: int, rank: int, repeat: int, right: Mapping[str, NDArray[np.bool_]], *, finishes: bool) -> Trial:
    if not finishes:
        return Trial(
            cell=cell, mask=rank, repeat=repeat, seed=0, outcome=Outcome.DIVERGED, curve=(), final=None, seconds=0.1
        )
    accuracy = {split: float(right_I.mean()) for split, right_I in right.items()}
    loss = {"validation_loss": 0.5} if "validation" in right else {}
    figures = Figures(train_loss=0.1, train_accuracy=0.9, test_loss=0.5, test_accuracy=accuracy["test"],
                      validation_accuracy=accuracy.get("validation"), **loss)  # fmt: skip
    return Trial(cell=cell, mask=rank, repeat=repeat, seed=0, outcome=Outcome.FINISHED, curve=(figures,), final=figures, seconds=0.1,
                 answers={split: SplitAnswers.of(right_I) for split, right_I in right.items()})  # fmt: skip


def made_up_selection(seen: Sequence[Sequence[float]], **changes: Any) -> Selected:
    """A made-up selection: of each candidate, its accuracies from rung to rung; the first is chosen."""
    lengths = (2, 6, 20)
    of = [
        tuple(Seen(epochs=e, repeats=1, validation_accuracy=a) for e, a in zip(lengths[: len(one)], one, strict=True))
        for one in seen
    ]
    candidates = tuple(
        Candidate(
            cell="conv1-0.5", mask=10**20 + at, origin="best by group_norm", seen=one, worth=0.9, deviation=0.001, best=0.5, test_accuracy=0.9
        )
        for at, one in enumerate(of)
    )  # fmt: skip
    measured = Measured(value=0.93, low=0.91, high=0.95, images=360)
    rungs = (
        Rung(epochs=e, masks=len(seen), trainings=len(seen), correlation=0.5) for e in lengths[: max(map(len, seen))]
    )
    rival = Rival(name="best of 12: lowest pruned train loss", mask=3, masks=12, epochs=96, test=measured, beaten=0.5)
    facts: dict[str, Any] = {
        "name": "made-up", "study": "made-up", "model": "lenet5-mini", "data": "digits", "limit": "", "chosen": candidates[0],
        "pruned": {"conv1": (0, 2)}, "test": measured, "regret": 0.001, "regret_low": 0.0, "regret_high": 0.01,
        "candidates": candidates, "rungs": tuple(rungs), "rivals": (rival, replace(rival, mask=None)), "budget": "200 model-epochs",
        "spent": 200.0, "seconds": 12.0, "reason": "the budget was spent", "stopped": False, "parameters": (10, 8), "macs": (100, 50),
        "studies": ("made-up-1",),
    }  # fmt: skip
    return Selected(**{**facts, **changes})
