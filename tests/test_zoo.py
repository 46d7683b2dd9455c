"""What is true of every network: each is asked for its sites, and random masks over all of them are removed."""

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from trueoracle.nets import Sites, find_sites, remove, silenced
from trueoracle.nets.fewer_heads import free_of_width
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.silence import unnormalised
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask

NETWORKS = {
    f"{group}: {name}": (factory, zoo.shape_of(group))
    for group, networks in (
        ("handmade", zoo.HANDMADE),
        ("classifiers", zoo.CLASSIFIERS),
        ("language", zoo.LANGUAGE),
    )
    for name, factory in networks.items()
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_answers_the_same_question_in_one_way(name: str) -> None:
    factory, shape = NETWORKS[name]
    net = zoo.made(factory)
    with torch.no_grad():
        first, again = (logits_of_noise(net, shape, 2) for _ in range(2))
    assert torch.equal(first, again)
    assert first.std() > 1e-3


# Each says why in one line.
REFUSED = {
    "handmade: tied_weights": "is no site",
    "handmade: functional": "is no site",
}


def random_mask(sites: Sites, rng: np.random.Generator) -> Mask:
    """Some units of every site that has two, and at least one is left."""
    parts = []
    for site in sites.values():
        if site.units > 1:
            kept = rng.choice(site.units, rng.integers(1, site.units), replace=False)
            parts.append(SiteMask(site=site.name, units=site.units, kept=tuple(sorted(kept.tolist()))))
    return Mask(rank=0, sites=tuple(parts))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in REFUSED])
@torch.no_grad()
def test_removal_is_silence(name: str) -> None:
    """Random joint masks over all sites: the pruned network runs and is the silenced one, in float64."""
    factory, shape = NETWORKS[name]
    net = zoo.made(factory)
    sites = find_sites(net, shape)
    left_out = {by for site in sites.values() for by in site.normalised_by}
    seen_through = zoo.made(factory)
    for module in seen_through.modules():
        if type(module) is nn.MultiheadAttention:
            free_of_width(module)  # torch's own is one operation, in which nothing can be silenced
    rng = np.random.default_rng(0)
    for _ in range(3):
        mask = random_mask(sites, rng)
        pruned = remove(net, mask, sites)
        logits_of_noise(pruned, shape, 2)
        with unnormalised(pruned, left_out):
            found = logits_of_noise(pruned, shape, 2)
        with unnormalised(seen_through, left_out), silenced(seen_through, mask, sites):
            wanted = logits_of_noise(seen_through, shape, 2)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-7 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_site_says_why(name: str) -> None:
    factory, shape = NETWORKS[name]
    with pytest.raises(ModelError, match="has no site: of "):
        find_sites(zoo.made(factory), shape)


def test_heads_free_of_their_width_compute_the_same() -> None:
    """torch's attention and what takes its place when heads go, with every mask there is."""
    torch.manual_seed(0)
    x, padding = torch.randn(2, 5, 16), torch.rand(2, 5) < 0.3
    padding[:, 0] = False
    for first in (True, False):
        own = nn.MultiheadAttention(16, 4, batch_first=first).eval()
        other = nn.MultiheadAttention(16, 4, batch_first=first).eval()
        other.load_state_dict(own.state_dict())
        free_of_width(other)
        tokens = x if first else x.transpose(0, 1)
        for mask in (None, torch.ones(5, 5).triu(1).bool(), torch.randn(5, 5), torch.randn(8, 5, 5)):
            for average in (True, False):
                given = {"attn_mask": mask, "average_attn_weights": average}
                for padded in (None,) if mask is not None and mask.is_floating_point() else (None, padding):
                    wanted = own(tokens, tokens, tokens, key_padding_mask=padded, **given)
                    found = other(tokens, tokens, tokens, key_padding_mask=padded, **given)
                    torch.testing.assert_close(found, wanted)
