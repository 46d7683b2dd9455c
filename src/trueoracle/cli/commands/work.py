"""`trueoracle work`."""

import sys
from typing import Annotated

import typer

from trueoracle import api
from trueoracle.cli import show
from trueoracle.cli.options import DataDir, Device, LogTo, StoreUrl, Threads
from trueoracle.store import DEFAULT_URL, shown_url


def work(
    store: StoreUrl = DEFAULT_URL,
    study: Annotated[str | None, typer.Option(help="Only this study, by name or the beginning of its digest.")] = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
    threads: Threads = None,
    log_to: LogTo = None,
    backend: Annotated[str, typer.Option(help="What trains: auto, lanes, stacked or loop.")] = "auto",
    leash: Annotated[bool, typer.Option(hidden=True, help="End when standard input is closed.")] = False,
) -> None:
    """Join the unfinished studies of a store, beside whoever is at them, until none is left.

    Any number of processes on any number of machines may do so; the data must be found on each.
    """
    from trueoracle.study import Paused

    if leash:
        api.end_with_parent()
    joined = False
    try:
        for name, told in api.work(
            store, study=study, data_dir=data_dir, device=device, threads=threads, backend=backend, log_to=log_to
        ):
            joined = True
            show.say(f"{name}: {told}")
    except Paused:
        show.say(f"stopped; what was finished is kept in {shown_url(store)}")
        sys.exit(130)
    if not joined:
        show.say(f"no study in {shown_url(store)} has anything left to do")
