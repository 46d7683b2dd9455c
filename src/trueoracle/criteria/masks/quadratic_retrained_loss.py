"""The loss at which retraining would end if the loss were quadratic around the pruned network (nats).

L - 1/2 g'(G + damping I)^-1 g over the weights that are left, with gradient g and the generalised Gauss-Newton matrix G
(Schraudolph, Neural Computation 14, 2002) in place of the Hessian, which is indefinite at a pruned network. Where the
whole network's gradient is zero and the loss is quadratic, this is the loss after the joint update of optimal brain
surgeon (Hassibi and Stork, 1993). The inverse is applied by conjugate gradients, `STEPS` of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Pruned, derivative, dot

STEPS = 10
DAMPING = 1e-3


def measure(pruned: Pruned) -> float:
    """The foretold loss."""
    gradient = [part.detach() for part in pruned.gradient]
    curve = GaussNewton(pruned)
    step = conjugate_gradients(curve.product, gradient, STEPS)
    return (pruned.loss - dot(gradient, step) / 2).item()


class GaussNewton:
    """Products of J'CJ with vectors: J is the logits' Jacobian, C the cross-entropy's second derivative by them."""

    def __init__(self, pruned: Pruned) -> None:
        self.weights = pruned.weights
        found = pruned.foretold
        self.logits_AK, self.weight_A = found.logits_AK, found.weight_A
        self.p_AK = self.logits_AK.detach().softmax(1)
        # J'u is linear in u, so its derivative along a vector v by u is Jv: forward mode from reverse mode alone.
        self.u_AK = torch.zeros_like(self.logits_AK, requires_grad=True)
        found_u = torch.autograd.grad(
            self.logits_AK, self.weights, self.u_AK, create_graph=True, retain_graph=True, allow_unused=True
        )
        self.pulled = [
            torch.zeros_like(w) if part is None else part for w, part in zip(self.weights, found_u, strict=True)
        ]

    def product(self, vector: list[Tensor]) -> list[Tensor]:
        """(G + damping I) times a vector, one tensor a weight."""
        (pushed_AK,) = torch.autograd.grad(dot(self.pulled, vector), self.u_AK, retain_graph=True)
        curved_AK = self.p_AK * (pushed_AK - (self.p_AK * pushed_AK).sum(1, keepdim=True)) * self.weight_A[:, None]
        pulled = derivative((self.logits_AK * curved_AK).sum(), self.weights)
        return [part + DAMPING * v for part, v in zip(pulled, vector, strict=True)]


def conjugate_gradients(
    product: Callable[[list[Tensor]], list[Tensor]], target: list[Tensor], steps: int
) -> list[Tensor]:
    """So many steps towards the x with product(x) = target, from zero; fewer where it is reached."""
    x = [torch.zeros_like(part) for part in target]
    rest = [part.clone() for part in target]
    direction = [part.clone() for part in rest]
    left = dot(rest, rest)
    begun = left
    for _ in range(steps):
        if left <= 1e-12 * begun:
            break
        curved = product(direction)
        length = left / dot(direction, curved)
        x = [a + length * b for a, b in zip(x, direction, strict=True)]
        rest = [a - length * b for a, b in zip(rest, curved, strict=True)]
        now = dot(rest, rest)
        direction = [a + now / left * b for a, b in zip(rest, direction, strict=True)]
        left = now
    return x


PREDICTOR = MaskPredictor(better="lower", measure=measure)
