"""`trueoracle criteria`: which criterion or predictor is right about retraining, over stored studies."""

from pathlib import Path
from typing import Annotated

import typer

from trueoracle import analysis, api
from trueoracle.cli import show
from trueoracle.cli.options import DataDir, Device, StoreUrl, Threads
from trueoracle.store import DEFAULT_URL
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Bars
from trueoracle.words.scores import IMAGES


def criteria(
    studies: Annotated[
        list[str], typer.Argument(help="Stored studies, by name or by the beginning of the digest.", metavar="STUDY...")
    ],
    x: Annotated[
        list[str] | None, typer.Option(help="A predictor; again for others. [default: all that are stored]")
    ] = None,
    y: Annotated[str, typer.Option(help="The result after retraining.")] = "final_test_accuracy",
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
        list[str] | None, typer.Option(help="With --measure: one of them; again for others. [default: all]")
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="With --measure: how many train examples are looked at. [default: 256]")
    ] = None,
    store: StoreUrl = DEFAULT_URL,
    data_dir: DataDir = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Rank criteria and predictors by measured retraining. What every column means: docs/criteria.md."""
    from trueoracle.store import Store

    if not measure and (criteria or images is not None):
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
            refused = wanted.measure(criteria, images=IMAGES if images is None else images)
            for name, why in refused.items():
                show.say(f"{wanted.spec.name}: {name} is not measured, as {why}")
    board = analysis.compare(opened, digests, x, y, k, Bars())
    if output is not None:
        api.write_board(board, output)
    if figure is not None:
        write_ranking(board, figure)
    show.leaderboard(board)
