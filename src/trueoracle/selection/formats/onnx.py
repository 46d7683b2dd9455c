"""`model.onnx`: one file that any ONNX runtime reads, for batches of any size."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

_INPUT, _OUTPUT = "images", "logits"


def write(net: nn.Module, images_BCHW: Tensor, path: Path) -> None:
    """Write `net` with input `images` (batch, channels, height, width) and output `logits` (batch, classes)."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)  # it warns that torchvision is not installed
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                net,
                (images_BCHW,),
                path,
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,  # else a second file appears beside the first
                verbose=False,
            )
    finally:
        registry.setLevel(level)


def reader(path: Path) -> Callable[[Tensor], Tensor]:
    """Open the file in ONNX Runtime with one thread, as something that maps images to logits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images_BCHW: Tensor) -> Tensor:
        (logits_BK,) = session.run([_OUTPUT], {_INPUT: images_BCHW.numpy()})
        return torch.from_numpy(logits_BK)

    return run
