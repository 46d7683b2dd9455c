"""Files beside the weights that run without trueoracle: a module a format, each with the same two functions.

`write` makes the file from a network and example images; `reader` opens it as something that runs, to be compared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from trueoracle.selection.formats import onnx, torch_export


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format: its file's name, and the packages beside torch that it needs.

    `write(net, images_BCHW, path)` makes the file, `reader(path)` runs it on images.
    """

    file: str
    write: Callable[[nn.Module, Tensor, Path], None]
    reader: Callable[[Path], Callable[[Tensor], Tensor]]
    packages: tuple[str, ...] = ()

    @property
    def missing(self) -> str | None:
        """The first of the packages that is not installed."""
        return next((package for package in self.packages if find_spec(package) is None), None)


FORMATS: dict[str, Format] = {
    "onnx": Format(file="model.onnx", write=onnx.write, reader=onnx.reader, packages=("onnxscript", "onnxruntime")),
    "pt2": Format(file="model.pt2", write=torch_export.write, reader=torch_export.reader),
}

__all__ = ["FORMATS", "Format"]
