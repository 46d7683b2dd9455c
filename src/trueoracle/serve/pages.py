"""Each page: what is asked of the store, and the template that shows it."""

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
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
from trueoracle.report.selection_page import selection_context
from trueoracle.report.wording import column
from trueoracle.serve.at_work import at_work
from trueoracle.serve.beside import Analysed, Beside, State, analysed, figures
from trueoracle.serve.compare import MOST_PICTURES, MOST_STUDIES, compared, overview
from trueoracle.serve.downloads import attachment, trials_file
from trueoracle.serve.landscapes import Landscapes
from trueoracle.serve.mask_page import mask_facts
from trueoracle.serve.query import AddressError, trials_query
from trueoracle.serve.summary import CellProgress, Summaries, Summary
from trueoracle.store import Store, StudyRecord, shown_url
from trueoracle.store.browse import count_trials, page_of_trials
from trueoracle.words.errors import TrueOracleError
from trueoracle.words.selection import Selected, selected_text
from trueoracle.words.trial import Outcome

_STATIC = {
    "report.css": ("trueoracle.report", "templates/page.css", "text/css"),
    "report.js": ("trueoracle.report", "templates/page.js", "text/javascript"),
    "serve.css": ("trueoracle.serve", "static/serve.css", "text/css"),
    "icon.svg": ("trueoracle.serve", "static/icon.svg", "image/svg+xml"),
    "serve.js": ("trueoracle.serve", "static/serve.js", "text/javascript"),
}


_SELECTION = "selection "  # no study's name has a space


