"""`trueoracle serve`: a store in a browser."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from trueoracle.cli import show
from trueoracle.cli.options import StoreUrl
from trueoracle.store import DEFAULT_URL, shown_url
from trueoracle.words.errors import ReportError


def serve(
    store: StoreUrl = DEFAULT_URL,
    host: Annotated[
        str, typer.Option(help="Address to listen at; any but this machine's own demands a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any that is free.")] = 8765,
    token: Annotated[
        str | None, typer.Option(envvar="TRUEORACLE_TOKEN", help="What readers must show; made up if not given.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Another name that the server is called by, as behind a proxy; repeatable.")
    ] = None,
    landscape: Annotated[
        list[Path] | None, typer.Option(help="A file that `trueoracle oracle` wrote, to be shown too; repeatable.")
    ] = None,
) -> None:
    """Show a store in a browser, live while a study runs; nothing is ever written."""
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise ReportError(f"`trueoracle serve` needs the package `{package}`: pip install 'trueoracle[serve]'")
    from trueoracle.serve import listen

    listening = listen(store, host=host, port=port, token=token, names=name or (), landscapes=landscape or ())
    show.say(f"{shown_url(store)} is shown at {listening.address}")
    listening.run()
