"""All sites of a network."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from trueoracle.nets.blocks import head_sites, neuron_sites
from trueoracle.nets.copying import twin
from trueoracle.nets.depth import block_sites
from trueoracle.nets.outputs import give_logits
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.proof import Trial, proved, seen_through
from trueoracle.nets.sites import Site, Sites
from trueoracle.nets.text import decoder
from trueoracle.nets.tracing import Tracing
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import InputShape, NoiseShape, Shape, TextShape


def find_sites(net: nn.Module, shape: Shape) -> Sites:
    """The sites of `net`: heads by the names of their projections, blocks by trial, filters and neurons by tracing an image.

    In language models the neurons are first those of the MLPs that are known by the names of their layers, a text is traced
    for the rest, and what lies outside of the decoder, as eyes do, is no site. Raises `ModelError` where a classifier of
    images cannot be traced, or `net` has no site.
    """
    net = copied(net)  # of its own: a network may be at work in another thread
    passed = _text_sites(net, shape) if isinstance(shape, TextShape) else _image_sites(net, shape)
    return _in_order(net, passed, passed.refused)


@torch.no_grad()
def _answer(net: nn.Module, shape: Shape) -> Any:
    """What it returns; `ModelError` where it takes no images or texts of this shape."""
    try:
        return logits_of_noise(net, shape, 1)
    except Exception as error:  # whatever a user's forward pass raises
        raise ModelError(f"{type(net).__name__} cannot take {shape}: {type(error).__name__}: {error}") from error


def copied(net: nn.Module) -> nn.Module:
    """A copy in eval mode; `ModelError` where weights are computed anew in front of each forward pass, which no cut survives."""
    for name, module in net.named_modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, BasePruningMethod):
                raise ModelError(
                    f"`{name}` is masked by torch.nn.utils.prune: make its mask permanent first, by "
                    f"torch.nn.utils.prune.remove(module, '{hook._tensor_name}')"
                )
    try:
        return twin(net).eval()
    except Exception as error:  # whatever a user's module raises
        raise ModelError(f"{type(net).__name__} cannot be copied: {str(error).splitlines()[0]}") from error


def _image_sites(net: nn.Module, shape: InputShape | NoiseShape) -> Sites:
    """The sites that pass, of the way to cut in which most do."""
    answer = _answer(net, shape)
    if isinstance(shape, InputShape) and not isinstance(answer, Tensor):
        give_logits(net, shape, type(net).__name__)
        answer = _answer(net, shape)
    heads = _with_blocks(head_sites(net), net, shape)
    return _most(Tracing(net, shape, heads), answer)


def _most(tracing: Tracing, answer: Tensor) -> Sites:
    """Of the sites that are known and those that are traced, the ones that pass, of the way to cut in which most do.

    `answer` is what the network answered before.
    """
    known = tracing.others
    first = _all(known, tracing.sites())
    if not first:
        return first
    trial = Trial(tracing.net, tracing.shape, answer)
    best = proved(trial, first, tracing.parts())
    for others in tracing.alternatives(best):
        tried = proved(trial, _all(known, others))
        best = tried if len(tried) > len(best) else best
    return best


def _all(heads: Sites, others: Sites) -> Sites:
    found = {**heads, **others}
    refused = {**heads.refused, **others.refused}
    return Sites(found, {layer: reason for layer, reason in refused.items() if layer not in found})


def _with_blocks(sites: Sites, net: nn.Module, shape: Shape, inside: str = "") -> Sites:
    blocks = {site.name: site for site in block_sites(net, shape) if site.name.startswith(inside)}
    return Sites({**sites, **blocks}, sites.refused)


def _text_sites(net: nn.Module, shape: TextShape) -> Sites:
    """The sites that pass, as of images; where the forward pass cannot be traced, those that are known by names."""
    known = _known_by_names(net)
    answer = _answer(net, shape)
    known = _with_blocks(known, net, shape, decoder(net))
    try:
        tracing = Tracing(seen_through(net), shape, known)
    except ModelError as error:
        untraced = Sites(known.found, {**known.refused, _embedding(net): f"its units cannot be followed: {error}"})
        return proved(Trial(net, shape, answer), untraced) if untraced else untraced
    return _most(tracing, answer)


def language_sites(net: nn.Module) -> Sites:
    """What may be the sites of a language model, blocks left out, those of a single unit among them; unproved."""
    net = seen_through(copied(net))
    known = _known_by_names(net)
    try:
        tracing = Tracing(net, TextShape(), known)
        return _all(tracing.others, tracing.sites())
    except ModelError:  # as when its sites were found
        return known


def _known_by_names(net: nn.Module) -> Sites:
    """What the names of a language model's layers say that its sites are; and why others are none."""
    heads = head_sites(net)
    every = {**heads, **neuron_sites(net)}
    inside = decoder(net)
    found = {name: site for name, site in every.items() if name.startswith(inside)}
    refused = dict.fromkeys(every.keys() - found.keys(), f"it is no part of the language model, `{inside}`")
    if inside:
        refused[_embedding(net)] = f"layers outside of `{inside}` make tokens for it too, and these stay as wide"
    return Sites(found, {**heads.refused, **refused})


def _embedding(net: nn.Module) -> str:
    """The name of what embeds a language model's tokens."""
    made = net.get_input_embeddings()  # type: ignore[operator]
    return next((name for name, module in net.named_modules() if module is made), "")


def _in_order(net: nn.Module, found: Mapping[str, Site], refused: Mapping[str, str]) -> Sites:
    """In the order of the network's modules, and of their bare parameters."""
    if not found:
        reasons = (f": of `{layer}`, {reason}" for layer, reason in refused.items())
        raise ModelError(f"{type(net).__name__} has no site{next(reasons, ', for it has no layers that are known')}")
    place = {name: at for at, (name, _) in enumerate(net.named_modules())}
    order = sorted(found, key=lambda name: place.get(name, place.get(name.rpartition(".")[0], 0)))
    return Sites({name: found[name] for name in order}, refused)
