"""Language models: their sites, removal held to the silenced network, sizes by hand, round trips, and clear refusals."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from trueoracle.nets import Kind, build, cost, find_sites, remove, save_language_model, silenced, unnormalised
from trueoracle.nets.llava_mini import llava_mini_config, write_llava_mini
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import InputShape, TextShape

TEXT = TextShape()
SIZES = {"vocab_size": 258, "hidden_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 64}


def llama() -> nn.Module:
    """Eight query heads of four channels in two groups, twelve gated neurons."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SIZES, num_attention_heads=8, num_key_value_heads=2, intermediate_size=12))


def qwen() -> nn.Module:
    """As `llama`, with biases of queries, keys and values, and embeddings that are the head's weights too."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(
        Qwen2Config(
            **SIZES, num_attention_heads=8, num_key_value_heads=4, intermediate_size=12, tie_word_embeddings=True
        )
    )


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=258, n_positions=64, n_embd=32, n_layer=2, n_head=4, n_inner=20))


def llava() -> nn.Module:
    return build("llava-mini", TEXT)


FAMILIES: dict[str, Callable[[], nn.Module]] = {"llama": llama, "qwen": qwen, "gpt2": gpt2, "llava": llava}


def lively(make: Callable[[], nn.Module]) -> nn.Module:
    """A network whose biases are not zero, in float64."""
    torch.manual_seed(0)
    net = make().double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def inputs(net: nn.Module) -> dict[str, Tensor]:
    """Two texts, of different length, each about a picture where the model sees; no random token is a picture's."""
    chance = torch.Generator().manual_seed(1)
    tokens = torch.randint(256, (2, 30), generator=chance)
    mask = torch.ones_like(tokens)
    mask[1, 25:] = 0
    if not hasattr(net.config, "vision_config"):
        return {"input_ids": tokens, "attention_mask": mask}
    tokens[:, 2:18] = net.config.image_token_id
    pictures = torch.randn(2, 3, 32, 32, generator=chance, dtype=torch.float64)
    return {"input_ids": tokens, "attention_mask": mask, "pixel_values": pictures}


