"""An exported network made again: the whole one built, cut by its mask, filled with the retrained weights."""

from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from trueoracle.nets import MODELS, build, find_sites, load_weights, remove
from trueoracle.selection.bundle import FACTS, WEIGHTS, Pruning, check_files, read_facts
from trueoracle.words.errors import ModelError


@torch.inference_mode(False)  # a network made in inference mode could never be trained again, nor traced
def load(folder: str | Path, model: str | nn.Module | None = None) -> nn.Module:
    """The pruned network of an export folder, on the CPU, in eval mode.

    A built-in network is made by its name. For any other one say what was pruned: `model` is the whole network as a
    module (its weights do not matter, and it is left alone) or a name as in a study, such as `package.module:factory`;
    a folder from elsewhere cannot make code run. `ModelError` where a file was changed, or where the network is not
    the one that was exported.
    """
    folder = Path(folder)
    facts = read_facts(folder)
    check_files(facts, folder, (WEIGHTS,))
    whole = deepcopy(model).eval() if isinstance(model, nn.Module) else _build(facts, model)
    sites = find_sites(whole, facts.shape)
    for name, part in facts.sites.items():
        units = sites.named(name).units
        if units != part.units or not set(part.kept) <= set(range(units)):
            raise ModelError(
                f"`{folder / FACTS}` keeps units of {part.units} at `{name}`, but the network has {units} there: "
                "it is not the network that was exported"
            )
    pruned = remove(whole, facts.mask, sites)
    load_weights(pruned, folder / WEIGHTS)
    return pruned


def _build(facts: Pruning, model: str | None) -> nn.Module:
    if model is None and facts.model not in MODELS:
        raise ModelError(
            f"`{facts.model}` is no built-in network: say what was pruned, as in load(folder, model={facts.model!r}), "
            "if you trust the code of that name, or give the module"
        )
    return build(model or facts.model, facts.shape, width_factor=facts.width_factor)
