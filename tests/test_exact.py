"""The exact oracle equals the loop over physically pruned networks."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trueoracle.data import Split, load_dataset
from trueoracle.fleet import train
from trueoracle.nets import build, evaluate, find_sites, l1_kept, remove
from trueoracle.oracle.exact import Exact, exact
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import ModelError
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Recipe

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)
RECIPE = Recipe(optimiser="sgd", lr=0.02, momentum=0.9, batch_size=64, epochs=4)
IMAGES = 150  # no multiple of sixteen


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    train_split = load_dataset("digits", None, torch.device("cpu"), Quiet()).train
    return train_split.images_NCHW[:IMAGES], train_split.labels_N[:IMAGES]


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    data = load_dataset("digits", None, torch.device("cpu"), Quiet())
    return train(build("lenet5-mini", SHAPE, seed=1), data, RECIPE, order_seed=0).net


def space_of(net: nn.Module, sites: dict[str, float], shape: InputShape = SHAPE) -> MaskSpace:
    units = {name: site.units for name, site in find_sites(net, shape).items()}
    return MaskSpace(tuple(SiteChoice.at_ratio(site, units[site], ratio) for site, ratio in sites.items()))


def made(net: nn.Module, space: MaskSpace, removal: str = "aligned", shape: InputShape = SHAPE) -> Exact:
    found = exact(net, space, shape, removal)  # type: ignore[arg-type]
    assert isinstance(found, Exact), found
    return found


def split(images: Tensor, labels: Tensor) -> Split:
    return Split(images_NCHW=images, labels_N=labels)


def stretched(model: str, shape: InputShape = SHAPE, seed: int = 2, factor: float = 3) -> nn.Module:
    """A random network with weights large enough that its masks differ."""
    net = build(model, shape, seed=seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(factor)
    return net


def check_against_loop(
    net: nn.Module,
    space: MaskSpace,
    ranks: range | tuple[int, ...],
    images: Tensor,
    labels: Tensor,
    removal: str = "aligned",
    *,
    shape: InputShape = SHAPE,
    compared: int = 40,
) -> None:
    """Losses against a float64 loop, right answers against the loop in float32, but for counted near ties."""
    sums = made(net, space, removal, shape).sums(ranks, split(images, labels))
    chosen = range(len(ranks))
    if len(ranks) > compared:
        chosen = sorted(np.random.default_rng(0).choice(len(ranks), compared, replace=False))
    for place in chosen:
        pruned = remove(net, space.unrank(ranks[place]), find_sites(net, shape), removal)  # type: ignore[arg-type]
        answers = evaluate(pruned, split(images, labels)).accuracy * len(labels)
        expected = evaluate(pruned.double(), split(images.double(), labels))
        assert sums.loss_M[place] / len(labels) == pytest.approx(expected.loss, rel=1e-6)
        assert sums.correct_M[place] == round(answers)


ONE_OF_EACH = [
    ("lenet5-mini", {"conv1": 0.5}),
    ("lenet5-mini", {"conv2": 0.2}),
    ("lenet5-mini", {"conv3": 0.5}),
    ("lenet5-mini", {"fc1": 0.8}),
    ("lenet5-mini", {"conv1": 0.5, "conv2": 0.2}),
    ("lenet5-mini-d8", {"conv2": 0.2, "fc4": 0.9}),
    ("lenet5-mini-w20", {"conv1": 0.1, "conv3": 0.9}),
]


@pytest.mark.parametrize("removal", ["aligned", "released"])
@pytest.mark.parametrize(("model", "sites"), ONE_OF_EACH)
def test_whole_spaces_equal_the_loop(
    model: str, sites: dict[str, float], removal: str, digits: tuple[Tensor, Tensor]
) -> None:
    net = stretched(model)
    space = space_of(net, sites)
    check_against_loop(net, space, range(space.count), *digits, removal)


@pytest.mark.parametrize("removal", ["aligned", "released"])
@pytest.mark.parametrize(
    ("model", "sites"),
    [
        ("lenet5-mini", {"conv1": 0.5, "conv2": 0.5, "conv3": 0.5}),
        ("lenet5-mini", {"conv3": 0.3, "conv1": 0.5}),
        ("lenet5-mini-w40", {"conv1": 0.5}),
    ],
)
def test_drawn_masks_equal_the_loop(
    model: str, sites: dict[str, float], removal: str, digits: tuple[Tensor, Tensor]
) -> None:
    net = stretched(model)
    space = space_of(net, sites)
    check_against_loop(net, space, space.draw(30, seed=0), *digits, removal)


def test_a_trained_network_equals_the_loop_on_each_of_252_masks(
    trained: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    space = space_of(trained, {"conv1": 0.5})
    check_against_loop(trained, space, range(252), *digits, compared=252)


def test_colour_images_and_three_classes() -> None:
    shape = InputShape(channels=3, height=32, width=32, classes=3)
    net = stretched("lenet5-mini", shape)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 3, 32, 32, generator=generator)
    labels = torch.randint(0, 3, (40,), generator=generator)
    space = space_of(net, {"conv2": 0.5}, shape)
    check_against_loop(net, space, range(space.count), images, labels, shape=shape)


def test_a_list_a_range_and_the_whole_space_agree(digits: tuple[Tensor, Tensor]) -> None:
    net = stretched("lenet5-mini")
    space = space_of(net, {"conv1": 0.5, "conv2": 0.2})
    oracle = made(net, space)
    whole = oracle.sums(range(space.count), split(*digits))
    for ranks in (range(1000, 2500), space.draw(700, seed=1), tuple(range(5, 3000, 2)), [11339], []):
        some = oracle.sums(ranks, split(*digits))
        np.testing.assert_allclose(some.loss_M, whole.loss_M[list(ranks)], rtol=1e-6)
        np.testing.assert_array_equal(some.correct_M, whole.correct_M[list(ranks)])


def test_the_order_of_the_sites_is_that_of_the_space(digits: tuple[Tensor, Tensor]) -> None:
    net = stretched("lenet5-mini")
    there, back = (space_of(net, dict(sites)) for sites in (PAIR, PAIR[::-1]))
    ranks = there.draw(50, seed=4)
    turned = [back.rank(type(mask)(rank=0, sites=mask.sites[::-1])) for mask in map(there.unrank, ranks)]
    one = made(net, there).sums(ranks, split(*digits))
    other = made(net, back).sums(sorted(turned), split(*digits))
    np.testing.assert_array_equal(one.loss_M, other.loss_M[np.argsort(np.argsort(turned))])


PAIR = (("conv1", 0.5), ("conv2", 0.2))


@pytest.mark.parametrize("factor", [1e2, 1e6])
def test_logits_far_apart_neither_overflow_nor_vanish(factor: float, digits: tuple[Tensor, Tensor]) -> None:
    net = stretched("lenet5-mini")
    last = net.get_submodule("fc2")
    with torch.no_grad():
        last.weight.mul_(factor)
        logits = net(digits[0])
    assert (logits.amax(1) - logits.amin(1)).median() > 100
    space = space_of(net, {"conv3": 0.5})
    check_against_loop(net, space, range(252), *digits)


def test_tiny_losses_keep_their_relative_accuracy(digits: tuple[Tensor, Tensor]) -> None:
    net = build("lenet5-mini", SHAPE, seed=0)
    with torch.no_grad():
        net.get_submodule("fc2").bias[3] += 9
    labels = torch.full_like(digits[1], 3)
    space = space_of(net, {"conv3": 0.5})
    sums = made(net, space).sums(range(252), split(digits[0], labels))
    assert sums.loss_M.max() / IMAGES < 2e-3
    check_against_loop(net, space, range(252), digits[0], labels)


def test_dead_units_and_images_that_tie(digits: tuple[Tensor, Tensor]) -> None:
    """With all of fc1 dead every image has the biases for logits; two of them are equal, and the first class wins."""
    net = stretched("lenet5-mini")
    with torch.no_grad():
        net.get_submodule("fc1").bias.fill_(-1e6)
        bias = net.get_submodule("fc2").bias
        bias.fill_(0.25)
        bias[[2, 5]] = 0.5
    space = space_of(net, {"conv2": 0.5, "conv3": 0.5})
    ranks = space.draw(20, seed=0)
    sums = made(net, space).sums(ranks, split(*digits))
    assert set(sums.correct_M.tolist()) == {int((digits[1] == 2).sum())}
    check_against_loop(net, space, ranks, *digits)


def test_classes_that_nothing_sets_apart_tie(digits: tuple[Tensor, Tensor]) -> None:
    net = stretched("lenet5-mini")
    with torch.no_grad():
        for tensor in net.get_submodule("fc2").parameters():
            tensor[7] = tensor[1]
    space = space_of(net, {"conv1": 0.5})
    check_against_loop(net, space, range(252), *digits)


def test_what_is_not_a_number_stays_so(digits: tuple[Tensor, Tensor]) -> None:
    net = stretched("lenet5-mini")
    images = digits[0].clone()
    images[17, 0, 16, 16] = float("nan")
    sums = made(net, space_of(net, {"conv3": 0.5})).sums(range(252), split(images, digits[1]))
    assert np.isnan(sums.loss_M).all()


def test_released_is_aligned_for_the_l1_mask_alone(trained: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    space = space_of(trained, {"conv2": 0.5})
    aligned, released = (
        made(trained, space, removal).sums(range(252), split(*digits)) for removal in ("aligned", "released")
    )
    same = np.isclose(aligned.loss_M, released.loss_M, rtol=1e-9)
    kept = l1_kept(trained, find_sites(trained, SHAPE)["conv2"], 5)
    assert [space.unrank(int(place)).sites[0].kept for place in np.flatnonzero(same)] == [kept]


def test_l1_kept_prefers_the_lower_of_equal_units() -> None:
    net = build("lenet5-mini", SHAPE)
    weight = net.get_submodule("conv1").weight
    with torch.no_grad():
        weight.fill_(-1)
        weight[[3, 8]] = 2
    assert l1_kept(net, find_sites(net, SHAPE)["conv1"], 4) == (0, 1, 3, 8)


def test_blocks_of_images_add_up(digits: tuple[Tensor, Tensor]) -> None:
    net = stretched("lenet5-mini")
    oracle = made(net, space_of(net, {"conv1": 0.5}))
    images, labels = (torch.cat([tensor] * 7) for tensor in digits)
    whole = oracle.sums(range(252), split(images, labels))
    parts = [oracle.sums(range(252), split(images[a:b], labels[a:b])) for a, b in pairwise((0, 17, 600, 1050))]
    np.testing.assert_allclose(sum(part.loss_M for part in parts), whole.loss_M, rtol=1e-6)
    np.testing.assert_array_equal(sum(part.correct_M for part in parts), whole.correct_M)


class Skipping(nn.Module):
    """The modules of a LeNet5-Mini, used in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.net = build("lenet5-mini", SHAPE)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x.abs())
        return logits


