"""LoRA (arXiv 2106.09685), by `peft`: adapters put beside linear layers, trained alone, and merged into the weights."""

import math

import torch
from torch import nn

from trueoracle.words.errors import ModelError
from trueoracle.words.spec import LowRank


def check_adapters(net: nn.Module, lora: LowRank) -> None:
    """`ModelError` where no layer of `net` has one of the names."""
    names = [name for name, _ in net.named_modules()]
    for target in lora.targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise ModelError(f"`lora` is to train the layers called `{target}`, but the network has none")


def put_adapters(net: nn.Module, lora: LowRank, seed: int) -> None:
    """Put adapters into `net` and freeze all else. They change nothing yet; one of their matrices is drawn by `seed`.

    `ModelError` where no layer has one of the names.
    """
    from peft import LoraConfig, inject_adapter_in_model

    check_adapters(net, lora)
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), lora_dropout=0.0)
    try:
        inject_adapter_in_model(config, net)
    except ValueError as error:  # a layer of a kind that peft has no adapter for
        raise ModelError(f"`lora` cannot train {', '.join(lora.targets)}: {error}") from error
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if ".lora_A." in name:  # as peft draws it, but by a generator of our own
                bound = 1 / math.sqrt(parameter.shape[1])
                parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=chance))


def merge_adapters(net: nn.Module) -> None:
    """Add what the adapters learnt to the weights, and take them out: `net` has its own layers again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(net.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, last = name.rpartition(".")
            setattr(net.get_submodule(parent), last, layer.get_base_layer())
    net.requires_grad_(True)
