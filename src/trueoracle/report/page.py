"""The report: one HTML file that needs no network. Its pictures are drawn here; its script only lets one walk in them."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trueoracle.analysis import Absent, CellAnalysis, Options, Target, Verdict
from trueoracle.analysis.cells import X
from trueoracle.report import wording
from trueoracle.report.components import components
from trueoracle.report.curves import curves
from trueoracle.report.embedding import masks_json
from trueoracle.report.facts import Fact, tables
from trueoracle.report.findings import CellFindings, Findings, find
from trueoracle.report.forest import Line, forest
from trueoracle.report.grid import grids
from trueoracle.report.nulls import null_picture
from trueoracle.report.ranking import ranking
from trueoracle.report.scatter import noise_halfwidth, scatter
from trueoracle.store import CellRecord, RunRecord, Store
from trueoracle.words.errors import ReportError
from trueoracle.words.files import check_file, write_whole
from trueoracle.words.progress import Progress, Quiet
from trueoracle.words.trial import FinalProtocol


@dataclass(frozen=True, kw_only=True)
class Section:
    """What the page shows of one cell; `null`, `components` and `ranking` are empty where there is nothing to draw.

    `data` lets one walk through the masks; it is empty where they are `binned`.
    """

    cell: CellFindings
    anchor: str
    name: str
    scatter: Markup
    loss_curves: Markup
    result_curves: Markup
    null: Markup
    components: Markup
    ranking: Markup
    tables: list[tuple[str, list[Fact]]]
    noise: str
    data: Markup
    binned: bool


def write_report(
    store: Store,
    study: str,
    path: Path,
    x: str = X,
    y: str | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the report of a study (by name or digest) to `path`: predictor `x` judged against result `y`.

    `ReportError` where it cannot be written, `TableError` where there is too little to analyse.
    """
    check_file(path)
    progress = progress or Quiet()
    page = render(find(store, study, progress, x, y, options), progress)
    write_whole(path, lambda partial: partial.write_text(page, encoding="utf-8"), ReportError)


PARTS = ("verdict", "results", "criteria", "cells", "networks", "run", "reading")
"""What the page is made of, from top to bottom."""


def render(study: Findings, progress: Progress, parts: Sequence[str] = PARTS, cell: str | None = None) -> str:
    """The page as text: all of it, or some of its `parts`; of the cells, all or the one that is called `cell`."""
    facts = context(study, progress, _on_this_page)
    if cell is not None:
        facts["sections"] = [section for section in facts["sections"] if section.name == cell]
    shared = {"css": Markup(own("page.css")), "js": Markup(own("page.js"))}
    return environment().get_template("page.html").render(**facts, **shared, parts=parts, whole=tuple(parts) == PARTS)


def environment(*others: str) -> Environment:
    """The templates of the report, and of the `others` among the packages, with the words that they use."""
    loader = ChoiceLoader([PackageLoader(package) for package in (*others, "trueoracle.report")])
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters.update({name: getattr(wording, name) for name in _FILTERS})
    return found


def context(
    study: Findings, progress: Progress, href: Callable[[CellRecord], str], most_points: int | None = None
) -> dict[str, Any]:
    """What the templates of the page's parts speak of; `href` says where a cell is shown.

    A cell of more than `most_points` masks is drawn by how many lie in a place, and cannot be walked through.
    """
    with progress.task("drawing", len(study.cells), "cells") as advance:
        sections = []
        for cell in study.cells:
            sections.append(_section(study, cell, most_points))
            advance(1)
    return {
        "study": study,
        "sections": sections,
        "href": href,
        "verdicts": _verdicts(study),
        "caveats": _caveats(study),
        "grids": grids(study.cells),
        "ranking": "" if isinstance(study.board, Absent) else ranking(study.board),
        "overview": _overview(study) if len(study.cells) > 1 else "",
        "runs": [_run(run) for run in study.runs],
        "spec": yaml.safe_dump(study.spec.facts(), sort_keys=False),
        "scale": study.spec.scale.caveat,
        "peeks": study.spec.final is FinalProtocol.BEST_ON_TEST,
        "targets": _TARGETS,
    }


def _on_this_page(cell: CellRecord) -> str:
    return f"#{_anchor(cell)}"


def _anchor(cell: CellRecord) -> str:
    return "cell-" + re.sub(r"[^A-Za-z0-9._-]+", "-", cell.name)


_FILTERS = (
    "signed",
    "interval",
    "number",
    "probability",
    "share",
    "difference",
    "differences",
    "result",
    "images",
    "column",
    "duration",
)


