"""Studies that nobody ran: as many masks and trials as a test needs, in a moment."""

import json
from functools import cache

import numpy as np

from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.store import BaseRecord, CellRecord, MaskRecord, Store, StudyRecord
from trueoracle.words.spec import CellSpec, Recipe, StudySpec
from trueoracle.words.trial import Figures, FinalProtocol, Outcome, Trial

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
