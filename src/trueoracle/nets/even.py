"""Configurations of `transformers` for networks whose layers were all left with as much: the library makes them again by itself."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from trueoracle.nets.sites import HEADS, Kind, Site, Sites

_NEURONS = ("n_inner", "intermediate_size", "ffn_dim")


def even_config(model: nn.Module, net: nn.Module, sites: Sites) -> Any | str:
    """A configuration from which a model of exactly the shapes of `model` is made, or why there is none.

    `model` is the one of `transformers`, `net` it or what it is wrapped in, to which the `sites` belong.
    """
    text = model.config.get_text_config()  # type: ignore[union-attr,operator]
    neurons = {site.units for site in sites.values() if site.kind is Kind.NEURON}
    heads = {_heads(net, site) for site in sites.values() if site.kind in HEADS} or _heads_by_shape(model, text)
    widths = {site.units for site in sites.values() if site.kind is Kind.CHANNEL} or {text.hidden_size}
    for what, sizes in (("neurons", neurons), ("heads", heads), ("channels", widths)):
        if len(sizes) > 1:
            return f"its layers are left with different numbers of {what}, for which `transformers` has no words"
    why = "nothing in it can be set"
    for config in _candidates(model, next(iter(neurons), None), next(iter(heads), None), next(iter(widths))):
        found = _other_shape(model, config)
        if found is None:
            return config
        why = found
    return why


def _candidates(model: nn.Module, neurons: int | None, heads: tuple[int, int] | None, width: int) -> Iterator[Any]:
    """Configurations with these sizes: with the heads' own size as it follows from the width, then with it written out.

    Some networks cut it from the width whatever they are told, others silently build other shapes unless it is told.
    """
    for written in (False, True):
        config: Any = deepcopy(model.config)
        text = config.get_text_config()
        known = _head_size(text)
        text.hidden_size = width
        if neurons is not None:
            setattr(text, next((name for name in _NEURONS if hasattr(text, name)), _NEURONS[1]), neurons)
        if heads is not None:
            text.num_attention_heads = heads[0]
            if hasattr(text, "num_key_value_heads"):
                text.num_key_value_heads = heads[1]
            if written:
                text.head_dim = known
        yield config


def _head_size(text: Any) -> int:
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)


def _other_shape(model: nn.Module, config: Any) -> str | None:
    """In what a model made from `config` differs from `model`; None where it does not."""
    try:
        with torch.device("meta"):
            made = type(model)._from_config(config)  # type: ignore[attr-defined]
    except Exception as error:  # whatever a configuration raises that does not add up
        return str(error).splitlines()[0]
    wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
    found = {name: tuple(p.shape) for name, p in made.named_parameters()}
    if wanted == found:
        return None
    name = next(name for name in {**wanted, **found} if wanted.get(name) != found.get(name))
    return f"`{name}` would be {found.get(name, 'missing')} where it is {wanted.get(name, 'missing')}"


def _heads(net: nn.Module, site: Site) -> tuple[int, int]:
    """Query heads and key/value heads of an attention module."""
    return site.units * int(getattr(net.get_submodule(site.name), "num_key_value_groups", 1)), site.units


def _heads_by_shape(model: nn.Module, text: Any) -> set[tuple[int, int]]:
    """The same of every attention, by its projections: where a single head is left it is no site."""
    size = _head_size(text)
    ends: dict[str, list[int]] = {"q": [], "k": []}
    for name, layer in model.named_modules():
        kind = {"q_proj": "q", "query": "q", "k_proj": "k", "key": "k"}.get(name.rpartition(".")[2])
        if kind is not None and isinstance(layer, nn.Linear):
            ends[kind].append(layer.out_features // size)
    return set(zip(ends["q"], ends["k"], strict=False))
