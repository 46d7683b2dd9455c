"""LoRA: what is trained, what is merged, that it changes nothing before its first step, and what cannot be."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from trueoracle.data import Dataset, Questions
from trueoracle.fleet import train, train_fleet
from trueoracle.fleet.lora import merge_adapters, put_adapters
from trueoracle.nets import build, evaluate
from trueoracle.words.errors import ModelError, SpecError
from trueoracle.words.shape import TextShape
from trueoracle.words.spec import LowRank, Recipe, parse_spec

LORA = LowRank(rank=2, alpha=4, targets=("q_proj", "fc1"))
RECIPE = Recipe(optimiser="adamw", lr=0.01, batch_size=4, epochs=2, lora=LORA)
LAYERS = [f"model.language_model.layers.{n}.{part}" for n in (0, 1) for part in ("self_attn.q_proj", "mlp.fc1")]


@pytest.fixture(scope="module")
def data() -> Dataset:
    tokens = torch.randint(256, (8, 12), generator=torch.Generator().manual_seed(0))
    split = Questions(tokens_NT=tokens, begins_N=torch.full((8,), 6), ends_N=torch.full((8,), 12))
    return Dataset(name="noise", shape=TextShape(), train=split, test=split.take(slice(3)), fingerprint="")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return build("llava-mini", TextShape(), 1).double()


def logits(net: nn.Module, data: Dataset) -> Tensor:
    found: Tensor = net.eval()(input_ids=data.train.tokens_NT).logits.detach()  # type: ignore[attr-defined]
    return found


def test_adapters_change_nothing_at_first_and_freeze_the_rest(net: nn.Module, data: Dataset) -> None:
    adapted = deepcopy(net)
    put_adapters(adapted, LORA, seed=1)
    torch.testing.assert_close(logits(adapted, data), logits(net, data), rtol=0, atol=0)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * len([n for n, _ in net.named_modules() if n.endswith(LORA.targets)])
    assert all(".lora_" in name for name in trained)
    again, other = deepcopy(net), deepcopy(net)
    put_adapters(again, LORA, seed=1)
    put_adapters(other, LORA, seed=2)
    name = next(name for name in trained if ".lora_A." in name)
    assert torch.equal(adapted.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(adapted.get_parameter(name), other.get_parameter(name))


def test_merged_equals_unmerged_and_is_the_sum_of_the_paper(net: nn.Module, data: Dataset) -> None:
    adapted = deepcopy(net)
    put_adapters(adapted, LORA, seed=1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(3))
    layer = adapted.get_submodule(LAYERS[0])
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight  # type: ignore[index]
    wanted = net.get_submodule(LAYERS[0]).weight + 4 / 2 * b @ a  # type: ignore[operator]
    unmerged = logits(adapted, data)
    assert (unmerged - logits(net, data)).abs().max() > 1e-3
    merge_adapters(adapted)
    torch.testing.assert_close(logits(adapted, data), unmerged, rtol=0, atol=1e-12)
    torch.testing.assert_close(adapted.get_submodule(LAYERS[0]).weight, wanted.detach())
    assert list(adapted.state_dict()) == list(net.state_dict())
    assert all(p.requires_grad for p in adapted.parameters())


def test_a_training_hands_back_the_merged_network(net: nn.Module, data: Dataset) -> None:
    before = deepcopy(net.state_dict())
    trained = train(net, data, RECIPE, order_seed=7)
    assert trained.curve[-1].train_loss < trained.curve[0].train_loss < evaluate(net, data.train).loss
    after = trained.net.state_dict()
    assert list(after) == list(before)
    changed = {name.removesuffix(".weight") for name in before if not torch.equal(before[name], after[name])}
    assert set(LAYERS) <= changed
    assert all(name.endswith(LORA.targets) for name in changed)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    found = evaluate(trained.net, data.train)
    assert found.loss == pytest.approx(trained.curve[-1].train_loss, rel=1e-9)
    again = train_fleet([net], data, RECIPE, order_seed=7)[0]
    assert again.curve == trained.curve


def test_what_cannot_be_adapted_is_named(net: nn.Module) -> None:
    with pytest.raises(ModelError, match="`lora` is to train the layers called `w1`, but the network has none"):
        put_adapters(deepcopy(net), LowRank(rank=2, alpha=2, targets=("q_proj", "w1")), seed=0)
    with pytest.raises(ModelError, match="`lora` cannot train layers: .*"):
        put_adapters(deepcopy(net), LowRank(rank=2, alpha=2, targets=("layers",)), seed=0)


def test_the_key_in_a_recipe() -> None:
    recipe = {"optimiser": "adamw", "lr": 1e-3, "batch_size": 8, "epochs": 1}
    facts = {
        "name": "a", "model": "hf:x", "data": "qa:y", "retrain": recipe, "repeats": 1, "final": "last",
        "cells": [{"prune": {"m": 0.5}}],
    }  # fmt: skip
    plain = parse_spec(facts, "a")
    lora = parse_spec({**facts, "retrain": {**recipe, "lora": {"rank": 8, "alpha": 16, "targets": ["q_proj"]}}}, "a")
    assert plain.digest() != lora.digest()
    assert "lora" not in plain.canonical()
    with pytest.raises(SpecError, match="unknown key `rnk`: did you mean `rank`"):
        parse_spec(
            {**facts, "retrain": {**recipe, "lora": {"rnk": 8, "rank": 8, "alpha": 16, "targets": ["q_proj"]}}}, "a"
        )
