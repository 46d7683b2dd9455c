"""A mask: which units of each site are removed and which are kept, named by its rank in a mask space; or which weights.

The second kind removes no unit but holds single weights at zero. There are too many such masks for ranks that one could
write down: their names are digests of what they say.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteMask:
    """The part of a mask that concerns one site of `units` units; `kept` is sorted."""

    site: str
    units: int
    kept: tuple[int, ...]

    @property
    def pruned(self) -> tuple[int, ...]:
        """The units that go, sorted."""
        kept = frozenset(self.kept)
        return tuple(unit for unit in range(self.units) if unit not in kept)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mask:
    """One way to prune: a part for every site of its space, in the space's order.

    `rank` is the mask's name: its place in the mask space (see `trueoracle.space.MaskSpace`).
    """

    rank: int
    sites: tuple[SiteMask, ...]

    @property
    def pruned(self) -> dict[str, tuple[int, ...]]:
        """Site name -> sorted indices of the units removed there."""
        return {part.site: part.pruned for part in self.sites}

    @property
    def pruned_json(self) -> str:
        """`pruned` as JSON, as it stands in every table."""
        return json.dumps(self.pruned)


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightGroup:
    """Weights that are pruned together: of every `row` of them that follow one another `kept` stay.

    `layers` are the names of the layers they stand in with the shape of each one's weights, inputs last: (outputs, ...,
    inputs). The weights are counted layer after layer in that order. At a ratio one row holds them all; a pattern N:M has
    rows of M.
    """

    site: str
    layers: tuple[tuple[str, tuple[int, ...]], ...]
    row: int
    kept: int

    @property
    def units(self) -> int:
        """How many weights there are."""
        return sum(prod(shape) for _, shape in self.layers)

    @property
    def rows(self) -> int:
        """How many rows they fill."""
        return self.units // self.row

    @property
    def pruned(self) -> int:
        """How many of them go."""
        return self.rows * (self.row - self.kept)

    def split(self, of_weights: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Each layer with its part of an array that holds something of every weight, in the layer's shape."""
        begin = 0
        for layer, shape in self.layers:
            yield layer, of_weights[begin : begin + prod(shape)].reshape(shape)
            begin += prod(shape)


@dataclass(frozen=True, kw_only=True)
class WeightMask:
    """Which weights are held at zero: for every group a bit a weight, packed (`numpy.packbits`), 1 for one that goes.

    `criterion` names what gave the mask; it is empty where chance did.
    """

    groups: tuple[WeightGroup, ...]
    bits: tuple[bytes, ...]
    criterion: str = ""

    @cached_property
    def rank(self) -> int:
        """The mask's name, 19 digits of the SHA-256 of `pruned_json`: it stands where masks of units have their rank."""
        number = int.from_bytes(sha256(self.pruned_json.encode()).digest()[:8], "big")
        return _FIRST_NAME + number % (LARGEST_NAME + 1 - _FIRST_NAME)

    @cached_property
    def pruned_json(self) -> str:
        """The whole mask as JSON, as it stands in every table; `read_mask` reads it back."""
        by = {"criterion": self.criterion} if self.criterion else {}
        return json.dumps(
            {
                group.site: {
                    "layers": dict(group.layers),
                    "row": group.row,
                    "kept": group.kept,
                    "pruned": b64encode(bits).decode(),
                    **by,
                }
                for group, bits in zip(self.groups, self.bits, strict=True)
            }
        )

    @property
    def gone_by_site(self) -> dict[str, NDArray[np.bool_]]:
        """Group -> of each of its weights, in the group's order, whether it goes."""
        return {
            group.site: np.unpackbits(np.frombuffer(bits, np.uint8), count=group.units).view(np.bool_)
            for group, bits in zip(self.groups, self.bits, strict=True)
        }

    @property
    def gone_by_layer(self) -> dict[str, NDArray[np.bool_]]:
        """Layer -> of each of its weights whether it goes, in the shape that the group gives: inputs last."""
        of_site = self.gone_by_site
        return {layer: part for group in self.groups for layer, part in group.split(of_site[group.site])}

    @property
    def kept_by_layer(self) -> dict[str, tuple[int, int]]:
        """Layer -> how many weights it has and keeps."""
        return {layer: (gone.size, gone.size - int(gone.sum())) for layer, gone in self.gone_by_layer.items()}


LARGEST_NAME = 2**63 - 1
_FIRST_NAME = 10**18  # all names have 19 digits


def read_mask(text: str) -> dict[str, list[int]] | WeightMask:
    """What stands in a table under `pruned`: units by site, or a mask of weights; `ValueError` for anything else."""
    facts = json.loads(text)
    if not isinstance(facts, dict):
        raise ValueError("no mask")
    if facts and all(isinstance(of_site, dict) for of_site in facts.values()):
        return _read_weights(facts)
    return {str(site): [int(unit) for unit in units] for site, units in facts.items()}


def _read_weights(facts: dict[str, dict[str, Any]]) -> WeightMask:
    try:
        groups = tuple(
            WeightGroup(
                site=site,
                layers=tuple((layer, tuple(shape)) for layer, shape in of_site["layers"].items()),
                row=of_site["row"],
                kept=of_site["kept"],
            )
            for site, of_site in facts.items()
        )
        bits = tuple(b64decode(of_site["pruned"], validate=True) for of_site in facts.values())
        criterion = next(iter(facts.values())).get("criterion", "")
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"no mask of weights: {error}") from None
    if any(len(packed) != -(-group.units // 8) for group, packed in zip(groups, bits, strict=True)):
        raise ValueError("the bits of a mask of weights are not one a weight")
    return WeightMask(groups=groups, bits=bits, criterion=criterion)


AnyMask = Mask | WeightMask
