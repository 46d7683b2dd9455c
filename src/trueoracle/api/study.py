"""Studies from Python: the built-in ones, and one that is run, looked at and reported on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueoracle import analysis, study
from trueoracle.api.crew import Crew
from trueoracle.api.environment import default_data_dir, find_device, threads_or_all
from trueoracle.api.trackers import check_tracker, tracker
from trueoracle.store import DEFAULT_URL, Store, store_exists
from trueoracle.study import at_scale, builtin_studies, changed, load_spec
from trueoracle.words.errors import SpecError, StoreError, unknown
from trueoracle.words.known import check_dataset, check_device, check_model, find_backend
from trueoracle.words.progress import Progress, bars
from trueoracle.words.scores import IMAGES
from trueoracle.words.spec import StudySpec
from trueoracle.words.trial import SPLITS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from torch import nn

    from trueoracle.analysis import CellAnalysis, Leaderboard, LossFunction, Options, PooledCell
    from trueoracle.data import Dataset
    from trueoracle.report.shown import Shown
    from trueoracle.selection import Exported
    from trueoracle.store import Answers, Status
    from trueoracle.study import PlannedCell


def studies() -> dict[str, StudySpec]:
    """The built-in studies by name."""
    return builtin_studies()


def leaderboard(
    names: Sequence[str],
    x: Sequence[str] | None = None,
    y: str | None = None,
    *,
    k: int = 5,
    store: str = DEFAULT_URL,
) -> "Leaderboard":
    """Criteria and predictors `x` (None for all that are stored) ranked over stored studies: see `Leaderboard`.

    `names` are studies, or the beginnings of their digests; `k` is how many of the best masks a predictor should name.
    """
    return analysis.compare(Store(store), names, x, y, k)


class Study:
    """A study: run it, look at it, report on it.

    `source` is a built-in name, a path of a YAML file or a `StudySpec`; `scale` (tiny, small or paper) shrinks it as its
    file says, then `set` changes it by paths such as `{"retrain.epochs": 2}`. `backend` names what retrains the networks:
    `auto`, `lanes`, `stacked` or `loop`. `executor` is `threads`, of this process, or `local`: as many processes as
    `workers` says, each of `threads` threads, and a GPU each where they are on `cuda`; or `ray`: as many tasks of the
    cluster at `ray_address`. `log_to` names a tracker that curves of trials go to as well, `tensorboard` or `mlflow`. `net` is the network where it is at
    hand, and is copied; else it is built by the name in the study. Raises `SpecError` and its kin, before anything is
    written, for bad input.
    """

    def __init__(
        self,
        source: str | StudySpec,
        *,
        scale: str = "paper",
        set: Mapping[str, Any] | None = None,  # noqa: A002 - the command line's word
        store: str = DEFAULT_URL,
        data_dir: str | Path | None = None,
        base_weights: str | Path | None = None,
        device: str = "cpu",
        threads: int | None = None,
        backend: str = "auto",
        executor: str = "threads",
        workers: int | None = None,
        ray_address: str | None = None,
        log_to: str | None = None,
        progress: Progress | None = None,
        net: "nn.Module | None" = None,
    ) -> None:
        changes = dict(set or {})
        if base_weights is not None:
            changes["base_weights"] = str(base_weights)
        if isinstance(source, StudySpec):
            self.spec = changed(at_scale(source.facts(), scale, source.name), changes, source.name)
        else:
            self.spec = load_spec(source, changes, scale)
        if net is None:
            check_model(self.spec.model)
        check_dataset(self.spec.data)
        check_device(device)
        self.store_url = store
        self._data_dir = Path(data_dir) if data_dir is not None else default_data_dir()
        self._device = device
        self._progress = progress or bars()
        self._backend = find_backend(backend)
        check_tracker(log_to)
        self._log_to = log_to
        self._crew = Crew.of(executor, workers, threads, device, ray_address)
        self._threads = threads_or_all(threads) if self._crew is None else self._crew.threads
        if net is not None and self._crew is not None:
            raise SpecError("a network at hand is in this process alone: give its name, or leave `executor` at threads")
        self.plan = study.plan(self.spec, net)

    @classmethod
    def stored(
        cls,
        name: str,
        *,
        store: str = DEFAULT_URL,
        data_dir: str | Path | None = None,
        device: str = "cpu",
        threads: int | None = None,
        backend: str = "auto",
        log_to: str | None = None,
        progress: Progress | None = None,
        net: "nn.Module | None" = None,
    ) -> "Study":
        """A study that the store keeps, by its name or the beginning of its digest, whatever it was changed to."""
        record = Store(store).find(name)
        spec = record.parsed
        return cls(
            spec,
            store=store,
            data_dir=data_dir,
            device=device,
            threads=threads,
            backend=backend,
            log_to=log_to,
            progress=progress,
            net=net,
        )

    def run(self) -> "Status":
        """Run what is left of the study; a finished one is left alone. Interrupting is safe: run again to resume.

        The store is made only once the data has been read, so that bad input leaves nothing behind.
        """
        from trueoracle.executors import Threads
        from trueoracle.study import conduct

        status = self.stored_status()
        if status is not None and not status.left:
            return status
        data = self.data()
        store = Store(self.store_url, create=True)
        if self._crew is not None:
            return self._by_workers(store, self._crew)
        log = tracker(self._log_to, self.spec.name)
        return conduct(self.plan, data, store, Threads(self._threads), self._progress, self._backend, log)

    def _by_workers(self, store: Store, crew: Crew) -> "Status":
        from trueoracle.api.on_ray import run_on_ray
        from trueoracle.api.workers import run_by_workers
        from trueoracle.study import Paused
        from trueoracle.study.conduct import record_of

        store.add_study(record_of(self.plan))
        words: dict[str, Any] = {"device": self._device, "backend": self._backend, "threads": crew.threads}
        if self._data_dir is not None:
            words["data_dir"] = str(self._data_dir.resolve())
        if self._log_to is not None:
            words["log_to"] = self._log_to
        study = (store, self.plan.digest, self.plan.trials, crew.workers, words, self._progress)
        try:
            return run_by_workers(*study) if crew.ray is None else run_on_ray(*study, crew.ray)
        except KeyboardInterrupt:
            raise Paused from None

    def stored_status(self) -> "Status | None":
        """As `status`, or None where the store or the study in it does not exist yet."""
        if not store_exists(self.store_url):
            return None
        return self.status()

    def status(self) -> "Status":
        """How far the study is."""
        return self._store.status(self.plan.digest, self.plan.trials)

    def trials(self) -> "pd.DataFrame":
        """A row a trial."""
        return self._store.trial_table(self.plan.digest)

    def curves(self) -> "pd.DataFrame":
        """A row an epoch of a trial."""
        return self._store.curve_table(self.plan.digest)

    def answers(self, cell: str | int, split: str = "test") -> "np.ma.MaskedArray":
        """Right or wrong, image by image, after the epoch that counts: bool, (masks in order of rank, repeats, images).

        `cell` is named, or numbered from 0. Trials that have none (not finished) are masked out, as `numpy.ma` does.
        `StoreError` where no trial of the cell kept any on this split.
        """
        found = self._answers(cell, split)
        return _masked(found.right_MRI, found.known_MR)

    def losses(self, cell: str | int, split: str = "test") -> "np.ma.MaskedArray":
        """As `answers`, the loss of each image (float16, nats, at most 65,504), where the study says `keep: losses`."""
        if self.spec.keep != "losses":
            raise StoreError(f"no losses image by image are kept of `{self.spec.name}`: only with `keep: losses`")
        found = self._answers(cell, split, losses=True)
        assert found.loss_MRI is not None
        return _masked(found.loss_MRI, found.known_MR)

    def base_answers(self, number: int = 0, split: str = "test") -> "NDArray[np.bool_]":
        """Which images of a split a base network answers right; `StoreError` where it kept none."""
        self._check_split(split)
        found = self._store.base_answers(self.plan.digest, number, split)
        if found is None:
            raise StoreError(f"no answers on {split} are kept of base network {number} of `{self.spec.name}`")
        return found.right

    def answer_table(self, path: str | Path) -> int:
        """Write the answers of all trials as a Parquet file: see `trueoracle.store.write_answers`; rows written."""
        from trueoracle.store import write_answers

        return write_answers(self._store, self.plan.digest, Path(path))

    def _answers(self, cell: str | int, split: str, *, losses: bool = False) -> "Answers":
        self._check_split(split)
        index = self._cell_index(cell)
        found = self._store.answers(self.plan.digest, index, split, losses=losses)
        if found is None:
            raise StoreError(
                f"no answers on {split} are kept of cell `{self.plan.cells[index].name}`: none of its trials finished, "
                "they were stored by an earlier version, or the study has no such split"
            )
        return found

    def _check_split(self, split: str) -> None:
        if split not in SPLITS:
            raise SpecError(unknown("split", split, SPLITS))

    def _cell_index(self, cell: str | int) -> int:
        cells = self.plan.cells
        if isinstance(cell, int):
            if not 0 <= cell < len(cells):
                raise SpecError(f"`cell` must lie in [0, {len(cells)}), but got {cell}")
            return cell
        names = [known.name for known in cells]
        if cell not in names:
            raise SpecError(unknown("cell", cell, names))
        return names.index(cell)

    def base_weights(self, number: int = 0) -> bytes:
        """A base network's weights as the bytes of a safetensors file; `StoreError` before it is trained."""
        if not 0 <= number < self.spec.base_networks:
            raise SpecError(f"`number` must lie in [0, {self.spec.base_networks}), but got {number}")
        base = self._store.base(self.plan.digest, number)
        if base is None:
            raise StoreError(f"the base network of `{self.spec.name}` is not trained yet: run the study")
        return base.weights

    def analyze(
        self,
        x: str | Sequence[str] = "pruned_train_loss",
        y: str | None = None,
        options: "Options | None" = None,
    ) -> "list[CellAnalysis]":
        """The analysis of `x` before with `y` after retraining, one a cell; of several `x` the first is judged.

        Without `y`, here and in what follows, it is what the task is judged by: the accuracy, of noise the loss.
        """
        options = options or analysis.Options()
        if options.losses is None:
            options = replace(options, losses=self._relabelled())
        return analysis.analyze_study(self._store, self.plan.digest, x, y, options)

    def pooled(self, x: str = "pruned_train_loss", y: str | None = None) -> "list[PooledCell]":
        """Each cell over all base networks of the study; empty where there is one."""
        return analysis.pool(self.analyze(x, y), self._store.cells(self.plan.digest))

    def criteria(self, x: "Sequence[str] | None" = None, y: str | None = None, *, k: int = 5) -> "Leaderboard":
        """As `leaderboard`, of this study alone."""
        return analysis.compare(self._store, [self.plan.digest], x, y, k)

    def measure(self, names: "Sequence[str] | None" = None, *, images: int = IMAGES) -> dict[str, str]:
        """Score every mask by criteria and mask predictors (None for all), as far as the store does not have it; says of those
        that have nothing to say why.

        `images` train examples are looked at. Raises `SpecError` for an unknown name, `StoreError` where a base network is not trained.
        Interrupting is safe: measure again to go on. Where others measure the same at the same time, mask predictors' masks are shared out.
        """
        from trueoracle.executors import Threads
        from trueoracle.study.scoring import Scoring

        return Scoring(
            plan=self.plan,
            data=self.data(),
            store=self._store,
            executor=Threads(self._threads),
            progress=self._progress,
            images=images,
        ).measure(names)

    def report(self, path: str | Path, x: str = "pruned_train_loss", y: str | None = None) -> None:
        """Write the report, one HTML file: the predictor `x` judged against `y`, all others ranked."""
        from trueoracle.report import write_report

        write_report(self._store, self.plan.digest, Path(path), x, y, self._options(), progress=self._progress)

    def show(
        self,
        part: str | None = None,
        cell: str | None = None,
        x: str = "pruned_train_loss",
        y: str | None = None,
    ) -> "Shown":
        """The report in a notebook: all of it, or a `part` (verdict, results, criteria, cells, networks, run, reading) or a `cell`.

        Elsewhere its `repr` is the verdicts in words.
        """
        from trueoracle.report.findings import find
        from trueoracle.report.shown import shown

        found = find(self._store, self.plan.digest, self._progress, x, y, self._options())
        return shown(found, self._progress, part, cell)

    def figures(self, folder: str | Path, x: str = "pruned_train_loss", y: str | None = None) -> list[Path]:
        """Write the figures for a manuscript, each as PDF and SVG; the paths written."""
        from trueoracle.report import write_figures

        return write_figures(
            self._store, self.plan.digest, Path(folder), x, y, self._options(), progress=self._progress
        )

    def export(
        self,
        folder: str | Path,
        mask: int | str = "best",
        *,
        cell: str | None = None,
        repeat: int = 0,
        formats: Sequence[str] | None = None,
    ) -> "Exported":
        """Write the retrained network of a mask to a new folder, checked: see `trueoracle.selection.export`.

        `mask` is a rank, or `best`: the one whose repeats end best on average, on validation images where the study
        has some. The network is retrained from the seed of its trial. `formats` are onnx, pt2 and hf, the first two if not given and
        none for text; the weights are always written. Raises `SpecError`, `StoreError` or `ModelError`, and then
        writes nothing.
        """
        from trueoracle.selection import FORMATS, export, stored_subject
        from trueoracle.selection.export import check_export
        from trueoracle.selection.stored import differs, planned_cell
        from trueoracle.words.shape import InputShape

        if formats is None:
            usual = [name for name, format_ in FORMATS.items() if format_.usual]
            formats = usual if isinstance(self.plan.shape, InputShape) else ()
        check_export(Path(folder), formats, self.plan.shape)
        own = planned_cell(self.plan, cell)
        trials = self.trials()
        rank = mask if isinstance(mask, int) else _rank(mask, lambda: self._best(trials, own))
        subject, final = stored_subject(
            self.plan, own, rank, repeat, self._store, self.data(), self._progress, self._backend
        )
        if (difference := differs(trials, own, rank, repeat, final)) is not None:
            self._progress.say(difference)
        return export(subject, Path(folder), formats, self._progress)

    def _best(self, trials: "pd.DataFrame", cell: "PlannedCell") -> int:
        """The best mask; said where the images that choose it are those that its figures are of."""
        from trueoracle.selection import best_mask

        rank, column = best_mask(trials, cell)
        if column == "final_test_accuracy":
            self._progress.say("the study has no validation images: the test images choose the mask and flatter it")
        return rank

    def data(self) -> "Dataset":
        """What the study is about, read."""
        from trueoracle.data import load_dataset
        from trueoracle.study import drawn_questions, study_data

        whole = load_dataset(
            self.spec.data, self._data_dir, find_device(self._device), self._progress, drawn=drawn_questions(self.spec)
        )
        return study_data(self.plan, whole)

    def _options(self) -> "Options":
        return analysis.Options(losses=self._relabelled())

    def _relabelled(self) -> "LossFunction":
        from trueoracle.api.relabelled import RelabelledLosses

        return RelabelledLosses(self._store, self.plan.digest, self._data_dir, self._threads, self._progress)

    @property
    def _store(self) -> Store:
        return Store(self.store_url)


def _masked(values_MRI: "NDArray[Any]", known_MR: "NDArray[np.bool_]") -> "np.ma.MaskedArray":
    """The values, those of unknown trials masked out."""
    import numpy as np

    unknown_MRI = np.broadcast_to(~known_MR[:, :, None], values_MRI.shape)
    return np.ma.MaskedArray(values_MRI, mask=unknown_MRI)


def _rank(text: str, best: Callable[[], int]) -> int:
    """The mask that a text names: `best`, or the decimal digits of a rank."""
    if text == "best":
        return best()
    if text.isdecimal():
        return int(text)
    raise SpecError(f"`mask` must be best or a rank, such as 17, but got `{text}`")
