"""The whole network as criteria see it that go their own way through it: what they make is made once, for all of its sites."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from torch import Tensor, nn

from trueoracle.criteria.pruned import images_of_examples
from trueoracle.criteria.refusal import CannotJudge
from trueoracle.nets import Site, unit_moments
from trueoracle.words.examples import Examples

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Whole:
    """`net`, in eval mode, and all sites that are asked about; `CannotJudge` of `examples` where there are none."""

    net: nn.Module
    sites: Mapping[str, Site]
    given: Examples | None
    made: dict[Callable[["Whole"], object], object] = field(default_factory=dict, compare=False)

    @property
    def examples(self) -> Examples:
        """The examples on which the sites are judged."""
        if self.given is None:
            raise CannotJudge("it looks at examples, and there are none")
        return self.given

    def images(self, most: int) -> Tensor:
        """The first so many images, NCHW; `CannotJudge` where the network takes something else."""
        return images_of_examples(self.examples, most).images_NCHW

    def own_sums(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By site: of each unit the sum over its own weights' places in `values`, which are by parameter, in its shape.

        A site is left out where they lack a parameter of it: a weight that is computed of others, or frozen.
        """
        found = {}
        for name, site in self.sites.items():
            try:
                found[name] = unit_moments(self.net, site, values)[0]
            except KeyError:
                continue
        return found

    def once(self, make: Callable[["Whole"], T]) -> T:
        """What `make` makes of it: made when first asked for. So is its `CannotJudge`."""
        if make not in self.made:
            try:
                self.made[make] = make(self)
            except CannotJudge as why:
                self.made[make] = why
        found = self.made[make]
        if isinstance(found, CannotJudge):
            raise CannotJudge(str(found))
        return cast(T, found)
