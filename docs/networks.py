"""The table of networks.md: what can be pruned of small random networks of many kinds, and whether it is right.

    python docs/networks.py [--masks 20] [NAME ...]

For every network of the tests' zoo: its sites by kind, the share of parameters that goes when half of the units of every
site go, and the largest difference of a logit, as a share of the largest logit, between the pruned network and the whole
one with the same units silent, in float64: each site alone, then random joint masks over all sites. Beside it,
Torch-Pruning used directly (`networks_peer`): what is gone, whether that is the silenced network, how many of its groups
are right, and which share of what those take is covered by our sites. Blocks and whole experts, which Torch-Pruning does
not prune, stay out of both comparisons.
"""

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from networks_peer import Direct, thinned, used_directly

import zoo
from trueoracle.nets import Kind, Sites, find_sites, remove, silenced
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.proof import seen_through
from trueoracle.nets.silence import unnormalised
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import Shape

GROUPS = {"classifiers": zoo.CLASSIFIERS, "language": zoo.LANGUAGE, "handmade": zoo.HANDMADE}
HEADING = """\
| network | sites | width gone at half | single | joint | Torch-Pruning directly | groups right | covered |
|---|---|--:|--:|--:|---|---|--:|"""
HALF = 0.5
COVERED = 0.9  # of what Torch-Pruning thins rightly, for a network to count as covered


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network: sites by kind, share of parameters gone at half, largest differences; or why it has no site."""

    group: str
    network: str
    kinds: dict[str, int]
    gone: float
    single: float
    joint: float
    normalised: int
    covered: float | None
    refusal: str
    direct: Direct

    @property
    def exact(self) -> bool:
        """Whether it has sites and each mask was removed exactly."""
        return not self.refusal and max(self.single, self.joint) < 1e-7

    @property
    def covers(self) -> bool:
        """Whether it is exact and has what a user of Torch-Pruning would expect: what that thins rightly, if anything."""
        return self.exact and (self.covered is None or self.covered >= COVERED)

    def markdown(self) -> str:
        """A line of the table."""
        direct = self.direct
        right = f"{direct.right} of {direct.groups}" if direct.groups else ""
        if self.refusal:
            return f"| {self.network} | none: {self.refusal} | | | | {direct.outcome} | {right} | |"
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items())
        kinds += f" ({self.normalised} normalised)" if self.normalised else ""
        covered = "" if self.covered is None else f"{self.covered:.0%}"
        return (
            f"| {self.network} | {kinds} | {self.gone:.0%} | {self.single:.0e} | {self.joint:.0e} "
            f"| {direct.outcome} | {right} | {covered} |"
        )


def main() -> None:
    """Print the table, in Markdown, and how many networks are exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=20)
    parser.add_argument("networks", nargs="*")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for group in GROUPS:
        print(f"\n### {group}\n\n{HEADING}", flush=True)
        found = []
        for row in rows(group, asked.networks, asked.masks):
            print(row.markdown(), flush=True)
            found.append(row)
        print(f"\n{total(found)}", flush=True)


def total(rows: list[Row]) -> str:
    """How many networks are exact, and how many have what Torch-Pruning's users expect."""
    beside = [row for row in rows if row.covered is not None]
    alone = [row for row in rows if row.covered is None]
    little = [f"{row.network} {row.gone:.1%}" for row in alone if row.gone < HALF]
    return (
        f"{sum(row.exact for row in rows)} of {len(rows)} have sites and are exact. Of {len(beside)} Torch-Pruning thins "
        f"something rightly: {sum(row.covers for row in beside)} are covered. Of the other {len(alone)}, less than half of "
        f"the parameters goes of {len(little)}{': ' * bool(little)}{', '.join(little)}."
    )


def rows(group: str, names: list[str], masks: int) -> Iterator[Row]:
    """The rows of a group of the zoo, or of those of its networks that are named."""
    for name, factory in GROUPS[group].items():
        if not names or name in names:
            yield row(group, name, zoo.made(factory), masks)


def row(group: str, name: str, net: nn.Module, masks: int) -> Row:
    """Everything about one network."""
    shape = zoo.shape_of(group)
    direct = used_directly(net, shape)
    none = Row(
        **dict.fromkeys(("gone", "single", "joint", "normalised"), 0),
        group=group,
        network=name,
        kinds={},
        refusal="",
        direct=direct,
        covered=0.0,
    )
    try:
        sites = find_sites(net, shape)
    except ModelError as error:
        return replace(none, refusal=str(error).partition("has no site: ")[2] or str(error))
    rng = np.random.default_rng(0)
    alone = [part(site, site.units // 2, rng) for site in sites.values() if site.units > 1]
    width = tuple(one for one in alone if sites[one.site].kind not in (Kind.BLOCK, Kind.EXPERT))
    narrow = remove(net, Mask(rank=0, sites=width), sites)
    return replace(
        none,
        kinds=dict(Counter(site.kind.value for site in sites.values())),
        gone=1 - parameters(narrow) / parameters(net),
        single=max(difference(net, Mask(rank=0, sites=(one,)), sites, shape) for one in alone),
        joint=max(difference(net, random_mask(sites, rng), sites, shape) for _ in range(masks)),
        normalised=sum(bool(site.normalised_by) for site in sites.values()),
        covered=direct.covered_by(thinned(net, narrow)),
    )


def part(site: Any, kept: int, rng: np.random.Generator) -> SiteMask:
    """So many units of a site, drawn."""
    units = rng.choice(site.units, kept, replace=False)
    return SiteMask(site=site.name, units=site.units, kept=tuple(sorted(units.tolist())))


def random_mask(sites: Sites, rng: np.random.Generator) -> Mask:
    """Of every site at least one unit stays and at least one goes."""
    parts = [part(site, rng.integers(1, site.units), rng) for site in sites.values() if site.units > 1]
    return Mask(rank=0, sites=tuple(parts))


@torch.no_grad()
def difference(net: nn.Module, mask: Mask, sites: Sites, shape: Shape) -> float:
    """The largest difference of a logit between the pruned and the silenced network, as a share of the largest logit.

    Where a normalisation computes one number of several pruned units, that number is left out of both.
    """
    left_out = {by for part in mask.sites for by in sites[part.site].normalised_by}
    pruned = remove(net, mask, sites)
    with unnormalised(pruned, left_out):
        found = logits_of_noise(pruned, shape, 2)
    whole = remove(net, Mask(rank=0, sites=()), sites)
    whole = seen_through(whole)
    with unnormalised(whole, left_out), silenced(whole, mask, sites):
        wanted = logits_of_noise(whole, shape, 2)
    return float((found - wanted).abs().max() / wanted.abs().max())


def parameters(net: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(parameter.numel() for parameter in net.parameters())


if __name__ == "__main__":
    main()
