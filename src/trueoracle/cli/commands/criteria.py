"""`trueoracle criteria`: which criterion or predictor is right about retraining, over stored studies."""

from pathlib import Path
from typing import Annotated

import typer

from trueoracle import analysis, api
from trueoracle.cli import show
from trueoracle.cli.options import StoreUrl
from trueoracle.store import DEFAULT_URL
from trueoracle.words.progress import Bars


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
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """Rank criteria and predictors by measured retraining. What every column means: docs/criteria.md."""
    from trueoracle.store import Store

    if output is not None:
        api.check_table_path(output, api.BOARD_ENDINGS)
    if figure is not None:
        from trueoracle.report import check_ranking_path, write_ranking

        check_ranking_path(figure)
    board = analysis.compare(Store(store), studies, x, y, k, Bars())
    if output is not None:
        api.write_board(board, output)
    if figure is not None:
        write_ranking(board, figure)
    show.leaderboard(board)
