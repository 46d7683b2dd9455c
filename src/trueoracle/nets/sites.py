"""Sites: sets of coupled units that can be removed together, found by torch-pruning's dependency graph."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import nn

from trueoracle.errors import ModelError, unknown
from trueoracle.shape import InputShape

_OUTPUT_PRUNERS = {
    nn.Conv2d: tp.prune_conv_out_channels,
    nn.Linear: tp.prune_linear_out_channels,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A prunable layer by its module name, its number of units, and the layers that shrink with it."""

    name: str
    units: int
    coupled: tuple[str, ...]


def find_sites(net: nn.Module, shape: InputShape) -> dict[str, Site]:
    """Every site of `net`, in forward order. A layer whose removal would change the output is none."""
    graph = dependency_graph(net, shape)
    names = {module: name for name, module in net.named_modules()}
    sites: dict[str, Site] = {}
    for name, module in net.named_modules():
        if type(module) not in _OUTPUT_PRUNERS:
            continue
        units = int(module.weight.shape[0])
        group = removal_group(graph, module, tuple(range(units)))
        coupled = tuple(names[m] for m in _layers(group) if m in names and m is not module)
        if any(_loses_inputs(dependency) for dependency, _ in group):
            sites[name] = Site(name=name, units=units, coupled=coupled)
    return sites


def dependency_graph(net: nn.Module, shape: InputShape) -> tp.DependencyGraph:
    """The graph of which channels of `net` must go together; `ModelError` if it cannot be traced."""
    parameter = next(net.parameters())
    example = torch.zeros(1, shape.channels, shape.height, shape.width, dtype=parameter.dtype, device=parameter.device)
    try:
        with torch.enable_grad():
            return tp.DependencyGraph().build_dependency(net, example_inputs=example)
    except Exception as error:
        raise ModelError(f"{type(net).__name__} cannot be traced for its sites: {error}") from error


def removal_group(graph: tp.DependencyGraph, module: nn.Module, units: tuple[int, ...]) -> tp.Group:
    """Everything that has to go when these output units of `module` go."""
    return graph.get_pruning_group(module, _OUTPUT_PRUNERS[type(module)], idxs=list(units))


def prunes_outputs(dependency: tp.Dependency) -> bool:
    """Whether this part of a group takes outputs from a convolution or linear layer."""
    return dependency.handler in (tp.prune_conv_out_channels, tp.prune_linear_out_channels)


def site_module(net: nn.Module, site: str, known: Mapping[str, Site]) -> nn.Module:
    """The layer that a site is named after; `ModelError` for an unknown site."""
    if site not in known:
        raise ModelError(unknown("site", site, known))
    return net.get_submodule(site)


def _layers(group: tp.Group) -> list[nn.Module]:
    return list(dict.fromkeys(dependency.target.module for dependency, _ in group))


def _loses_inputs(dependency: tp.Dependency) -> bool:
    pruner = tp.pruner.function
    return dependency.handler in (
        pruner.prune_conv_in_channels,
        pruner.prune_linear_in_channels,
    )
