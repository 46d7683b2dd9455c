"""A mask of a stored study, with its network: retrained again, from the seed of its trial.

The store keeps curves and figures, not the weights of tens of thousands of networks; the same seed makes the same
weights, bit for bit on the same kind of machine, and the figures of the trial say whether it did.
"""

import pandas as pd
import torch
from torch import nn

from trueoracle.data import Dataset, Split
from trueoracle.fleet import Backend
from trueoracle.nets import weights_from_bytes
from trueoracle.selection.bundle import Figure, Origin
from trueoracle.selection.export import Subject
from trueoracle.space import WeightSpace
from trueoracle.store import Store
from trueoracle.study import Plan, PlannedCell, retrained, stored_masks
from trueoracle.words.errors import SpecError, StoreError, unknown
from trueoracle.words.mask import AnyMask
from trueoracle.words.progress import Progress
from trueoracle.words.trial import Figures

_COMPARED = 64  # images on which written files are compared
_CHOOSES = ("final_validation_accuracy", "final_test_accuracy")


def planned_cell(plan: Plan, name: str | None) -> PlannedCell:
    """The cell of this name, or the only one there is; `SpecError` where that leaves it open."""
    names = [cell.name for cell in plan.cells]
    if name is None:
        if len(names) > 1:
            raise SpecError(f"the study has {len(names)} cells: name one of {', '.join(names)}")
        return plan.cells[0]
    if name not in names:
        raise SpecError(unknown("cell", name, names))
    return plan.cells[names.index(name)]


def best_mask(trials: pd.DataFrame, cell: PlannedCell) -> tuple[int, str]:
    """The mask of the cell that ends best on average over its repeats, and the column that says so.

    Validation images choose where the study has some; else the test images do, and what is told of the chosen mask on
    the same images flatters it. Of equal masks the first in order of rank is taken. `StoreError` without trials.
    """
    column = next((name for name in _CHOOSES if name in trials and trials[name].notna().any()), None)
    own = trials[trials["cell"] == cell.name]
    if column is None or own[column].notna().sum() == 0:
        raise StoreError(f"no mask of cell `{cell.name}` was retrained yet: run the study")
    worth = own.assign(mask=own["mask"].map(int)).groupby("mask")[column].mean().sort_index()
    return int(worth.index[int(worth.to_numpy().argmax())]), column


def differs(trials: pd.DataFrame, cell: PlannedCell, rank: int, repeat: int, final: Figures) -> str | None:
    """A sentence where the network made again is not, bit for bit, that of the stored trial; None where it is."""
    own = trials[
        (trials["cell"] == cell.name)
        & (trials["repeat"] == repeat)
        & trials["mask"].map(lambda mask: int(mask) == rank)
    ]
    if own.empty:
        return f"mask {rank} has no trial of repeat {repeat} in the store: nothing to compare its network with"
    stored = float(own["final_test_loss"].iloc[0])
    if stored == final.test_loss:
        return None
    return (
        f"the network made again ends at test loss {final.test_loss:.6g}, its stored trial at {stored:.6g}: "
        "the study was run on another kind of machine or by another version"
    )


def stored_subject(
    plan: Plan,
    cell: PlannedCell,
    rank: int,
    repeat: int,
    store: Store,
    data: Dataset,
    progress: Progress,
    backend: Backend = "auto",
) -> tuple[Subject, Figures]:
    """The mask's network, retrained as the trial of this repeat was, and its final figures.

    `SpecError` for a rank or repeat that the study has not, `StoreError` where the base network is not stored.
    """
    spec = plan.spec
    if not 0 <= repeat < spec.repeats:
        raise SpecError(f"`repeat` must lie in [0, {spec.repeats}), but got {repeat}")
    base = _base(plan, cell, store)
    mask = _mask(plan, cell, rank, store)
    with progress.task("retraining", spec.retrain.epochs, "epochs") as advance:
        trained, final = retrained(
            plan, base.to(data.device), cell, mask, repeat, data, backend=backend, advance=advance, progress=progress
        )
    subject = Subject(
        model=spec.model,
        width_factor=spec.width_factor,
        shape=plan.shape,
        whole=_plain(base),
        pruned=_plain(trained),
        mask=mask,
        images_BCHW=data.test.images_NCHW[:_COMPARED].cpu() if isinstance(data.test, Split) else None,
        normalisation=data.normalisation,
        origin=_origin(plan, cell, rank, repeat),
        figures=_figures(final, data),
    )
    return subject, final


def _mask(plan: Plan, cell: PlannedCell, rank: int, store: Store) -> AnyMask:
    if isinstance(cell.space, WeightSpace):
        stored_masks(plan, cell, store)
        try:
            return cell.space.unrank(rank)
        except KeyError:
            raise SpecError(f"cell `{cell.name}` has no mask {rank}: it drew others") from None
    if not 0 <= rank < cell.space.count:
        raise SpecError(f"`mask` must lie in [0, {cell.space.count}), the masks of cell `{cell.name}`, but got {rank}")
    return cell.space.unrank(rank)


def _base(plan: Plan, cell: PlannedCell, store: Store) -> nn.Module:
    record = store.base(plan.digest, cell.base)
    if record is None:
        raise StoreError(f"the base network of `{plan.spec.name}` is not trained yet: run the study")
    net = plan.nets[cell.base]
    weights_from_bytes(net, record.weights, "of the stored base network")
    return net


def _plain(net: nn.Module) -> nn.Module:
    """On the CPU, in eval mode, weights in the usual layout: that of training is for speed, and files keep it."""
    return net.cpu().eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def _origin(plan: Plan, cell: PlannedCell, rank: int, repeat: int) -> Origin:
    spec = plan.spec
    return Origin(
        study=spec.name,
        digest=plan.digest,
        cell=cell.name,
        base=cell.base,
        mask=str(rank),
        repeat=repeat,
        seed=plan.seed("retraining order", cell.base, repeat),
        removal=spec.removal,
        data=spec.data,
        recipe=spec.retrain.model_dump(mode="json", exclude_defaults=True),
    )


def _figures(final: Figures, data: Dataset) -> dict[str, Figure]:
    train, test = len(data.train), len(data.test)
    known = {
        "final_train_loss": Figure(value=final.train_loss, examples=train),
        "final_train_accuracy": share(final.train_accuracy, train),
        "final_test_loss": Figure(value=final.test_loss, examples=test),
        "final_test_accuracy": share(final.test_accuracy, test),
    }
    if data.validation is None or final.validation_loss is None or final.validation_accuracy is None:
        return known
    validation = len(data.validation)
    return known | {
        "final_validation_loss": Figure(value=final.validation_loss, examples=validation),
        "final_validation_accuracy": share(final.validation_accuracy, validation),
    }


def share(value: float, examples: int) -> Figure:
    """A share of so many examples, with its 95% Wilson interval."""
    from scipy.stats import binomtest

    interval = binomtest(round(value * examples), examples).proportion_ci(method="wilson")
    return Figure(value=value, examples=examples, low=float(interval.low), high=float(interval.high))