class Pages:
    """The pages over a store that is only read."""

    def __init__(self, store: Store, landscapes: Landscapes) -> None:
        self._store = store
        self._analyst = Beside(store.url, analysed)
        self._draughtsman = Beside(store.url, figures)
        self._summaries = Summaries(store)
        self._landscapes = landscapes
        self._templates = _environment()
        self._templates.globals["landscapes"] = landscapes.names

    def stamp(self, of: str) -> str:
        """Another one as soon as a page would look different: that of a `selection NAME`, of studies, by commas, or of all where `of` is empty."""
        if of.startswith(_SELECTION):
            return _short([selected_text(self._selected(of.removeprefix(_SELECTION)))])
        records = [self._store.find(name) for name in of.split(",")[:MOST_STUDIES]] if of else self._store.studies()
        selections = [] if of else map(selected_text, self._store.selections())
        return _short([*map(self._stamp, records), *selections])

    def _stamp(self, record: StudyRecord) -> str:
        try:
            summary = self._summaries.of(record)
        except TrueOracleError as error:
            return str(error)
        return self._stamp_of(summary, self._analyst.of(summary))

    def _stamp_of(self, summary: Summary, state: State[Analysed]) -> str:
        """It changes with who is at work, but not from second to second of a lease."""
        workers = [(one.worker, one.pieces, one.stages) for one in at_work(self._store, summary.record.digest)]
        drawn = self._draughtsman.known(summary)
        return f"{summary.record.digest} {summary.stamp} {state.stamp} {drawn.stamp} {workers}"

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
        return self._page(
            "studies.html", stamp=now, studies=shown, unreadable=unreadable, url=shown_url(self._store.url),
            selections=self._store.selections(),
        )  # fmt: skip

    def study(self, request: Request) -> Response:
        """How far one study is."""
        summary = self._summary(request)
        return self._of_study(
            "study.html",
            summary,
            numbers={cell.record.name: cell.record.index for cell in summary.cells},
            workers=at_work(self._store, summary.record.digest),
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
            names=names, pages=max(1, -(-count // query.rows)), outcomes=Outcome, columns=_columns(validation=validation, of_noise=summary.spec.tells_noise),
        )  # fmt: skip

    def trials_file(self, request: Request) -> Response:
        """The trials of a study that the address asks for, all of them, as a file."""
        summary = self._summary(request)
        cells = [cell.record for cell in summary.cells]
        which = trials_query(request.query_params, cells).which
        ending = request.path_params["ending"]
        if ending not in ("csv", "parquet"):
            raise HTTPException(404, f"trials come as csv or parquet, not as `{ending[:20]}`")
        return trials_file(self._store, summary.record.digest, summary.record.name, which, cells, ending)

    def report(self, request: Request) -> Response:
        """The whole report, as of the newest analysis, as a file."""
        summary = self._summary(request)
        newest = self._analyst.of(summary).newest
        if newest is None:
            raise HTTPException(404, "there is no analysis yet: the study's page says when there is")
        page = zlib.decompress(newest.page)
        return Response(page, media_type="text/html; charset=utf-8", headers=attachment(f"{summary.record.name}.html"))

    def figures(self, request: Request) -> Response:
        """Where figures for a manuscript are ordered: they take a while."""
        summary = self._summary(request)
        return self._of_study("figures.html", summary, drawn=self._draughtsman.of(summary))

    def figures_file(self, request: Request) -> Response:
        """The figures that were drawn last, as a file."""
        summary = self._summary(request)
        newest = self._draughtsman.known(summary).newest
        if newest is None:
            raise HTTPException(404, "no figures are drawn yet: open their page first")
        name = f"{summary.record.name}-figures.zip"
        return Response(newest.archive, media_type="application/zip", headers=attachment(name))

    def mask(self, request: Request) -> Response:
        """One mask of a cell: which units it prunes, its repeats and their learning curves."""
        summary = self._summary(request)
        cell, text = _cell_of(summary, request).record, request.path_params["mask"]
        if not (text.isascii() and text.isdecimal()):
            raise AddressError(f"a mask is named by its rank, such as 17, but got `{text[:50]}`")
        facts = mask_facts(self._store, summary, cell, int(text))
        return self._of_study("mask.html", summary, cell=cell, **facts)

    def compare(self, request: Request) -> Response:
        """Studies and cells side by side."""
        keys = dict.fromkeys(request.query_params.getlist("study"))
        if len(keys) > MOST_STUDIES:
            raise AddressError(f"at most {MOST_STUDIES} studies stand side by side, but got {len(keys)}")
        chosen = [self._summaries.of(self._store.find(key)) for key in keys]
        states = [(summary, self._analyst.of(summary)) for summary in chosen]
        cells = request.query_params.getlist("cell")
        lines = compared(states, cells)
        stamp = _short(self._stamp_of(*one) for one in states)
        known = list(dict.fromkeys(cell.record.name for summary in chosen for cell in summary.cells))
        return self._page(
            "compare.html", stamp=stamp, of=",".join(summary.key for summary in chosen), states=states, lines=lines, cells=set(cells), known=known,
            studies=self._store.studies(), chosen={summary.record.digest for summary in chosen},
            overview=overview(lines, several=len(chosen) > 1) if lines else "", most=MOST_PICTURES,
        )  # fmt: skip

    def selection(self, request: Request) -> Response:
        """A selection while it climbs and after: the report's page of it."""
        found = self._selected(request.path_params["selection"])
        stamp, of = _short([selected_text(found)]), f"{_SELECTION}{found.name}"
        return self._page("selection_page.html", of=of, stamp=stamp, **selection_context(found))

    def landscape(self, request: Request) -> Response:
        """A landscape file."""
        number = request.path_params["number"]
        if number >= len(self._landscapes.names):
            raise HTTPException(
                404, f"there are {len(self._landscapes.names)} landscapes: they are named on the command line"
            )
        return self._page("landscape.html", shown=self._landscapes.shown(number), number=number)

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

    def _selected(self, name: str) -> Selected:
        found = self._store.selection(name)
        if found is None:
            raise HTTPException(404, f"no selection `{name[:100]}` has trained anything in this store yet")
        return found

    def _summary(self, request: Request) -> Summary:
        return self._summaries.of(self._store.find(request.path_params["study"]))

    def _of_study(self, template: str, summary: Summary, **facts: Any) -> Response:
        """A page that is told when anything of the study is new: than what is shown, so that nothing is missed."""
        state = self._analyst.of(summary)
        stamp = _short([self._stamp_of(summary, state)])
        return self._page(template, of=summary.key, stamp=stamp, summary=summary, state=state, **facts)

    def _page(self, template: str, status: int = 200, of: str = "", **facts: Any) -> Response:
        shown = self._templates.get_template(template).render(of=of, status=status, **facts)
        return HTMLResponse(shown, status)


def _short(stamps: Iterable[str]) -> str:
    return sha256("".join(stamps).encode()).hexdigest()[:16]


def _cell_of(summary: Summary, request: Request) -> CellProgress:
    index = request.path_params["cell"]
    for cell in summary.cells:
        if cell.record.index == index:
            return cell
    raise HTTPException(404, f"`{summary.record.name}` has no cell number {index}")


def _columns(*, validation: bool, of_noise: bool) -> list[tuple[str, str]]:
    """The columns of a list of trials: what they are sorted by, and their words."""
    names = ["pruned_train_loss", "pruned_train_accuracy", "final_train_loss", "final_test_loss", "final_test_accuracy"]
    names += ["final_validation_accuracy"] * validation
    return [(name, column(name)) for name in names if not (of_noise and "accuracy" in name)]


def _verdicts(analyses: Mapping[int, CellAnalysis]) -> str:
    """The first words of each verdict, and how many cells have it where there are several."""
    counts = Counter(one.verdict.value.partition(":")[0] for one in analyses.values())
    return ", ".join(f"{words} ({count})" if len(analyses) > 1 else words for words, count in counts.most_common())


def _environment() -> Environment:
    found = environment("trueoracle.serve")
    found.filters["verdicts"] = _verdicts
    found.filters["clock"] = lambda seconds: datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S")
    return found
