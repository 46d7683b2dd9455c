"""What a recipe may say beyond plain batches, by hand, in the plain loop; and that none of it depends on what else runs."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from trueoracle import Study
from trueoracle.data import Dataset, Normalisation, Split, load_dataset
from trueoracle.executors import Stop, Threads
from trueoracle.fleet import Trained, evaluated, train
from trueoracle.fleet.mixing import averaged, mixed, pasted
from trueoracle.fleet.objective import Softened, objective
from trueoracle.fleet.schedule import learning_rate
from trueoracle.study import changed, load_spec
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Augmentation, RandAugment, Recipe

SHAPE = InputShape(channels=3, height=8, width=8, classes=3)


def recipe(**more: Any) -> Recipe:
    return Recipe.model_validate({"optimiser": "sgd", "lr": 1.0, "batch_size": 8, "epochs": 2} | more)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Noise of three classes: 20 images to train on, 9 to test on."""
    random = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        return Split(images_NCHW=torch.randn(count, 3, 8, 8, generator=random), labels_N=torch.arange(count) % 3)

    normalisation = Normalisation(mean=(0.5,) * 3, deviation=(0.25,) * 3)
    return Dataset(
        name="noise", shape=SHAPE, train=split(20), test=split(9), fingerprint="", normalisation=normalisation
    )


def linear(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))


def flat(net: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(net.parameters()).detach()


def test_the_rate_rises_linearly_before_the_schedule_begins() -> None:
    cosine = recipe(lr=3.0, epochs=7, schedule="cosine", warmup_epochs=3)
    halves = [3 * (1 + math.cos(math.pi * quarter / 4)) / 2 for quarter in range(4)]
    assert [learning_rate(cosine, e) for e in range(7)] == pytest.approx([1, 2, 3, *halves])
    step = recipe(lr=2.0, epochs=6, schedule="step", milestones=[4], warmup_epochs=2)
    assert [learning_rate(step, e) for e in range(6)] == pytest.approx([1, 2, 2, 2, 0.2, 0.2])


def test_label_smoothing_by_hand() -> None:
    # Chances 1/4, 1/2, 1/4; the right class 1 is to have 0.7 + 0.3/3, each other 0.3/3.
    logits = torch.tensor([[1.0, 2.0, 1.0]]).log()
    batch = Softened(
        images_BCHW=logits, labels_B=torch.tensor([1]), others_B=torch.tensor([1]), share=1.0, smoothing=0.3
    )
    by_hand = -(0.8 * math.log(1 / 2) + 2 * 0.1 * math.log(1 / 4))
    assert batch.train_loss(nn.Identity()).item() == pytest.approx(by_hand)


def test_a_mixed_batchs_loss_is_that_of_mixed_targets() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    own, other = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([2, 1, 0, 1, 0])
    batch = Softened(images_BCHW=logits, labels_B=own, others_B=other, share=0.7, smoothing=0.1)
    targets = 0.9 * (0.7 * F.one_hot(own, 3) + 0.3 * F.one_hot(other, 3)) + 0.1 / 3
    by_definition = -(targets * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(batch.train_loss(nn.Identity()), by_definition)


def test_mixup_by_hand() -> None:
    own, other = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[5.0, -2.0]]]])
    images, share = averaged(own, other, 0.75, np.random.default_rng(0))
    assert (images.tolist(), share) == ([[[[2.0, 1.0]]]], 0.75)


@pytest.mark.parametrize(
    ("centre", "box", "share"),
    [((2, 2), (slice(1, 3), slice(1, 3)), 12 / 16), ((0, 2), (slice(0, 1), slice(1, 3)), 14 / 16)],
)
def test_cutmix_by_hand(centre: tuple[int, int], box: tuple[slice, slice], share: float) -> None:
    class Centre:
        """A generator that draws this centre."""

        def __init__(self) -> None:
            self.rest = list(centre)

        def integers(self, _length: int) -> int:
            return self.rest.pop(0)

    # A quarter of 4x4 pixels is a box of 2x2 about the centre; what lies beyond the edge is lost.
    images, left = pasted(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4), 0.75, Centre())  # type: ignore[arg-type]
    wanted = torch.zeros(4, 4)
    wanted[box] = 1
    assert torch.equal(images[0, 0], wanted)
    assert left == share


