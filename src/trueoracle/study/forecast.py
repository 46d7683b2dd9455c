"""What a study will take, told without making its network: masks from its cells, time from trials that were run before."""

from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.store import Store
from trueoracle.words.known import MODELS
from trueoracle.words.spec import CellSpec, StudySpec


def masks_in_play(spec: StudySpec) -> int | None:
    """Masks of all cells and base networks; None where a cell takes all masks of a network that must be made first."""
    counts = [masks_of(cell, spec) for cell in spec.cells]
    return None if None in counts else spec.base_networks * sum(filter(None, counts))


def masks_of(cell: CellSpec, spec: StudySpec) -> int | None:
    """Masks of one cell of one base network; None as for `masks_in_play`."""
    if cell.draw is not None or cell.search is not None or cell.masks or cell.criteria:
        tail, searched = cell.tail.masks if cell.tail else 0, cell.search.keep if cell.search else 0
        return (cell.draw or 0) + tail + searched + len(cell.masks) + len(cell.criteria)
    if cell.weights:
        return None
    units = MODELS.get(spec.model, {})
    if spec.width_factor != 1 or not cell.prune.keys() <= units.keys():
        return None
    return MaskSpace(tuple(SiteChoice.at_ratio(site, units[site], ratio) for site, ratio in cell.prune.items())).count


def retraining_seconds(spec: StudySpec, store: Store) -> float | None:
    """Core-seconds of all retraining, at the rate of the trials in `store` of this network on as many of these images.

    None where there are none. Of several such studies the one of most trials counts; its rate is that of an epoch.
    """
    masks, tallies = masks_in_play(spec), store.tallies()
    past = [(tallies[record.digest], record.parsed) for record in store.studies() if record.digest in tallies]
    alike = [
        (tally.trials, tally.mean_seconds / one.retrain.epochs) for tally, one in past if _pace(one) == _pace(spec)
    ]
    return None if masks is None or not alike else max(alike)[1] * spec.retrain.epochs * spec.repeats * masks


_PACELESS = {"lr", "momentum", "nesterov", "weight_decay", "epochs", "milestones", "schedule", "factor", "keep",
             "warmup_epochs", "label_smoothing"}  # fmt: skip


def _pace(spec: StudySpec) -> tuple[object, ...]:
    """What decides how long an epoch takes, but for the sizes of what is left of the network."""
    recipe = spec.retrain.model_dump(exclude=_PACELESS)
    return (spec.model, spec.width_factor, spec.data, spec.train_images, spec.test_images, recipe)
