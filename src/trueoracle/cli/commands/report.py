"""`trueoracle report` and `figures`: a study as a page, and as pictures for a manuscript."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trueoracle import api
from trueoracle.cli import show
from trueoracle.cli.options import StoreUrl, StudyName
from trueoracle.store import DEFAULT_URL
from trueoracle.words.progress import bars

if TYPE_CHECKING:
    from trueoracle.analysis import LossFunction
    from trueoracle.store import Store


def report(
    study: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("report.html"),
    x: Annotated[str, typer.Option(help="The predictor that is judged; all others are ranked.")] = "pruned_train_loss",
    y: Annotated[
        str | None,
        typer.Option(help="The result after retraining. [default: final_test_accuracy, of noise final_test_loss]"),
    ] = None,
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """Write a study's report, or a selection's, one self-contained page."""
    from trueoracle.store import Store

    kept = Store(store)
    selected = kept.selection(study)
    if selected is not None:
        from trueoracle.report import write_selection_report

        write_selection_report(selected, output)
        show.say(f"report written to {output}")
        return
    kept.find(study)
    from trueoracle.analysis import Options  # after what may be wrong: it takes a second
    from trueoracle.report import write_report

    write_report(kept, study, output, x, y, Options(losses=_relabelled(kept, study)), bars())
    show.say(f"report written to {output}")


def figures(
    study: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write into.")] = Path("figures"),
    x: Annotated[str, typer.Option(help="The predictor.")] = "pruned_train_loss",
    y: Annotated[
        str | None,
        typer.Option(help="The result after retraining. [default: final_test_accuracy, of noise final_test_loss]"),
    ] = None,
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """Write a study's figures for a manuscript, as PDF and SVG."""
    from trueoracle.store import Store

    kept = Store(store)
    kept.find(study)
    from trueoracle.analysis import Options  # after what may be wrong: it takes a second
    from trueoracle.report import write_figures

    written = write_figures(kept, study, output, x, y, Options(losses=_relabelled(kept, study)), bars())
    show.say(f"{len(written)} files written to {output}")


def _relabelled(kept: "Store", study: str) -> "LossFunction":
    """The oracle for the null of drawn masks; the data is that of `TRUEORACLE_DATA`."""
    return api.RelabelledLosses(kept, study, api.default_data_dir(), api.threads_or_all(None), bars())
