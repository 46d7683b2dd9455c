"""Gathering what criteria ask for, once for all of them: forward and backward passes of one example after another.

One at a time, for criteria speak of the gradient of each example. Nothing is kept of an example but sums and a number a
unit, so that memory is bounded by the network. On the device of the network, for every network that has sites.
"""

from collections.abc import Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from trueoracle.criteria.collected import Collected, Given
from trueoracle.criteria.criterion import Needs
from trueoracle.criteria.whole import Whole
from trueoracle.nets import Input, Kind, Site, gated_blocks, heard, unit_moments
from trueoracle.words.examples import Examples
from trueoracle.words.progress import Advance


def collect(
    net: nn.Module,
    sites: Mapping[str, Site],
    examples: Examples | None,
    needs: Needs,
    advance: Advance = lambda _examples: None,
) -> dict[str, Collected]:
    """What is asked for of each site of `net`, which is in eval mode, on all of these examples.

    `advance` is told of each example. `ValueError` where examples are needed and there are none.
    """
    whole = Whole(net=net, sites=sites, given=examples)
    found = {site.name: Collected(net=net, site=site, whole=whole) for site in sites.values()}
    if not needs:
        return found
    if examples is None or not len(examples):
        raise ValueError("criteria that look at activations or gradients need at least one example")
    if needs is Needs.EXAMPLES:
        return found
    gathering = _Gathering(net, found, needs)
    for number in range(len(examples)):
        gathering.add(examples.take(slice(number, number + 1)))
        advance(1)
    gathering.finish()
    return found


class _Gathering:
    """Sums over the examples seen so far."""

    def __init__(self, net: nn.Module, found: Mapping[str, Collected], needs: Needs) -> None:
        self._net, self._found, self._needs = net, found, needs
        first = next(p for p in net.parameters() if p.is_floating_point())
        self._device, self._dtype = first.device, first.dtype
        self._weights = {name: p for name, p in net.named_parameters() if p.requires_grad and p.is_floating_point()}
        self._total = {name: torch.zeros_like(p) for name, p in self._weights.items()}
        self._gates: dict[str, list[Tensor]] = {name: [] for name in found}
        self._own: dict[str, list[Tensor]] = {name: [] for name in found}
        self._squares: dict[str, Tensor | float] = dict.fromkeys(found, 0.0)
        self._examples = 0

    def add(self, example: Examples) -> None:
        """One example."""
        self._examples += 1
        if Needs.GRADIENTS not in self._needs:
            with torch.no_grad(), heard(self._net, self._sites, self._note):
                example.judge(self._net)
            return
        gate = {
            name: torch.ones(one.site.units, device=self._device, dtype=self._dtype, requires_grad=True)
            for name, one in self._found.items()
        }

        def hear(given: Input) -> Tensor:
            self._note(given)
            return _gated(given, gate[given.site.name])

        with ExitStack() as stack, torch.enable_grad():
            stack.enter_context(heard(self._net, self._sites, hear))
            for one in self._found.values():
                if one.site.kind is Kind.BLOCK:
                    stack.enter_context(gated_blocks(self._net, one.site, gate[one.site.name]))
            loss = example.train_loss(self._net)
        wanted = [*gate.values(), *self._weights.values()]
        # retained, for what a network computes once and keeps (LeViT its position biases) is in the graph of every example
        self._take(torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True))

    def finish(self) -> None:
        """Write into every `Collected` what its site's sums come to."""
        if Needs.GRADIENTS not in self._needs:
            return
        mean = {n: (self._total[n] / self._examples * weight).abs() for n, weight in self._weights.items()}
        for name, one in self._found.items():
            if self._gates[name]:
                one.gate_NU = torch.stack(self._gates[name])
            if self._own[name]:
                one.weight_NU = torch.stack(self._own[name])
                one.square_U = torch.as_tensor(self._squares[name]) / self._examples
                one.snip_U = unit_moments(self._net, one.site, mean)[0]

    @property
    def _sites(self) -> dict[str, Site]:
        return {name: one.site for name, one in self._found.items()}

    def _note(self, given: Input) -> Tensor:
        kept = self._found[given.site.name].given
        kept.setdefault(given.cut.layer, Given(cut=given.cut)).add(
            given.x.movedim(given.dim, -1).reshape(-1, given.x.shape[given.dim])
        )
        return given.x

    def _take(self, gradients: tuple[Tensor | None, ...]) -> None:
        for name, gate in zip(self._found, gradients, strict=False):
            if gate is not None:
                self._gates[name].append(gate.double().cpu())
        products = {}
        for (name, weight), gradient in zip(self._weights.items(), gradients[len(self._found) :], strict=True):
            if gradient is None:
                products[name] = weight.new_zeros(()).expand_as(weight)
            else:
                self._total[name] += gradient
                products[name] = gradient * weight.detach()
        for name, one in self._found.items():
            try:
                sum_U, square_U = unit_moments(self._net, one.site, products)
            except KeyError:  # a weight that is computed of others, or frozen, has no gradient of its own
                continue
            self._own[name].append(sum_U)
            self._squares[name] = self._squares[name] + square_U


def _gated(given: Input, gate_U: Tensor) -> Tensor:
    """The input with every unit's channels times the unit's gate."""
    x, channels_UC = given.x, torch.from_numpy(given.cut.channels_UC).to(gate_U.device)
    factor_C = torch.ones(x.shape[given.dim], device=gate_U.device, dtype=gate_U.dtype)
    factor_C = factor_C.index_put((channels_UC.flatten(),), gate_U.repeat_interleave(channels_UC.shape[1]))
    shape = [1] * x.ndim
    shape[given.dim] = -1
    return x * factor_C.view(shape).to(x.dtype)
