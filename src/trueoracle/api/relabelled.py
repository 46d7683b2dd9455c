"""The oracle as the analysis asks it: pruned train losses of masks that were never drawn, for the null of relabelled units.

Of a stored study whose masks were drawn, the whole space of a cell is evaluated once, where the oracle's path makes that cheap, and kept
in the user's cache; relabelled masks are then looked up.
"""

from math import comb
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trueoracle.analysis.masks import CellMasks
from trueoracle.analysis.null import Unavailable, mask_ranks
from trueoracle.analysis.result import Absent
from trueoracle.analysis.units import Units, units_of
from trueoracle.store import Store
from trueoracle.words.errors import TrueOracleError
from trueoracle.words.files import write_whole
from trueoracle.words.folders import cache_folder
from trueoracle.words.progress import Progress

if TYPE_CHECKING:
    from trueoracle.data import Dataset
    from trueoracle.study import Plan

# Masks of a space that is evaluated whole: of the compiled path, 15 core-seconds for 63,504 of LeNet5-Mini; of others, far slower.
LARGEST = {"exact": 200_000, "batched": 2_000}


class RelabelledLosses:
    """A `LossFunction` of a stored study; `Unavailable` says why a cell's losses are not to be had."""

    def __init__(self, store: Store, study: str, data_dir: Path | None, threads: int, progress: Progress) -> None:
        self._store, self._study, self._data_dir = store, study, data_dir
        self._threads, self._progress = threads, progress
        self._tables: dict[str, NDArray[np.float64]] = {}
        self._whole: tuple[Plan, Dataset] | None = None

    def __call__(self, cell: CellMasks, kept_nU: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Pruned train losses (n,) of the masks that keep these units."""
        units = units_of(cell)
        if isinstance(units, Absent):
            raise Unavailable(units.why)
        if cell.group not in self._tables:
            if cell.space is None or cell.space > max(LARGEST.values()):
                raise Unavailable(
                    f"the space is larger than the {max(LARGEST.values()):,} masks that are evaluated for a test"
                )
            try:
                self._tables[cell.group] = self._table(cell.group)
            except TrueOracleError as problem:
                raise Unavailable(str(problem)) from None
        relabelled = Units(sizes=units.sizes, kept_nU=kept_nU)
        choose = np.array(
            [[comb(n, k) for k in range(1 + max(units.keeps))] for n in range(1 + max(units.sizes.values()))]
        )
        return self._tables[cell.group][mask_ranks(kept_nU, relabelled, choose)]

    def _table(self, group: str) -> NDArray[np.float64]:
        """The losses of the whole space of a cell, in order of rank."""
        digest = self._store.find(self._study).digest
        index = next(record.index for record in self._store.cells(digest) if record.name == group)
        path = cache_folder() / "spaces" / f"{digest}-{index}.npy"
        if path.is_file():
            return np.asarray(np.load(path, allow_pickle=False))
        losses = self._evaluated(digest, index)
        path.parent.mkdir(parents=True, exist_ok=True)

        def save(partial: Path) -> None:
            with partial.open("wb") as file:
                np.save(file, losses, allow_pickle=False)

        write_whole(path, save, TrueOracleError)
        return losses

    def _evaluated(self, digest: str, index: int) -> NDArray[np.float64]:
        from trueoracle.executors import Threads
        from trueoracle.nets import weights_from_bytes
        from trueoracle.oracle import evaluator
        from trueoracle.study.survey import part_of, survey

        plan, data = self._study_whole(digest)
        cell = plan.cells[index]
        base, net = self._store.base(digest, cell.base), plan.nets[cell.base]
        if base is None or base.data_fingerprint != data.fingerprint:
            raise Unavailable("the data is not that of the study")
        weights_from_bytes(net, base.weights, "of the stored base network")
        judge = evaluator(net, cell.of_units, plan.shape, plan.spec.removal, progress=self._progress)
        if cell.space.count > LARGEST.get(judge.path.split(":")[0], 0):
            raise Unavailable(f"{cell.space.count:,} masks are too many for the oracle's path here ({judge.path})")
        images = part_of(data.train, plan.spec.oracle_images, plan.seed("oracle images", cell.base))
        parts = survey(
            judge, range(cell.space.count), images, Threads(self._threads), self._progress,
            what=f"{cell.name}, all masks for the null", population=len(data.train),
        )  # fmt: skip
        return np.concatenate([np.asarray(part.loss_M, float) for part in parts])

    def _study_whole(self, digest: str) -> "tuple[Plan, Dataset]":
        """The study's plan and data, loaded when first asked for."""
        if self._whole is None:
            import torch

            from trueoracle.data import load_dataset
            from trueoracle.study import drawn_questions, plan, study_data

            torch.set_num_threads(1)
            record = self._store.find(digest)
            planned = plan(record.parsed)
            spec = planned.spec
            whole = load_dataset(
                spec.data, self._data_dir, torch.device("cpu"), self._progress, drawn=drawn_questions(spec)
            )
            self._whole = planned, study_data(planned, whole)
        return self._whole
