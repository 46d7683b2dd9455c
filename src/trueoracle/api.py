"""trueoracle from Python: the words of the command line, as functions and one class."""

import json
import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from trueoracle import analysis
from trueoracle.analysis import CellAnalysis, PooledCell
from trueoracle.report import write_figures, write_report
from trueoracle.store import DEFAULT_URL, Status, Store, store_exists
from trueoracle.words.errors import SpecError, StoreError, TableError, unknown
from trueoracle.words.files import write_whole
from trueoracle.words.progress import Bars, Progress
from trueoracle.words.spec import StudySpec, parse_spec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from trueoracle.fleet import Backend
    from trueoracle.nets import Removal
    from trueoracle.study.landscape import Question
    from trueoracle.words.shape import Shape


def default_data_dir() -> Path | None:
    """The folder that the variable TRUEORACLE_DATA names, if any."""
    named = os.environ.get("TRUEORACLE_DATA")
    return Path(named) if named else None


def threads_or_all(threads: int | None) -> int:
    """`threads`, or as many as the processor cores that this process may use."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise SpecError(f"`threads` must be at least 1, but got {threads}")
    return threads


def studies() -> dict[str, StudySpec]:
    """The built-in studies by name."""
    from trueoracle.study import builtin_studies

    return builtin_studies()


class Study:
    """A study: run it, look at it, report on it.

    `source` is a built-in name, a path of a YAML file or a `StudySpec`; `scale` (tiny, small or paper) shrinks it as its
    file says, then `set` changes it by paths such as `{"retrain.epochs": 2}`. `backend` names what retrains the networks: `auto`, `lanes`, `stacked` or `loop`. Raises `SpecError` and its kin, before anything is written, for bad input.
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
        progress: Progress | None = None,
    ) -> None:
        from trueoracle.study import at_scale, changed, load_spec, plan

        changes = dict(set or {})
        if base_weights is not None:
            changes["base_weights"] = str(base_weights)
        if isinstance(source, StudySpec):
            self.spec = changed(at_scale(source.facts(), scale, source.name), changes, source.name)
        else:
            self.spec = load_spec(source, changes, scale)
        self.plan = plan(self.spec)
        self.store_url = store
        self._data_dir = Path(data_dir) if data_dir is not None else default_data_dir()
        self._device = device
        self._threads = threads_or_all(threads)
        self._progress = progress or Bars()
        self._backend = find_backend(backend)

    @classmethod
    def stored(cls, name: str, *, store: str = DEFAULT_URL) -> "Study":
        """A study that the store keeps, by its name or the beginning of its digest, whatever it was changed to."""
        record = Store(store).find(name)
        return cls(parse_spec(json.loads(record.spec), record.name), store=store)

    def run(self) -> Status:
        """Run what is left of the study; a finished one is left alone. Interrupting is safe: run again to resume.

        The store is made only once the data has been read, so that bad input leaves nothing behind.
        """
        from trueoracle.data import load_dataset
        from trueoracle.executors import Threads
        from trueoracle.study import conduct, drawn_questions, study_data

        status = self.stored_status()
        if status is not None and not status.left:
            return status
        whole = load_dataset(
            self.spec.data, self._data_dir, find_device(self._device), self._progress, drawn=drawn_questions(self.spec)
        )
        data = study_data(self.plan, whole)
        store = Store(self.store_url, create=True)
        return conduct(self.plan, data, store, Threads(self._threads), self._progress, self._backend)

    def stored_status(self) -> Status | None:
        """As `status`, or None where the store or the study in it does not exist yet."""
        if not store_exists(self.store_url):
            return None
        return self.status()

    def status(self) -> Status:
        """How far the study is."""
        return self._store.status(self.plan.digest, self.plan.trials)

    def trials(self) -> pd.DataFrame:
        """A row a trial."""
        return self._store.trial_table(self.plan.digest)

    def curves(self) -> pd.DataFrame:
        """A row an epoch of a trial."""
        return self._store.curve_table(self.plan.digest)

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
        y: str = "final_test_accuracy",
        options: analysis.Options | None = None,
    ) -> list[CellAnalysis]:
        """The analysis of `x` before with `y` after retraining, one a cell; of several `x` the first is judged."""
        return analysis.analyze_study(self._store, self.plan.digest, x, y, options)

    def pooled(self, x: str = "pruned_train_loss", y: str = "final_test_accuracy") -> list[PooledCell]:
        """Each cell over all base networks of the study; empty where there is one."""
        return analysis.pool(self.analyze(x, y), self._store.cells(self.plan.digest))

    def report(self, path: str | Path, x: str = "pruned_train_loss", y: str = "final_test_accuracy") -> None:
        """Write the report, one HTML file: the predictor `x` judged against `y`, all others ranked."""
        write_report(self._store, self.plan.digest, Path(path), x, y, progress=self._progress)

    def figures(self, folder: str | Path, x: str = "pruned_train_loss", y: str = "final_test_accuracy") -> list[Path]:
        """Write the figures for a manuscript, each as PDF and SVG; the paths written."""
        return write_figures(self._store, self.plan.digest, Path(folder), x, y, progress=self._progress)

    @property
    def _store(self) -> Store:
        return Store(self.store_url)


