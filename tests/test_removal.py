"""What holds for every kind of network: removal is silence made smaller, in the sizes that a hand computes."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

from trueoracle.nets import (
    Kind,
    Sites,
    build,
    cost,
    find_sites,
    l1_kept,
    remove,
    silenced,
    state_bytes,
    unit_costs,
    unit_weights,
    weights_from_bytes,
)
from trueoracle.nets.hugging_face import ImageClassifier
from trueoracle.nets.vgg import CifarVGG
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import InputShape, Shape, TextShape

GREY = InputShape(channels=1, height=32, width=32, classes=10)
COLOUR = InputShape(channels=3, height=32, width=32, classes=10)
TEXT = TextShape()


def answer(net: nn.Module, inputs: Tensor) -> Tensor:
    """Logits: of images (B, K), of tokens (B, T, K)."""
    found = net(inputs)
    logits: Tensor = found if isinstance(found, Tensor) else found.logits
    return logits


def vit() -> nn.Module:
    config = ViTConfig(
        hidden_size=24, num_attention_heads=4, intermediate_size=20, num_hidden_layers=2, image_size=32, patch_size=8,
        num_labels=10,
    )  # fmt: skip
    return ImageClassifier(ViTForImageClassification(config))


def llama(heads: int = 6, groups: int = 2) -> nn.Module:
    config = LlamaConfig(
        hidden_size=24, num_attention_heads=heads, num_key_value_heads=groups, head_dim=4, intermediate_size=20,
        num_hidden_layers=2, vocab_size=30,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def qwen3() -> nn.Module:
    config = Qwen3Config(
        hidden_size=24, num_attention_heads=4, num_key_value_heads=4, head_dim=6, intermediate_size=20,
        num_hidden_layers=2, vocab_size=30,
    )  # fmt: skip
    return Qwen3ForCausalLM(config)


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(n_embd=24, n_head=4, n_layer=2, vocab_size=30, n_positions=16))


def lively(net: nn.Module) -> nn.Module:
    """`net` in float64, with every vector of its own values: a fresh one has zeros and ones where mistakes would hide."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.empty_like(parameter).normal_(0, 0.2, generator=generator))
    return net.double().eval()


def image(shape: InputShape) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(3, shape.channels, shape.height, shape.width, generator=generator, dtype=torch.float64)


def tokens() -> Tensor:
    return torch.randint(0, 30, (3, 7), generator=torch.Generator().manual_seed(2))


Case = tuple[Callable[[], nn.Module], Shape, tuple[str, ...]]
CASES: dict[str, Case] = {
    "LeNet5-Mini": (lambda: build("lenet5-mini", GREY), GREY, ("conv*", "fc1")),
    "CIFAR ResNet": (lambda: build("resnet20", COLOUR, width_factor=0.25), COLOUR, ("layer*.conv1",)),
    "CIFAR VGG": (lambda: CifarVGG(COLOUR, blocks=((6, 8), (8, 10), (12,))), COLOUR, ("*",)),
    "ResNet-18": (lambda: build("hf-resnet18", COLOUR, width_factor=0.125), COLOUR, ("*.layer.0.convolution",)),
    "ResNet-18's streams": (
        lambda: build("hf-resnet18", COLOUR, width_factor=0.125), COLOUR, ("*embedder*", "*shortcut*"),
    ),
    "ResNet-50": (lambda: build("hf-resnet50", COLOUR, width_factor=0.125), COLOUR, ("*.layer.[01].convolution",)),
    "ViT": (vit, COLOUR, ("*.attention", "*.fc1")),
    "Llama, grouped queries": (llama, TEXT, ("*.self_attn", "*.gate_proj")),
    "Qwen3": (qwen3, TEXT, ("*.self_attn", "*.gate_proj")),
    "GPT-2": (gpt2, TEXT, ("*.attn", "*.c_fc")),
}  # fmt: skip


