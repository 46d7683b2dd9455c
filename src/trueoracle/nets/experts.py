"""Mixtures of experts whose weights are stacked in one tensor: whole experts, and the neurons within them.

Known are modules with `experts` and a router (Mixtral, Qwen-MoE, GPT-OSS and their like in `transformers` 5). The experts
of a layer have one width, so a neuron goes in all of them.
"""

from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy as np
from torch import Tensor, nn

from trueoracle.nets.sites import Cut, Kind, Role, Site

_UP, _DOWN = "gate_up_proj", "down_proj"
_ROUTERS = ("gate", "router")
_ALIGNED = 8  # numbers: rows of grouped products must fill 16 bytes, in half precision too


def expert_sites(net: nn.Module) -> Iterator[Site]:
    """Of every mixture that is known, the site of its experts, and that of their neurons if these lie in two halves."""
    for name, module in net.named_modules():
        stack: Any = getattr(module, "experts", None)
        for word in _ROUTERS:
            router: Any = getattr(module, word, None)
            weight = getattr(router, "weight", None)
            if is_stack(stack) and isinstance(weight, Tensor) and len(weight) == len(stack.down_proj):
                yield _experts(name, word, router, stack)
                if stack.gate_up_proj.shape[1] == 2 * stack.down_proj.shape[2]:
                    yield _neurons(f"{name}.experts", int(stack.down_proj.shape[2]))


def is_stack(module: Any) -> bool:
    """Whether the weights of all experts of a layer lie in this module: (experts, 2 x neurons, inputs) and back, or turned."""
    up, down = getattr(module, _UP, None), getattr(module, _DOWN, None)
    if not (isinstance(up, Tensor) and isinstance(down, Tensor) and up.ndim == down.ndim == 3):
        return False
    return up.shape[1] == 2 * down.shape[2] or up.shape[2] == 2 * down.shape[1]


def ask_each(stack: Any) -> None:
    """Let experts be asked one after another, by linear layers, and not by grouped products, which know no float64."""
    if getattr(getattr(stack, "config", None), "_experts_implementation", None) is not None:
        stack.config = copy(stack.config)  # its own: the layers share one
        stack.config._experts_implementation = "eager"


def tell_neurons(stack: Any) -> None:
    """Tell a stack how many neurons its experts are left with; grouped products take only rows of whole 16 bytes."""
    turned = stack.gate_up_proj.shape[2] == 2 * stack.down_proj.shape[1]
    neurons = stack.down_proj.shape[1 if turned else 2]
    if hasattr(stack, "intermediate_dim"):
        stack.intermediate_dim = neurons
    if neurons % _ALIGNED:
        ask_each(stack)


def tell_experts(mixture: Any, kept: int) -> None:
    """Tell a mixture how many experts are left; no more of them are asked for a token than there are."""
    for module in (mixture, *mixture.children()):
        if hasattr(module, "num_experts"):
            module.num_experts = kept
        if isinstance(top := getattr(module, "top_k", None), int):
            module.top_k = min(top, kept)


def _experts(name: str, word: str, router: nn.Module, stack: nn.Module) -> Site:
    """Everything of the stack and of the router that has an entry for each expert."""
    experts = len(router.weight)  # type: ignore[arg-type]
    one = np.arange(experts, dtype=np.int64)[:, None]
    cuts = [Cut(layer=f"{name}.{word}.weight", role=Role.PRODUCER, channels_UC=one, dim=0)]
    for inside, module in ((word, router), ("experts", stack)):
        for own, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if tensor.ndim and len(tensor) == experts and (inside, own) != (word, "weight"):
                cuts.append(Cut(layer=f"{name}.{inside}.{own}", role=Role.FOLLOWER, channels_UC=one, dim=0))
    return Site(name=name, kind=Kind.EXPERT, units=experts, cuts=tuple(cuts))


def _neurons(name: str, neurons: int) -> Site:
    one = np.arange(neurons, dtype=np.int64)[:, None]
    cuts = (
        Cut(layer=f"{name}.{_UP}", role=Role.PRODUCER, channels_UC=np.concatenate([one, one + neurons], 1), dim=1),
        Cut(layer=f"{name}.{_DOWN}", role=Role.CONSUMER, channels_UC=one, dim=2),
    )
    return Site(name=name, kind=Kind.NEURON, units=neurons, cuts=cuts)
