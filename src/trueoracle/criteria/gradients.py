"""Derivatives, where the network has them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trueoracle.criteria.refusal import CannotJudge


def gradients(value: Tensor, of: Sequence[Tensor], *, again: bool = False) -> list[Tensor | None]:
    """Of a number, by each of these tensors, None where it does not depend on one; `again` where they are differentiated again.

    `CannotJudge` where the network has an operation without one, or overwrites what the derivative needs.
    """
    if not value.requires_grad:
        return [None] * len(of)
    try:
        return list(torch.autograd.grad(value, of, create_graph=again, allow_unused=True))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise CannotJudge(f"the network has no derivative here: {str(error).splitlines()[0]}") from None