def find_device(name: str) -> "torch.device":
    """`cpu` or `cuda`; `SpecError` where there is no such device."""
    import torch

    if name not in ("cpu", "cuda"):
        raise SpecError(f"`device` must be cpu or cuda, but got `{name}`")
    if name == "cuda" and not torch.cuda.is_available():
        raise SpecError("`device` cuda was asked for, but torch finds no GPU here")
    return torch.device(name)


def find_backend(name: str) -> "Backend":
    """The backend of this name; `SpecError` where there is none."""
    from trueoracle.fleet import BACKENDS

    for known in BACKENDS:
        if name == known:
            return known
    raise SpecError(unknown("backend", name, BACKENDS))


def sites(
    model: "str | nn.Module",
    data: str | None = None,
    *,
    shape: "Shape | None" = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The sites of a network: a row each, in the order of its modules.

    Columns `site, kind, units`; `parameters_per_unit` and `operations_per_unit`, what the whole network saves by losing
    one unit (operations are multiply-accumulates for one image); `coupled`, the other layers that shrink with it.
    `model` is a name as in a study, or a module. The images are those of the dataset `data`, or of `shape`; without
    either, the ones that a built-in network is known for.
    """
    from trueoracle.nets import find_sites, unit_costs, usual_shape

    if data is not None:
        shape = _shape_of(data)
    elif shape is None and isinstance(model, str):
        shape = usual_shape(model)
    if shape is None:
        raise SpecError(
            f"which images `{_name_of(model)}` takes is not known: name a dataset, such as qa: for a language model"
        )
    net = _network(model, None, shape, as_it_is=False)
    found = find_sites(net, shape)
    rows = []
    with (progress or Bars()).task("what a unit costs", len(found), "sites") as advance:
        for site, saved in unit_costs(net, found, shape):
            rows.append((site.name, site.kind.value, site.units, saved.parameters, saved.macs, list(site.coupled)))
            advance(1)
    columns = ["site", "kind", "units", "parameters_per_unit", "operations_per_unit", "coupled"]
    return pd.DataFrame(rows, columns=columns)


def _shape_of(data: str) -> "Shape":
    from trueoracle.data import dataset_shape

    return dataset_shape(data)


def _name_of(model: "str | nn.Module") -> str:
    return model if isinstance(model, str) else type(model).__name__


def _network(model: "str | nn.Module", weights: str | Path | None, shape: "Shape", *, as_it_is: bool) -> "nn.Module":
    """A network of its own with these weights, or with those that it comes with; a module is copied.

    `as_it_is` says that without `weights` those that it comes with must be trained on these classes.
    """
    from trueoracle.nets import build, check_forward, load_weights

    if isinstance(model, str):
        net = build(model, shape, trained=as_it_is and weights is None)
    else:
        net = deepcopy(model).eval()
        check_forward(net, shape, _name_of(model))
    if weights is not None:
        load_weights(net, Path(weights))
    return net


def ask_oracle(
    model: "str | nn.Module",
    weights: str | Path | None,
    data: str,
    prune: Mapping[str, float],
    *,
    sample: int | None = None,
    seed: int = 0,
    removal: "Removal" = "aligned",
    path: str = "auto",
    images: int | None = None,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> "Question":
    """The question that `pruned_losses` answers, checked, with the network and the data loaded."""
    from trueoracle.data import Drawn, load_dataset
    from trueoracle.nets import find_sites, try_removal
    from trueoracle.study.landscape import ask
    from trueoracle.study.plan import mask_space

    shape = _shape_of(data)
    net = _network(model, weights, shape, as_it_is=True)
    known = find_sites(net, shape)
    space = mask_space(dict(prune), known)
    try_removal(net, space.unrank(0), known, shape)
    place = find_device(device)
    progress = progress or Bars()
    folder = Path(data_dir) if data_dir is not None else default_data_dir()
    loaded = load_dataset(data, folder, place, progress, drawn=Drawn(model=_name_of(model)))
    return ask(
        net.to(place), space, loaded, progress, sample=sample, seed=seed, removal=removal, path=path, images=images
    )


def pruned_losses(
    model: "str | nn.Module",
    weights: str | Path | None,
    data: str,
    prune: Mapping[str, float],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    **how: Any,
) -> pd.DataFrame:
    """The pruned train loss of every mask, or of `sample` drawn ones: a row a mask, in order of `mask`.

    `model` is a name as in a study, or a module; `weights` a safetensors file, or None for a module and for a model of
    the hub, which have their own. `prune` has a ratio for each site, by name or glob.

    Columns `mask, pruned, pruned_train_loss` (nats, whole train split) and `pruned_train_accuracy`. `how` is what
    `ask_oracle` takes: `sample` and `seed` draw masks; `images` draws images instead of taking the whole split and adds
    a column `standard_error`; `removal` is aligned or released; `path` is auto, exact, batched or loop.
    """
    import torch

    from trueoracle.executors import Threads
    from trueoracle.study.landscape import losses_frame

    torch.set_num_threads(1)
    progress = progress or Bars()
    question = ask_oracle(model, weights, data, prune, progress=progress, **how)
    return losses_frame(question, Threads(threads_or_all(threads)), progress)


def check_table_path(path: Path, endings: Sequence[str] = (".parquet", ".csv")) -> None:
    """`TableError` where no table can be written to `path`: better said before the work than after."""
    if path.suffix not in endings:
        raise TableError(f"`{path}` must end in {', '.join(endings[:-1])} or {endings[-1]}")
    if not path.parent.is_dir():
        raise TableError(f"the folder of `{path}` does not exist")


def plan_claim(
    claim: analysis.Claim,
    *,
    pilot: str | None = None,
    tau: float | None = None,
    repeats: Sequence[int] = (1, 2, 3, 5),
    reliability: float | None = None,
    units: Sequence[int] = (),
    trial_seconds: float | None = None,
    margin: float = 0.1,
    alpha: float = 0.05,
    power: float = 0.8,
    store: str = DEFAULT_URL,
) -> list[tuple[str, analysis.Need]]:
    """(cell, what the claim takes) for each cell of the pilot, or for assumed noise, and each number of repeats.

    What is given (`reliability` of one repeat, `units` of each site, core-`trial_seconds`) outranks the pilot.
    """
    if tau is None:
        tau = 0.2 if claim is analysis.Claim.RELATION else 0.0
    effects = sum(units) - len(units) if units else None
    given = {"margin": margin, "alpha": alpha, "power": power}
    if pilot is None:
        if reliability is None:
            raise SpecError("name a pilot study, or give `--reliability`, the correlation of two repeats over masks")
        assumed = analysis.Assumptions(tau=tau, reliability=reliability, effects=effects, **given)
        seconds = analysis.Absent(why="give `--trial-seconds`") if trial_seconds is None else trial_seconds
        return [("", need) for need in analysis.needs(claim, assumed, repeats, seconds)]
    opened = Store(store)
    rates = analysis.trial_seconds(opened, pilot)
    found = []
    for cell in analysis.analyze_study(opened, pilot):
        assumed = analysis.from_pilot(cell, tau, reliability=reliability, effects=effects, **given)
        seconds = rates[cell.group] if trial_seconds is None else trial_seconds
        found += [(cell.group, need) for need in analysis.needs(claim, assumed, repeats, seconds)]
    return found


ANALYSIS_ENDINGS = (".csv", ".parquet", ".tex")


def write_analyses(found: Sequence[CellAnalysis], path: Path) -> None:
    """Write analyses, a row a group with every figure, or as a LaTeX table in the paper's form, by the file's ending."""
    check_table_path(path, ANALYSIS_ENDINGS)
    if path.suffix != ".tex":
        return write_table(analysis.as_table(found), path)
    return write_whole(path, lambda partial: partial.write_text(analysis.as_latex(found)), TableError)


def doctor(store: str = DEFAULT_URL, data_dir: str | Path | None = None) -> dict[str, str]:
    """Versions, devices, the data at hand and whether the store can be reached: name -> one line."""
    import platform
    from importlib.metadata import version

    import torch

    folder = Path(data_dir) if data_dir is not None else default_data_dir()
    packages = ("trueoracle", "torch", "torch-pruning", "datasets", "scipy", "sqlalchemy")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "cores": str(threads_or_all(None)),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none found",
        "data": _data_at_hand(folder),
        "store": _store_state(store),
    }


def _data_at_hand(folder: Path | None) -> str:
    if folder is None:
        return "digits, others from the hub; name a folder with --data-dir or TRUEORACLE_DATA"
    if not folder.is_dir():
        return f"`{folder}` does not exist"
    from trueoracle.data import DATASETS

    there = sorted(name for name in DATASETS if (folder / name).is_dir())
    return f"digits, and in `{folder}`: {', '.join(there) or 'none known'}"


def _store_state(url: str) -> str:
    try:
        return f"{url}, {len(Store(url).studies())} studies"
    except StoreError as error:
        return str(error)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet or CSV by the file's ending, whole or not at all.

    Ranks beyond 64 bits become text, padded so that text order is numeric order.
    """
    check_table_path(path)
    if "mask" in table and len(table) and max(table["mask"]) >= 2**63:
        digits = len(str(max(table["mask"])))
        table = table.assign(mask=[str(rank).zfill(digits) for rank in table["mask"]])
    write_whole(
        path,
        lambda partial: (
            table.to_csv(partial, index=False) if path.suffix == ".csv" else table.to_parquet(partial, index=False)
        ),
        TableError,
    )