def half_of(net: nn.Module, *names: str) -> MaskSpace:
    sites = find_sites(net, TEXT)
    return MaskSpace(tuple(SiteChoice(site=n, units=sites[n].units, pruned=sites[n].units // 2) for n in names))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pruned_model_is_the_silenced_one(family: str) -> None:
    net = lively(FAMILIES[family])
    sites = find_sites(net, TEXT)
    assert len(sites) == (5 if family == "llava" else 6)  # the layers, heads and neurons of two, and the width
    left_out = {by for site in sites.values() for by in site.normalised_by}
    space = half_of(net, *sites)
    mask = space.unrank(space.draw(1, seed=3)[0])
    given = inputs(net)
    pruned = remove(net, mask, sites)
    with torch.no_grad(), unnormalised(net, left_out), silenced(net, mask, sites):
        wanted = net(**given).logits
    assert (wanted - net(**given).logits).abs().max() > 1e-2
    with unnormalised(pruned, left_out):
        torch.testing.assert_close(pruned(**given).logits, wanted, rtol=0, atol=1e-5)


def test_sites_are_of_the_language_model_alone() -> None:
    sites = find_sites(llava(), TEXT)
    assert list(sites) == [
        "model.language_model.layers",
        "model.language_model.layers.0.self_attn",
        "model.language_model.layers.0.mlp.fc1",
        "model.language_model.layers.1.self_attn",
        "model.language_model.layers.1.mlp.fc1",
    ]
    with pytest.raises(ModelError, match="vision_tower.* is no site: it is no part of the language model"):
        sites.named("model.vision_tower.encoder.layers.0.self_attn")
    with pytest.raises(
        ModelError, match="embed_tokens` is no site: layers outside of `model.language_model` make tokens"
    ):
        sites.named("model.language_model.embed_tokens")


def test_the_width_of_a_language_model_is_cut_where_a_hand_would() -> None:
    net = lively(qwen)
    sites = find_sites(net, TEXT)
    width = sites["model.embed_tokens"]
    assert (width.kind, width.units) == (Kind.CHANNEL, 32)
    assert {str(by) for by in width.normalised_by} == {
        *(f"model.layers.{n}.{norm}_layernorm" for n in (0, 1) for norm in ("input", "post_attention")),
        "model.norm",
    }
    kept = (3, 4, 9, 30, 31)
    pruned = remove(net, Mask(rank=0, sites=(SiteMask(site=width.name, units=32, kept=kept),)), sites)
    whole, left = (dict(one.named_parameters()) for one in (net, pruned))
    rows = ("o_proj.weight", "down_proj.weight")
    for name, weight in whole.items():
        if name.endswith(rows):
            weight = weight[list(kept)]
        elif not name.endswith("proj.bias"):
            weight = weight[..., list(kept)]
        assert torch.equal(left[name], weight), name
    assert pruned.get_input_embeddings().weight is pruned.get_output_embeddings().weight


def test_a_narrower_model_is_one_for_transformers_where_it_answers_the_same(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

    gemma = Gemma2Config(**SIZES, num_attention_heads=4, num_key_value_heads=2, intermediate_size=12, head_dim=8)
    for make, plain in ((llama, True), (lambda: Gemma2ForCausalLM(gemma), False)):  # Gemma's width scales its tokens
        net = lively(make).float()
        sites = find_sites(net, TEXT)
        pruned = remove(net, half_of(net, "model.embed_tokens").unrank(7), sites)
        folder = tmp_path / type(net).__name__
        save_language_model(pruned, folder)
        read = build(f"hf:{folder}", TEXT)
        torch.testing.assert_close(read(**inputs(net)).logits, pruned(**inputs(net)).logits, rtol=0, atol=1e-5)
        if plain:
            read = AutoModelForCausalLM.from_pretrained(folder)
            torch.testing.assert_close(read(**inputs(net)).logits, pruned(**inputs(net)).logits, rtol=0, atol=1e-5)
        assert read.config.hidden_size == (16 if plain else 32)


def test_grouped_queries_go_with_their_key() -> None:
    net = lively(llama)
    site = find_sites(net, TEXT)["model.layers.0.self_attn"]
    assert (site.kind, site.units) == (Kind.HEAD_GROUP, 2)
    pruned = remove(net, Mask(rank=0, sites=(SiteMask(site=site.name, units=2, kept=(1,)),)), find_sites(net, TEXT))
    whole, left = (one.get_submodule(site.name) for one in (net, pruned))
    assert torch.equal(left.q_proj.weight, whole.q_proj.weight[16:])  # the second group's four query heads
    assert torch.equal(left.k_proj.weight, whole.k_proj.weight[4:])
    assert torch.equal(left.o_proj.weight, whole.o_proj.weight[:, 16:])


def test_parameters_and_operations_drop_as_computed_by_hand() -> None:
    net = llama()
    sites = find_sites(net, TEXT)
    whole = cost(net, TEXT)
    # embeddings and head, two layers of q 32x32, k and v 8x32, o 32x32, three of 12x32, and five norms of 32
    linear = 2 * (2 * 32 * 32 + 2 * 8 * 32 + 3 * 12 * 32)
    assert whole.parameters == 2 * 258 * 32 + linear + 5 * 32
    group = SiteMask(site="model.layers.0.self_attn", units=2, kept=(0,))
    neurons = SiteMask(site="model.layers.1.mlp.gate_proj", units=12, kept=tuple(range(9)))
    left = cost(remove(net, Mask(rank=0, sites=(group, neurons)), sites), TEXT)
    gone = (2 * 16 * 32 + 2 * 4 * 32) + 3 * 3 * 32
    assert whole.parameters - left.parameters == gone
    # of one token: each weight once, and the products of four query heads of four channels with keys and values
    assert whole.macs - left.macs == gone + 2 * 16


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("even", [True, False])
def test_a_pruned_model_is_written_and_read_back(family: str, even: bool, tmp_path: Path) -> None:
    net = lively(FAMILIES[family]).float()
    sites = find_sites(net, TEXT)
    space = half_of(net, *(sites if even else list(sites)[-4:-2]))
    pruned = remove(net, space.unrank(5), sites)
    save_language_model(pruned, tmp_path)
    read = build(f"hf:{tmp_path}", TEXT)
    given = {name: t.float() if t.is_floating_point() else t for name, t in inputs(net).items()}
    torch.testing.assert_close(read(**given).logits, pruned(**given).logits, rtol=0, atol=1e-5)
    assert cost(read, TEXT) == cost(pruned, TEXT)
    assert {n: s.units for n, s in find_sites(read, TEXT).items()} == {
        n: s.units for n, s in find_sites(pruned, TEXT).items()
    }


def test_an_evenly_pruned_model_is_one_for_transformers_too(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    net = lively(llama).float()
    sites = find_sites(net, TEXT)
    pruned = remove(net, half_of(net, *sites).unrank(0), sites)
    save_language_model(pruned, tmp_path)
    read = LlamaForCausalLM.from_pretrained(tmp_path)
    assert (read.config.num_attention_heads, read.config.num_key_value_heads) == (4, 1)
    assert (read.config.intermediate_size, read.config.head_dim) == (6, 4)
    assert net.config.intermediate_size == 12
    torch.testing.assert_close(read(**inputs(net)).logits, pruned(**inputs(net)).logits, rtol=0, atol=1e-5)


def test_heads_must_come_in_whole_groups() -> None:
    net = llama()
    net.get_submodule("model.layers.0.self_attn").k_proj = nn.Linear(32, 12)
    net.get_submodule("model.layers.0.self_attn").v_proj = nn.Linear(32, 12)
    with pytest.raises(
        ModelError, match="`model.layers.0.self_attn` has 8 query heads and 3 key/value heads: the first"
    ):
        find_sites(net, TEXT)


def test_refusals_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="`lenet5-mini` reads no text: name llava-mini, or a language model"):
        build("lenet5-mini", TEXT)
    with pytest.raises(ModelError, match="unknown model `llava-mini`"):
        build("llava-mini", InputShape(channels=3, height=32, width=32, classes=10))
    with pytest.raises(ModelError, match="the model `hf:.*nowhere` cannot be loaded"):
        build(f"hf:{tmp_path / 'nowhere'}", TEXT)
    write_llava_mini(tmp_path)
    with pytest.raises(ModelError, match="the model `hf:.*` cannot be loaded: .*safetensors"):
        build(f"hf:{tmp_path}", TEXT)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    other = llava_mini_config()
    other.text_config.intermediate_size = 64
    llava().save_pretrained(tmp_path)
    other.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="`hf:.*`.*(shape|size)"):
        build(f"hf:{tmp_path}", TEXT)


def test_the_same_seed_gives_the_same_model() -> None:
    one, same, other = (build("llava-mini", TEXT, seed).state_dict()["lm_head.weight"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