_TARGETS = {
    Target.IMAGES: "on other images",
    Target.SPACE: "over the mask space",
    Target.NETWORKS: "over networks",
}


def own(name: str) -> str:
    """The text of one of the report's own templates."""
    return (files("trueoracle.report") / "templates" / name).read_text(encoding="utf-8")


def _section(study: Findings, cell: CellFindings, most_points: int | None) -> Section:
    binned = most_points is not None and len(cell.x) > most_points
    drawn, (loss, result) = scatter(study, cell, binned=binned), curves(cell)
    null, half = cell.analysis.null, noise_halfwidth(cell)
    return Section(
        cell=cell,
        anchor=_anchor(cell.record),
        name=cell.analysis.group,
        scatter=drawn.svg,
        loss_curves=loss.svg,
        result_curves=result.svg,
        null=Markup("") if isinstance(null, Absent) else null_picture(cell, null),
        components=_components(study, cell),
        ranking=_ranking(cell.analysis) if len(cell.analysis.predictors) > 1 else Markup(""),
        tables=tables(cell),
        noise="" if half is None else wording.difference(half, cell.analysis.y_metric),
        data=Markup("" if binned else masks_json(cell, len(study.cells), drawn, loss, result)),
        binned=binned,
    )


def _verdicts(study: Findings) -> list[tuple[str, str, list[CellFindings]]]:
    """Of every verdict that was given: its first words, the rest of its sentence, and the cells."""
    found = []
    for verdict in Verdict:
        cells = [cell for cell in study.cells if cell.analysis.verdict is verdict]
        if cells:
            head, _, rest = verdict.value.partition(": ")
            found.append((head, rest, cells))
    return found


def _caveats(study: Findings) -> list[tuple[str, list[CellFindings]]]:
    """Every caveat with the cells that it is about."""
    given = dict.fromkeys(caveat for cell in study.cells for caveat in cell.analysis.caveats)
    return [(caveat.value, [c for c in study.cells if caveat in c.analysis.caveats]) for caveat in given]


def _overview(study: Findings) -> Markup:
    lines = [line_of(cell.analysis.group, cell.analysis) for cell in study.cells]
    return forest(
        lines, f"Kendall's tau of {study.spec.name}; lines: 95% for {study.cells[0].analysis.target.sentence}", "a cell"
    )


def line_of(name: str, found: CellAnalysis) -> Line:
    """A cell's tau as a line of a picture."""
    judged = next(score for score in found.predictors if score.x == found.x)
    return Line(
        name=name,
        agreement=judged.agreement,
        interval=judged.interval,
        null_95=None if isinstance(found.null, Absent) else found.null.abs_tau_95,
        ceiling=None if isinstance(found.reachable, Absent) else found.reachable,
    )


def _ranking(found: CellAnalysis) -> Markup:
    ceiling = None if isinstance(found.reachable, Absent) else found.reachable
    null_95 = None if isinstance(found.null, Absent) else found.null.abs_tau_95
    lines = [
        Line(
            name=wording.column(score.x),
            agreement=score.agreement,
            interval=score.interval,
            null_95=null_95 if score.x == found.x else None,
            ceiling=ceiling,
        )
        for score in found.predictors
    ]
    return forest(lines, f"Predictors of {wording.column(found.y)} in {found.group}", "a predictor, the best first")


def _components(study: Findings, cell: CellFindings) -> Markup:
    spread, where = cell.analysis.spread, (cell.sites, cell.ratio)
    if isinstance(spread, Absent):
        return Markup("")
    same = [float(other.y.mean()) for other in study.cells if (other.sites, other.ratio) == where]
    return components(cell.analysis, spread, same)


def _run(run: RunRecord) -> dict[str, Any]:
    """A run in words; what has no column of its own stands under `others`."""
    versions = dict(run.versions)
    return {
        "began": datetime.fromtimestamp(run.started, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "lasted": wording.duration(run.last - run.started),
        "trials": run.trials,
        "threads": run.threads,
        "machine": _joined(versions, ("machine", "device")),
        "software": ", ".join(f"{name} {versions.pop(name)}" for name in ("trueoracle", "torch", "python") if name in versions),
        "others": [(wording.column(name), value) for name, value in versions.items()],
    }  # fmt: skip


def _joined(versions: dict[str, str], names: Iterable[str]) -> str:
    return ", ".join(versions.pop(name) for name in names if name in versions)
