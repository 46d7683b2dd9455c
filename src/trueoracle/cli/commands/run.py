"""`trueoracle run`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from trueoracle import api
from trueoracle.cli import show
from trueoracle.cli.options import DataDir, Device, Executor, LogTo, RayAddress, StoreUrl, Threads, Workers, change
from trueoracle.store import DEFAULT_URL, shown_url
from trueoracle.words.errors import TableError


def run(
    study: Annotated[str, typer.Argument(help="A built-in study, NAME-CELL for one cell of it, or a YAML file.")],
    scale: Annotated[
        str, typer.Option(help="tiny, small or paper: minutes, about an hour, or as published.")
    ] = "paper",
    store: StoreUrl = DEFAULT_URL,
    data_dir: DataDir = None,
    base_weights: Annotated[Path | None, typer.Option(help="A safetensors file: no base network is trained.")] = None,
    device: Device = "cpu",
    threads: Threads = None,
    executor: Executor = "threads",
    workers: Workers = None,
    ray_address: RayAddress = None,
    log_to: LogTo = None,
    backend: Annotated[str, typer.Option(help="What trains: auto, lanes, stacked or loop.")] = "auto",
    changes: Annotated[list[str] | None, typer.Option("--set", help="path=value, such as retrain.epochs=2.")] = None,
) -> None:
    """Run a study, or resume it where it was left."""
    wanted = api.Study(
        study,
        scale=scale,
        set=dict(map(change, changes or [])),
        store=store,
        data_dir=data_dir,
        base_weights=base_weights,
        device=device,
        threads=threads,
        backend=backend,
        executor=executor,
        workers=workers,
        ray_address=ray_address,
        log_to=log_to,
    )
    from trueoracle.study import Paused  # after what may be wrong: it loads torch

    try:
        before = wanted.stored_status()
        if before is not None and not before.left:
            show.say(f"{wanted.spec.name} is finished already: {before.finished} trials; nothing was run")
        else:
            wanted.run()
    except Paused:
        show.say(f"stopped; what was finished is kept in {shown_url(store)}. To resume, give the same command again")
        sys.exit(130)
    show.status(wanted.spec.name, wanted.status(), wanted.spec.retrain.epochs)
    try:
        show.analyses(wanted.analyze())
        show.pooled(wanted.pooled())
    except TableError as problem:  # a tiny study's masks may all end alike; that the study ran is not changed by it
        show.say(f"the trials are kept, but cannot be analysed: {problem}")
