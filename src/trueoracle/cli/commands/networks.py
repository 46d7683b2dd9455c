"""`trueoracle sites` and `oracle`: what can be pruned of a network, and what that does to its loss."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trueoracle import api
from trueoracle.cli import show
from trueoracle.cli.options import DataDir, Device, Threads, ratios_of_sites
from trueoracle.words.errors import SpecError
from trueoracle.words.known import check_removal

if TYPE_CHECKING:
    from trueoracle.search import Hunt


def sites(
    model: Annotated[str, typer.Argument(help="A network: a name, package.module:factory, or hf:HUB-ID.")],
    data: Annotated[str | None, typer.Option(help="A dataset, for its images; a built-in network has its own.")] = None,
) -> None:
    """What can be pruned of a network, and what a unit of it costs."""
    show.sites(api.sites(model, data))


def oracle(
    model: Annotated[str, typer.Option(help="A network: a name, package.module:factory, or hf:HUB-ID.")],
    data: Annotated[str, typer.Option(help="A dataset by name.")],
    prune: Annotated[list[str], typer.Option(help="SITE=RATIO, by name or glob; again for a joint space.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .parquet or .csv file.")],
    weights: Annotated[Path | None, typer.Option(help="A safetensors file; hf: models have their own.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Draw so many masks instead of taking all.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws of masks and images.")] = 0,
    images: Annotated[int | None, typer.Option(help="Draw so many train images instead of taking all.")] = None,
    removal: Annotated[
        str, typer.Option(help="aligned, or released: as the paper's released code has it.")
    ] = "aligned",
    path: Annotated[str, typer.Option(help="auto, exact, batched or loop: how losses are computed.")] = "auto",
    search: Annotated[
        str | None,
        typer.Option(help="Look for the lowest loss instead of taking all: swaps, race, ...; docs/searches.md."),
    ] = None,
    evaluations: Annotated[int | None, typer.Option(help="Budget of a search: so many masks.")] = None,
    core_seconds: Annotated[float | None, typer.Option(help="Budget of a search in core-seconds.")] = None,
    confidence: Annotated[float | None, typer.Option(help="What a race is to have. [default: 0.95]")] = None,
    fix: Annotated[
        str | None,
        typer.Option(
            help="parameters or macs: swaps also moves units between sites, as many of these as PRUNE leaves."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Print so many masks of lowest loss.")] = 5,
    data_dir: DataDir = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """The pruned train loss of every mask. Killed, the same command goes on where it was."""
    from trueoracle.words.progress import bars

    api.check_table_path(output)
    workers = api.threads_or_all(threads)
    wanted = _hunt(search, seed, evaluations, core_seconds, confidence, fix)
    progress = bars()
    question = api.ask_oracle(
        model, weights, data, ratios_of_sites(prune), sample=sample, seed=seed, images=images,
        removal=_removal(removal), path=path, data_dir=data_dir, device=device, progress=progress,
    )  # fmt: skip
    from trueoracle.executors import Threads as Workers
    from trueoracle.study.landscape import write_landscape  # after what may be wrong: they load torch
    from trueoracle.study.searching import write_found

    try:
        if wanted is None:
            sentence, found = "", write_landscape(question, output, Workers(workers), progress, top)
        else:
            drawn = sample is not None
            sentence, found = write_found(
                question, wanted, output, Workers(workers), progress, top=top, drawn=drawn, fix=_any(fix)
            )
    except KeyboardInterrupt:
        show.say(f"stopped; what was done is kept beside {output}. To resume, give the same command again")
        sys.exit(130)
    show.landscape(found, output)
    if sentence:
        show.say(sentence)


def _hunt(
    search: str | None,
    seed: int,
    evaluations: int | None,
    core_seconds: float | None,
    confidence: float | None,
    fix: str | None,
) -> "Hunt | None":
    """What is to be searched for, if it is; a budget or a confidence without a search means that one was forgotten."""
    given = {"evaluations": evaluations, "core-seconds": core_seconds, "confidence": confidence, "fix": fix}
    if search is None:
        for option in (name for name, value in given.items() if value is not None):
            raise SpecError(f"`--{option}` is for a search: name one, such as `--search swaps`")
        return None
    from trueoracle.search import Budget, Hunt, find_search

    find_search(search)
    budget = Budget(evaluations=evaluations, core_seconds=core_seconds)
    return Hunt(method=search, budget=budget, seed=seed, **({} if confidence is None else {"confidence": confidence}))


def _any(name: str | None) -> Any:
    """What is checked below, where the names are known."""
    return name


def _removal(name: str) -> Any:
    check_removal(name)
    return name
