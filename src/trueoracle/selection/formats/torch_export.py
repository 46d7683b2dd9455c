"""`model.pt2`: the traced program that `torch.export.load` reads; it needs torch and nothing else."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def write(net: nn.Module, images_BCHW: Tensor, path: Path) -> None:
    """Trace `net` with a batch of any size and write the program."""
    batch = {0: torch.export.Dim("batch")}
    with torch.no_grad(), warnings.catch_warnings():
        # Of every recurrent layer, whose list of its own weights is made anew while they are traced.
        warnings.filterwarnings("ignore", r"The tensor attributes? .*\._flat_weights\[")
        # A copy, for the program keeps its example, and with a part of many images the memory of them all.
        program = torch.export.export(net, (images_BCHW.clone(),), dynamic_shapes=(batch,))
    torch.export.save(program, path)


def reader(path: Path) -> Callable[[Tensor], Tensor]:
    """Read the program back, as something that maps images to logits."""
    module: Any = torch.export.load(path).module()

    def run(images_BCHW: Tensor) -> Tensor:
        with torch.inference_mode():
            logits_BK: Tensor = module(images_BCHW)
        return logits_BK

    return run
