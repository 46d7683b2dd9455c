"""Files beside the weights that run without trueoracle: a module a format, each with the same two functions.

`write` makes the file from a network and example images; `outputs` runs the file, so that it can be compared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from trueoracle.select.formats import onnx, torch_export


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format: its file's name; `write(net, images_BCHW, path)`; `reader(path)`, which runs the file on images."""

    file: str
    write: Callable[[nn.Module, Tensor, Path], None]
    reader: Callable[[Path], Callable[[Tensor], Tensor]]


FORMATS: dict[str, Format] = {
    "onnx": Format(file="model.onnx", write=onnx.write, reader=onnx.reader),
    "pt2": Format(file="model.pt2", write=torch_export.write, reader=torch_export.reader),
}

__all__ = ["FORMATS", "Format"]