def test_with_both_each_batch_takes_one_way_and_pairs_keep_their_classes() -> None:
    labels = torch.arange(6)
    images = labels.float()[:, None, None, None].expand(6, 1, 8, 8)
    ways = []
    for seed in range(60):
        both = recipe(mixup=0.5, cutmix=1.0)
        changed, others, share = mixed(images, labels, both, np.random.default_rng(seed))
        by_mixup = share * labels + (1 - share) * others
        # The mean of an image is the mixture of its two classes, whichever way it was made.
        torch.testing.assert_close(changed.mean((1, 2, 3)), by_mixup.float(), atol=1e-5, rtol=0)
        ways.append(bool((changed == changed[..., :1, :1]).all()))
    assert 15 < sum(ways) < 45


def test_a_clipped_gradient_has_the_norm_that_was_given(data: Dataset) -> None:
    plain, clipped = (
        flat(train(linear(), data, recipe(batch_size=20, epochs=1, **more), 0).net) - flat(linear())
        for more in ({}, {"gradient_clipping": 0.01})
    )
    assert plain.norm() > 0.1
    assert clipped.norm().item() == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(clipped / clipped.norm(), plain / plain.norm(), atol=1e-4, rtol=1e-3)


def test_nesterovs_momentum_is_the_definitions(data: Dataset) -> None:
    net, images, labels = linear(), data.train.images_NCHW, data.train.labels_N  # type: ignore[attr-defined]
    velocity = [torch.zeros_like(p) for p in net.parameters()]
    for _ in range(2):
        gradients = torch.autograd.grad(F.cross_entropy(net(images), labels), list(net.parameters()))
        with torch.no_grad():
            for p, v, g in zip(net.parameters(), velocity, gradients, strict=True):
                v.mul_(0.9).add_(g)
                p.sub_(0.1 * (g + 0.9 * v))
    ours = train(linear(), data, recipe(lr=0.1, momentum=0.9, nesterov=True, batch_size=20), 0).net
    torch.testing.assert_close(flat(ours), flat(net), atol=1e-5, rtol=1e-4)


EVERYTHING = recipe(
    optimiser="adamw",
    lr=0.01,
    weight_decay=0.3,
    schedule="cosine",
    epochs=3,
    warmup_epochs=1,
    gradient_clipping=1.0,
    label_smoothing=0.11,
    augmentation=Augmentation(
        resized_crop=0.3, flip=True, rand_augment=RandAugment(operations=2, magnitude=9)
    ),
    mixup=0.2,
    cutmix=1.0,
)  # fmt: skip


