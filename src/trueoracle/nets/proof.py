"""Sites proved by numbers: without some of its units a network must be the network with these units silent.

It is tried out in float64 on random images or texts, on a copy whose vectors and constant weights are drawn anew, for a
fresh network has zeros and ones where mistakes would hide.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trueoracle.nets.experts import ask_each, is_stack
from trueoracle.nets.fewer_heads import free_of_width
from trueoracle.nets.mending import in_step, told
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.removal import remove
from trueoracle.nets.silence import silenced, unnormalised
from trueoracle.nets.sites import Role, Site, Sites
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import Shape

_EXACT = 1e-7  # of the largest logit, in float64
_ROUNDED = 1e-3  # of the largest logit, in float32 after dozens of layers
_MOST_COPIED = 300_000_000  # parameters; a larger network is proved as it is, in its own precision
_SMALL = 2_000_000  # parameters times sites; in larger networks sites are proved alone only where they fail together
_SEEDS = (0, 1, 2, 3)
_BREAKS = "without some of its units the forward pass fails"


def proved(trial: "Trial", sites: Sites, parts: Sequence[Site] = ()) -> Sites:
    """Those of `sites` that pass, alone and all together; the others are refused with a sentence.

    A site that breaks the forward pass is mended where that is possible (`trueoracle.nets.mending`), alone or in step with
    others, of which some may be `parts` of a layer's outputs that are no sites by themselves.
    """
    refused = {site.name: "it has a single unit" for site in sites.values() if site.units < 2}
    left = [site for site in sites.values() if site.name not in refused]
    refused |= {
        site.name: fault
        for site in (left if trial.small(len(left)) else _suspects(trial, left))
        if (fault := trial.fault([site])) is not None
    }
    left, refused = _mended(trial, left, parts, refused)
    while len(left) > 1 and (fault := trial.fault(left)) is not None:
        one, other = _clash(trial, left)
        refused[other.name] = f"it cannot be pruned together with `{one.name}`: {fault}"
        left.remove(other)
    twins = {
        cut.layer: refused[site.name]
        for site in sites.values() if site.name in refused
        for cut in site.cuts if sites.refused.get(cut.layer) == f"its units are those of the site `{site.name}`"
    }  # fmt: skip
    others = {**sites.refused, **twins, **refused}
    found = {site.name: site for site in left}
    return Sites(found, {layer: reason for layer, reason in others.items() if layer not in found})


def _mended(
    trial: "Trial", sites: list[Site], parts: Sequence[Site], refused: dict[str, str]
) -> tuple[list[Site], dict[str, str]]:
    """The sites that pass or are mended, in the order of `sites`, and why the others are refused."""
    found = {site.name: site for site in sites if site.name not in refused}
    broken = [site for site in sites if refused.get(site.name, "").startswith(_BREAKS)]
    mended = {site.name: told(trial.net, trial.fault, site) for site in broken}
    found |= {name: site for name, site in mended.items() if site is not None}
    broken = [site for site in broken if site.name not in found]
    for whole, *lot in in_step(trial.net, trial.fault, broken, parts):
        if whole.name in found:
            continue  # of a layer that has a part of a site already, and sites are called by their layers
        found[whole.name] = whole
        twins = {site.name for site in lot} | {cut.layer for cut in whole.cuts if cut.role is Role.PRODUCER}
        refused |= dict.fromkeys(twins, f"its units are those of the site `{whole.name}`")
    refused = {name: reason for name, reason in refused.items() if name not in found}
    order = {site.name: place for place, site in enumerate(sites)}
    return sorted(found.values(), key=lambda site: order.get(site.name, len(order))), refused


@torch.no_grad()
def check_answers(net: nn.Module, shape: Shape, first: Tensor | None = None) -> None:
    """`ModelError` where `net` answers with what is no number, or otherwise than before, where that was `first`."""
    first = logits_of_noise(net, shape, 1) if first is None else first
    second = logits_of_noise(net, shape, 1)
    if not bool(first.isfinite().all()):
        raise ModelError(f"{type(net).__name__} answers random inputs with logits that are not finite")
    if not torch.allclose(first, second, rtol=1e-5, atol=1e-6 * float(first.abs().max())):
        raise ModelError(
            f"{type(net).__name__} answers the same question in two ways, even in eval mode: something in its forward "
            "pass is drawn at random, such as a dropout that stays on"
        )


class Trial:
    """A network that is pruned and silenced, to compare both; it is the trial's own, and changed.

    `ModelError` where the network itself gives no answer to go by: numbers that are not finite, or other ones each time.
    """

    def __init__(self, net: nn.Module, shape: Shape, answer: Tensor | None = None) -> None:
        check_answers(net, shape, answer)
        self._known: dict[tuple[object, ...], str | None] = {}
        self.shape = shape
        self.parameters = sum(parameter.numel() for parameter in net.parameters())
        self.exact = self.parameters <= _MOST_COPIED
        self.net = seen_through(lively(net.double())) if self.exact else net

    def small(self, sites: int) -> bool:
        return self.parameters * sites <= _SMALL

    def fault(self, sites: Sequence[Site]) -> str | None:
        """What is wrong with the network without about half of the units of these sites, if anything is."""
        key = tuple((site.name, site.written, *(cut.channels_UC.tobytes() for cut in site.cuts)) for site in sites)
        if key not in self._known:
            known = Sites({site.name: site for site in sites})
            seeds = _SEEDS if self.small(len(sites)) else _SEEDS[:1]
            faults = (self._fault(_half(sites, seed), known) for seed in seeds)
            self._known[key] = next((fault for fault in faults if fault is not None), None)
        return self._known[key]

    @torch.no_grad()
    def _fault(self, mask: Mask, sites: Sites) -> str | None:
        left_out = {by for site in sites.values() for by in site.normalised_by}
        examples = 2 if self.parameters <= _SMALL else 1
        try:
            pruned = remove(self.net, mask, sites)
            found = logits_of_noise(pruned, self.shape, examples)
            if left_out:
                with unnormalised(pruned, left_out):
                    found = logits_of_noise(pruned, self.shape, examples)
        except Exception as error:  # whatever a user's forward pass raises when a layer is smaller than it expects
            return (
                f"{_BREAKS} ({_line(error)}), for sizes are written into it or "
                "it ties units in a way that tracing cannot see"
            )
        if sum(parameter.numel() for parameter in pruned.parameters()) >= self.parameters:
            return "its removal would change nothing"
        with unnormalised(self.net, left_out), silenced(self.net, mask, sites):
            wanted = logits_of_noise(self.net, self.shape, examples)
        tolerance = (_EXACT if self.exact else _ROUNDED) * float(wanted.abs().max())
        if found.shape == wanted.shape and torch.allclose(found, wanted, rtol=0, atol=tolerance):
            return None
        return (
            "the network without some of its units is not the network with those units silent, so the forward pass "
            "mixes them in a way that is not known"
        )


def seen_through(net: nn.Module) -> nn.Module:
    """`net` itself, with what is one opaque operation, as torch's attention and grouped experts, by ones that silence can see."""
    for module in net.modules():
        if type(module) is nn.MultiheadAttention and module.in_proj_weight is not None:
            free_of_width(module)
        elif is_stack(module):
            ask_each(module)
    return net


