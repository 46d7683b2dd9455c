"""The report's parts as a notebook shows them: a page of their own inside the notebook's, with its script and style."""

from dataclasses import dataclass

from markupsafe import Markup

from trueoracle.report.findings import Findings
from trueoracle.report.page import PARTS, render
from trueoracle.words.errors import SpecError, unknown
from trueoracle.words.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Parts of a report: a page where pages can be shown, else the verdicts in words."""

    page: str
    verdicts: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join(self.verdicts)

    def _repr_html_(self) -> str:
        """The page in a frame that may run its script and nothing else: it neither sees the notebook nor disturbs its styles."""
        return Markup(
            '<iframe title="trueoracle report" sandbox="allow-scripts" srcdoc="{}" '
            'style="width: 100%; height: 42rem; border: 0"></iframe>'
        ).format(self.page)


def shown(study: Findings, progress: Progress, part: str | None = None, cell: str | None = None) -> Shown:
    """The whole report, one `part` of it, or one `cell`; `SpecError` where there is no such one."""
    names = [found.analysis.group for found in study.cells]
    if part is not None and part not in PARTS:
        raise SpecError(unknown("part", part, PARTS))
    if cell is not None and cell not in names:
        raise SpecError(unknown("cell", cell, names))
    if cell is not None and part not in (None, "cells"):
        raise SpecError(f"a cell stands in the part `cells`, not in `{part}`")
    parts = PARTS if part is None and cell is None else (part or "cells",)
    return Shown(
        page=render(study, progress, parts, cell),
        verdicts=tuple(
            f"{one.analysis.group}: {study.x.replace('_', ' ')} {one.analysis.verdict.value}"
            for one in study.cells
            if cell in (None, one.analysis.group)
        ),
    )