def test_a_network_of_another_family_is_refused_with_the_reason() -> None:
    space = MaskSpace((SiteChoice(site="net.conv1", units=10, pruned=5),))
    assert exact(Skipping(), space, SHAPE) == "it does more than a chain of its layers"
    assert exact(nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), space, SHAPE) == (
        "it is not three convolutions followed by linear layers"
    )


def test_bad_input_gets_one_clear_line() -> None:
    net = build("lenet5-mini", SHAPE)
    with pytest.raises(ModelError, match="unknown site `conv9`: did you mean"):
        exact(net, MaskSpace((SiteChoice(site="conv9", units=10, pruned=5),)), SHAPE)
    with pytest.raises(ModelError, match="`conv1` has 10 units, but the space has 12"):
        exact(net, MaskSpace((SiteChoice(site="conv1", units=12, pruned=5),)), SHAPE)
    with pytest.raises(ModelError, match="`removal` must be one of aligned, released, but got 'shifted'"):
        exact(net, MaskSpace((SiteChoice(site="conv1", units=10, pruned=5),)), SHAPE, "shifted")  # type: ignore[arg-type]


ALONE = """
import sys, time, numpy, torch
from trueoracle.data import Split
from trueoracle.nets import build
from trueoracle.oracle.exact import exact
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.space import MaskSpace, SiteChoice
class Told(Quiet):
    def say(self, line):
        print(line)
shape = InputShape(channels=1, height=32, width=32, classes=10)
space = MaskSpace(tuple(SiteChoice(site=s, units=10, pruned=5) for s in ("conv1", "conv3")))
net = build("lenet5-mini", shape, seed=5)
noise = torch.Generator().manual_seed(0)
began = time.process_time()
oracle = exact(net, space, shape, progress=Told())
print(time.process_time() - began)
sums = oracle.sums(range(2000), Split(images_NCHW=torch.randn(40, 1, 32, 32, generator=noise), labels_N=torch.arange(40) % 10))
numpy.savez(sys.argv[1], loss=sums.loss_M, correct=sums.correct_M)
"""


def in_a_process(folder: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """The sums as a process of its own finds them, and what was said on the way."""
    environment = {**os.environ, "TRUEORACLE_CACHE": folder, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", ALONE, f"{folder}/sums.npz"], env=environment, check=True, capture_output=True, text=True
    )
    with np.load(f"{folder}/sums.npz", allow_pickle=False) as file:
        return dict(file), run.stdout.splitlines()


def test_compiling_takes_seconds_says_so_and_is_done_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    nothing_compiled = str(tmp_path_factory.mktemp("nothing"))
    first, (news, seconds) = in_a_process(nothing_compiled)
    assert news == "compiling the exact kernels: seconds, once on this machine"
    assert float(seconds) < 20
    again, (loading,) = in_a_process(nothing_compiled)
    assert float(loading) < 2
    np.testing.assert_array_equal(first["loss"], again["loss"])
