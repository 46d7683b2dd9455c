"""Why the pruned train loss loses its hold where much is pruned, and what a large gradient means: docs/criteria.md.

    python docs/criteria.py STUDY --store URL [--bases 3] [--site conv3]

For every cell of one site: the share of masks worse than guessing, and Kendall's tau with the final test accuracy (positive where
right) of figures taken from the pruned network's logits on the first 256 train images, before any retraining:

- `loss`: the pruned train loss;
- `scaled`: the loss once all logits are multiplied by the one number that suits best;
- `shifted`: the loss once the best constant is added to the logits of each class;
- `both`;
- `accuracy`.

`gradient` is tau of the stored `gradient_norm` with the pruned train loss, not with the result. Means over base networks.
"""

import argparse
import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import kendalltau
from torch import Tensor

from trueoracle import Study
from trueoracle.data import load_dataset
from trueoracle.nets import remove, weights_from_bytes
from trueoracle.study import study_data
from trueoracle.words.progress import Quiet

IMAGES = 256
FORMS = {"loss": (False, False), "scaled": (True, False), "shifted": (False, True), "both": (True, True)}


def fitted(logits_MNK: Tensor, target_N: Tensor, *, scale: bool, shift: bool) -> Tensor:
    """The loss of each of M networks, shape (M,), after the best scale of all its logits and shift of each class's."""
    M, N, K = logits_MNK.shape
    log_scale_M, shift_MK = torch.zeros(M, requires_grad=scale), torch.zeros(M, K, requires_grad=shift)
    target_MN = target_N.expand(M, N)

    def moved() -> Tensor:
        moved_MNK = logits_MNK * log_scale_M.exp()[:, None, None] + shift_MK[:, None]
        return F.cross_entropy(moved_MNK.transpose(1, 2), target_MN, reduction="none").mean(1)

    parameters = [p for p in (log_scale_M, shift_MK) if p.requires_grad]
    if parameters:
        search = torch.optim.LBFGS(parameters, max_iter=60, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            search.zero_grad()
            total = moved().sum()
            total.backward()
            return total

        search.step(closure)
    return moved().detach()


def rows(study: Study, bases: int, site: str) -> Iterator[dict[str, float | str]]:
    """A row a cell and base network."""
    data = study_data(study.plan, load_dataset(study.spec.data, None, torch.device("cpu"), Quiet()))
    images = data.train.take(slice(IMAGES))
    trials = study.trials()
    for base in range(bases):
        net = study.plan.nets[base]
        weights_from_bytes(net, study.base_weights(base), "of the stored base network")
        net.eval()
        for cell in study.plan.cells_of(base):
            of_cell = trials[trials["cell"] == cell.name]
            if not cell.name.startswith(site) or of_cell.empty:
                continue
            masks = of_cell.groupby("mask").first()
            result_M = of_cell.groupby("mask")["final_test_accuracy"].mean()
            with torch.no_grad():
                logits_MNK = torch.stack([remove(net, cell.space.unrank(int(m)), study.plan.sites)(images.images_NCHW) for m in masks.index])  # fmt: skip
            found = {name: fitted(logits_MNK, images.labels_N, scale=a, shift=b) for name, (a, b) in FORMS.items()}
            right_M = (logits_MNK.argmax(2) == images.labels_N).double().mean(1)
            yield {
                "cell": cell.name.partition(",")[0],
                "guessing": float((found["loss"] > math.log(logits_MNK.shape[2])).double().mean()),
                **{name: -kendalltau(loss_M, result_M).statistic for name, loss_M in found.items()},
                "accuracy": kendalltau(right_M, result_M).statistic,
                "gradient": kendalltau(masks["gradient_norm"], masks["pruned_train_loss"]).statistic
                if "gradient_norm" in masks
                else math.nan,
            }


def main() -> None:
    """Print a line a cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--store", required=True)
    parser.add_argument("--bases", type=int, default=3)
    parser.add_argument("--site", default="conv3")
    asked = parser.parse_args()
    cells: dict[str, list[dict[str, float | str]]] = {}
    for row in rows(Study.stored(asked.study, store=asked.store), asked.bases, asked.site):
        cells.setdefault(str(row["cell"]), []).append(row)
    names = ["guessing", *FORMS, "accuracy", "gradient"]
    print("cell      ", *(f"{name:>9}" for name in names))
    for cell, of_cell in cells.items():
        print(f"{cell:10}", *(f"{np.mean([row[name] for row in of_cell]):9.2f}" for name in names))


if __name__ == "__main__":
    main()
