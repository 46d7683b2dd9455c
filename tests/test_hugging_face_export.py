"""Folders for `transformers`: loaded by it alone they give the network in memory, or are refused in words."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageClassification, LlamaConfig, LlamaForCausalLM, ViTConfig
from transformers import ViTForImageClassification as ViT

from trueoracle.nets import ImageClassifier, find_sites, remove
from trueoracle.selection import Subject, export, load
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import InputShape, Shape, TextShape

SHAPE = InputShape(channels=3, height=8, width=8, classes=5)
TEXT = TextShape()


def vit() -> nn.Module:
    torch.manual_seed(0)
    config = ViTConfig(image_size=8, patch_size=4, num_channels=3, num_labels=5, hidden_size=32, num_attention_heads=4,
                       intermediate_size=48, num_hidden_layers=2)  # type: ignore[call-arg]  # fmt: skip
    return ImageClassifier(ViT(config)).eval()


def llama() -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=32)  # fmt: skip
    return LlamaForCausalLM(config).eval()


def subject(net: nn.Module, shape: Shape, kinds: dict[str, int], first: dict[str, int] | None = None) -> Subject:
    """Of every site of these kinds so many units stay; in the first site of a kind, another number where said so."""
    sites = find_sites(net, shape)
    parts, seen = [], set()
    for site in sites.values():
        kind = site.kind.value
        if kind in kinds:
            stay = kinds[kind] if kind in seen or first is None else first.get(kind, kinds[kind])
            seen.add(kind)
            parts.append(SiteMask(site=site.name, units=site.units, kept=tuple(range(site.units))[-stay:]))
    mask = Mask(rank=0, sites=tuple(parts))
    images = torch.randn(4, 3, 8, 8) if isinstance(shape, InputShape) else None
    return Subject(model="mine:net", width_factor=1.0, shape=shape, whole=net, pruned=remove(net, mask, sites), mask=mask,
                   images_BCHW=images)  # fmt: skip


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_an_image_classifier_is_loaded_by_transformers_alone(heads: int, tmp_path: Path) -> None:
    one = subject(vit(), SHAPE, {"head": heads, "neuron": 20})
    found = export(one, tmp_path / "out", ("hf",))
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out" / "hugging_face", local_files_only=True)
    assert one.images_BCHW is not None
    with torch.no_grad():
        torch.testing.assert_close(model(pixel_values=one.images_BCHW).logits, one.pruned(one.images_BCHW))
    assert model.config.intermediate_size == 20
    assert [check.file for check in found.checks] == ["model.safetensors", "hugging_face"]
    assert "hugging_face/config.json" in found.facts.files
    load(tmp_path / "out", one.whole)


def test_a_language_model_too(tmp_path: Path) -> None:
    one = subject(llama(), TEXT, {"head group": 1, "neuron": 20})
    export(one, tmp_path / "out", ("hf",))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "hugging_face", local_files_only=True)
    tokens = torch.randint(60, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, one.pruned(tokens).logits)


def test_uneven_layers_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    one = subject(vit(), SHAPE, {"neuron": 20}, first={"neuron": 21})
    with pytest.raises(ModelError, match="different numbers of neurons, for which `transformers` has no words"):
        export(one, tmp_path / "out", ("hf",))
    assert not list(tmp_path.iterdir())


def test_what_is_no_model_of_transformers_is_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    with pytest.raises(ModelError, match="for models of `transformers`, not for Sequential"):
        export(subject(net, SHAPE, {"filter": 2}), tmp_path / "out", ("hf",))
    assert not list(tmp_path.iterdir())
