"""Image classifiers of Hugging Face `transformers`: ResNet-18 and -50, ViT-B/16, and any other by its hub id.

Letters: B images, C channels, H height, W width, K classes.
"""

from typing import Any

from torch import Tensor, nn

from trueoracle.nets.hub import check_weights, read, read_weights
from trueoracle.nets.width import scaled
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import InputShape

_BASIC = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}
_BOTTLENECK = {"layer_type": "bottleneck", "depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048]}
_HEADS, _HEAD_DIM, _PATCH = 12, 64, 16


class ImageClassifier(nn.Module):
    """A classifier of `transformers` as `model`, its logits alone. State-dict keys: `model.` and the model's own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, K)."""
        logits: Tensor = self.model(pixel_values=x).logits
        return logits


def resnet18(shape: InputShape, *, width_factor: float = 1.0) -> ImageClassifier:
    """ResNet-18 (He et al., arXiv 1512.03385), randomly initialised; `width_factor` multiplies the filters."""
    return _resnet(_BASIC, shape, width_factor)


def resnet50(shape: InputShape, *, width_factor: float = 1.0) -> ImageClassifier:
    """ResNet-50 (He et al., arXiv 1512.03385), randomly initialised; `width_factor` multiplies the filters."""
    return _resnet(_BOTTLENECK, shape, width_factor)


def vit_b16(shape: InputShape, *, width_factor: float = 1.0) -> ImageClassifier:
    """ViT-B/16 (Dosovitskiy et al., arXiv 2010.11929), randomly initialised.

    `width_factor` multiplies the heads, 12 of 64 channels; the width and the MLP's neurons follow them.
    """
    from transformers import ViTConfig, ViTForImageClassification

    if shape.height != shape.width or shape.height % _PATCH:
        raise ModelError(f"vit-b16 takes square images whose side is a multiple of {_PATCH}, but got {shape}")
    heads = scaled(_HEADS, width_factor)
    width = _HEAD_DIM * heads
    config = ViTConfig(
        image_size=shape.height,
        patch_size=_PATCH,
        num_channels=shape.channels,
        num_labels=shape.classes,  # type: ignore[call-arg]
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
    )
    return ImageClassifier(ViTForImageClassification(config))


def pretrained(source: str, shape: InputShape, *, new_head: bool = True) -> ImageClassifier:
    """The classifier with its weights from the hub, `OWNER/NAME` or `OWNER/NAME@REVISION`, or from a local folder.

    Only safetensors are read and no code that comes with a model is run. Where the model knows another number of
    classes than `shape`, its last layer is made anew, or `ModelError` is raised if `new_head` says no. `ModelError`
    too for a model that cannot be had, is no image classifier, or whose weights are not those of its configuration.
    """
    from transformers import AutoConfig, AutoModelForImageClassification

    known = read(AutoConfig, source).num_labels
    model, report = read_weights(
        AutoModelForImageClassification, source, num_labels=shape.classes, ignore_mismatched_sizes=True
    )
    misshapen = report["mismatched_keys"]
    head = {name for name, found, _ in misshapen if known != shape.classes and found[:1] == (known,)}
    check_weights(
        f"hf:{source}", report["missing_keys"], report["unexpected_keys"], {name for name, *_ in misshapen} - head
    )
    if head and not new_head:
        raise ModelError(
            f"`hf:{source}` knows {known} classes, but the data has {shape.classes}: train it on the data first (its "
            "last layer is then made anew), or name data with its classes"
        )
    return ImageClassifier(model)


def _resnet(kind: dict[str, Any], shape: InputShape, factor: float) -> ImageClassifier:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        num_channels=shape.channels,
        num_labels=shape.classes,  # type: ignore[call-arg]
        embedding_size=scaled(64, factor),
        layer_type=kind["layer_type"],
        depths=kind["depths"],
        hidden_sizes=[4 * scaled(width // 4, factor) for width in kind["hidden_sizes"]],  # a bottleneck has a quarter
    )
    return ImageClassifier(ResNetForImageClassification(config))
