"""`trueoracle sample` and `ratios`: pictures of networks that tell noise, and how much of their blocks may go."""

from pathlib import Path
from typing import Annotated

import typer

from trueoracle import api
from trueoracle.cli import show
from trueoracle.cli.options import DataDir, Device, ratios_of_sites

Select = Annotated[
    list[str] | None, typer.Option(help="Globs of layers that may lose weights, instead of CR-Diff's choice.")
]


def sample(
    model: Annotated[str, typer.Argument(help="A network that tells noise: a name, hf:HUB-ID, or hf:FOLDER.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .png file.")],
    weights: Annotated[Path | None, typer.Option(help="A safetensors file; hf: models have their own.")] = None,
    data: Annotated[str | None, typer.Option(help="What it was trained on, such as denoise:mnist@16.")] = None,
    size: Annotated[
        str | None, typer.Option(help="Of the pictures: 24, or 16x24. [default: the network's own]")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="How many.")] = 16,
    steps: Annotated[int, typer.Option(min=1, help="From noise to picture (DDIM).")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise that they begin with.")] = 0,
    prune: Annotated[list[str] | None, typer.Option(help="GROUP=RATIO of down, mid or up; again for others.")] = None,
    pruned: Annotated[Path | None, typer.Option(help="Or the weights of a pruned network, safetensors.")] = None,
    select: Select = None,
    amplify: Annotated[float, typer.Option(help="k of k x pruned + (1 - k) x dense.")] = 1.0,
    columns: Annotated[int, typer.Option(min=1, help="Pictures in a row.")] = 8,
    enlarge: Annotated[int, typer.Option(min=1, help="How many pixels wide a pixel is drawn.")] = 4,
    device: Device = "cpu",
) -> None:
    """Draw a grid of pictures, at any size that the network takes."""
    api.check_picture_path(output)
    drawn = api.pictures(
        model, weights, size=size, data=data, count=pictures, steps=steps, seed=seed,
        prune=ratios_of_sites(prune or []), pruned=pruned, select=select or (), amplify=amplify, device=device,
    )  # fmt: skip
    api.write_grid(api.draw_grid(drawn, columns=columns, enlarge=enlarge), output)
    show.say(f"{len(drawn)} pictures of {drawn.shape[2]}x{drawn.shape[3]} pixels written to {output}")


def ratios(
    model: Annotated[str, typer.Argument(help="A UNet that tells noise: a name, hf:HUB-ID, or hf:FOLDER.")],
    data: Annotated[str, typer.Option(help="Images and their size, such as denoise:mnist@24.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .parquet or .csv file: all ratios tried.")],
    weights: Annotated[Path | None, typer.Option(help="A safetensors file; hf: models have their own.")] = None,
    trained_on: Annotated[str | None, typer.Option(help="What it was trained on, if not on --data.")] = None,
    search: Annotated[str, typer.Option(help="cr-diff, or swaps, evolution, ...; docs/searches.md.")] = "cr-diff",
    evaluations: Annotated[int, typer.Option(min=1, help="Budget: so many ratios are tried.")] = 120,
    images: Annotated[int, typer.Option(min=2, help="Train images that they are judged on.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the images and of the search.")] = 0,
    select: Select = None,
    amplify: Annotated[float, typer.Option(help="Judge k x pruned + (1 - k) x dense.")] = 1.0,
    data_dir: DataDir = None,
    device: Device = "cpu",
) -> None:
    """Which shares of the down, mid and up blocks may go, without retraining (CR-Diff). Killed, it goes on where it was."""
    api.check_table_path(output)
    keep = output.with_name(f"{output.name}.unfinished.jsonl")
    found = api.ratios(
        model, weights, data, search=search, evaluations=evaluations, images=images, seed=seed, select=select or (),
        amplify=amplify, trained_on=trained_on, keep=keep, data_dir=data_dir, device=device,
    )  # fmt: skip
    api.write_table(found.table(), output)
    keep.unlink()
    show.say(f"{len(found.found.ranks)} ratios tried by `{search}` on {found.found.images} images, written to {output}")
    told = ", ".join(f"{group} {ratio:g}" for group, ratio in found.best.items())
    show.say(f"loss {found.found.loss:.6g} at {told}; {found.dense_loss:.6g} of the whole network")
