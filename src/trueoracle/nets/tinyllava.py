"""TinyLLaVA's own checkpoints made into ones of `transformers`' LLaVA class, without running the code they come with.

Its training code keeps the same networks under other names: `language_model`, `vision_tower._vision_tower` and
`connector._connector`. It drops the first patch that SigLIP sees, as it would CLIP's class token, and so does the result.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from trueoracle.nets.hub import check_weights
from trueoracle.nets.llava_mini import write_siglip_processor
from trueoracle.words.errors import ModelError

_NAMES = (
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower._vision_tower.vision_model.", "model.vision_tower."),
    ("connector._connector.0.", "model.multi_modal_projector.linear_1."),
    ("connector._connector.2.", "model.multi_modal_projector.linear_2."),
)
_UNUSED = "model.vision_tower.head."  # pools SigLIP's patches, of which LLaVA takes each
_STRATEGIES: dict[str, Literal["default", "full"]] = {"patch": "default", "cls_patch": "full"}
_PICTURE = "<image>"


def convert_tinyllava(source: Path, target: Path) -> None:
    """Write the checkpoint in the folder `source`, such as TinyLLaVA-Phi-2-SigLIP-3.1B, for `hf:TARGET`.

    `ModelError` where it is no checkpoint of TinyLLaVA with SigLIP and a two-layer connector, or its weights are not
    those of its configuration.
    """
    from transformers import AutoTokenizer

    facts = _facts(source)
    text, vision = facts["text_config"], facts["vision_config"]
    tokenizer: Any = AutoTokenizer.from_pretrained(source, config=_config(text))
    tokenizer.add_special_tokens({"additional_special_tokens": [_PICTURE]})
    config = _llava_config(facts, tokenizer.convert_tokens_to_ids(_PICTURE))
    weights = _weights(source)
    _check(weights, config, source)
    target.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(target)
    tokenizer.save_pretrained(target)
    write_siglip_processor(target, vision["image_size"])
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


def _facts(source: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((source / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"`{source}` holds no configuration: {error}") from None
    wanted = {"model_type": "tinyllava", "connector_type": "mlp2x_gelu"}
    for key, value in wanted.items():
        if facts.get(key) != value:
            raise ModelError(f"`{source}` must have `{key}` {value}, but has {facts.get(key)}")
    if (kind := facts["vision_config"].get("model_type")) != "siglip_vision_model":
        raise ModelError(f"`{source}` must see by siglip_vision_model, but sees by {kind}")
    return facts


def _config(facts: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    kept = {key: value for key, value in facts.items() if key not in ("auto_map", "model_type", "architectures")}
    return AutoConfig.for_model(facts["model_type"], **kept)


def _llava_config(facts: dict[str, Any], picture: int) -> Any:
    from transformers import LlavaConfig

    text, vision = facts["text_config"], facts["vision_config"]
    if picture >= text["vocab_size"]:
        raise ModelError(f"the model knows {text['vocab_size']} tokens, which leaves none for `{_PICTURE}`")
    strategy = _STRATEGIES[facts.get("vision_feature_select_strategy", "patch")]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    return LlavaConfig(
        text_config=_config(text),
        vision_config=_config({**vision, "vision_use_head": False}),
        image_token_index=picture,
        image_seq_length=patches - (strategy == "default"),
        vision_feature_layer=facts.get("vision_feature_layer", -2),
        vision_feature_select_strategy=strategy,
    )


def _weights(source: Path) -> dict[str, Tensor]:
    """All weights that are used, by their new names."""
    weights: dict[str, Tensor] = {}
    for file in sorted(source.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no dict
                weights[_renamed(name)] = tensors.get_tensor(name)
    return {name: tensor for name, tensor in weights.items() if not name.startswith(_UNUSED)}


def _renamed(name: str) -> str:
    for old, new in _NAMES:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _check(weights: dict[str, Tensor], config: Any, source: Path) -> None:
    from transformers import LlavaForConditionalGeneration

    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in LlavaForConditionalGeneration(config).state_dict().items()}
    misshapen = [name for name, tensor in weights.items() if name in wanted and tensor.shape != wanted[name]]
    check_weights(str(source), wanted.keys() - weights.keys(), weights.keys() - wanted.keys(), misshapen)
