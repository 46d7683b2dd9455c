"""What criteria are given of a site: its weights, and what was gathered of it on examples.

Letters: U units, P weights, N examples, C channels of a layer that sums over the units.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from trueoracle.criteria.refusal import CannotJudge
from trueoracle.criteria.whole import Whole
from trueoracle.nets import Cut, Kind, Role, Site, channel_weights, unit_weights


@dataclass(kw_only=True)
class Given:
    """What one layer that sums over the units was given, channel by channel, over all examples and positions.

    `count` numbers a channel; `sum_C`, `square_C` and `zeros_C` are their sum, their sum of squares and how many of
    them are zero (float64).
    """

    cut: Cut
    count: int = 0
    sum_C: Tensor | float = 0.0
    square_C: Tensor | float = 0.0
    zeros_C: Tensor | float = 0.0

    def add(self, x_PC: Tensor) -> None:
        """Take in the inputs of some positions."""
        x_PC = x_PC.detach().double()
        self.count += len(x_PC)
        self.sum_C = self.sum_C + x_PC.sum(0).cpu()
        self.square_C = self.square_C + x_PC.square().sum(0).cpu()
        self.zeros_C = self.zeros_C + (x_PC == 0).sum(0).cpu()


@dataclass(kw_only=True)
class Collected:
    """A site of `net` with what was gathered of it; what was not is None or empty. All float64.

    `gate_NU`: of each example's loss the derivative by a factor on each unit, in front of the layers that sum over it:
    the sum over these layers, over channels and positions, of x dL/dx. `weight_NU`: of each example's loss the sum over
    the unit's own weights of w dL/dw. `square_U`: the mean over examples of the sum of (w dL/dw)^2. `snip_U`: the sum of
    |w dL/dw|, L the mean loss.
    """

    net: nn.Module
    site: Site
    whole: Whole
    given: dict[str, Given] = field(default_factory=dict)
    gate_NU: Tensor | None = None
    weight_NU: Tensor | None = None
    square_U: Tensor | None = None
    snip_U: Tensor | None = None

    @cached_property
    def weights(self) -> Tensor:
        """(U, P): all weights that make each unit, biases left out (see `unit_weights`)."""
        return unit_weights(self.net, self.site)

    def of_units(self, cut: Cut) -> Tensor:
        """(U, P): the weights that a layer loses with each unit."""
        return channel_weights(self.net, cut)[torch.from_numpy(cut.channels_UC)].flatten(1)

    def cuts(self, *roles: Role) -> list[Cut]:
        """The layers that shrink with the site; `CannotJudge` where the units are whole blocks."""
        if self.site.kind is Kind.BLOCK:
            raise CannotJudge(f"the units of `{self.site.name}` are whole blocks: no layer is cut")
        return [cut for cut in self.site.cuts if cut.role in roles]

    def consumers(self) -> list[Given]:
        """What was heard in front of the layers that sum over the units."""
        if not self.given:
            raise CannotJudge(f"no layer was heard to sum over the units of `{self.site.name}`")
        return list(self.given.values())

    def of_whole(
        self, make: Callable[[Whole], Mapping[str, Tensor]], otherwise: str = "no gradient is to be had"
    ) -> Tensor:
        """What `make` says of this site, made once for all sites; `CannotJudge` with `otherwise` where it says nothing of it."""
        found = self.whole.once(make)
        if self.site.name not in found:
            raise CannotJudge(f"of the units of `{self.site.name}` {otherwise}")
        return found[self.site.name]

    def known(self, name: str) -> Tensor:
        """What was gathered under this name; `CannotJudge` where it is not to be had."""
        found: Tensor | None = getattr(self, name)
        if found is None:
            raise CannotJudge(f"of the units of `{self.site.name}` no gradient is to be had")
        return found

    def mean(self, total: str) -> Tensor:
        """(U,): the mean over examples, positions, channels and layers of what units hand on: `sum`, `square` or `zeros`."""
        sums, counts = [], 0
        for given in self.consumers():
            channels_UC = torch.from_numpy(given.cut.channels_UC)
            sums.append(torch.as_tensor(getattr(given, f"{total}_C"))[channels_UC].sum(1))
            counts += given.count * channels_UC.shape[1]
        return torch.stack(sums).sum(0).double() / counts
