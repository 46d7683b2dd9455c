"""Gradient signal preservation: the sum over the unit's own weights of w (H g), g and H the gradient and the Hessian of the
mean loss (Wang et al., arXiv 2002.07376, there of single weights and before training).

To first order g'g loses 2 w (H g) with a weight. The source's score is -w (H g), and the largest of it are removed: so
importance is its negative, and is below zero where the gradient grows without the unit. As in the source the logits
are divided by 200. On the first `EXAMPLES` examples, each by itself, in two passes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.criteria.gradients import gradients
from trueoracle.criteria.pruned import classified
from trueoracle.criteria.whole import Whole
from trueoracle.nets.copying import twin
from trueoracle.words.examples import Examples

TEMPERATURE = 200.0
EXAMPLES = 32
"""Each costs about as much as four of those that are gathered for all criteria."""


def importance(of: Collected) -> Tensor:
    """In squared nats."""
    return of.of_whole(gradient_flow)


def gradient_flow(whole: Whole) -> dict[str, Tensor]:
    """By site: of each unit the sum over its own weights of w (H g)."""
    net = twin(whole.net)  # some keep what they compute, with its gradient
    weights = {n: w for n, w in net.named_parameters() if w.requires_grad and w.is_floating_point()}
    parameters = list(weights.values())
    count = min(EXAMPLES, len(whole.examples))
    examples = [whole.examples.take(slice(n, n + 1)) for n in range(count)]
    gradient, product = ([torch.zeros_like(w) for w in parameters] for _ in range(2))
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        for example in examples:
            _add(gradient, gradients(_softened(net, example), parameters), count)
        for example in examples:
            first = gradients(_softened(net, example), parameters, again=True)
            along = [(g * v).sum() for g, v in zip(first, gradient, strict=True) if g is not None]
            if along:
                _add(product, gradients(torch.stack(along).sum(), parameters), count)
    products = zip(weights.items(), product, strict=True)
    return whole.own_sums({name: found * weight.detach() for (name, weight), found in products})


def _softened(net: nn.Module, example: Examples) -> Tensor:
    """The loss of one example at the temperature, in nats."""
    found = classified(example).foretell(net)
    loss_A = F.cross_entropy(found.logits_AK / TEMPERATURE, found.targets_A, reduction="none")
    return (loss_A * found.weight_A).sum()


def _add(total: list[Tensor], parts: Sequence[Tensor | None], count: int) -> None:
    for sum_, part in zip(total, parts, strict=True):
        if part is not None:
            sum_ += part.detach() / count


CRITERION = UnitCriterion(importance=importance, needs=Needs.EXAMPLES)
