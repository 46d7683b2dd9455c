"""`trueoracle export`: a pruned network to take home."""

from pathlib import Path
from typing import Annotated

import typer

from trueoracle import api
from trueoracle.cli import show
from trueoracle.cli.options import DataDir, Device, StoreUrl, StudyName
from trueoracle.store import DEFAULT_URL


def export(
    study: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make.")],
    mask: Annotated[str, typer.Option(help="A mask by its rank, or best.")] = "best",
    cell: Annotated[str | None, typer.Option(help="Which cell, where the study has several.")] = None,
    repeat: Annotated[int, typer.Option(help="Which of the mask's trials, from 0.")] = 0,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="onnx, pt2 or hf (a folder for transformers), beside the weights; again for several. [default: onnx and pt2]",
        ),
    ] = None,
    store: StoreUrl = DEFAULT_URL,
    data_dir: DataDir = None,
    device: Device = "cpu",
) -> None:
    """Write a mask's retrained network, smaller and checked, to a folder that `trueoracle.load` reads."""
    source = api.Study.stored(study, store=store, data_dir=data_dir, device=device)
    show.exported(source.export(output, mask, cell=cell, repeat=repeat, formats=formats))
