"""`trueoracle criteria`: which criterion or predictor is right about retraining, over stored studies; or what criteria say of
a network of the user's own, which is not retrained.
"""

from pathlib import Path
from typing import Annotated

import typer

from trueoracle import analysis, api
from trueoracle.cli import show
from trueoracle.cli.options import DataDir, Device, StoreUrl, Threads
from trueoracle.store import DEFAULT_URL
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import bars
from trueoracle.words.scores import IMAGES

_OF_STUDIES = ("x", "y", "k", "figure", "measure", "store")
_OF_A_NETWORK = ("weights", "data", "sites", "seed")


def criteria(
    context: typer.Context,
    studies: Annotated[
        list[str] | None,
        typer.Argument(help="Stored studies, by name or by the beginning of the digest.", metavar="STUDY..."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Instead of studies a network: a name, package.module:factory, or hf:HUB-ID."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="With --model: a dataset by name, or your own by its path.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="With --model: a safetensors file; hf: models have their own.")
    ] = None,
    sites: Annotated[
        list[str] | None, typer.Option(help="With --model: a site by name or glob; again for others. [default: all]")
    ] = None,
    seed: Annotated[int, typer.Option(help="With --model: seed of the draw of train examples.")] = 0,
    x: Annotated[
        list[str] | None, typer.Option(help="A predictor; again for others. [default: all that are stored]")
    ] = None,
    y: Annotated[
        str | None,
        typer.Option(help="The result after retraining. [default: final_test_accuracy, of noise final_test_loss]"),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many of the best masks a predictor should name.")] = 5,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A .csv, .parquet or .json file to write.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="An .svg, .png or .pdf file for the critical-difference picture.")
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="First score all masks by criteria and predictors, as far as that is not done yet."
        ),
    ] = False,
    criteria: Annotated[
        list[str] | None,
        typer.Option(help="With --measure or --model: one of them; again for others, or a,b. [default: all]"),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="With --measure or --model: so many train examples. [default: 256]")
    ] = None,
    store: StoreUrl = DEFAULT_URL,
    data_dir: DataDir = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Rank criteria and predictors by measured retraining; or, with --model, let criteria judge the units of a network.

    What every column means, and what there is: docs/criteria.md.
    """
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    if bool(studies) is (model is not None):
        raise SpecError(
            "name stored studies, or a network with `--model` and `--data`" + " but not both" * bool(studies)
        )
    for other in _OF_A_NETWORK if studies else _OF_STUDIES:
        if other in given:
            raise SpecError(
                f"`--{other}` is for {'a network: it goes with `--model`' if studies else 'stored studies'}"
            )
    names = None if criteria is None else [name.strip() for part in criteria for name in part.split(",")]
    if model is not None:
        _judge(model, data, weights, names, sites, images, seed, output, data_dir, device, threads)
    else:
        _rank(studies or [], x, y, k, output, figure, measure, names, images, store, data_dir, device, threads)


def _judge(
    model: str,
    data: str | None,
    weights: Path | None,
    names: list[str] | None,
    sites: list[str] | None,
    images: int | None,
    seed: int,
    output: Path | None,
    data_dir: Path | None,
    device: str,
    threads: int | None,
) -> None:
    """Write what criteria say of the network's units, and show how far they agree."""
    if data is None or output is None:
        raise SpecError(f"`--model` goes with `--{'data' if data is None else 'output'}`")
    api.check_table_path(output)
    table = api.unit_scores(
        model, data, weights=weights, images=images, criteria=names, sites=sites, seed=seed,
        data_dir=data_dir, device=device, threads=threads, progress=bars(),
    )  # fmt: skip
    api.write_table(table, output)
    show.judged_units(table, output)


def _rank(
    studies: list[str],
    x: list[str] | None,
    y: str | None,
    k: int,
    output: Path | None,
    figure: Path | None,
    measure: bool,
    names: list[str] | None,
    images: int | None,
    store: str,
    data_dir: Path | None,
    device: str,
    threads: int | None,
) -> None:
    """The leaderboard of stored studies, whose masks are scored first if that is asked for."""
    from trueoracle.store import Store

    if not measure and (names or images is not None):
        raise SpecError("`--criteria` and `--images` say what to measure: they go with `--measure`")
    if output is not None:
        api.check_table_path(output, api.BOARD_ENDINGS)
    if figure is not None:
        from trueoracle.report import check_ranking_path, write_ranking

        check_ranking_path(figure)
    opened = Store(store)
    digests = [opened.find(study).digest for study in studies]
    if measure:
        for digest in dict.fromkeys(digests):
            wanted = api.Study.stored(digest, store=store, data_dir=data_dir, device=device, threads=threads)
            refused = wanted.measure(names, images=IMAGES if images is None else images)
            for name, why in refused.items():
                show.say(f"{wanted.spec.name}: {name} is not measured, as {why}")
    board = analysis.compare(opened, digests, x, y, k, bars())
    if output is not None:
        api.write_board(board, output)
    if figure is not None:
        write_ranking(board, figure)
    show.leaderboard(board)
