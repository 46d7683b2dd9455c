"""Criteria from Python: what every one of them says of a network of the user's own, without retraining."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trueoracle.api.environment import default_data_dir, find_device, threads_or_all
from trueoracle.api.networks import check_names, name_of, network, shape_of
from trueoracle.words.errors import SpecError
from trueoracle.words.known import check_device
from trueoracle.words.plugins import look_up
from trueoracle.words.progress import Progress, bars
from trueoracle.words.scores import IMAGES, MASK_PREDICTORS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from trueoracle.criteria import UnitCriterion
    from trueoracle.nets import Site, Sites
    from trueoracle.words.examples import Examples

    Values = NDArray[np.float64]

CONTROLS = ("random", "reversed_l1")
"""Criteria that are meant to be wrong: with them nobody need agree."""


def unit_scores(
    model: "str | nn.Module",
    data: str,
    *,
    weights: str | Path | None = None,
    images: int | None = None,
    criteria: Sequence[str] | None = None,
    sites: Sequence[str] | None = None,
    seed: int = 0,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> "pd.DataFrame":
    """How much every unit of a network matters, by every criterion: higher for a unit to keep. Nothing is trained.

    `model`, `weights` and `data` are as for `pruned_losses`; a module is judged as it is, and not changed. `images` train
    images (or questions) are drawn by `seed`: 256 where nothing is said, or all where there are fewer. `criteria` names
    some, `sites` some by name or glob; None for all. What each one computes: docs/criteria.md.

    A row a site, unit and criterion, in this order: columns `site, unit, criterion, value, refused`. Where a criterion
    cannot judge a site, `value` is NaN and `refused` says why; else `refused` is empty. Numbers do not depend on `threads`
    but for rounding.
    """
    check_names(model, data)
    check_device(device)
    import pandas as pd

    from trueoracle.criteria import gathered, judged_of, needs_of
    from trueoracle.nets import find_sites

    asked = _asked(criteria)
    workers, place, progress = threads_or_all(threads), find_device(device), progress or bars()
    shape = shape_of(data)
    net = network(model, weights, shape, as_it_is=True)
    known = _chosen(find_sites(net, shape), sites)
    net = net.to(place).eval()
    for weight in net.parameters():  # whether a weight is to be trained says nothing of how much it matters
        weight.requires_grad_(weight.is_floating_point())
    examples = _examples(data, name_of(model), images, seed, data_dir, place, progress) if needs_of(asked) else None
    with _torch_threads(workers):
        with progress.task("looking at examples", len(examples or ()), "examples") as advance:
            collected = gathered(net, known, examples, asked, advance)
        parts = []
        with progress.task("judging units", len(known), "sites") as advance:
            for name, site in known.items():
                importance, refused = judged_of({name: collected.pop(name)}, asked)
                parts.append(_of_site(site, list(asked), importance, refused))
                advance(1)
    return pd.concat(parts, ignore_index=True)


def criteria_agreement(table: "pd.DataFrame") -> "pd.DataFrame":
    """How far criteria agree about the units of each site: a row a site, from the table of `criteria`.

    Columns `site, units, criteria` (how many judge it), `agreement` (the mean of Spearman's rank correlation over
    all pairs of them), `outsider` (the one that agrees least with the others) and `outsider_agreement` (its mean with them).
    The controls, and criteria that say the same of all units, are left out; NaN and "" where fewer than two are left.
    """
    import numpy as np
    import pandas as pd

    rows = []
    judged = table[table["value"].notna() & ~table["criterion"].isin(CONTROLS)]
    for site, units in table.groupby("site", sort=False)["unit"].nunique().items():
        of_site = judged[judged["site"] == site].pivot(index="unit", columns="criterion", values="value")
        telling = of_site.loc[:, of_site.nunique() > 1]
        agreement_K = _mean_with_others(telling.rank().to_numpy())
        last = int(np.argmin(agreement_K)) if len(agreement_K) else None
        outsider = ("", np.nan) if last is None else (telling.columns[last], agreement_K[last])
        mean = agreement_K.mean() if len(agreement_K) else np.nan
        rows.append((site, units, of_site.shape[1], mean, *outsider))
    columns = ["site", "units", "criteria", "agreement", "outsider", "outsider_agreement"]
    return pd.DataFrame(rows, columns=columns)


def _mean_with_others(rank_UK: "Values") -> "Values":
    """(K,): of each criterion the mean correlation with the others; empty for fewer than two."""
    import numpy as np

    K = rank_UK.shape[1]
    return (np.corrcoef(rank_UK.T).sum(0) - 1) / (K - 1) if K > 1 else np.empty(0)


def _asked(names: Sequence[str] | None) -> "dict[str, UnitCriterion]":
    """The criteria of these names, all for None; `SpecError` for a name that is none of them."""
    from trueoracle.criteria import every_unit_criterion, shipped_criteria

    known = every_unit_criterion() | shipped_criteria(names)
    if names is None:
        return known
    if not names:
        raise SpecError("`criteria` names none: leave it out for all, or name some")
    for name in names:
        if name in MASK_PREDICTORS:
            raise SpecError(f"`{name}` judges masks, not units: `trueoracle criteria STUDY --measure` measures it")
    return {name: look_up("criterion", name, known, SpecError) for name in names}


def _chosen(found: "Sites", patterns: Sequence[str] | None) -> "dict[str, Site]":
    """The sites that these names and globs stand for, all for None, in the network's order."""
    if patterns is None:
        return dict(found)
    names = {name for pattern in patterns for name in found.matching(pattern)}
    return {name: site for name, site in found.items() if name in names}


def _examples(
    data: str,
    model: str,
    images: int | None,
    seed: int,
    data_dir: str | Path | None,
    place: "torch.device",
    progress: Progress,
) -> "Examples":
    """So many of the train split; `SpecError` where it has fewer."""
    from trueoracle.data import Drawn, load_dataset
    from trueoracle.study.survey import part_of

    folder = Path(data_dir) if data_dir is not None else default_data_dir()
    train = load_dataset(data, folder, place, progress, drawn=Drawn(model=model)).train
    return part_of(train, min(IMAGES, len(train)) if images is None else images, seed)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """While it lasts, torch computes with so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _of_site(
    site: "Site",
    criteria: Sequence[str],
    importance: "Mapping[str, Mapping[str, Tensor]]",
    refused: Mapping[str, Mapping[str, str]],
) -> "pd.DataFrame":
    """The rows of one site: see `criteria`."""
    import numpy as np
    import pandas as pd
    import torch

    unjudged_U = torch.full((site.units,), torch.nan, dtype=torch.float64)
    value_UC = torch.stack([importance.get(name, {}).get(site.name, unjudged_U) for name in criteria], 1)
    return pd.DataFrame(
        {
            "site": site.name,
            "unit": np.arange(site.units).repeat(len(criteria)),
            "criterion": list(criteria) * site.units,
            "value": value_UC.flatten().numpy(),
            "refused": [refused.get(name, {}).get(site.name, "") for name in criteria] * site.units,
        }
    )
