"""`trueoracle select`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from trueoracle import api
from trueoracle.cli import show
from trueoracle.cli.options import DataDir, Device, StoreUrl, Threads, change, ways_to_prune
from trueoracle.store import DEFAULT_URL


def select(
    budget: Annotated[str, typer.Option(help="What retraining may cost: 30m, 2h, or 200-epochs (model-epochs).")],
    study: Annotated[
        str | None, typer.Argument(help="A study whose network, data and recipes are taken; or name a model and data.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A built-in model, package.module:factory, or hf:NAME.")] = None,
    weights: Annotated[Path | None, typer.Option(help="The network's weights, a safetensors file.")] = None,
    data: Annotated[str | None, typer.Option(help="A dataset by name, or the path of your own images.")] = None,
    prune: Annotated[
        list[str] | None,
        typer.Option(
            help="site=ratio; again for sites pruned together; conv1=0.3,0.5 lets ratios compete; with a limit, sites."
        ),
    ] = None,
    macs: Annotated[float | None, typer.Option(help="At most this share of the operations may be left.")] = None,
    parameters: Annotated[float | None, typer.Option(help="At most this share of the parameters.")] = None,
    latency: Annotated[
        float | None, typer.Option(help="At most this share of the time for 32 images, measured.")
    ] = None,
    round_to: Annotated[int, typer.Option(help="A multiple of so many units is left of every site.")] = 1,
    validation_images: Annotated[
        float | None, typer.Option(help="Train images held out to choose on: so many, or a share below 1.")
    ] = None,
    scale: Annotated[str, typer.Option(help="Of the study: tiny, small or paper.")] = "paper",
    changes: Annotated[list[str] | None, typer.Option("--set", help="path=value, such as retrain.epochs=10.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A folder to make, for report.html and selection.json.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the selection is called in the store.")] = None,
    compare: Annotated[str, typer.Option(help="With masks of other rules: none, one of each, or same-cost.")] = "one",
    store: StoreUrl = DEFAULT_URL,
    data_dir: DataDir = None,
    device: Device = "cpu",
    threads: Threads = None,
    backend: Annotated[str, typer.Option(help="What trains: auto, lanes, stacked or loop.")] = "auto",
) -> None:
    """Choose the mask that is best after retraining, within a budget. How: docs/select.md."""
    if output is not None:
        api.check_new_folder(output)
    held_out = validation_images
    if held_out is not None and held_out.is_integer():
        held_out = int(held_out)
    from trueoracle.study import Paused  # it loads torch, which `--help` need not

    try:
        found = api.select(
            model, data, budget=budget, prune=ways_to_prune(prune or []), macs=macs,
            parameters=parameters, latency=latency, round_to=round_to, study=study, scale=scale,
            weights=weights, validation_images=held_out, set=dict(map(change, changes or [])), name=name, compare=compare,
            store=store, data_dir=data_dir, device=device, threads=threads, backend=backend,
        )  # fmt: skip
    except Paused:
        show.say("stopped before there was anything to choose from. To go on, give the same command again")
        sys.exit(130)
    show.selected(found.selected)
    if found.selected.stopped:
        show.say(f"stopped: trueoracle report {found.selected.name} shows this; the same command goes on")
        sys.exit(130)
    if output is not None:
        found.write(output)
        show.say(f"written: {output / 'report.html'} and {output / 'selection.json'}")
