"""Waves of trainings as studies of the store: one each, named after the selection, that share all seeds.

So a selection that was killed finds its decisions where it left them, and everything that was trained can be looked at,
analysed and exported like any study, and is taken over by later selections of the same network.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from torch import nn

from trueoracle.data import Dataset
from trueoracle.executors import Executor
from trueoracle.fleet import Backend
from trueoracle.nets import Sites
from trueoracle.selection.candidates import Candidates
from trueoracle.selection.ladder import Key, Wave
from trueoracle.selection.rungs import shortened
from trueoracle.store import BaseRecord, Store
from trueoracle.study import Paused, Plan, conduct, plan
from trueoracle.study.reuse import reuse
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Progress
from trueoracle.words.spec import CellSpec, StudySpec
from trueoracle.words.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Told:
    """What became of a wave; `wave` is what was trained, which an earlier run may have decided."""

    study: str
    wave: Wave
    trials: list[Trial]


class Cut(Exception):
    """The user interrupted a wave; what is known of it comes along."""

    def __init__(self, told: Told) -> None:
        super().__init__()
        self.told = told


@dataclass(frozen=True, kw_only=True)
class Waves:
    """Trains waves of one selection. Its `template` is a study of the network, whose cells compete; `lengths` the epochs
    of the rungs; `base` the dense network with its `sites`, and `net` it as a module where it was given as one.
    """

    name: str
    template: StudySpec
    lengths: Sequence[int]
    base: BaseRecord
    sites: Sites
    net: nn.Module | None
    data: Dataset
    store: Store
    executor: Executor
    progress: Progress
    backend: Backend

    def first(self, candidates: Sequence[Candidates]) -> Told:
        """The lowest rung: the candidates of every cell of the template."""
        kept = self.stored(1)
        cells = [
            replace_masks(cell, own.named, draw=own.drawn or None)
            for cell, own in zip(self.template.cells, candidates, strict=True)
        ]
        return self._trained(kept or self._spec(1, 0, cells, 1))

    def opening(self, draws: Sequence[int]) -> Plan:
        """The lowest rung with nothing but its random masks: it says which they are. Where there are none, it has one."""
        cells = [
            replace_masks(cell, (), draw=max(1, drawn)) for cell, drawn in zip(self.template.cells, draws, strict=True)
        ]
        return plan(self._spec(1, 0, cells, 1), self.net, self.sites)

    def rivals(self, masks: Collection[Key], repeats: int, name: str) -> Told:
        """Masks that compete with the chosen one, retrained in full: once, and the best of them as often as it was."""
        spec = self._spec(None, len(self.lengths) - 1, self._cells(sorted(masks)), repeats)
        return self._trained(spec.model_copy(update={"name": f"{self.name}-{name}"}))

    def train(self, number: int, wave: Wave) -> Told:
        """Another wave, counted from 1."""
        kept = self.stored(number)
        return self._trained(kept or self._spec(number, wave.rung, self._cells(wave.masks), wave.repeats))

    def stored(self, number: int) -> StudySpec | None:
        """The wave as an earlier run decided on it; `SpecError` where a study of this name is of something else."""
        name = f"{self.name}-{number}"
        record = next((one for one in self.store.studies() if one.name == name), None)
        if record is None:
            return None
        spec = record.parsed
        if spec.retrain.epochs not in self.lengths or _alike(spec) != _alike(self._spec(number, 0, spec.cells, 1)):
            raise SpecError(f"`{name}` is in the store already and is of another selection: give this one another name")
        return spec

    def final(self, key: Key, repeats: int) -> str:
        """The chosen mask as a study of its own, from which it is exported; its trials are known. Returns its name."""
        spec = self._spec(None, len(self.lengths) - 1, self._cells([key]), repeats)
        taken = next((one for one in self.store.studies() if one.name == spec.name), None)
        if taken is not None and taken.digest != spec.digest():
            spec = spec.model_copy(update={"name": f"{spec.name}-mask-{key[1] % 10**9}"})
        self._run(spec)
        return spec.name

    def _trained(self, spec: StudySpec) -> Told:
        return self._told(spec, self._run(spec))

    def _told(self, spec: StudySpec, planned: Plan) -> Told:
        """What the store knows of a wave, which may be a part."""
        trials: list[Trial] = []
        for cell in planned.cells:
            place = self._place(spec.cells[cell.index])
            trials += [replace(trial, cell=place) for trial in self.store.whole_trials(planned.digest, cell.index)]
        rung = list(self.lengths).index(spec.retrain.epochs)
        masks = tuple((self._place(spec.cells[cell.index]), rank) for cell in planned.cells for rank in cell.ranks)
        return Told(study=spec.name, wave=Wave(rung=rung, masks=masks, repeats=spec.repeats), trials=trials)

    def _run(self, spec: StudySpec) -> Plan:
        planned = plan(spec, self.net, self.sites)
        reuse(planned, self.data, self.store, self.base)
        try:
            conduct(planned, self.data, self.store, self.executor, self.progress, self.backend)
        except Paused:
            raise Cut(self._told(spec, planned)) from None
        return planned

    def _spec(self, number: int | None, rung: int, cells: Sequence[CellSpec], repeats: int) -> StudySpec:
        epochs = self.lengths[rung]
        what = f"wave {number}" if number is not None else "the chosen mask"
        changes = {
            "name": self.name if number is None else f"{self.name}-{number}",
            "description": f"{what} of the selection {self.name}: {epochs} of {self.lengths[-1]} epochs",
            "retrain": shortened(self.template.retrain, epochs),
            "cells": tuple(cells),
            "repeats": repeats,
        }
        return self.template.model_copy(update=changes)

    def _cells(self, masks: Sequence[Key]) -> list[CellSpec]:
        ranks: dict[int, list[int]] = {}
        for cell, rank in masks:
            ranks.setdefault(cell, []).append(rank)
        return [replace_masks(self.template.cells[cell], sorted(ranks[cell])) for cell in sorted(ranks)]

    def _place(self, cell: CellSpec) -> int:
        """The number of the cell in the template."""
        return [one.prune for one in self.template.cells].index(cell.prune)


def replace_masks(cell: CellSpec, masks: Sequence[int], draw: int | None = None) -> CellSpec:
    """The cell with these masks in play, and so many drawn ones."""
    return CellSpec(prune=cell.prune, draw=draw, masks=tuple(masks))


def _alike(spec: StudySpec) -> dict[str, object]:
    """What all waves of a selection have in common."""
    return spec.model_dump(mode="json", exclude={"name", "description", "cells", "repeats", "retrain"})
