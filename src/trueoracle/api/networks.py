"""Networks from Python: what can be pruned of one, and the pruned train loss of its masks."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueoracle.api.environment import default_data_dir, find_device, threads_or_all
from trueoracle.words.errors import SpecError
from trueoracle.words.known import check_dataset, check_device, check_model, check_path
from trueoracle.words.progress import Progress, bars

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from trueoracle.nets import Removal
    from trueoracle.search import Found
    from trueoracle.study.landscape import Question
    from trueoracle.study.searching import Fixed
    from trueoracle.words.shape import Shape


def sites(
    model: "str | nn.Module",
    data: str | None = None,
    *,
    shape: "Shape | None" = None,
    progress: Progress | None = None,
) -> "pd.DataFrame":
    """The sites of a network: a row each, in the order of its modules.

    Columns `site, kind, units`; `parameters_per_unit` and `operations_per_unit`, what the whole network saves by losing
    one unit (operations are multiply-accumulates for one image); `coupled`, the other layers that shrink with it;
    `normalised_by`, what computes one number of several units (a layer normalisation its mean), so that without some of
    them the others are normalised anew: everything else is as if the units that went were silent.
    `model` is a name as in a study, or a module. The images are those of the dataset `data`, or of `shape`; without
    either, the ones that a built-in network is known for.
    """
    check_names(model, data)
    import pandas as pd

    from trueoracle.nets import find_sites, unit_costs, usual_shape

    if data is not None:
        shape = shape_of(data)
    elif shape is None and isinstance(model, str):
        shape = usual_shape(model)
    if shape is None:
        raise SpecError(
            f"which images `{name_of(model)}` takes is not known: name a dataset, such as qa: for a language model"
        )
    net = network(model, None, shape, as_it_is=False)
    found = find_sites(net, shape)
    rows = []
    with (progress or bars()).task("what a unit costs", len(found), "sites") as advance:
        for site, saved in unit_costs(net, found, shape):
            normalised_by = list(dict.fromkeys(map(str, site.normalised_by)))
            names = (list(site.coupled), normalised_by)
            rows.append((site.name, site.kind.value, site.units, saved.parameters, saved.macs, *names))
            advance(1)
    columns = ["site", "kind", "units", "parameters_per_unit", "operations_per_unit", "coupled", "normalised_by"]
    return pd.DataFrame(rows, columns=columns)


def check_names(model: "str | nn.Module", data: str | None) -> None:
    """Wrong names are refused before anything is loaded."""
    if isinstance(model, str):
        check_model(model)
    if data is not None:
        check_dataset(data)


def shape_of(data: str) -> "Shape":
    from trueoracle.data import dataset_shape

    return dataset_shape(data)


def name_of(model: "str | nn.Module") -> str:
    return model if isinstance(model, str) else type(model).__name__


def network(model: "str | nn.Module", weights: str | Path | None, shape: "Shape", *, as_it_is: bool) -> "nn.Module":
    """A network of its own with these weights, or with those that it comes with; a module is copied.

    `as_it_is` says that without `weights` those that it comes with must be trained on these classes.
    """
    from trueoracle.nets import build, check_forward, copied, load_weights

    if isinstance(model, str):
        net = build(model, shape, trained=as_it_is and weights is None)
    else:
        net = copied(model)
        check_forward(net, shape, name_of(model))
    if weights is not None:
        load_weights(net, Path(weights))
    return net


def ask_oracle(
    model: "str | nn.Module",
    weights: str | Path | None,
    data: str,
    prune: Mapping[str, float],
    *,
    sample: int | None = None,
    seed: int = 0,
    removal: "Removal" = "aligned",
    path: str = "auto",
    images: int | None = None,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> "Question":
    """The question that `pruned_losses` answers, checked, with the network and the data loaded."""
    check_names(model, data)
    check_path(path)
    check_device(device)
    from trueoracle.data import Drawn, load_dataset
    from trueoracle.nets import find_sites
    from trueoracle.study.landscape import ask
    from trueoracle.study.plan import mask_space

    shape = shape_of(data)
    net = network(model, weights, shape, as_it_is=True)
    known = find_sites(net, shape)
    space = mask_space(dict(prune), known)
    place = find_device(device)
    progress = progress or bars()
    folder = Path(data_dir) if data_dir is not None else default_data_dir()
    loaded = load_dataset(data, folder, place, progress, drawn=Drawn(model=name_of(model)))
    return ask(
        net.to(place), space, loaded, progress, sample=sample, seed=seed, removal=removal, path=path, images=images
    )


def pruned_losses(
    model: "str | nn.Module",
    weights: str | Path | None,
    data: str,
    prune: Mapping[str, float],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    **how: Any,
) -> "pd.DataFrame":
    """The pruned train loss of every mask, or of `sample` drawn ones: a row a mask, in order of `mask`.

    `model` is a name as in a study, or a module; `weights` a safetensors file, or None for a module and for a model of
    the hub, which have their own. `prune` has a ratio for each site, by name or glob.

    Columns `mask, pruned, pruned_train_loss` (nats, whole train split) and `pruned_train_accuracy`. `how` is what
    `ask_oracle` takes: `sample` and `seed` draw masks; `images` draws images instead of taking the whole split and adds
    a column `standard_error`; `removal` is aligned or released; `path` is auto, exact, batched or loop.
    """
    import torch

    from trueoracle.executors import Threads
    from trueoracle.study.landscape import losses_frame

    torch.set_num_threads(1)
    progress = progress or bars()
    question = ask_oracle(model, weights, data, prune, progress=progress, **how)
    return losses_frame(question, Threads(threads_or_all(threads)), progress)


def search_masks(
    model: "str | nn.Module",
    weights: str | Path | None,
    data: str,
    prune: Mapping[str, float],
    *,
    search: str = "swaps",
    evaluations: int | None = None,
    core_seconds: float | None = None,
    confidence: float = 0.95,
    fix: "Fixed | None" = None,
    threads: int | None = None,
    progress: Progress | None = None,
    **how: Any,
) -> "Found":
    """The mask of lowest pruned train loss that a search finds, with all that it evaluated; see docs/searches.md.

    `search` is swaps, draws, greedy-backward, greedy-forward, sitewise, annealing, evolution, cross-entropy or race; its
    budget is a number of `evaluations`, each one mask on all images, or `core_seconds`. `confidence` is what a race
    is to have. `fix` is `parameters` or `macs`: `swaps` then also moves units between sites, as long as no more of these are
    left than the ratios leave, and the masks found are named as in `trueoracle.space.Subsets`. Other arguments are those of `pruned_losses`; `sample` is for a race, whose masks are then drawn.
    """
    import torch

    from trueoracle.executors import Threads
    from trueoracle.search import Budget, Hunt, find_search
    from trueoracle.study.searching import hunt

    find_search(search)
    budget = Budget(evaluations=evaluations, core_seconds=core_seconds)
    torch.set_num_threads(1)
    progress = progress or bars()
    question = ask_oracle(model, weights, data, prune, progress=progress, **how)
    wanted = Hunt(method=search, budget=budget, seed=how.get("seed", 0), confidence=confidence)
    workers = Threads(threads_or_all(threads))
    return hunt(question, wanted, workers, progress, drawn=how.get("sample") is not None, fix=fix)
