"""Each page: what is asked of the store, and the template that shows it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from trueoracle.analysis import CellAnalysis
from trueoracle.report.page import environment
from trueoracle.serve.analyst import Analyst, State
from trueoracle.serve.mask_page import mask_facts
from trueoracle.serve.query import AddressError, trials_query
from trueoracle.serve.summary import CellProgress, Summaries, Summary
from trueoracle.store import Store, StudyRecord
from trueoracle.store.browse import count_trials, page_of_trials
from trueoracle.words.errors import TrueOracleError
from trueoracle.words.trial import Outcome

_STATIC = {
    "report.css": ("trueoracle.report", "templates/page.css", "text/css"),
    "report.js": ("trueoracle.report", "templates/page.js", "text/javascript"),
    "serve.css": ("trueoracle.serve", "static/serve.css", "text/css"),
    "icon.svg": ("trueoracle.serve", "static/icon.svg", "image/svg+xml"),
    "serve.js": ("trueoracle.serve", "static/serve.js", "text/javascript"),
}


class Pages:
    """The pages over a store that is only read."""

    def __init__(self, store: Store, analyst: Analyst) -> None:
        self._store = store
        self._analyst = analyst
        self._summaries = Summaries(store)
        self._templates = _environment()

    def stamp(self, of: str) -> str:
        """Another one as soon as a page would look different: that of a study, or of the list of all where `of` is empty."""
        records = [self._store.find(of)] if of else self._store.studies()
        return _short(map(self._stamp, records))

    def _stamp(self, record: StudyRecord) -> str:
        try:
            summary = self._summaries.of(record)
        except TrueOracleError as error:
            return str(error)
        return _stamp(summary, self._analyst.of(summary))

    def studies(self, _: Request) -> Response:
        """Every study of the store, the one that stored last first."""
        now = self.stamp("")
        found: list[Summary] = []
        unreadable = []
        for record in self._store.studies():
            try:
                found.append(self._summaries.of(record))
            except TrueOracleError as error:
                unreadable.append((record, str(error)))
        found.sort(key=lambda summary: (-(summary.last or 0), summary.record.name))
        shown = [(summary, self._analyst.of(summary)) for summary in found]
        return self._page("studies.html", stamp=now, studies=shown, unreadable=unreadable, url=self._store.url)

    def study(self, request: Request) -> Response:
        """How far one study is."""
        summary = self._summary(request)
        return self._of_study(
            "study.html", summary, numbers={cell.record.name: cell.record.index for cell in summary.cells}
        )

    def cell(self, request: Request) -> Response:
        """One cell: the report's pictures and tables of it."""
        summary = self._summary(request)
        return self._of_study("cell_page.html", summary, progress=_cell_of(summary, request))

    def trials(self, request: Request) -> Response:
        """The trials of a study that the address asks for."""
        summary = self._summary(request)
        query = trials_query(request.query_params, [cell.record for cell in summary.cells])
        count = count_trials(self._store, summary.record.digest, query.which)
        rows = page_of_trials(
            self._store, summary.record.digest, query.which, query.order, start=query.start, rows=query.rows
        )
        names = {cell.record.index: cell.record.name for cell in summary.cells}
        validation = any(row.final_validation_accuracy is not None for row in rows)
        return self._of_study(
            "trials.html", summary, query=query, count=count, rows=rows,
            names=names, pages=max(1, -(-count // query.rows)), outcomes=Outcome, columns=_columns(validation=validation),
        )  # fmt: skip

    def mask(self, request: Request) -> Response:
        """One mask of a cell: which units it prunes, its repeats and their learning curves."""
        summary = self._summary(request)
        cell, text = _cell_of(summary, request).record, request.path_params["mask"]
        if not (text.isascii() and text.isdecimal()):
            raise AddressError(f"a mask is named by its rank, such as 17, but got `{text[:50]}`")
        facts = mask_facts(self._store, summary, cell, int(text))
        return self._of_study("mask.html", summary, cell=cell, **facts)

    def static(self, request: Request) -> Response:
        """A style or script, of those there are."""
        found = _STATIC.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "there is no such file")
        package, name, kind = found
        return Response((files(package) / name).read_bytes(), media_type=kind)

    def problem(self, status: int, sentence: str) -> Response:
        """What is wrong, in one sentence."""
        return self._page("problem.html", status=status, sentence=sentence)

    def _summary(self, request: Request) -> Summary:
        return self._summaries.of(self._store.find(request.path_params["study"]))

    def _of_study(self, template: str, summary: Summary, **facts: Any) -> Response:
        """A page that is told when anything of the study is new: than what is shown, so that nothing is missed."""
        state = self._analyst.of(summary)
        stamp = _short([_stamp(summary, state)])
        return self._page(template, of=summary.key, stamp=stamp, summary=summary, state=state, **facts)

    def _page(self, template: str, status: int = 200, of: str = "", **facts: Any) -> Response:
        shown = self._templates.get_template(template).render(of=of, status=status, **facts)
        return HTMLResponse(shown, status)


def _stamp(summary: Summary, state: State) -> str:
    return summary.record.digest + summary.stamp + state.stamp


def _short(stamps: Iterable[str]) -> str:
    return sha256("".join(stamps).encode()).hexdigest()[:16]


def _cell_of(summary: Summary, request: Request) -> CellProgress:
    index = request.path_params["cell"]
    for cell in summary.cells:
        if cell.record.index == index:
            return cell
    raise HTTPException(404, f"`{summary.record.name}` has no cell number {index}")


def _columns(*, validation: bool) -> list[tuple[str, str]]:
    """The columns of a list of trials: what they are sorted by, and their words."""
    found = [
        ("pruned_train_loss", "pruned train loss"),
        ("pruned_train_accuracy", "pruned train accuracy"),
        ("final_train_loss", "final train loss"),
        ("final_test_loss", "final test loss"),
        ("final_test_accuracy", "final test accuracy"),
    ]
    return [*found, ("final_validation_accuracy", "final validation accuracy")] if validation else found


def _verdicts(analyses: Sequence[CellAnalysis]) -> str:
    """The first words of each verdict, and how many cells have it where there are several."""
    counts = Counter(one.verdict.value.partition(":")[0] for one in analyses)
    return ", ".join(f"{words} ({count})" if len(analyses) > 1 else words for words, count in counts.most_common())


def _environment() -> Environment:
    found = environment("trueoracle.serve")
    found.filters["verdicts"] = _verdicts
    found.filters["clock"] = lambda seconds: datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S")
    return found
