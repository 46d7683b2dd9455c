"""The zoo itself: networks that answer, in one way, and differ; and torch's attention, seen through."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM

import zoo
from trueoracle.nets import Kind, find_sites, remove, silenced
from trueoracle.nets.fewer_heads import free_of_width
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.proof import seen_through
from trueoracle.words.mask import Mask, SiteMask


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_it_answers_the_same_question_in_one_way(name: str) -> None:
    factory, shape = zoo.NETWORKS[name]
    net = zoo.made(factory)
    with torch.no_grad():
        first, again = (logits_of_noise(net, shape, 2) for _ in range(2))
    assert torch.equal(first, again)
    assert first.std() > 1e-3


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


def test_dropped_layers_leave_a_model_that_still_generates() -> None:
    """Caches and configuration count the layers that are left."""
    net = zoo.made(zoo.LANGUAGE["Gemma 2"]).float()
    sites = find_sites(net, zoo.TEXT)
    pruned = remove(net, Mask(rank=0, sites=(SiteMask(site="model.layers", units=2, kept=(1,)),)), sites)
    tokens = torch.arange(3, 9)[None]
    with torch.no_grad():
        alone = pruned(input_ids=tokens, use_cache=False).logits
        first = pruned(input_ids=tokens[:, :4], use_cache=True)
        rest = pruned(input_ids=tokens[:, 4:], past_key_values=first.past_key_values, use_cache=True).logits
    torch.testing.assert_close(torch.cat([first.logits, rest], 1), alone, rtol=1e-4, atol=1e-4)
    assert pruned.config.num_hidden_layers == 1
    assert pruned.config.layer_types == net.config.layer_types[1:]
    assert net.config.num_hidden_layers == 2


def test_a_block_that_is_not_residual_is_no_unit() -> None:
    kinds = {
        name: {site.kind for site in find_sites(zoo.made(zoo.LANGUAGE[name]), zoo.TEXT).values()}
        for name in ("BERT", "Llama")
    }
    assert Kind.BLOCK not in kinds["BERT"]  # it normalises the sum with its shortcut
    assert Kind.BLOCK in kinds["Llama"]


@torch.no_grad()
def test_a_mixture_as_it_comes_has_sites_and_runs_with_any_number_of_neurons() -> None:
    """By default `transformers` asks experts by grouped products, which know no float64 and no odd widths."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    net = MixtralForCausalLM(
        MixtralConfig(**sizes, vocab_size=40, num_hidden_layers=2, num_local_experts=4, pad_token_id=0)
    ).eval()
    assert net.config._experts_implementation == "grouped_mm"
    sites = find_sites(net, zoo.TEXT)
    assert {"model.layers.0.mlp", "model.layers.0.mlp.experts", "model.layers.0.self_attn"} <= set(sites)
    for kept in (24, 23, 1):
        part = SiteMask(site="model.layers.0.mlp.experts", units=48, kept=tuple(range(kept)))
        mask = Mask(rank=0, sites=(part,))
        found = logits_of_noise(remove(net, mask, sites), zoo.TEXT, 2)
        whole = seen_through(deepcopy(net))
        with silenced(whole, mask, sites):
            wanted = logits_of_noise(whole, zoo.TEXT, 2)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
        assert (wanted - logits_of_noise(net, zoo.TEXT, 2)).abs().max() > 1e-4 * wanted.abs().max()
    assert net.config._experts_implementation == "grouped_mm"


def test_experts_go_with_their_row_of_the_router() -> None:
    net = zoo.made(zoo.LANGUAGE["Mixtral"])
    sites = find_sites(net, zoo.TEXT)
    mask = Mask(rank=0, sites=(SiteMask(site="model.layers.0.mlp", units=4, kept=(2,)),))
    mixture = remove(net, mask, sites).get_submodule("model.layers.0.mlp")
    whole = net.get_submodule("model.layers.0.mlp")
    assert torch.equal(mixture.gate.weight, whole.gate.weight[2:3])
    assert torch.equal(mixture.experts.down_proj, whole.experts.down_proj[2:3])
    assert mixture.gate.top_k == 1  # of one expert no two are asked
