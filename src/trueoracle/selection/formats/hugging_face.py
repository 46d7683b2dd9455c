"""`hugging_face/`: a folder that `from_pretrained` of `transformers` loads by itself, where every layer is left with as much."""

from copy import copy
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from trueoracle.nets import ImageClassifier, even_config, find_sites
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import InputShape, Shape, TextShape

_INSTEAD = "write the weights alone (`--format` without hf), which `trueoracle.load` reads"


def write(net: nn.Module, images_BCHW: Tensor | None, folder: Path) -> None:
    """Write configuration and weights; `ModelError` for what is no model of `transformers`, or left with uneven layers."""
    model: Any = net.model if isinstance(net, ImageClassifier) else net
    if not hasattr(model, "save_pretrained"):
        raise ModelError(
            f"a folder for Hugging Face is for models of `transformers`, not for {type(net).__name__}: {_INSTEAD}"
        )
    config = even_config(model, net, find_sites(net, _shape(model, images_BCHW)))
    if isinstance(config, str):
        raise ModelError(f"`transformers` cannot make the pruned network again: {config}; {_INSTEAD}")
    saved = copy(model)
    saved.config = config
    saved.save_pretrained(folder)


def reader(folder: Path) -> nn.Module:
    """The network as `transformers` loads it, nothing made anew; `ModelError` where it would make a weight anew."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    kind: Any = getattr(transformers, (config.architectures or [""])[0])
    model, report = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[what]:
            raise ModelError(
                f"`transformers` does not load the folder as it is: {what.replace('_', ' ')} {sorted(report[what])[:3]}"
            )
    return ImageClassifier(model).eval() if hasattr(config, "num_channels") else model.eval()


def _shape(model: Any, images_BCHW: Tensor | None) -> Shape:
    if images_BCHW is None:
        return TextShape()
    _, channels, height, width = images_BCHW.shape
    return InputShape(channels=channels, height=height, width=width, classes=model.config.num_labels)
