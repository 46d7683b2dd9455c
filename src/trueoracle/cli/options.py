"""Arguments and options that several commands have, and what their values mean."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from trueoracle.words.errors import SpecError

StudyName = Annotated[str, typer.Argument(help="A stored study, by name or by the beginning of its digest.")]
StoreUrl = Annotated[str, typer.Option("--store", help="Database URL of the store.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder with the datasets; else TRUEORACLE_DATA.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Executor = Annotated[
    str, typer.Option(help="Who works: threads of this process; local: processes; ray: tasks of a cluster.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="How many processes or tasks; if not given, one a core, a GPU, or a place of the cluster."),
]
RayAddress = Annotated[
    str | None, typer.Option(help="HOST:PORT of a Ray cluster, or auto, the one that this machine is in.")
]
LogTo = Annotated[
    str | None, typer.Option(help="tensorboard or mlflow: a tracker that curves of trials go to as well.")
]
Threads = Annotated[int | None, typer.Option(help="At work at a time; as many as there are cores if not given.")]


def change(text: str) -> tuple[str, Any]:
    """What `--set` says: a path in a study's tree, and its new value."""
    import yaml

    path, equals, value = text.partition("=")
    if not equals or not path:
        raise SpecError(f"`--set` takes path=value, but got `{text}`")
    try:
        return path, yaml.safe_load(value)
    except yaml.YAMLError:
        raise SpecError(f"`--set {path}`: the value `{value}` is no YAML") from None


def ratios_of_sites(texts: Sequence[str]) -> dict[str, float]:
    """What `--prune` says, each time that it is given: a site, by name or glob, and its ratio."""
    found: dict[str, float] = {}
    for text in texts:
        site, _, ratio = text.partition("=")
        if site in found:
            raise SpecError(f"`--prune` names `{site}` twice")
        found[site] = _ratio(ratio, text)
    return found


def ways_to_prune(texts: Sequence[str]) -> list[dict[str, float]] | list[str]:
    """What `--prune` says to a selection: sites alone, or every combination of the ratios that each of them is given."""
    named = [text for text in texts if "=" not in text]
    if named:
        if len(named) < len(texts):
            raise SpecError(f"`--prune {named[0]}` has no ratio, but others have: give one to all or to none")
        return named
    ratios: dict[str, list[float]] = {}
    for text in texts:
        site, _, given = text.partition("=")
        if site in ratios:
            raise SpecError(f"`--prune` names `{site}` twice")
        ratios[site] = [_ratio(one, text) for one in given.split(",")]
    return [dict(zip(ratios, chosen, strict=True)) for chosen in product(*ratios.values())] if ratios else []


def _ratio(ratio: str, text: str) -> float:
    try:
        return float(ratio)
    except ValueError:
        raise SpecError(f"`--prune` takes SITE=RATIO such as conv1=0.5, but got `{text}`") from None
