"""Weight normalisation: a layer's weight is a direction, divided by its norm and multiplied by a magnitude.

Both are cut as the weight is. Where inputs go, the norm that is left is smaller; the magnitude is lowered by as much, so
that the weights that stay are what they were.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.weight_norm import WeightNorm


class Parts:
    """Magnitude and direction of a layer's weight, by the module and the names under which they are."""

    def __init__(self, owner: nn.Module, magnitude: str, direction: str) -> None:
        self.owner, self.magnitude, self.direction = owner, magnitude, direction

    @property
    def values(self) -> tuple[Tensor, Tensor]:
        return getattr(self.owner, self.magnitude), getattr(self.owner, self.direction)

    def recompute(self) -> None:
        """The weight itself, where the layer keeps what a hook computed last."""
        for hook in self.owner._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                hook(self.owner, ())


def parts_of(layer: nn.Module) -> Parts | None:
    """The parts of a layer's weight where that is normalised and nothing else; None for other layers."""
    if any(isinstance(hook, WeightNorm) and hook.name == "weight" for hook in layer._forward_pre_hooks.values()):
        return Parts(layer, "weight_g", "weight_v")  # torch.nn.utils.weight_norm, which computes in front of each pass
    parametrized = getattr(layer, "parametrizations", {})
    if "weight" not in parametrized:
        return None
    found = parametrized["weight"]
    only = isinstance(found, ParametrizationList) and len(found) == 1 and isinstance(found[0], _WeightNorm)
    return Parts(found, "original0", "original1") if only else None


@torch.no_grad()
def without(parts: Parts, dim: int, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitude and direction with what is kept along a dimension of the weight, such that its numbers are the same."""
    magnitude, direction = parts.values
    left = direction.index_select(dim, kept)
    if magnitude.ndim and magnitude.shape[dim] == direction.shape[dim] > 1:  # each index has a norm of its own
        return magnitude.index_select(dim, kept), left
    return magnitude * _norm(left, magnitude) / _norm(direction, magnitude), left


def _norm(direction: Tensor, magnitude: Tensor) -> Tensor:
    """The norm over the dimensions of which the magnitude has none."""
    over = [dim for dim, size in enumerate(magnitude.shape) if size == 1]
    norm: Tensor = torch.linalg.vector_norm(direction, dim=over or None, keepdim=bool(over))
    return norm
