"""The batched path equals the loop over physically pruned networks in float64, or says why it cannot be had."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.data import Split
from trueoracle.nets import REMOVALS, Removal, build, evaluate, find_sites, remove
from trueoracle.nets.vgg import CifarVGG
from trueoracle.oracle import CannotBatch, Evaluator, Loop, Sums, batched, evaluator
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import ModelError, SpecError
from trueoracle.words.shape import InputShape

GREY = InputShape(channels=1, height=32, width=32, classes=10)
COLOUR = InputShape(channels=3, height=32, width=32, classes=10)
SMALL = InputShape(channels=3, height=12, width=12, classes=5)


def split(images: Tensor, labels: Tensor) -> Split:
    return Split(images_NCHW=images, labels_N=labels)


class Stage(nn.Module):
    """A residual block whose shortcut is the identity, so that the stream's units hang together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, 7, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(7)
        self.act = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(7, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        out += x
        return self.act(out)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.one, self.two = Stage(6), Stage(6)
        self.wide = nn.Conv2d(6, 8, 1)
        self.three, self.four = Stage(8), Stage(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.two(self.one(F.relu(self.norm(self.stem(x))))), 3, 2, 1)
        x = self.four(self.three(self.wide(x)))
        return self.head(F.avg_pool2d(x, x.size()[3]).view(x.size(0), -1))


class Features(nn.Module):
    """Sigmoid after BatchNorm (a silenced unit would not stay silent), depthwise, several pixels a unit at the head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)
        self.norm = nn.BatchNorm2d(6)
        self.hidden = nn.Linear(6 * 25, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.norm(F.relu(self.depthwise(self.conv(x)))) - 0.5)
        return self.head(torch.tanh(self.hidden(torch.flatten(F.avg_pool2d(x, 2), 1))))


class Branches(nn.Module):
    """Two sites side by side, added where neither is apart any more."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 5, 3)
        self.left_end, self.right_end = nn.Conv2d(6, 4, 3), nn.Conv2d(5, 4, 3)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left_end(F.relu(self.left(x)))
        right = self.right_end(F.relu(self.right(x)))
        both = torch.cat([torch.add(left, right).relu(), left], 1)[:, :4]
        return self.head(both.mean((2, 3)))


def lively(net: nn.Module, seed: int) -> nn.Module:
    """`net` with BatchNorm statistics and affine parameters as training leaves them, negative biases among them."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.2, generator=generator)
                module.bias.normal_(-0.1, 0.3, generator=generator)
    return net.eval()


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return lively(make(), seed)


def half_pruned(net: nn.Module, shape: InputShape, *sites: str) -> MaskSpace:
    known = find_sites(net, shape)
    return MaskSpace(tuple(SiteChoice(site=s, units=known[s].units, pruned=known[s].units // 2) for s in sites))


def images_of(shape: InputShape, number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(number, shape.channels, shape.height, shape.width, generator=generator)
    return images, torch.randint(0, shape.classes, (number,), generator=generator)


def assert_equal(found: Sums, wanted: Sums) -> None:
    np.testing.assert_allclose(found.loss_M, wanted.loss_M, rtol=1e-6)
    np.testing.assert_array_equal(found.correct_M, wanted.correct_M)


def in_float64(net: nn.Module, space: MaskSpace, shape: InputShape, removal: Removal = "aligned") -> Loop:
    return Loop(net=deepcopy(net).double(), space=space, shape=shape, removal=removal)


def vgg() -> nn.Module:
    return CifarVGG(COLOUR, blocks=((6, 8), (8, 10), (12,)))


CASES = {
    "first convolution": (lambda: build("lenet5-mini", GREY, 1), GREY, ("conv1",)),
    "pair": (lambda: build("lenet5-mini", GREY, 1), GREY, ("conv1", "conv2")),
    "pair against the forward order": (lambda: build("lenet5-mini", GREY, 2), GREY, ("conv3", "conv1")),
    "linear layers": (lambda: build("lenet5-mini-d6", GREY, 3), GREY, ("fc1", "fc2")),
    "triple": (lambda: build("lenet5-mini", GREY, 4), GREY, ("conv1", "conv2", "conv3")),
    "chain with BatchNorm": (vgg, COLOUR, ("features.0", "features.3")),
    "chain's last convolution": (vgg, COLOUR, ("features.14",)),
    "residual block": (Residual, SMALL, ("one.conv1",)),
    "residual blocks": (Residual, SMALL, ("one.conv1", "four.conv1")),
    "residual stream": (Residual, SMALL, ("stem",)),
    "residual streams and a block": (Residual, SMALL, ("stem", "two.conv1", "wide")),
    "ResNet20's first block": (lambda: build("resnet20", COLOUR, 5), COLOUR, ("layer1.0.conv1",)),
    "ResNet20, two stages": (lambda: build("resnet20", COLOUR, 5), COLOUR, ("layer1.1.conv1", "layer3.0.conv1")),
    "zero is not silence": (Features, SMALL, ("conv", "hidden")),
    "side by side": (Branches, SMALL, ("right", "left")),
}


@pytest.mark.parametrize("removal", REMOVALS)
@pytest.mark.parametrize("case", CASES)
def test_batched_equals_the_loop_in_float64(case: str, removal: Removal) -> None:
    make, shape, sites = CASES[case]
    net = seeded(make)
    space = half_pruned(net, shape, *sites)
    images, labels = images_of(shape, 6)
    fast = batched(net, space, shape, removal)
    assert fast.path == "batched"
    ranks = space.draw(8, seed=1)
    wanted = in_float64(net, space, shape, removal).sums(ranks, split(images.double(), labels))
    assert np.unique(wanted.loss_M).size > 1
    assert_equal(fast.sums(ranks, split(images, labels)), wanted)
    # The two ways to sum over units, each taken wherever it can be.
    for worthwhile in (1, 10**9):
        assert_equal(replace(fast, worthwhile=worthwhile).sums(ranks, split(images, labels)), wanted)


def test_a_whole_space_in_order_of_rank() -> None:
    net = seeded(lambda: build("lenet5-mini", GREY, 1))
    space = half_pruned(net, GREY, "conv2")
    images, labels = images_of(GREY, 5)
    found = batched(net, space, GREY).sums(range(space.count), split(images, labels))
    assert_equal(found, in_float64(net, space, GREY).sums(range(space.count), split(images.double(), labels)))


def test_neither_the_budget_nor_the_blocks_of_images_change_a_result() -> None:
    net = seeded(Residual)
    space = half_pruned(net, SMALL, "one.conv1", "three.conv1")
    images, labels = images_of(SMALL, 9)
    fast = batched(net, space, SMALL)
    whole = fast.sums(range(space.count), split(images, labels))
    starved = replace(fast, budget=40_000)
    with ThreadPoolExecutor(3) as threads:
        parts = list(
            threads.map(
                lambda part: starved.sums(range(space.count), split(*part)),
                zip(images.split(3), labels.split(3), strict=True),
            )
        )
    np.testing.assert_allclose(sum(part.loss_M for part in parts), whole.loss_M, rtol=1e-6)
    np.testing.assert_array_equal(sum(part.correct_M for part in parts), whole.correct_M)


def test_a_space_beyond_64_bits() -> None:
    net = seeded(lambda: CifarVGG(COLOUR, blocks=((40, 40), (40,))))
    space = half_pruned(net, COLOUR, "features.0", "features.3", "features.7")
    assert space.count > 2**64
    images, labels = images_of(COLOUR, 2)
    ranks = space.draw(4, seed=0)
    found = batched(net, space, COLOUR).sums(ranks, split(images, labels))
    assert_equal(found, in_float64(net, space, COLOUR).sums(ranks, split(images.double(), labels)))


def test_dead_units_and_large_logits() -> None:
    net = seeded(lambda: build("lenet5-mini", GREY, 1))
    with torch.no_grad():
        net.get_submodule("conv1").weight[[0, 3, 4, 8]] = 0  # type: ignore[index]
        net.get_submodule("conv1").bias[[0, 3, 4, 8]] = -1  # type: ignore[index]
        net.get_submodule("fc2").weight.mul_(3000)  # type: ignore[operator]
    space = half_pruned(net, GREY, "conv1")
    images, labels = images_of(GREY, 6)
    ranks = space.draw(20, seed=2)
    fast = batched(net, space, GREY)
    logits_MBK = fast.logits(ranks, images)
    assert (logits_MBK.amax(2) - logits_MBK.amin(2)).max() > 100
    assert_equal(
        fast.sums(ranks, split(images, labels)),
        in_float64(net, space, GREY).sums(ranks, split(images.double(), labels)),
    )


def test_images_that_tie_count_for_the_first_class() -> None:
    net = seeded(lambda: build("lenet5-mini", GREY, 1))
    with torch.no_grad():
        for parameter in net.get_submodule("fc2").parameters():
            parameter.zero_()
    space = half_pruned(net, GREY, "conv1")
    images, _ = images_of(GREY, 3)
    found = batched(net, space, GREY).sums(range(5), split(images, torch.tensor([0, 1, 0])))
    assert found.correct_M.tolist() == [2] * 5
    np.testing.assert_allclose(found.loss_M, 3 * np.log(10), rtol=1e-12)


def test_the_network_is_left_as_it_was() -> None:
    net = seeded(Residual)
    before = deepcopy(net.state_dict())
    images, labels = images_of(SMALL, 3)
    expected = deepcopy(net)(images)
    fast = batched(net, half_pruned(net, SMALL, "stem"), SMALL)
    fast.sums(range(4), split(images, labels))
    torch.testing.assert_close(net(images), expected, rtol=0, atol=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert next(net.parameters()).requires_grad


class Refused(nn.Module):
    """A small network with one operation between a site and its consumer that does not keep units apart."""

    def __init__(self, between: nn.Module, inputs: int = 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.between = between
        self.last = nn.Conv2d(inputs, 4, 3)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.between(self.conv(x))).mean((2, 3)))


class Softmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x, 1)


class Beside(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 1)


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp_(min=0)


class Depends(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class OverTheBatch(nn.Module):
    """Sees how the masks are laid out: no rule foresees it, but the trial does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(F.relu(self.conv(x)))
        return self.head((x - x.mean(0, keepdim=True)).mean((2, 3)))


REFUSED = {
    "group": (lambda: Refused(nn.GroupNorm(2, 6)), "a unit of `conv` is several outputs of `conv`"),
    "layer": (lambda: Refused(nn.LayerNorm([6, 10, 10])), r"`between` \(LayerNorm\) mixes the units of `conv`"),
    "softmax": (lambda: Refused(Softmax()), r"`softmax` \(softmax\) mixes the units of `conv`"),
    "beside": (lambda: Refused(Beside(), 12), r"`cat` \(cat\) mixes the units of `conv`"),
    "in place": (lambda: Refused(InPlace()), r"`clamp_` writes over its input \(clamp_\)"),
    "depends": (lambda: Refused(Depends()), r"torch\.fx cannot trace Refused: symbolically traced variables"),
    "batch": (OverTheBatch, r"a trial in float64 gave other outputs than the physically pruned networks"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_batched_says_why_and_takes_the_loop(case: str) -> None:
    make, reason = REFUSED[case]
    net = seeded(make)
    space = half_pruned(net, SMALL, "conv")
    with pytest.raises(CannotBatch, match=reason):
        evaluator(net, space, SMALL, path="batched")
    chosen = evaluator(net, space, SMALL)
    assert isinstance(chosen, Loop)
    assert chosen.path.startswith("loop: ")


def test_one_site_by_two_names_is_refused() -> None:
    net = seeded(Residual)
    twins = MaskSpace(tuple(SiteChoice(site=name, units=6, pruned=3) for name in ("stem", "one.conv2")))
    with pytest.raises(ModelError, match=r"`one\.conv2` is no site: its units are those of the site `stem`"):
        batched(net, twins, SMALL)


def test_a_refused_network_is_evaluated_by_the_loop() -> None:
    net = seeded(lambda: Refused(Softmax()))
    space = half_pruned(net, SMALL, "conv")
    images, labels = images_of(SMALL, 4)
    chosen: Evaluator = evaluator(net, space, SMALL)
    assert chosen.path == ("loop: `softmax` (softmax) mixes the units of `conv` in a way that is no sum")
    found = chosen.sums(range(space.count), split(images, labels))
    wanted = [evaluate(remove(net, mask, find_sites(net, SMALL)), split(images, labels)) for mask in space]
    np.testing.assert_allclose(found.loss_M / 4, [mask.loss for mask in wanted], rtol=1e-6)
    assert found.correct_M.tolist() == [mask.accuracy * 4 for mask in wanted]


def test_paths_by_name() -> None:
    net = build("lenet5-mini", GREY)
    space = half_pruned(net, GREY, "conv1")
    assert evaluator(net, space, GREY, path="loop").path == "loop"
    assert evaluator(net, space, GREY, path="batched").path == "batched"
    with pytest.raises(SpecError, match="unknown path `bached`: did you mean `batched`"):
        evaluator(net, space, GREY, path="bached")
    with pytest.raises(ModelError, match="unknown site `conv9`"):
        evaluator(net, MaskSpace((SiteChoice(site="conv9", units=10, pruned=5),)), GREY)
    with pytest.raises(ModelError, match="`conv1` has 10 units, but the space has 12"):
        evaluator(net, MaskSpace((SiteChoice(site="conv1", units=12, pruned=5),)), GREY)