def lively(net: nn.Module) -> nn.Module:
    """`net` itself with every vector, and what is constant, of its own numbers, so that no channel looks like another."""
    chance = torch.Generator().manual_seed(1)

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=chance).to(tensor)

    for module in net.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.add_(noise(module.running_mean), alpha=0.1)
            module.running_var.mul_(1 + 0.2 * noise(module.running_var).clamp(-2, 2))
    for parameter in net.parameters():
        values = parameter.data
        if values.ndim < 2 or bool((values == values.flatten()[0]).all()):
            fan_in = max(1, values[0].numel()) if values.ndim > 1 else 1
            values.add_(noise(values), alpha=0.1 if values.ndim < 2 else 1 / sqrt(fan_in))
    return net


def _half(sites: Sequence[Site], seed: int) -> Mask:
    """About half of the units of each site, other numbers at the sites that lie next to each other.

    The last units go by seed 2 and the first by seed 3: a forward pass that turns units round shows it at the ends.
    """
    chance = torch.Generator().manual_seed(seed)
    parts = []
    for place, site in enumerate(sites):
        kept = min(max(1, site.units // 2 + (place + seed) % 3 - 1), site.units - 1)
        order = torch.randperm(site.units, generator=chance)[:kept].sort().values
        if seed in (2, 3):
            order = torch.arange(kept) + (seed - 2) * (site.units - kept)
        parts.append(SiteMask(site=site.name, units=site.units, kept=tuple(order.tolist())))
    return Mask(rank=0, sites=tuple(parts))


def _suspects(trial: Trial, sites: list[Site]) -> list[Site]:
    """Sites that may fail alone: those of no half, quarter and so on that passes."""
    if not sites or trial.fault(sites) is None:
        return []
    if len(sites) == 1:
        return sites
    middle = len(sites) // 2
    return _suspects(trial, sites[:middle]) + _suspects(trial, sites[middle:])


def _clash(trial: Trial, sites: list[Site]) -> tuple[Site, Site]:
    """Two sites of which each passes alone, such that what is known to pass with the first fails with the second."""
    low, high = 1, len(sites)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if trial.fault(sites[:middle]) is not None else (middle + 1, high)
    last = sites[low - 1]
    return next((site for site in sites[: low - 1] if trial.fault([site, last]) is not None), sites[0]), last


def _line(error: Any) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
