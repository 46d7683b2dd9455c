"""How far the pruned network's answers lie from the whole network's: KL(dense || pruned), in nats.

The divergence of the classes' probabilities (of a language model, the tokens'), averaged as the train loss is. No label
is looked at: the measure of distillation (Hinton et al., arXiv 1503.02531) at temperature 1, before any training.
"""

import torch
import torch.nn.functional as F

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Pruned, classified


@torch.no_grad()
def measure(pruned: Pruned) -> float:
    """The mean divergence over the answers."""
    total, seen = 0.0, 0
    dense_AK = pruned.dense.log_probabilities
    for part in pruned.dense.parts():
        found = classified(part).foretell(pruned.net)
        here_AK = dense_AK[seen : seen + len(found.logits_AK)]
        shift_A = F.kl_div(found.logits_AK.log_softmax(1), here_AK, reduction="none", log_target=True).sum(1)
        weight_A = found.weight_A.double()
        total += (shift_A.double() @ weight_A / weight_A.sum()).item() * len(part)
        seen += len(found.logits_AK)
    return total / len(pruned.dense.examples)


PREDICTOR = MaskPredictor(better="lower", measure=measure)
