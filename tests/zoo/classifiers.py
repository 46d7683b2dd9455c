"""Image classifiers of `transformers`, at a size of a few thousand weights."""

from collections.abc import Callable
from typing import Any

import transformers as hf
from torch import nn


class Logits(nn.Module):
    """The logits alone."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Any) -> Any:
        return self.net(images).logits


def _of(kind: str, config: str, **sizes: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        facts = getattr(hf, config)(num_labels=5, **sizes)
        return Logits(getattr(hf, kind)(facts))

    return make


_VIT = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
_STAGES = {"depths": [1, 1], "num_heads": [2, 4]}

CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "ViT": _of("ViTForImageClassification", "ViTConfig", **_VIT),
    "DeiT": _of("DeiTForImageClassification", "DeiTConfig", **_VIT),
    "BEiT": _of(
        "BeitForImageClassification", "BeitConfig", **_VIT, use_relative_position_bias=True, layer_scale_init_value=0.1
    ),
    "DINOv2": _of("Dinov2ForImageClassification", "Dinov2Config", **_VIT),
    "Data2VecVision": _of("Data2VecVisionForImageClassification", "Data2VecVisionConfig", **_VIT),
    "Swin": _of(
        "SwinForImageClassification",
        "SwinConfig",
        image_size=32,
        patch_size=4,
        embed_dim=16,
        window_size=4,
        **_STAGES,
    ),
    "Swinv2": _of(
        "Swinv2ForImageClassification",
        "Swinv2Config",
        image_size=32,
        patch_size=4,
        embed_dim=16,
        window_size=4,
        **_STAGES,
    ),
    "ConvNeXt": _of(
        "ConvNextForImageClassification", "ConvNextConfig", hidden_sizes=[8, 12], depths=[1, 1], num_stages=2
    ),
    "ConvNeXtV2": _of(
        "ConvNextV2ForImageClassification", "ConvNextV2Config", hidden_sizes=[8, 12], depths=[1, 1], num_stages=2
    ),
    "MobileNetV1": _of(
        "MobileNetV1ForImageClassification", "MobileNetV1Config", depth_multiplier=0.25, image_size=32, min_depth=4
    ),
    "MobileNetV2": _of(
        "MobileNetV2ForImageClassification", "MobileNetV2Config", depth_multiplier=0.25, image_size=32, min_depth=4
    ),
    "MobileViT": _of(
        "MobileViTForImageClassification",
        "MobileViTConfig",
        image_size=32,
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 12, 12, 16, 16, 24],
        num_attention_heads=4,
        patch_size=1,
    ),
    "EfficientNet": _of(
        "EfficientNetForImageClassification",
        "EfficientNetConfig",
        image_size=32,
        hidden_dim=320,
        width_coefficient=0.25,
        depth_coefficient=0.25,
        depthwise_padding=[],
    ),
    "RegNet": _of(
        "RegNetForImageClassification",
        "RegNetConfig",
        embedding_size=8,
        hidden_sizes=[8, 12, 16, 16],
        depths=[1, 1, 1, 1],
        groups_width=4,
        layer_type="y",
    ),
    "ResNet": _of(
        "ResNetForImageClassification",
        "ResNetConfig",
        embedding_size=8,
        hidden_sizes=[16, 24],
        depths=[2, 1],
        layer_type="bottleneck",
    ),
    "SegFormer": _of(
        "SegformerForImageClassification",
        "SegformerConfig",
        hidden_sizes=[8, 16, 16, 32],
        decoder_hidden_size=16,
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        sr_ratios=[4, 2, 1, 1],
    ),
    "LeViT": _of(
        "LevitForImageClassification",
        "LevitConfig",
        image_size=32,
        patch_size=16,
        hidden_sizes=[16, 24, 32],
        num_attention_heads=[2, 3, 4],
        depths=[1, 1, 1],
        key_dim=[4, 4, 4],
    ),
    "CvT": _of(
        "CvtForImageClassification",
        "CvtConfig",
        embed_dim=[8, 16, 24],
        num_heads=[1, 2, 3],
        depth=[1, 2, 3],
        mlp_ratio=[2.0, 2.0, 2.0],
        drop_path_rate=[0.0, 0.0, 0.0],
    ),
    "FocalNet": _of(
        "FocalNetForImageClassification",
        "FocalNetConfig",
        image_size=32,
        patch_size=4,
        embed_dim=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        focal_levels=[2, 2],
        focal_windows=[3, 3],
    ),
    "BiT": _of(
        "BitForImageClassification",
        "BitConfig",
        embedding_size=8,
        hidden_sizes=[16, 32],
        depths=[1, 1],
        num_groups=4,
    ),
    "PVT": _of(
        "PvtForImageClassification",
        "PvtConfig",
        image_size=32,
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        sequence_reduction_ratios=[4, 2, 1, 1],
        mlp_ratios=[2, 2, 2, 2],
    ),
    "PoolFormer": _of(
        "PoolFormerForImageClassification",
        "PoolFormerConfig",
        hidden_sizes=[8, 8, 12, 16],
        depths=[1, 1, 1, 1],
        mlp_ratio=2.0,
    ),
}
