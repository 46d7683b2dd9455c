"""`trueoracle analyze`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from trueoracle import analysis, api
from trueoracle.cli import show
from trueoracle.cli.options import DataDir, StoreUrl, Threads
from trueoracle.store import DEFAULT_URL
from trueoracle.words.errors import SpecError

_BETTER = "A column whose name does not say which values are better; again for others."


def analyze(
    source: Annotated[str, typer.Argument(help="A stored study, or a .parquet or .csv file.")],
    x: Annotated[
        list[str] | None,
        typer.Option(
            help="A predictor, known before retraining; again to rank several, the first is judged. [default: pruned_train_loss]"
        ),
    ] = None,
    y: Annotated[
        str | None, typer.Option(help="The result after it. [default: final_test_accuracy, of noise final_test_loss]")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Column of a table: one line for each of its values.")] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="Number of classes of a table's task; again as GROUP=N for groups of another task."),
    ] = None,
    margin: Annotated[float, typer.Option(help="|tau| below it does not matter.")] = 0.1,
    alpha: Annotated[float, typer.Option(help="Level of the tests.")] = 0.05,
    target: Annotated[
        analysis.Target | None,
        typer.Option(
            help="What intervals and tests speak of. [default: images where single answers are known, else space]"
        ),
    ] = None,
    other_images: Annotated[
        int | None, typer.Option(help="How many other images. [default: as many as were tested on, at least 5,000]")
    ] = None,
    x_higher: Annotated[list[str] | None, typer.Option("--x-higher-is-better", help=_BETTER)] = None,
    x_lower: Annotated[list[str] | None, typer.Option("--x-lower-is-better", help=_BETTER)] = None,
    y_higher: Annotated[list[str] | None, typer.Option("--y-higher-is-better", help=_BETTER)] = None,
    y_lower: Annotated[list[str] | None, typer.Option("--y-lower-is-better", help=_BETTER)] = None,
    seed: Annotated[int, typer.Option(help="Seed of resamples and relabellings.")] = 0,
    resamples: Annotated[
        int | None, typer.Option(help="Resamples and relabellings. [default: 9,999, fewer for over 4,000 masks]")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A .csv, .parquet or .tex file to write.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A list with an object a group.")] = False,
    data_dir: DataDir = None,
    threads: Threads = None,
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """Does x predict y? What every column means: docs/statistics.md; what a verdict means: docs/verdicts.md."""
    from trueoracle.store import Store
    from trueoracle.words.progress import Quiet, bars

    if output is not None:
        api.check_table_path(output, api.ANALYSIS_ENDINGS)
    workers = api.threads_or_all(threads)
    xs = x or ["pruned_train_loss"]
    progress = Quiet() if as_json else bars()

    def options(losses: "analysis.LossFunction | None" = None) -> "analysis.Options":  # its modules take time to load
        return analysis.Options(
            margin=margin, alpha=alpha, seed=seed, target=target, other_images=other_images, resamples=resamples,
            losses=losses,
        )  # fmt: skip

    better = analysis.directions([*(x_higher or ()), *(y_higher or ())], [*(x_lower or ()), *(y_lower or ())])
    if source.endswith((".parquet", ".csv")):
        table, classes_of = analysis.read_table(Path(source)), _classes(classes or [])
        found = analysis.analyze_table(table, xs, y, group, *classes_of, options(), progress, better)
    elif group is not None or classes is not None:
        raise SpecError("`--group` and `--classes` are for tables; a stored study knows its cells and classes")
    else:
        opened = Store(store)
        digest = opened.find(source).digest
        asked = api.RelabelledLosses(opened, digest, data_dir or api.default_data_dir(), workers, progress)
        found = analysis.analyze_study(opened, digest, xs, y, options(asked), progress, better)
    if output is not None:
        api.write_analyses(found, output)
    if as_json:
        print(json.dumps([cell.as_dict() for cell in found], indent=2))
        return
    show.analyses(found)
    if not source.endswith((".parquet", ".csv")):
        show.pooled(analysis.pool(found, opened.cells(digest)))


def _classes(texts: list[str]) -> tuple[int | None, dict[str, int]]:
    """The number for all groups, and those of some."""
    everywhere, somewhere = None, {}
    for text in texts:
        group, equals, number = text.rpartition("=")
        if not number.isdecimal() or (equals and not group):
            raise SpecError(f"`--classes` takes N or GROUP=N, but got `{text}`")
        if equals:
            somewhere[group] = int(number)
        else:
            everywhere = int(number)
    return everywhere, somewhere