class Forgetful(nn.Sequential):
    """A network that draws random numbers of torch's while it is trained."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 3))


def test_a_training_is_the_same_alone_and_beside_others(data: Dataset) -> None:
    torch.manual_seed(0)
    net = Forgetful()

    def trained(seed: int, _stop: Stop = lambda: False) -> tuple[int, Trained]:
        return seed, train(net, data, EVERYTHING, seed)

    alone = {seed: trained(seed)[1] for seed in range(4)}
    before = torch.get_rng_state()
    together = dict(Threads(2).run(trained, range(4)))
    assert torch.equal(before, torch.get_rng_state())
    for seed, one in alone.items():
        assert torch.equal(flat(one.net), flat(together[seed].net))
        assert one.curve == together[seed].curve
    assert not torch.equal(flat(alone[0].net), flat(alone[1].net))


def test_what_is_evaluated_is_never_changed(data: Dataset) -> None:
    trained = train(linear(), data, EVERYTHING, 0)
    assert trained.curve[-1] == evaluated(trained.net, data).figures


@pytest.mark.parametrize("key", ["mixup", "cutmix", "label_smoothing", "augmentation", "gradient_clipping"])
def test_each_key_changes_the_training(data: Dataset, key: str) -> None:
    one = {key: getattr(EVERYTHING, key)} | ({"gradient_clipping": 0.1} if key == "gradient_clipping" else {})
    plain, other = (train(linear(), data, recipe(lr=0.01, **more), 0) for more in ({}, one))
    assert not torch.equal(flat(plain.net), flat(other.net))


def test_keys_about_images_are_for_images(data: Dataset) -> None:
    class Others:
        pass

    strange = replace(data, train=Others())  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="`mixup` is for images to be classified, but `noise` holds other examples"):
        objective(recipe(mixup=0.2), strange)
    unknown = replace(data, normalisation=None)
    with pytest.raises(SpecError, match="`augmentation` needs to know how `noise` is normalised"):
        objective(recipe(augmentation={"flip": True}), unknown)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.nesterov": True, "train.momentum": 0}, "`nesterov` needs a `momentum` above 0"),
        ({"train.warmup_epochs": 30}, "`warmup_epochs` must lie below `epochs`, 30, but got 30"),
        ({"train.label_smoothing": 1}, "`train.label_smoothing`: input should be less than 1"),
        ({"train.mixup": 0}, "`train.mixup`: input should be greater than 0"),
        ({"train.augmentation.flp": True}, "unknown key `flp`: did you mean `flip`?"),
        ({"train.augmentation.rand_augment.strength": 3}, "unknown key `strength`: known are magnitude, operations"),
        (
            {"train.augmentation.rand_augment": {"operations": 2, "magnitude": 30}},
            "magnitude.*less than or equal to 29",
        ),
        (
            {"train.augmentation": {"crop_padding": 4, "resized_crop": 0.08}},
            "`crop_padding` and `resized_crop` are two ways to crop: give one",
        ),
    ],
)
def test_a_recipe_that_breaks_a_rule_is_one_clear_line(change: dict[str, object], message: str) -> None:
    facts = load_spec("quickstart").facts()
    if "train.augmentation.rand_augment.strength" in change:
        facts["train"]["augmentation"] = {"rand_augment": {"operations": 2, "magnitude": 9}}
    with pytest.raises(SpecError, match=message) as problem:
        changed(facts, change, "quickstart")
    assert "\n" not in str(problem.value)


def test_the_recipe_of_a_vision_transformer_reads_back() -> None:
    facts = {
        "optimiser": "adamw", "lr": 1.5e-4, "weight_decay": 0.3, "batch_size": 1024, "epochs": 300,
        "schedule": "cosine", "warmup_epochs": 30, "label_smoothing": 0.11, "mixup": 0.2, "cutmix": 1.0,
        "gradient_clipping": 1.0,
        "augmentation": {"resized_crop": 0.08, "flip": True, "rand_augment": {"operations": 2, "magnitude": 9}},
    }  # fmt: skip
    assert Recipe.model_validate(facts).model_dump(exclude_defaults=True) == facts


def test_the_recipes_of_the_documentation_are_recipes() -> None:
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert [Recipe.model_validate(yaml.safe_load(block)).optimiser for block in blocks] == ["sgd", "adamw"]
    named = set(re.findall(r"`(\w+)[:`]", page))
    assert {*Recipe.model_fields, *Augmentation.model_fields} <= named


def test_neutral_values_written_out_are_left_out_of_the_identity() -> None:
    plain = load_spec("quickstart")
    neutral = {
        "train.warmup_epochs": 0, "train.label_smoothing": 0.0, "train.mixup": None, "train.cutmix": None,
        "train.gradient_clipping": None, "train.nesterov": False, "train.augmentation": {"flip": False},
    }  # fmt: skip
    assert load_spec("quickstart", neutral).digest() == plain.digest()
    assert load_spec("quickstart", {"retrain.augmentation.flip": True}).digest() != plain.digest()


def test_a_recipe_that_the_data_cannot_take_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    change = {"retrain.augmentation": {"rand_augment": {"operations": 2, "magnitude": 9}}}
    study = Study("quickstart", set=change, store=f"sqlite:///{tmp_path / 's.db'}", progress=Quiet())
    with pytest.raises(SpecError, match="`rand_augment` needs images of 3 channels, but these have 1"):
        study.run()
    assert not (tmp_path / "s.db").exists()


def test_a_study_with_augmentation_is_the_same_with_one_thread_and_with_two(tmp_path: Path) -> None:
    change = {
        "train.epochs": 1, "train.milestones": [], "train.schedule": "constant", "repeats": 1, "cells.0.draw": 4,
        "retrain.epochs": 1, "retrain.milestones": [], "retrain.schedule": "constant",
        "retrain.augmentation": {"crop_padding": 3}, "retrain.mixup": 0.4, "retrain.cutmix": 1.0,
    }  # fmt: skip
    curves = []
    for threads in (1, 2):
        store = f"sqlite:///{tmp_path / f'{threads}.db'}"
        study = Study("quickstart", set=change, store=store, threads=threads, backend="loop", progress=Quiet())
        assert study.run().finished == 4
        curves.append(study.curves().sort_values(["mask", "epoch"]).drop(columns=["run"], errors="ignore"))
    assert curves[0].reset_index(drop=True).equals(curves[1].reset_index(drop=True))
    assert curves[0]["train_loss"].nunique() == 4


def test_augmented_digits_train() -> None:
    digits = load_dataset("digits", None, torch.device("cpu"), Quiet())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
    plan = recipe(lr=0.05, momentum=0.9, batch_size=64, epochs=3, augmentation={"crop_padding": 2})
    assert train(net, digits, plan, 0).curve[-1].test_accuracy > 0.75
