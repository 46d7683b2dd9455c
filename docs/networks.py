"""The table of networks.md: what can be pruned of small random networks of many kinds, and whether it is right.

    python docs/networks.py [--masks 20] [NAME ...]

For every network of the tests' zoo: its sites by kind, the share of parameters that goes when half of the units of every
site go, and the largest difference of a logit, as a share of the largest logit, between the pruned network and the whole
one with the same units silent, in float64: each site alone, then random joint masks over all sites. Beside it,
Torch-Pruning used directly: whether its pruner at ratio 0.5 ends, and whether the network that it leaves runs.
"""

import argparse
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import zoo
from trueoracle.nets import Sites, find_sites, remove, silenced
from trueoracle.nets.fewer_heads import free_of_width
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.silence import unnormalised
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import Shape, TextShape

GROUPS = {"classifiers": zoo.CLASSIFIERS, "language": zoo.LANGUAGE, "handmade": zoo.HANDMADE}
PATIENCE = 20  # seconds for Torch-Pruning's dependency graph, which for some networks does not end


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
    refusal: str
    direct: str

    @property
    def exact(self) -> bool:
        """Whether it has sites and each mask was removed exactly."""
        return not self.refusal and max(self.single, self.joint) < 1e-7

    def markdown(self) -> str:
        """A line of the table."""
        if self.refusal:
            return f"| {self.network} | none: {self.refusal} | | | | {self.direct} |"
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items())
        kinds += f" ({self.normalised} normalised)" if self.normalised else ""
        return f"| {self.network} | {kinds} | {self.gone:.0%} | {self.single:.0e} | {self.joint:.0e} | {self.direct} |"


def main() -> None:
    """Print the table, in Markdown, and how many networks are exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=20)
    parser.add_argument("networks", nargs="*")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    heading = "| network | sites | gone at half | single | joint | Torch-Pruning directly |\n|---|---|--:|--:|--:|---|"
    for group in GROUPS:
        print(f"\n### {group}\n\n{heading}", flush=True)
        found = []
        for row in rows(group, asked.networks, asked.masks):
            print(row.markdown(), flush=True)
            found.append(row)
        print(f"\n{sum(row.exact for row in found)} of {len(found)} have sites and are exact.", flush=True)


def rows(group: str, names: list[str], masks: int) -> Iterator[Row]:
    """The rows of a group of the zoo, or of those of its networks that are named."""
    for name, factory in GROUPS[group].items():
        if not names or name in names:
            yield row(group, name, zoo.made(factory), masks)


def row(group: str, name: str, net: nn.Module, masks: int) -> Row:
    """Everything about one network."""
    shape = zoo.shape_of(group)
    direct = used_directly(net, shape)
    none = Row(group=group, network=name, kinds={}, gone=0, single=0, joint=0, normalised=0, refusal="", direct=direct)
    try:
        sites = find_sites(net, shape)
    except ModelError as error:
        return Row(**{**vars(none), "refusal": str(error).partition("has no site: ")[2] or str(error)})
    rng = np.random.default_rng(0)
    alone = [part(site, site.units - site.units // 2, rng) for site in sites.values() if site.units > 1]
    half = remove(net, Mask(rank=0, sites=tuple(alone)), sites)
    return Row(
        group=group,
        network=name,
        kinds=dict(Counter(site.kind.value for site in sites.values())),
        gone=1 - parameters(half) / parameters(net),
        single=max(difference(net, Mask(rank=0, sites=(one,)), sites, shape) for one in alone),
        joint=max(difference(net, random_mask(sites, rng), sites, shape) for _ in range(masks)),
        normalised=sum(bool(site.normalised_by) for site in sites.values()),
        refusal="",
        direct=direct,
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
    for module in whole.modules():
        if type(module) is nn.MultiheadAttention:
            free_of_width(module)  # torch's own is one operation, in which nothing can be silenced
    with unnormalised(whole, left_out), silenced(whole, mask, sites):
        wanted = logits_of_noise(whole, shape, 2)
    return float((found - wanted).abs().max() / wanted.abs().max())


def parameters(net: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(parameter.numel() for parameter in net.parameters())


def used_directly(net: nn.Module, shape: Shape) -> str:
    """What comes of Torch-Pruning's pruner by weight at ratio 0.5, the network's last layer left out."""
    whole = remove(net, Mask(rank=0, sites=()), Sites({}))
    example: Any = (
        {"input_ids": torch.randint(30, (1, 8))}
        if isinstance(shape, TextShape)
        else torch.randn(1, shape.channels, shape.height, shape.width, dtype=torch.float64)
    )
    last = [module for module in whole.modules() if isinstance(module, nn.Linear)][-1:]
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(PATIENCE)
    try:
        pruner = tp.pruner.BasePruner(
            whole,
            example,
            importance=tp.importance.GroupMagnitudeImportance(),
            pruning_ratio=0.5,
            ignored_layers=last,
            output_transform=lambda out: getattr(out, "logits", out),
        )
        pruner.step()
    except TimeoutError:
        return f"does not end within {PATIENCE} s"
    except Exception as error:
        return f"fails: {type(error).__name__}"
    finally:
        signal.alarm(0)
    gone = 1 - parameters(whole) / parameters(net)
    try:
        with torch.no_grad():
            logits_of_noise(whole, shape, 2)
    except Exception as error:
        return f"{gone:.0%} gone, then its forward pass fails: {type(error).__name__}"
    return f"{gone:.0%} gone, runs"


def _give_up(*_: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    main()
