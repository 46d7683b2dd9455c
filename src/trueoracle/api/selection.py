"""Choosing a mask from Python: what `trueoracle select` calls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from trueoracle.api.environment import default_data_dir, threads_or_all
from trueoracle.api.study import Study
from trueoracle.store import DEFAULT_URL, Store
from trueoracle.study import changed, load_spec
from trueoracle.words.errors import ReportError, SpecError, unknown
from trueoracle.words.files import write_whole
from trueoracle.words.known import check_dataset, check_device, check_model, find_backend
from trueoracle.words.progress import Progress, bars
from trueoracle.words.selection import Selected, selected_text
from trueoracle.words.spec import StudySpec

if TYPE_CHECKING:
    from torch import nn

    from trueoracle.selection import Exported
    from trueoracle.selection.limits import Limit

COMPARE = ("none", "one", "same-cost")

RETRAIN: dict[str, Any] = {
    "optimiser": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005, "batch_size": 64, "epochs": 20,
    "schedule": "cosine",
}  # fmt: skip
"""How masks are retrained where nothing else is said."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A mask that was chosen: `selected` says which, how good it is and how sure that is."""

    selected: Selected
    store: str
    data_dir: Path | None
    device: str
    net: "nn.Module | None" = None

    def export(self, folder: str | Path, formats: Sequence[str] | None = None) -> "Exported":
        """The chosen mask's retrained network as a folder: see `Study.export`. `SpecError` where it was interrupted."""
        if not self.selected.study:
            raise SpecError(f"the selection `{self.selected.name}` is not finished: run it again to go on")
        study = Study.stored(
            self.selected.study, store=self.store, data_dir=self.data_dir, device=self.device, net=self.net
        )
        return study.export(folder, self.selected.chosen.mask, formats=formats)

    def write(self, folder: str | Path) -> None:
        """`selection.json`, all that was found, and `report.html`, in a new folder: whole or not at all."""
        write_selection(self.selected, Path(folder))


def check_new_folder(folder: Path) -> None:
    """`ReportError` where it exists, or the folder that it is to stand in does not."""
    if folder.exists():
        raise ReportError(f"`{folder}` exists already: name a folder that does not")
    if not folder.resolve().parent.is_dir():
        raise ReportError(f"the folder of `{folder}` does not exist")


def write_selection(selected: Selected, folder: Path) -> None:
    """As `Selection.write`."""
    import shutil

    from trueoracle.report import write_selection_report  # it draws, which takes a second to load

    check_new_folder(folder)
    partial = Path(mkdtemp(dir=folder.resolve().parent, prefix=f".{folder.name}."))
    try:
        (partial / "selection.json").write_text(selected_text(selected) + "\n")
        write_selection_report(selected, partial / "report.html")
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def select(
    model: "str | nn.Module | None" = None,
    data: str | None = None,
    *,
    budget: str,
    prune: Mapping[str, float] | Sequence[Mapping[str, float]] | Sequence[str] | None = None,
    macs: float | None = None,
    parameters: float | None = None,
    latency: float | None = None,
    round_to: int = 1,
    study: str | StudySpec | None = None,
    scale: str = "paper",
    weights: str | Path | None = None,
    validation_images: int | float | None = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - the command line's word
    name: str | None = None,
    compare: str = "one",
    store: str = DEFAULT_URL,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    backend: str = "auto",
    progress: Progress | None = None,
) -> Selection:
    """Spend a retraining budget where it tells masks apart, and keep the mask that wins: see docs/select.md.

    `model` is a name as in a study, or a module with its weights; `data` is named as in a study; `weights` is a
    safetensors file. A `study` (a built-in name, a YAML file or a `StudySpec`) says all this and the recipes, and what
    is given beside it counts more. `prune` has a ratio for each site; of several such, all compete. `macs`, `parameters` or
    `latency` (of a batch of 32 images on one thread, measured) is a limit: at most this share of the whole network's may be left. Of several
    ways to prune those compete that meet it and spare most; with names of sites alone, or no `prune`, ways are made that just meet
    it. With `round_to`, a multiple of so many units is left of every site. `budget` is like
    `200-epochs` (model-epochs of retraining) or `30m`. `validation_images` of the train images, a number or a share,
    are held out to choose on, unless the data has a validation split. `set` changes the recipes by paths such as
    `{"retrain.epochs": 20}`. `compare` with other rules' masks: none, one of each, or as many as the selection cost.

    The selection is kept in `store` under `name`; asked for again, it goes on where it was left. Raises `SpecError` and
    its kin before anything is trained for bad input.
    """
    from trueoracle.executors import Threads
    from trueoracle.selection.budget import parse_budget
    from trueoracle.selection.choose import Request, Workplace, check_request, check_template, choose
    from trueoracle.selection.limits import limit_of

    if compare not in COMPARE:
        raise SpecError(unknown("comparison", compare, COMPARE))
    allowed = parse_budget(budget)
    check_device(device)
    workers, how, shown = threads_or_all(threads), find_backend(backend), progress or bars()
    net = None if model is None or isinstance(model, str) else model
    facts = _facts(model, data, study, scale, weights, validation_images)
    limit = limit_of(macs=macs, parameters=parameters, latency=latency)
    if prune or limit or round_to != 1:
        facts["cells"] = [{"prune": way} for way in _ways(facts, net, prune, limit, round_to)]
    spec = changed(facts, {**(set or {})}, facts["name"])
    check_template(spec)
    check_model(spec.model) if net is None else None
    check_dataset(spec.data)
    template = _template(spec)
    found = Study(template, store=store, data_dir=data_dir, device=device, threads=threads, progress=shown, net=net)
    called = name or f"{spec.name}-selected-{_short(template, budget)}"
    changed(template.facts(), {"name": called}, f"the name `{called}`")
    said = "" if limit is None else str(limit)
    request = Request(name=called, template=template, budget=allowed, compare=compare, limit=said, net=net)
    loaded = found.data()
    check_request(request, loaded)
    kept = Store(store, create=True)
    place = Workplace(data=loaded, store=kept, executor=Threads(workers), progress=shown, backend=how)
    selected = choose(request, place)
    folder = Path(data_dir) if data_dir is not None else default_data_dir()
    return Selection(selected=selected, store=store, data_dir=folder, device=device, net=net)


