"""What the next layers' outputs lose with the pruned units: ThiNet's error (Luo et al., arXiv 1707.06342).

The mean over examples of || sum over the pruned units u of y_u ||^2, where y_u is what unit u adds to the output of the
layer that sums over the units (of several layers, all of theirs; of several sites, their sum), in the whole network. It
is a figure of the set: two units that cancel each other lose nothing together. No least squares follows it.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Dense, Pruned
from trueoracle.criteria.refusal import CannotJudge
from trueoracle.nets import Cut, Role, Site
from trueoracle.words.mask import WeightMask

_NUMBERS_AT_ONCE = 2**26


def measure(pruned: Pruned) -> float:
    """In squared activations of the consumers."""
    if isinstance(pruned.mask, WeightMask):
        raise CannotJudge("it is of units that go, and the mask holds single weights at zero")
    lost = 0.0
    for part in pruned.mask.sites:
        if part.pruned:
            gone = torch.tensor(part.pruned)
            lost += _gram(pruned.dense, pruned.dense.sites.named(part.site))[gone][:, gone].sum().item()
    return lost


def _gram(dense: Dense, site: Site) -> Tensor:
    """(U, U), float64: the mean over the examples of y_u . y_v, made once for all masks."""
    name = f"reconstruction of {site.name}"
    if name not in dense.made:
        dense.made[name] = contributions(dense, site)
    found = dense.made[name]
    assert isinstance(found, Tensor)
    return found


@torch.no_grad()
def contributions(dense: Dense, site: Site) -> Tensor:
    """See `_gram`; `CannotJudge` where a layer that sums over the units is not one that can be asked unit by unit."""
    cuts = [cut for cut in site.cuts if cut.role is Role.CONSUMER]
    if not cuts:
        raise CannotJudge(f"no layer sums over the units of `{site.name}`")
    gram_UU = torch.zeros(site.units, site.units, dtype=torch.float64)
    hooks = [_asked(dense.net, cut).register_forward_pre_hook(_adder(cut, gram_UU)) for cut in cuts]
    try:
        for part in dense.parts():
            part.judge(dense.net)
    finally:
        for hook in hooks:
            hook.remove()
    return gram_UU / len(dense.examples)


def _asked(net: nn.Module, cut: Cut) -> nn.Module:
    modules = dict(net.named_modules())
    layer = modules.get(cut.layer)
    if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) or getattr(layer, "groups", 1) > 1:
        raise CannotJudge(f"`{cut.layer}` is no linear layer or convolution whose inputs can be asked one by one")
    return layer


def _adder(cut: Cut, gram_UU: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """A hook that adds what a batch says; memory for so many numbers is taken at once, for a few rows of the batch."""

    def add(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0]
        silent = layer.forward(torch.zeros_like(x[:1]))  # the bias alone
        for rows in torch.split(x, max(1, _NUMBERS_AT_ONCE // (len(cut.channels_UC) * silent.numel()))):
            alone = (layer.forward(only) - silent for only in _unit_by_unit(layer, rows, cut))
            y_UP = torch.stack([y.flatten() for y in alone]).double()
            gram_UU.add_((y_UP @ y_UP.T).cpu())

    return add


def _unit_by_unit(layer: nn.Module, x: Tensor, cut: Cut) -> Iterator[Tensor]:
    dim = -1 if isinstance(layer, nn.Linear) else 1
    for channels in cut.channels_UC:
        only, index = torch.zeros_like(x), torch.from_numpy(channels).to(x.device)
        yield only.index_copy_(dim, index, x.index_select(dim, index))


PREDICTOR = MaskPredictor(better="lower", measure=measure)
