"""How many images a network tells apart by which of its ReLUs are on: log |det K_H|.

K_H[i, j] is the number of ReLU outputs that are on for both images or off for both (Mellor et al., arXiv 2006.04647). Taken on the first `IMAGES` images of the sample.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Pruned
from trueoracle.criteria.refusal import CannotJudge

IMAGES = 64


@torch.no_grad()
def measure(pruned: Pruned) -> float:
    """In nats; minus infinity where not all images are told apart, such as two that switch on the same."""
    images = pruned.dense.images(IMAGES)
    with _Codes() as codes:
        pruned.net(images.images_NCHW)
    if not codes.on:
        raise CannotJudge("the network has no ReLU")
    on_NP = torch.cat(codes.on, 1)
    kernel_NN = on_NP @ on_NP.T + (1 - on_NP) @ (1 - on_NP).T
    singular = torch.linalg.matrix_rank(kernel_NN, hermitian=True) < len(kernel_NN)
    return -math.inf if singular else float(torch.linalg.slogdet(kernel_NN).logabsdet)


class _Codes(TorchFunctionMode):
    """Notes which outputs of every ReLU are on, as 0 and 1, one row an image."""

    def __init__(self) -> None:
        super().__init__()
        self.on: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in ("relu", "relu_"):
            self.on.append((found > 0).flatten(1).double())
        return found


PREDICTOR = MaskPredictor(better="higher", measure=measure)