def _ways(
    facts: Mapping[str, Any],
    net: "nn.Module | None",
    prune: Mapping[str, float] | Sequence[Mapping[str, float]] | Sequence[str] | None,
    limit: "Limit | None",
    round_to: int,
) -> list[dict[str, float]]:
    """The ways to prune that compete: as they are given, or as a limit and rounding leave them."""
    asked = [prune] if isinstance(prune, Mapping) else list(prune or ())
    given = [dict(way) for way in asked if isinstance(way, Mapping)]
    names = [name for name in asked if isinstance(name, str)]
    if names and (given or limit is None):
        raise SpecError(f"`{names[0]}` has no ratio: say which share of it is pruned, or give a limit")
    if not asked and limit is None:  # the study's own, rounded
        given = [dict(cell["prune"]) for cell in facts["cells"]]
    if limit is None and round_to == 1:
        return given
    from trueoracle.api.networks import network, shape_of
    from trueoracle.nets import build, find_sites
    from trueoracle.selection.limits import Limits

    shape = shape_of(facts["data"])
    if net is None:
        built = build(facts["model"], shape, width_factor=facts.get("width_factor", 1.0))
    else:
        built = network(net, None, shape, as_it_is=False)
    limits = Limits(net=built, shape=shape, sites=find_sites(built, shape), round_to=round_to)
    if limit is None:
        return [limits.rounded(way) for way in given]
    return limits.among(given, limit) if given else limits.found(names or ["*"], limit)


def _facts(
    model: "str | nn.Module | None",
    data: str | None,
    study: str | StudySpec | None,
    scale: str,
    weights: str | Path | None,
    validation_images: int | float | None,
) -> dict[str, Any]:
    """What a study of the network says, from a given one or from nothing but what was said."""
    if study is None:
        if model is None or data is None:
            raise SpecError("say what is to be pruned: a study, or a model and its data")
        facts: dict[str, Any] = {"retrain": RETRAIN, "repeats": 1, "final": "last", "cells": []}
    else:
        spec = study if isinstance(study, StudySpec) else load_spec(study, scale=scale)
        origin = spec.seeds_of or spec.digest()
        facts = {**spec.facts(), "seeds_of": origin, "base_networks": 1}
    if model is not None:
        facts["model"] = model if isinstance(model, str) else f"{type(model).__module__}:{type(model).__qualname__}"
    if data is not None:
        facts["data"] = data
    if model is not None and not isinstance(model, str):
        weights = _kept_weights(model)
    if weights is not None:
        facts["base_weights"] = str(weights)
    if validation_images is not None:
        facts["validation_images"] = validation_images
    if "name" not in facts:
        facts["name"] = _plain_name(facts["model"])
    return facts


def _kept_weights(net: "nn.Module") -> Path:
    """A module's weights as a file of the cache, named after what is in it."""
    from hashlib import sha256

    from trueoracle.nets import state_bytes
    from trueoracle.words.folders import cache_folder

    content = state_bytes(net)
    path = cache_folder() / f"given-{sha256(content).hexdigest()[:32]}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda partial: partial.write_bytes(content), ReportError)
    return path


def _plain_name(model: str) -> str:
    kept = "".join(c if c.isalnum() or c in "._-" else "-" for c in model).strip("-._")
    return kept or "network"


def _template(spec: StudySpec) -> StudySpec:
    """The study that every wave is one of: whole cells, one repeat, nothing measured but what a selection looks at."""
    cells = tuple(
        cell.model_copy(update={"draw": None, "tail": None, "search": None, "masks": ()}) for cell in spec.cells
    )
    origin = spec.seeds_of or spec.model_copy(update={"cells": cells}).digest()
    left_out = {"early": None, "loss_after_steps": None, "recalibration_images": None}
    return spec.model_copy(update={"cells": cells, "repeats": 1, "seeds_of": origin, "description": "", **left_out})


def _short(template: StudySpec, budget: str) -> str:
    from hashlib import sha256

    return sha256(f"{template.canonical()} {budget}".encode()).hexdigest()[:6]
