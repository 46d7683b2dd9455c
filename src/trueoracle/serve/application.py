"""The pages as one application: which address is answered by what."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from trueoracle.serve.guard import Access, Guard
from trueoracle.serve.landscapes import Landscapes
from trueoracle.serve.live import Watch, events
from trueoracle.serve.pages import Pages
from trueoracle.serve.query import AddressError
from trueoracle.store import Store
from trueoracle.words.errors import TrueOracleError

SECONDS = 10.0
"""That a question to the store may take."""


@dataclass(frozen=True, kw_only=True)
class Application:
    """What answers requests, and the watch whose streams must end before a server can."""

    answer: ASGIApp
    watch: Watch


def application(url: str, access: Access, landscapes: Sequence[Path] = ()) -> Application:
    """All pages over the store at `url` and over files of `landscapes`, for those who have `access`.

    `StoreError` or `TableError` where there is none to read.
    """
    shown = Landscapes(landscapes)
    pages = Pages(Store.for_reading(url, SECONDS), shown)
    watch = Watch(pages.stamp)

    def problem(_: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return pages.problem(error.status_code, error.detail)
        return pages.problem(_status(error), str(error))

    async def live(request: Request) -> Response:
        return await events(watch, request.query_params.get("study", ""))

    app = Starlette(
        routes=[
            Route("/", pages.studies),
            Route("/studies/{study}", pages.study),
            Route("/studies/{study}/trials", pages.trials),
            Route("/studies/{study}/trials.{ending}", pages.trials_file),
            Route("/studies/{study}/report.html", pages.report),
            Route("/studies/{study}/figures", pages.figures),
            Route("/studies/{study}/figures.zip", pages.figures_file),
            Route("/studies/{study}/cells/{cell:int}", pages.cell),
            Route("/studies/{study}/cells/{cell:int}/masks/{mask}", pages.mask),
            Route("/compare", pages.compare),
            Route("/selections/{selection}", pages.selection),
            Route("/landscapes/{number:int}", pages.landscape),
            Route("/events", live),
            Route("/static/{name}", pages.static),
        ],
        exception_handlers={TrueOracleError: problem, HTTPException: problem},
    )
    return Application(answer=Guard(app, access), watch=watch)


def _status(error: Exception) -> int:
    if isinstance(error, AddressError):
        return 400
    return 503 if "takes too long" in str(error) else 404
