"""How differently a network responds to different images: from the correlations of their Jacobians.

-sum_i [log(v_i + k) + 1 / (v_i + k)], k = 1e-5, where v are the eigenvalues of the correlation matrix of the images'
input gradients of the sum of all logits (Mellor et al., arXiv 2006.04647, first version; as computed in Abdelfattah et
al., arXiv 2101.08134). Taken on the first `IMAGES` images of the sample.
"""

import torch

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Pruned
from trueoracle.criteria.refusal import CannotJudge

IMAGES = 64
K = 1e-5


def measure(pruned: Pruned) -> float:
    """Without unit. An image whose gradient is zero correlates with none, itself included: dead networks score low."""
    images_NCHW = pruned.dense.images(IMAGES).images_NCHW.clone().requires_grad_()
    if len(images_NCHW) < 2:
        raise CannotJudge("it compares images, and there is one")
    (gradient,) = torch.autograd.grad(pruned.net(images_NCHW).sum(), images_NCHW)
    v_N = torch.linalg.eigvalsh(torch.corrcoef(gradient.flatten(1).double()).nan_to_num())
    return -float(((v_N + K).log() + 1 / (v_N + K)).sum())


PREDICTOR = MaskPredictor(better="higher", measure=measure)
