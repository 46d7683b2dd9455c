"""Which backend trains which networks, and why.

One rule: on a CPU, chains of layers go in lanes; on a GPU, convolutional networks are stacked; everything else takes
the plain loop, one network at a time in each worker.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from trueoracle.data import Dataset, Split, StoredSplit
from trueoracle.fleet.chain import Chain, NotAChain, Size, find_chain
from trueoracle.fleet.stacked import NotStackable, check_stackable, fleet_size
from trueoracle.lanes import LANES
from trueoracle.words.errors import ModelError
from trueoracle.words.known import Backend
from trueoracle.words.spec import Recipe

# What fleets know of a recipe; one that says anything else is for the loop.
_KNOWN_KEYS = {
    "optimiser", "lr", "epochs", "batch_size", "momentum", "weight_decay", "schedule", "milestones", "factor", "keep",
    "warmup_epochs", "steps", "evaluate_every", "precision", "distill",
}  # fmt: skip
_KNOWN_OPTIMISERS = ("sgd", "adamw")


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The backend that takes networks, how many of them at a time, and why: a sentence for the report."""

    backend: Literal["lanes", "stacked", "loop"]
    networks: int
    reason: str
    chain: Chain | None = None


class _Refused(Exception):
    """Why a backend takes no such training: the end of a sentence that begins with the network or the recipe."""


def assign(net: nn.Module, data: Dataset, recipe: Recipe, backend: Backend | Assignment = "auto") -> Assignment:
    """Which backend trains networks of this shape on this data; `ModelError` where one is asked for that cannot.

    An assignment that was made before comes back as it is.
    """
    if isinstance(backend, Assignment):
        return backend
    if backend == "loop":
        return _loop(recipe, "The plain loop was asked for: one network at a time.")
    wanted = ("stacked" if data.device.type == "cuda" else "lanes") if backend == "auto" else backend
    try:
        return _lanes(net, data, recipe) if wanted == "lanes" else _stacked(net, data, recipe)
    except _Refused as refusal:
        if backend != "auto":
            raise ModelError(f"the backend `{backend}` cannot train this: {refusal}") from None
        return _loop(recipe, f"One network at a time in the plain loop, for {refusal}.")


def _loop(recipe: Recipe, reason: str) -> Assignment:
    if recipe.precision == "tf32":
        raise ModelError("`precision: tf32` is for stacked fleets on a GPU; the plain loop knows float32 and bfloat16")
    return Assignment(backend="loop", networks=1, reason=reason)


def _lanes(net: nn.Module, data: Dataset, recipe: Recipe) -> Assignment:
    _check_recipe(recipe, "lanes")
    if recipe.precision != "float32":
        raise _Refused(f"the recipe asks for `precision: {recipe.precision}`, and lanes compute in float32")
    if data.device.type != "cpu":
        raise _Refused(f"the network is trained on the device {data.device.type}, and lanes are a CPU's")
    channels, height, width = _images(data).images_NCHW.shape[1:]
    size: Size = (channels, height, width)
    try:
        chain = find_chain(net, size)
    except NotAChain as reason:
        raise _Refused(f"the network {reason}") from None
    return Assignment(
        backend="lanes",
        networks=LANES,
        reason=f"In lanes, {LANES} networks at a time: the network is a chain of layers on a CPU.",
        chain=chain,
    )


def _stacked(net: nn.Module, data: Dataset, recipe: Recipe) -> Assignment:
    _check_recipe(recipe, "stacked fleets")
    if recipe.precision == "tf32" and data.device.type != "cuda":
        raise _Refused("the recipe asks for `precision: tf32`, which only GPUs have")
    _images(data)
    try:
        check_stackable(net, data)
    except NotStackable as reason:
        raise _Refused(f"the network {reason}") from None
    count = fleet_size(net, data, recipe.batch_size)
    return Assignment(
        backend="stacked",
        networks=count,
        reason=f"Stacked, {count} networks at a time: convolutional networks on the device {data.device.type}.",
    )


def _images(data: Dataset) -> Split:
    """The train split, which fleets need as images in memory."""
    if isinstance(data.train, StoredSplit):
        raise _Refused("the images are many or are kept larger than the network sees them")
    if not isinstance(data.train, Split):
        raise _Refused("the data holds other examples than images to be classified")
    return data.train


def _check_recipe(recipe: Recipe, backend: str) -> None:
    """Recipes grow; what a backend has never heard of, it does not do."""
    others = sorted(recipe.model_dump(exclude_defaults=True).keys() - _KNOWN_KEYS)
    if others:
        raise _Refused(f"the recipe asks for `{others[0]}`, which {backend} do not know")
    if recipe.optimiser not in _KNOWN_OPTIMISERS:
        raise _Refused(f"the recipe asks for `optimiser: {recipe.optimiser}`, which {backend} do not know")
