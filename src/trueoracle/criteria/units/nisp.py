"""Neuron importance score propagation: s = |W|' s of the next layer, from the final responses back (Yu et al., arXiv 1711.05908).

The final responses are what the network's last linear layer or convolution is given, a number a channel and example (the mean over
positions); how much each matters among them says infinite feature selection (`inf_fs`). Through a graph of any form the
rule is the derivative of the weighted responses by what the units hand on, in the product of absolute weights that
`linearised` makes of the network: a sum over all ways from the unit to the responses. Over positions, channels of the
unit and all layers that sum over it the scores are added. Networks that are no such product are refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.criteria.gradients import gradients
from trueoracle.criteria.inf_fs import inf_fs
from trueoracle.criteria.linearised import linearised, linearly
from trueoracle.criteria.whole import Whole
from trueoracle.nets import Input, heard
from trueoracle.nets.silence import SUMMING


def importance(of: Collected) -> Tensor:
    """In responses' importance times responses a unit of activation."""
    return of.of_whole(propagated, "no way leads to the final responses through a layer that sums over them")


def propagated(whole: Whole) -> dict[str, Tensor]:
    """By site: the score of each unit."""
    net = whole.once(linearised)
    score_F = inf_fs(_responses(whole))
    ones = torch.ones_like(whole.images(1)).double()
    moved: dict[tuple[str, str], Tensor] = {}
    cuts = {}

    def hear(given: Input) -> Tensor:
        key = given.site.name, given.cut.layer
        cuts[key] = given.cut
        size = [1] * given.x.ndim
        size[given.dim] = -1
        zeros_C = moved.setdefault(
            key, torch.zeros(given.x.shape[given.dim], dtype=given.x.dtype, device=ones.device, requires_grad=True)
        )
        return given.x + zeros_C.view(size)

    with torch.enable_grad(), linearly(), _last_input() as last, heard(net, whole.sites, hear):
        net(ones)
        total = last.response @ score_F.to(ones.device)
        found = gradients(total, list(moved.values()))
    scores: dict[str, Tensor] = {}
    for (site, layer), gradient_C in zip(moved, found, strict=True):
        cut = cuts[site, layer]
        if gradient_C is not None:
            part_U = gradient_C.cpu()[torch.from_numpy(cut.channels_UC)].sum(1)
            scores[site] = scores.get(site, torch.zeros(())) + part_U
    return scores


def _responses(whole: Whole) -> Tensor:
    """(N, F): the final responses to every example."""
    with torch.no_grad(), _last_input() as last:
        found = []
        for number in range(len(whole.examples)):
            whole.examples.take(slice(number, number + 1)).judge(whole.net)
            found.append(last.response.cpu())
    return torch.stack(found)


class _LastInput(TorchFunctionMode):
    """Keeps what the last layer that sums was given."""

    x: Tensor
    dim: int

    @property
    def response(self) -> Tensor:
        """(F,): its mean over positions."""
        return self.x.movedim(self.dim, -1).reshape(-1, self.x.shape[self.dim]).mean(0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in SUMMING:
            self.x, self.dim = args[0] if args else kwargs["input"], SUMMING[name]
        return func(*args, **(kwargs or {}))


@contextmanager
def _last_input() -> Iterator[_LastInput]:
    with _LastInput() as mode:
        yield mode


CRITERION = UnitCriterion(importance=importance, needs=Needs.EXAMPLES)
