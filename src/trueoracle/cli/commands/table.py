"""`trueoracle table` and `trueoracle score`: measured truth looked up, verified, restored, made, and used to judge."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from trueoracle import api
from trueoracle.cli import show
from trueoracle.cli.options import DataDir, StoreUrl
from trueoracle.store import DEFAULT_URL, shown_url
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import bars

Folder = Annotated[
    Path | None, typer.Option("--table", help="The folder of another table than the one that comes with trueoracle.")
]
Studied = Annotated[str, typer.Argument(help="A study of the table, such as digits.", metavar="STUDY")]

table = typer.Typer(no_args_is_help=True, help="Look up measured truth instead of training: docs/table.md.")


@table.command("list")
def list_(folder: Folder = None) -> None:
    """The studies of the table."""
    show.table_list(api.open_table(folder))


@table.command("show")
def show_(
    name: Annotated[
        str, typer.Argument(help="A study, or one of its cells: digits/conv1-0.5.", metavar="STUDY[/CELL]")
    ],
    folder: Folder = None,
) -> None:
    """What made a study and what its cells found, or the best and worst masks of one cell."""
    show.table_study(api.open_table(folder), name)


@table.command("verify")
def verify(
    study: Studied,
    trials: Annotated[int, typer.Option(help="How many trials, drawn at random, are retrained.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    folder: Folder = None,
    data_dir: DataDir = None,
) -> None:
    """Check the files, retrain a random sample of trials, and compare bit for bit. Exit code 1 where one differs."""
    opened = api.open_table(folder)
    found = api.verify_study(opened, study, trials=trials, seed=seed, data_dir=data_dir, progress=bars())
    show.verified(study, found)
    if not all(one.same for one in found):
        sys.exit(1)


@table.command("export")
def export(
    name: Annotated[
        str, typer.Argument(help="A study, or one of its cells: digits/conv1-0.5.", metavar="STUDY[/CELL]")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A .parquet or .csv file to write: a row a trial.")
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="With -o: networks, cells, masks, scores, trials, curves or answers as they are.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", help="Instead: put the study into this store, where every command finds it."),
    ] = None,
    folder: Folder = None,
) -> None:
    """Write trials as a file, or put a study back into a store, to analyse, report on, or go on with."""
    if (output is None) == (store is None):
        raise SpecError("say where to: `-o FILE` for a file, or `--store URL` for a store")
    opened = api.open_table(folder)
    if output is not None:
        show.say(f"{api.write_truth(opened, name, file, output)} rows written to {output}")
    elif store is not None:
        if file is not None:
            raise SpecError("`--file` goes with `-o`: a store takes all files")
        study, _, cell = name.partition("/")
        api.restore_study(opened, study, store, [cell] if cell else None, bars())
        show.say(f"{study} stands in {shown_url(store)}: `trueoracle report {study} --store URL -o FILE.html`")


@table.command("build")
def build(
    studies: Annotated[list[str], typer.Argument(help="Stored studies, by name or by the beginning of the digest.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The table's folder; studies of other names stay.")],
    version: Annotated[str, typer.Option(help="The table's version from now on, such as 1.1.0.")],
    commit: Annotated[str, typer.Option(help="The commit of the code that ran the studies.")] = "",
    hardware: Annotated[str, typer.Option(help="What they ran on.")] = "",
    without: Annotated[list[str] | None, typer.Option(help="A file to leave out; again for others.")] = None,
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """Make a table of stored studies, or add them to one."""
    from trueoracle.store import Store
    from trueoracle.truth import build as built

    made = built(output, Store(store), studies, bars(), version=version, commit=commit, hardware=hardware,
                 without=tuple(without or ()))  # fmt: skip
    show.say(f"version {made.version} in {output}: {', '.join(made.studies)}")


def score(
    file: Annotated[Path, typer.Argument(help="A .csv or .parquet file: base, cell, mask, and a column of numbers.")],
    better: Annotated[str, typer.Option(help="Which of its numbers promise more: lower or higher.")],
    x: Annotated[str | None, typer.Option(help="The column, where the file has several.")] = None,
    study: Annotated[str, typer.Option(help="The study of the table that the masks are of.")] = "digits",
    y: Annotated[str, typer.Option(help="The result after retraining.")] = "final_test_accuracy",
    k: Annotated[int, typer.Option("-k", help="How many of the best masks the predictor should name.")] = 5,
    split: Annotated[str | None, typer.Option(help="development or held-out. [default: both]")] = None,
    folder: Folder = None,
) -> None:
    """Judge numbers a mask from outside by measured truth, beside the criteria and predictors of the table."""
    found = api.score_file(file, better, x=x, study=study, y=y, k=k, split=split, folder=folder, progress=bars())
    for name, board in found.items():
        show.say(f"{name} cells:")
        show.leaderboard(board)
