"""A pruned network as mask predictors see it, and what several of them ask of it: computed once, when first asked for.

Letters: N images or examples, A answers to be foretold, K classes, C channels, H x W pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from trueoracle.criteria.refusal import CannotJudge
from trueoracle.data import Split, StoredSplit, images_of
from trueoracle.nets import Sites, kept_weights, prune
from trueoracle.words.examples import Classified, Examples, Foretold, Judged
from trueoracle.words.known import Removal
from trueoracle.words.mask import AnyMask
from trueoracle.words.shape import Shape

CURVED = 128
"""So many of the examples, the first, are looked at for gradient and curvature: each costs a few forward passes."""


@dataclass(frozen=True, kw_only=True)
class Dense:
    """The whole network and the examples on which masks of it are judged.

    `net` lies on the examples' device, in eval mode; `lr` is the rate at which pruned networks will be retrained.
    """

    net: nn.Module
    sites: Sites
    shape: Shape
    examples: Examples
    lr: float
    removal: Removal = "aligned"
    made: dict[str, object] = field(default_factory=dict, compare=False)
    """What a predictor keeps of the whole network for all masks, by a name of its own."""

    def pruned(self, mask: AnyMask) -> "Pruned":
        """The network without what the mask prunes, in eval mode."""
        return Pruned(dense=self, mask=mask, net=prune(self.net, mask, self.sites, self.removal))

    @cached_property
    def log_probabilities(self) -> Tensor:
        """(A, K): what the whole network foretells of every answer."""
        with torch.no_grad():
            parts = [classified(part).foretell(self.net).logits_AK for part in self.parts()]
        return torch.cat(parts).log_softmax(1)

    @property
    def first(self) -> Examples:
        """The examples on which gradient and curvature are taken."""
        return self.examples.take(slice(CURVED))

    def parts(self) -> Iterable[Examples]:
        """The examples, in pieces of what is best given at once."""
        step = self.examples.at_once
        return (self.examples.take(slice(start, start + step)) for start in range(0, len(self.examples), step))

    def images(self, most: int) -> Split:
        """The first so many images; `CannotJudge` where the network takes something else."""
        return images_of_examples(self.examples, most)


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A pruned network on the examples: loss, answers, gradient and curvature."""

    dense: Dense
    mask: AnyMask
    net: nn.Module

    @cached_property
    def judged(self) -> Judged:
        """Loss (nats) and answer of every example."""
        with torch.no_grad():
            judged = [part.judge(self.net) for part in self.dense.parts()]
        return Judged(
            loss_B=torch.cat([one.loss_B for one in judged]), right_B=torch.cat([one.right_B for one in judged])
        )

    @cached_property
    def foretold(self) -> Foretold:
        """The logits of the first examples' answers, with a graph to the weights."""
        return classified(self.dense.first).foretell(self.net)

    @cached_property
    def weights(self) -> list[nn.Parameter]:
        """The parameters that are trained."""
        return [weight for weight in self.net.parameters() if weight.requires_grad]

    @cached_property
    def loss(self) -> Tensor:
        """The mean train loss over the first examples, with a graph to the weights."""
        return self.dense.first.train_loss(self.net)

    @cached_property
    def gradient(self) -> list[Tensor]:
        """Of the loss, one tensor a weight, with a graph of its own: its products can be differentiated again.

        Weights that a mask holds at zero are none that could move: there it is 0.
        """
        found = torch.autograd.grad(self.loss, self.weights, create_graph=True, allow_unused=True)
        whole = [torch.zeros_like(w) if g is None else g for w, g in zip(self.weights, found, strict=True)]
        return [g if kept is None else g * kept for g, kept in zip(whole, self.kept, strict=True)]

    @cached_property
    def kept(self) -> list[Tensor | None]:
        """Of each weight which numbers its mask keeps, None where it has none."""
        masks = kept_weights(self.net)
        return [masks.get(name) for name, weight in self.net.named_parameters() if weight.requires_grad]

    def hessian_product(self, vector: list[Tensor]) -> list[Tensor]:
        """The Hessian of the loss times a vector, both one tensor a weight."""
        found = derivative(dot(self.gradient, vector), self.weights)
        return [h if kept is None else h * kept for h, kept in zip(found, self.kept, strict=True)]


def derivative(value: Tensor, of: list[nn.Parameter]) -> list[Tensor]:
    """The gradient of a scalar whose graph is kept; zeros where nothing depends on a weight."""
    if not value.requires_grad:
        return [torch.zeros_like(weight) for weight in of]
    found = torch.autograd.grad(value, of, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(weight) if part is None else part for weight, part in zip(of, found, strict=True)]


def dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """The inner product of two vectors of one tensor a weight."""
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def images_of_examples(examples: Examples, most: int) -> Split:
    """The first so many of `examples`, known to be images; `CannotJudge` where they are something else."""
    if not isinstance(examples, Split | StoredSplit):
        raise CannotJudge("it looks at images, and the network is asked about something else")
    return images_of(examples.take(slice(most)))


def classified(examples: Examples) -> Classified:
    """`examples`, known to be foretold by logits; `CannotJudge` where they are something else."""
    if not isinstance(examples, Classified):
        raise CannotJudge("it compares probabilities of classes or tokens, and the task has none")
    return examples
