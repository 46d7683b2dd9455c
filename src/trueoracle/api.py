"""trueoracle from Python: the words of the command line, as functions and one class."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from trueoracle import analysis
from trueoracle.analysis import Relation
from trueoracle.errors import SpecError, StoreError, TableError, unknown
from trueoracle.progress import Bars, Progress
from trueoracle.report import write_report
from trueoracle.spec import StudySpec, parse_spec
from trueoracle.store import DEFAULT_URL, Status, Store, store_exists

if TYPE_CHECKING:
    import torch

    from trueoracle.fleet import Backend
    from trueoracle.nets import Removal
    from trueoracle.study.landscape import Question


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

    `source` is a built-in name, a path of a YAML file or a `StudySpec`; `set` changes it by paths such as
    `{"retrain.epochs": 2}`. `backend` names what retrains the networks: `auto`, `lanes` or `loop`. Raises `SpecError` and its kin, before anything is written, for bad input.
    """

    def __init__(
        self,
        source: str | StudySpec,
        *,
        set: Mapping[str, Any] | None = None,  # noqa: A002 - the command line's word
        store: str = DEFAULT_URL,
        data_dir: str | Path | None = None,
        base_weights: str | Path | None = None,
        device: str = "cpu",
        threads: int | None = None,
        backend: str = "auto",
        progress: Progress | None = None,
    ) -> None:
        from trueoracle.study import changed, load_spec, plan

        changes = dict(set or {})
        if base_weights is not None:
            changes["base_weights"] = str(base_weights)
        if isinstance(source, StudySpec):
            self.spec = changed(source.facts(), changes, source.name)
        else:
            self.spec = load_spec(source, changes)
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
        from trueoracle.study import conduct
        from trueoracle.study.executor import Threads

        status = self.stored_status()
        if status is not None and not status.left:
            return status
        data = load_dataset(self.spec.data, self._data_dir, find_device(self._device), self._progress)
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

    def base_weights(self) -> bytes:
        """The base network's weights as the bytes of a safetensors file; `StoreError` before it is trained."""
        base = self._store.base(self.plan.digest)
        if base is None:
            raise StoreError(f"the base network of `{self.spec.name}` is not trained yet: run the study")
        return base.weights

    def analyze(self, x: str = "pruned_train_loss", y: str = "final_test_accuracy") -> list[Relation]:
        """The relation of `x` before with `y` after retraining, one a cell."""
        return analysis.analyze_study(self._store, self.plan.digest, x, y)

    def report(self, path: str | Path) -> None:
        """Write the report, one HTML file."""
        write_report(self._store, self.plan.digest, Path(path))

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


def ask_oracle(
    model: str,
    weights: str | Path,
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
    from trueoracle.data import find_dataset, load_dataset
    from trueoracle.nets import build, find_sites, load_weights
    from trueoracle.study.landscape import ask
    from trueoracle.study.plan import mask_space

    shape = find_dataset(data).shape
    net = build(model, shape)
    load_weights(net, Path(weights))
    space = mask_space(dict(prune), find_sites(net, shape))
    place = find_device(device)
    progress = progress or Bars()
    loaded = load_dataset(data, Path(data_dir) if data_dir is not None else default_data_dir(), place, progress)
    return ask(
        net.to(place), space, loaded, progress, sample=sample, seed=seed, removal=removal, path=path, images=images
    )


def pruned_losses(
    model: str,
    weights: str | Path,
    data: str,
    prune: Mapping[str, float],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    **how: Any,
) -> pd.DataFrame:
    """The pruned train loss of every mask, or of `sample` drawn ones: a row a mask, in order of `mask`.

    Columns `mask, pruned, pruned_train_loss` (nats, whole train split) and `pruned_train_accuracy`. `how` is what
    `ask_oracle` takes: `sample` and `seed` draw masks; `images` draws images instead of taking the whole split and adds
    a column `standard_error`; `removal` is aligned or released; `path` is auto, exact, batched or loop.
    """
    import torch

    from trueoracle.study.executor import Threads
    from trueoracle.study.landscape import losses_frame

    torch.set_num_threads(1)
    progress = progress or Bars()
    question = ask_oracle(model, weights, data, prune, progress=progress, **how)
    return losses_frame(question, Threads(threads_or_all(threads)), progress)


def check_table_path(path: Path) -> None:
    """`TableError` where no table can be written to `path`: better said before the work than after."""
    if path.suffix not in (".parquet", ".csv"):
        raise TableError(f"`{path}` must end in .parquet or .csv")
    if not path.parent.is_dir():
        raise TableError(f"the folder of `{path}` does not exist")


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
    partial = path.with_name(f".{path.name}.partial")
    try:
        if path.suffix == ".csv":
            table.to_csv(partial, index=False)
        else:
            table.to_parquet(partial, index=False)
        partial.replace(path)
    except OSError as error:
        raise TableError(f"`{path}` cannot be written: {error.strerror or error}") from None
