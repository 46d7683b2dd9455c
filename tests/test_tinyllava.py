"""A checkpoint as TinyLLaVA's training code keeps it, small and made on the spot, read as one of transformers' own."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trueoracle.data.reader import reader
from trueoracle.nets import build
from trueoracle.nets.llava_mini import byte_tokenizer
from trueoracle.nets.tinyllava import convert_tinyllava
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import TextShape


def their_name(name: str) -> str:
    for ours, theirs in {
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "model.vision_tower.": "vision_tower._vision_tower.vision_model.",
        "model.multi_modal_projector.linear_1.": "connector._connector.0.",
        "model.multi_modal_projector.linear_2.": "connector._connector.2.",
    }.items():
        if name.startswith(ours):
            return name.replace(ours, theirs, 1)
    raise AssertionError(name)


@pytest.fixture
def net() -> Any:
    made = build("llava-mini", TextShape(), seed=5)
    made.config.vision_feature_select_strategy = "default"  # what the original calls `patch`
    return made


@pytest.fixture
def checkpoint(net: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir()
    weights = {their_name(name): tensor for name, tensor in net.state_dict().items()}
    weights["vision_tower._vision_tower.vision_model.head.probe"] = torch.zeros(1, 1, 48)
    names = sorted(weights)
    save_file({name: weights[name] for name in names[:40]}, folder / "model-00001-of-00002.safetensors")
    save_file({name: weights[name] for name in names[40:]}, folder / "model-00002-of-00002.safetensors")
    config = {
        "model_type": "tinyllava",
        "connector_type": "mlp2x_gelu",
        "image_token_index": -200,
        "auto_map": {"AutoConfig": "configuration.TinyLlavaConfig"},
        "text_config": {**net.config.text_config.to_dict(), "auto_map": {"AutoConfig": "x--y.PhiConfig"}},
        "vision_config": net.config.vision_config.to_dict(),
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "patch",
    }
    (folder / "config.json").write_text(json.dumps(config))
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_the_converted_model_answers_as_the_original(net: Any, checkpoint: Path, tmp_path: Path) -> None:
    convert_tinyllava(checkpoint, tmp_path / "ours")
    converted = build(f"hf:{tmp_path / 'ours'}", TextShape())
    read = reader(str(tmp_path / "ours")).read("What?", "a frog", True)
    assert read.tokens.count(257) == 15  # sixteen patches but the first
    given = {
        "input_ids": torch.tensor([read.tokens]),
        "pixel_values": torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)),
    }
    torch.testing.assert_close(converted(**given).logits, net(**given).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llava"}, "must have `model_type` tinyllava, but has llava"),
        ({"connector_type": "resampler"}, "must have `connector_type` mlp2x_gelu, but has resampler"),
        ({"vision_config": {"model_type": "clip_vision_model"}}, "must see by siglip_vision_model, but sees by clip"),
    ],
)
def test_other_checkpoints_are_refused(changes: dict[str, Any], message: str, checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ModelError, match=message):
        convert_tinyllava(checkpoint, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_missing_weights_are_named(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="the weights of `.*` lack lm_head.weight, "):
        convert_tinyllava(checkpoint, tmp_path / "ours")
