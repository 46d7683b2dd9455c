"""Torch-Pruning used directly, as networks.md holds it beside our own sites: what it thins, and whether rightly.

It is given its pruner by weight norm at ratio 0.5 on all but the network's last linear layer, with no help for the
architecture. A *side* is one dimension of a weight: the outputs or the inputs of a layer. A group of Torch-Pruning is
*right* where the network without what it takes of that group alone runs, and computes what the whole network computes with
the same outputs silent. All normalisations over channels are left out on both sides, so that none counts against it.
"""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from trueoracle.nets import Cut, Kind, Normalisation, Role, Site, Sites, silenced, unnormalised
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.proof import seen_through
from trueoracle.nets.tracing import Tracing
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import Shape, TextShape

PATIENCE = 15  # seconds of a core for its dependency graph, which for some networks does not end
_EXACT = 1e-7  # of the largest logit

Thinned = Counter[tuple[str, int]]
"""Of each side, how many channels are gone."""


@dataclass(frozen=True, kw_only=True)
class Direct:
    """What comes of it, of how many groups, of which so many are right, and what these take of each side."""

    outcome: str
    groups: int = 0
    right: int = 0
    thinned: Thinned = field(default_factory=Counter)

    def covered_by(self, own: Thinned) -> float | None:
        """Of the channels that right groups take, the share that goes of the same side in `own`; None where none is right."""
        everything = sum(self.thinned.values())
        return sum((self.thinned & own).values()) / everything if everything else None


def used_directly(net: nn.Module, shape: Shape) -> Direct:
    """All its groups at once, as a user would, and then each alone."""
    try:
        with _patience():
            pruner = _pruner(whole := deepcopy(net), shape)
            groups = 0
            for groups, group in enumerate(pruner.step(interactive=True), 1):  # noqa: B007
                group.prune()
    except TimeoutError:
        return Direct(outcome=f"does not end within {PATIENCE} core-seconds")
    except Exception as error:
        return Direct(outcome=f"fails: {type(error).__name__}")
    if not groups:
        return Direct(outcome="finds nothing")
    gone = 1 - sum(map(Tensor.numel, whole.parameters())) / sum(map(Tensor.numel, net.parameters()))
    outcome = f"{gone:.0%} gone, {fault(net, whole, shape) or 'exact'}"
    alone = [_alone(net, shape, place) for place in range(groups)]
    right = [thinned(net, pruned) for pruned in alone if fault(net, pruned, shape) is None]
    return Direct(outcome=outcome, groups=groups, right=len(right), thinned=sum(right, Counter()))


def thinned(net: nn.Module, pruned: nn.Module) -> Thinned:
    """What is gone of each side."""
    left = dict(pruned.named_parameters())
    return Counter(
        {
            (name, dim): size - left[name].shape[dim]
            for name, weight in net.named_parameters()
            if weight.ndim > 1 and name in left
            for dim, size in enumerate(weight.shape)
            if size > left[name].shape[dim]
        }
    )


@torch.no_grad()
def fault(net: nn.Module, pruned: nn.Module, shape: Shape) -> str | None:
    """Why `pruned` is not `net` with the outputs that it lacks silent, if it is not."""
    left_out = _normalisations(net, shape)
    try:
        logits_of_noise(pruned, shape, 2)
        with unnormalised(pruned, left_out):
            found = logits_of_noise(pruned, shape, 2)
    except Exception as error:
        return f"then its forward pass fails: {type(error).__name__}"
    sites, mask = _silent(net, pruned)
    whole = seen_through(deepcopy(net))
    with unnormalised(whole, left_out), silenced(whole, mask, sites):
        wanted = logits_of_noise(whole, shape, 2)
    same = found.shape == wanted.shape and bool((found - wanted).abs().max() <= _EXACT * wanted.abs().max())
    return None if same else "but not exact"


def _pruner(net: nn.Module, shape: Shape) -> Any:
    example: Any = (
        {"input_ids": torch.randint(30, (1, 8)), "use_cache": False}
        if isinstance(shape, TextShape)
        else torch.randn(1, shape.channels, shape.height, shape.width, dtype=torch.float64)
    )
    return tp.pruner.BasePruner(
        net,
        example,
        importance=tp.importance.GroupMagnitudeImportance(),
        pruning_ratio=0.5,
        ignored_layers=[module for module in net.modules() if isinstance(module, nn.Linear)][-1:],
        output_transform=lambda out: getattr(out, "logits", out),
        **{word: {} for word in ("in_channel_groups", "out_channel_groups", "num_heads")},  # its defaults are shared
    )


def _alone(net: nn.Module, shape: Shape, wanted: int) -> nn.Module:
    """The network without what it takes of one group."""
    pruned = deepcopy(net)
    for place, group in enumerate(_pruner(pruned, shape).step(interactive=True)):
        if place == wanted:
            group.prune()
            break
    return pruned


def _silent(net: nn.Module, pruned: nn.Module) -> tuple[Sites, Mask]:
    """The outputs of each layer that are gone, as a site a layer, found by the values of the weights that are left."""
    sites, parts = {}, []
    weights, modules = dict(net.named_parameters()), dict(net.named_modules())
    left = dict(pruned.named_parameters())
    for name, dim in thinned(net, pruned):
        owner = modules[name.rpartition(".")[0]]
        if dim != _outputs_dim(owner, name):
            continue
        whole = weights[name].detach().numpy()
        there = np.isin(whole, left[name].detach().numpy())
        kept = np.flatnonzero(there.any(tuple(at for at in range(whole.ndim) if at != dim)))
        layer = name.rpartition(".")[0] if name.endswith(".weight") and isinstance(owner, _LAYERS) else name
        size = whole.shape[dim]
        cut = Cut(layer=layer, role=Role.PRODUCER, channels_UC=np.arange(size)[:, None], dim=dim)
        sites[layer] = Site(name=layer, kind=Kind.NEURON, units=size, cuts=(cut,))
        parts.append(SiteMask(site=layer, units=size, kept=tuple(kept.tolist())))
    return Sites(sites), Mask(rank=0, sites=tuple(parts))


_LAYERS = (nn.Linear, nn.Embedding, nn.modules.conv._ConvNd)


def _outputs_dim(owner: nn.Module, _name: str) -> int:
    return int(isinstance(owner, nn.Embedding | _ConvTransposeNd) or type(owner).__name__ == "Conv1D")


def _normalisations(net: nn.Module, shape: Shape) -> set[Normalisation]:
    """All that compute one number of several channels."""
    words = {nn.LayerNorm: "layer_norm", nn.GroupNorm: "group_norm"}
    found = {Normalisation(name, words[type(module)]) for name, module in net.named_modules() if type(module) in words}
    if isinstance(shape, TextShape):
        return found
    try:
        return found | {by for _, by in Tracing(deepcopy(net), shape, Sites({})).ties.normalised}
    except ModelError:
        return found


@contextmanager
def _patience() -> Iterator[None]:
    signal.signal(signal.SIGPROF, _give_up)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _give_up(*_: object) -> None:
    raise TimeoutError