def made(case: str) -> tuple[nn.Module, Sites, MaskSpace, Tensor]:
    make, shape, patterns = CASES[case]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = lively(make())
    sites = find_sites(net, shape)
    chosen = sites.expanded(dict.fromkeys(patterns, 0.5))
    units = {name: sites[name].units for name in chosen}
    space = MaskSpace(tuple(SiteChoice(site=name, units=n, pruned=n // 2) for name, n in units.items()))
    return net, sites, space, tokens() if isinstance(shape, TextShape) else image(shape)


@pytest.mark.parametrize("case", CASES)
def test_the_pruned_network_computes_what_the_masked_one_does(case: str) -> None:
    net, sites, space, inputs = made(case)
    with torch.no_grad():
        whole = answer(net, inputs)
        for place in space.draw(3, seed=4):
            mask = space.unrank(place)
            with silenced(net, mask, sites):
                masked = answer(net, inputs)
            pruned = answer(remove(net, mask, sites), inputs)
            torch.testing.assert_close(pruned, masked, rtol=1e-5, atol=1e-5)
            assert not torch.allclose(pruned, whole, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(answer(net, inputs), whole, rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_safetensors_round_trip_of_a_pruned_network(case: str) -> None:
    net, sites, space, inputs = made(case)
    mask = space.unrank(space.draw(1, seed=5)[0])
    pruned = remove(net, mask, sites)
    other = deepcopy(net)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_()
        again = remove(other, mask, sites)
        weights_from_bytes(again, state_bytes(pruned), "of a pruned network")
        torch.testing.assert_close(answer(again, inputs), answer(pruned, inputs), rtol=0, atol=0)
    assert len(state_bytes(pruned)) < len(state_bytes(net))


@pytest.mark.parametrize("case", CASES)
def test_released_is_aligned_for_the_l1_mask_alone(case: str) -> None:
    net, sites, space, inputs = made(case)
    of_l1 = Mask(
        rank=0,
        sites=tuple(
            SiteMask(site=c.site, units=c.units, kept=l1_kept(net, sites[c.site], c.units - c.pruned))
            for c in space.sites
        ),
    )
    other = space.unrank(space.draw(1, seed=6)[0])
    with torch.no_grad():
        for mask, same in ((of_l1, True), (other, False)):
            aligned, released = (answer(remove(net, mask, sites, how), inputs) for how in ("aligned", "released"))  # type: ignore[arg-type]
            assert torch.allclose(aligned, released, rtol=1e-9, atol=1e-9) is same


def whole_and_half(net: nn.Module, shape: InputShape, *patterns: str) -> tuple[Any, Any]:
    sites = find_sites(net, shape)
    parts = tuple(
        SiteMask(site=name, units=sites[name].units, kept=tuple(range(sites[name].units // 2)))
        for name in sites.expanded(dict.fromkeys(patterns, 0.5))
    )
    return cost(net, shape), cost(remove(net, Mask(rank=0, sites=parts), sites), shape)


def test_half_of_a_vgg_costs_what_a_hand_computes() -> None:
    net = CifarVGG(COLOUR, blocks=((4, 6), (8,)))
    whole, half = whole_and_half(net, COLOUR, "*")
    pixels = 32 * 32
    assert whole.macs == pixels * (9 * 3 * 4 + 9 * 4 * 6) + pixels // 4 * 9 * 6 * 8 + 8 * 10
    assert half.macs == pixels * (9 * 3 * 2 + 9 * 2 * 3) + pixels // 4 * 9 * 3 * 4 + 4 * 10
    assert whole.parameters == 9 * (3 * 4 + 4 * 6 + 6 * 8) + 2 * (4 + 6 + 8) + 8 * 10 + 10
    assert half.parameters == 9 * (3 * 2 + 2 * 3 + 3 * 4) + 2 * (2 + 3 + 4) + 4 * 10 + 10


def test_half_of_a_vit_costs_what_a_hand_computes() -> None:
    net = vit()
    whole, half = whole_and_half(net, COLOUR, "*.attention", "*.fc1")
    t, d, h = 17, 24, 20  # tokens: 4 x 4 patches and the class; width; hidden neurons
    patches, head = 16 * 3 * 64 * d, d * 10
    assert whole.macs == patches + 2 * (t * 4 * d * d + 2 * t * t * d + t * 2 * d * h) + head
    assert half.macs == patches + 2 * (t * 4 * d * (d // 2) + 2 * t * t * (d // 2) + t * 2 * d * (h // 2)) + head
    gone = 2 * (4 * d * (d // 2) + 3 * (d // 2) + 2 * d * (h // 2) + h // 2)
    assert whole.parameters - half.parameters == gone


def test_what_a_unit_saves() -> None:
    net = vit()
    saved = {site.name: cost for site, cost in unit_costs(net, find_sites(net, COLOUR), COLOUR)}
    head, neuron = saved["model.vit.layers.0.attention"], saved["model.vit.layers.1.mlp.fc1"]
    assert (head.parameters, head.macs) == (4 * 24 * 6 + 3 * 6, 17 * 4 * 24 * 6 + 2 * 17 * 17 * 6)
    assert (neuron.parameters, neuron.macs) == (24 + 1 + 24, 17 * 2 * 24)


def test_kinds_and_units() -> None:
    kinds = {case: {(site.kind, site.units) for site in made(case)[1].values()} for case in ("ViT", "Qwen3", "GPT-2")}
    assert kinds == {
        "ViT": {(Kind.BLOCK, 2), (Kind.FILTER, 24), (Kind.HEAD, 4), (Kind.NEURON, 20)},
        "Qwen3": {(Kind.BLOCK, 2), (Kind.CHANNEL, 24), (Kind.HEAD, 4), (Kind.NEURON, 20)},
        "GPT-2": {(Kind.BLOCK, 2), (Kind.CHANNEL, 24), (Kind.HEAD, 4), (Kind.NEURON, 96)},
    }
    grouped = find_sites(llama(), TEXT)["model.layers.0.self_attn"]
    assert (grouped.kind, grouped.units) == (Kind.HEAD_GROUP, 2)
    assert [cut.channels_UC.shape for cut in grouped.cuts] == [(2, 12), (2, 4), (2, 4), (2, 12)]


def test_heads_not_divisible_by_groups_are_refused() -> None:
    net = llama()
    attention = net.get_submodule("model.layers.1.self_attn")
    attention.k_proj = nn.Linear(24, 16)
    attention.v_proj = nn.Linear(24, 16)
    with pytest.raises(ModelError, match=r"`model\.layers\.1\.self_attn` has 6 query heads and 4 key/value"):
        find_sites(net, TEXT)


def test_unit_weights_are_the_rows_of_what_makes_the_units() -> None:
    net = vit()
    sites = find_sites(net, COLOUR)
    attention = net.get_submodule("model.vit.layers.0.attention")
    second = slice(6, 12)
    wanted = [attention.get_submodule(f"{part}_proj").weight[second].flatten() for part in "qkv"]  # type: ignore[index, union-attr]
    wanted.append(attention.get_submodule("o_proj").weight[:, second].T.flatten())  # type: ignore[index, union-attr]
    found = unit_weights(net, sites["model.vit.layers.0.attention"])
    torch.testing.assert_close(found[1], torch.cat(wanted).double().detach())
    packed = gpt2()
    site = find_sites(packed, TEXT)["transformer.h.0.attn"]
    weight = packed.get_submodule("transformer.h.0.attn.c_attn").weight
    torch.testing.assert_close(
        unit_weights(packed, site)[3, 6 * 24 * 2 : 6 * 24 * 3].reshape(6, 24), weight[:, -6:].T.double().detach()
    )  # type: ignore[index, union-attr]


def test_the_search_leaves_the_network_as_it_was() -> None:
    for case in ("CIFAR VGG", "ViT"):
        net, _, _, _ = made(case)
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        find_sites(net, COLOUR)
        after = net.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


class WrittenSize(nn.Module):
    """A forward pass with a layer's size written into it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(self.last(x.reshape(len(x), 6, 30, 30)).mean((2, 3)))


class Mixing(nn.Module):
    """Attention whose heads talk to each other: its projections look like any other's."""

    def __init__(self) -> None:
        super().__init__()
        self.head_dim = 4
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            self.add_module(name, nn.Linear(12, 12))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            self.get_submodule(name)(x).unflatten(2, (-1, 4)).transpose(1, 2) for name in ("q_proj", "k_proj", "v_proj")
        )
        weights = (query @ key.mT).mean(1, keepdim=True).softmax(3)
        return self.get_submodule("o_proj")((weights @ value).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attention, self.head = nn.Conv2d(3, 12, 8, stride=8), Mixing(), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(self.patches(x).flatten(2).mT).mean(1))


@pytest.mark.parametrize(
    ("make", "site", "message"),
    [
        (WrittenSize, "conv", "without some of its units the forward pass fails"),
        (Mixed, "attention", "the network without some of its units is not the network with those units silent"),
    ],
)
def test_what_cannot_be_removed_is_no_site_and_says_why(make: Callable[[], nn.Module], site: str, message: str) -> None:
    torch.manual_seed(0)
    sites = find_sites(make().eval(), COLOUR)
    with pytest.raises(ModelError, match=f"`{site}` is no site: {message}"):
        sites.named(site)


IMAGENET = InputShape(channels=3, height=224, width=224, classes=1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape", "patterns"),
    [
        ("resnet56", COLOUR, ("layer*.conv1",)),
        ("vgg19", InputShape(channels=3, height=32, width=32, classes=100), ("*",)),
        ("hf-resnet18", IMAGENET, ("*.layer.0.convolution",)),
        ("hf-resnet50", IMAGENET, ("*.layer.[01].convolution",)),
        ("vit-b16", IMAGENET, ("*.attention", "*.fc1")),
    ],
)
def test_the_papers_networks_at_full_size(name: str, shape: InputShape, patterns: tuple[str, ...]) -> None:
    net = lively(build(name, shape))
    sites = find_sites(net, shape)
    units = {site: sites[site].units for site in sites.expanded(dict.fromkeys(patterns, 0.5))}
    space = MaskSpace(tuple(SiteChoice(site=site, units=n, pruned=n // 2) for site, n in units.items()))
    mask = space.unrank(space.draw(1, seed=0)[0])
    images = image(shape)[:1]
    pruned = remove(net, mask, sites)
    with torch.inference_mode():
        found = pruned(images)
        with silenced(net, mask, sites):
            torch.testing.assert_close(found, net(images), rtol=1e-5, atol=1e-5)
    assert len(state_bytes(pruned)) < 0.75 * len(state_bytes(net))
