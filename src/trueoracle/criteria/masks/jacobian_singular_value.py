"""The mean singular value of the Jacobian of the logits by the image, over images and singular values.

Pruning moves it away from that of the dense network, where signals pass unchanged in size (dynamical isometry: Wang and
Fu, arXiv 2301.05219). Taken on the first `IMAGES` images of the sample; K backward passes for K classes.
"""

import torch
from torch import Tensor

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Pruned

IMAGES = 32


def measure(pruned: Pruned) -> float:
    """Logits per normalised grey level."""
    return float(torch.linalg.svdvals(jacobians(pruned)).double().mean())


def jacobians(pruned: Pruned) -> Tensor:
    """(N, K, C*H*W): of each image, the derivative of each logit by the image."""
    images_NCHW = pruned.dense.images(IMAGES).images_NCHW.clone().requires_grad_()
    logits_NK = pruned.net(images_NCHW)
    rows = [
        torch.autograd.grad(logits_NK[:, k].sum(), images_NCHW, retain_graph=True)[0].flatten(1)
        for k in range(logits_NK.shape[1])
    ]
    return torch.stack(rows, 1)


PREDICTOR = MaskPredictor(better="higher", measure=measure)
