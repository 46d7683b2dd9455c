"""Sites by tracing: torch-pruning's dependency graph says which channels of which layers go together."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import nn

from trueoracle.nets.sites import Cut, Kind, Role, Site, Sites
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import InputShape

_PRODUCERS = {
    nn.Conv2d: (Kind.FILTER, tp.prune_conv_out_channels),
    nn.Linear: (Kind.NEURON, tp.prune_linear_out_channels),
}
_CUT = (
    *(tp.ops.OPTYPE.CONV, tp.ops.OPTYPE.LINEAR, tp.ops.OPTYPE.DEPTHWISE_CONV, tp.ops.OPTYPE.PRELU),
    *(tp.ops.OPTYPE.BN, tp.ops.OPTYPE.LN, tp.ops.OPTYPE.GN, tp.ops.OPTYPE.IN, tp.ops.OPTYPE.PARAMETER),
)
_ROLES = {
    tp.prune_conv_out_channels: Role.PRODUCER,
    tp.prune_linear_out_channels: Role.PRODUCER,
    tp.prune_conv_in_channels: Role.CONSUMER,
    tp.prune_linear_in_channels: Role.CONSUMER,
}


def traced_sites(net: nn.Module, shape: InputShape, taken: Mapping[str, str]) -> Sites:
    """The sites of filters and neurons that one image of `shape` shows, in the order of `net`'s modules.

    `taken` names layers that belong to a site of another kind (layer -> site); what is tied to them is no site, nor is
    a layer whose units are coupled with only a part of another layer's outputs, as across a shortcut that pads
    channels: what belongs together cannot be told there. Raises `ModelError` where `net` cannot be traced.
    """
    graph = _dependency_graph(net, shape)
    names: dict[object, str] = {module: name for name, module in net.named_modules()}
    names |= {parameter: name for name, parameter in net.named_parameters()}
    found: dict[str, Site] = {}
    refused: dict[str, str] = {}
    for name, module in net.named_modules():
        if type(module) not in _PRODUCERS or name in refused:
            continue
        made = _site(graph, name, module, names, taken)
        if isinstance(made, str):
            refused[name] = made
            continue
        found[name] = made
        twins = (cut.layer for cut in made.cuts if cut.role is Role.PRODUCER and cut.layer != name)
        refused |= dict.fromkeys(twins, f"its units are those of the site `{name}`")
    return Sites(found, refused)


def _dependency_graph(net: nn.Module, shape: InputShape) -> tp.DependencyGraph:
    weight = next(net.parameters())
    example = torch.zeros(1, shape.channels, shape.height, shape.width, dtype=weight.dtype, device=weight.device)
    frozen = [parameter for parameter in net.parameters() if not parameter.requires_grad]
    for parameter in frozen:  # tracing follows gradients
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unwrapped parameters detected")
            return tp.DependencyGraph().build_dependency(net, example_inputs=example)
    except Exception as error:  # whatever a user's forward pass, or the tracing of it, raises
        raise ModelError(
            f"{type(net).__name__} cannot be traced for its sites: {error} (its forward pass must map a batch of "
            f"{shape} to logits, by operations of torch that gradients flow through)"
        ) from error
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _site(
    graph: tp.DependencyGraph, name: str, module: nn.Module, names: Mapping[object, str], taken: Mapping[str, str]
) -> Site | str:
    """The site of this layer's outputs, or why it is none."""
    if module not in graph.module2node:
        return "no gradient flows through it, so the forward pass does not lead there or detaches what it makes"
    kind, pruner = _PRODUCERS[type(module)]
    units = int(module.weight.shape[0])  # type: ignore[index]
    group = graph.get_pruning_group(module, pruner, idxs=list(range(units)))
    items = [item for item in group.items if item.dep.target.module in names]
    tied = (taken[names[item.dep.target.module]] for item in items if names[item.dep.target.module] in taken)
    if (other := next(tied, None)) is not None:
        return f"its units are tied to the projections of `{other}`"
    if not any(_ROLES.get(item.dep.handler) is Role.CONSUMER for item in items):
        return "no layer sums over its units: they are the network's outputs, or lead nowhere"
    cuts = []
    for item in items:
        if (reason := _uncut(item.dep.target)) is not None:
            return f"its units are tied to `{names[item.dep.target.module]}`, {reason}"
        layer, roots = names[item.dep.target.module], np.asarray(item.root_idxs)
        if (np.bincount(roots, minlength=units) != len(roots) / units).any():
            return f"its units are tied to unequal parts of `{layer}`"
        cut = Cut(
            layer=layer,
            role=_ROLES.get(item.dep.handler, Role.FOLLOWER),
            channels_UC=np.asarray(item.idxs)[np.argsort(roots, kind="stable")].reshape(units, -1),
            dim=item.dep.target.pruning_dim if item.dep.target.type == tp.ops.OPTYPE.PARAMETER else 0,
        )
        outputs = item.dep.handler.__self__.get_out_channels(item.dep.target.module)
        if cut.role is Role.PRODUCER and not np.array_equal(np.unique(cut.channels_UC), np.arange(outputs)):
            return f"its units are tied to only a part of the outputs of `{layer}`, or to them and more, as by a shortcut that pads channels"
        cuts.append(cut)
    return Site(name=name, kind=kind, units=units, cuts=tuple(cuts))


def _uncut(node: Any) -> str | None:
    """Why a layer cannot lose single channels, if it cannot."""
    if node.type not in _CUT:
        return f"and of a {type(node.module).__name__} nothing is cut"
    if node.type == tp.ops.OPTYPE.CONV and node.module.groups > 1:
        return f"a convolution in {node.module.groups} groups, which loses no single channels"
    return None
