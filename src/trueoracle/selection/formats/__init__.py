"""Files beside the weights that run without trueoracle: a module a format, each with the same two functions.

`write` makes the file from a network and example images; `reader` opens it as something that runs, to be compared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from trueoracle.selection.formats import hugging_face, onnx, torch_export


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format: the name of its file or folder, and the packages beside torch that it needs.

    `write(net, images_BCHW, path)` makes it, `reader(path)` runs it on images. One `for_text` too is given None for images
    there, and its reader is a module. One that is not `usual` is written where it is asked for.
    """

    file: str
    write: Callable[[nn.Module, Any, Path], None]
    reader: Callable[[Path], Callable[[Tensor], Tensor]]
    packages: tuple[str, ...] = ()
    for_text: bool = False
    usual: bool = True

    @property
    def missing(self) -> str | None:
        """The first of the packages that is not installed."""
        return next((package for package in self.packages if find_spec(package) is None), None)


FORMATS: dict[str, Format] = {
    "onnx": Format(file="model.onnx", write=onnx.write, reader=onnx.reader, packages=("onnxscript", "onnxruntime")),
    "pt2": Format(file="model.pt2", write=torch_export.write, reader=torch_export.reader),
    "hf": Format(file="hugging_face", write=hugging_face.write, reader=hugging_face.reader, for_text=True, usual=False),
}

__all__ = ["FORMATS", "Format"]
