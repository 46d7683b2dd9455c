"""A study's identity: what changes it, what does not, and the rules of its keys."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from trueoracle import StudySpec
from trueoracle.nets import build
from trueoracle.study import builtin_studies, changed, load_spec, plan
from trueoracle.words.errors import ModelError, SpecError
from trueoracle.words.seeding import derive_seed
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import parse_spec

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)


def quickstart(**changes: Any) -> StudySpec:
    return load_spec("quickstart", {path.replace("__", "."): value for path, value in changes.items()})


def test_the_built_in_identities_never_change() -> None:
    # Whoever changes one of these orphans every stored study of that name.
    digests = {name: spec.digest()[:16] for name, spec in builtin_studies().items()}
    assert digests == {
        "digits": "c34bfa544925ca4b",
        "digits-d6": "aac91f11bab4b9fe",
        "digits-d8": "d0c6a915931bfac3",
        "digits-joint": "1b24786f18c6e77a",
        "digits-lr0.02": "788c75f338564590",
        "digits-released": "dcdb7dd55ce7ff62",
        "digits-w20": "3d3f46fa0d4d3a9f",
        "digits-w40": "3e4823b1fb3d1ef4",
        "kmnist5k": "e08f2905256399dc",
        "lenet5-mini-d6-mnist": "d55a858b0a0b0cb9",
        "lenet5-mini-d7-mnist": "fe5b3c2c3c746468",
        "lenet5-mini-d8-mnist": "a656a7d83c58d518",
        "lenet5-mini-fashion-mnist": "11f60b6bd403da00",
        "lenet5-mini-kmnist": "560463e4a612ad97",
        "lenet5-mini-mnist": "d5829d003f5fb328",
        "lenet5-mini-mnist-tenth": "d394023dfb5784ef",
        "lenet5-mini-mnist-weights": "ab0523242f1ce0b7",
        "lenet5-mini-w20-mnist": "c6591a7d7ea689c6",
        "lenet5-mini-w30-mnist": "fbabcdfc333c1483",
        "lenet5-mini-w40-mnist": "7dfa80c37d5385c3",
        "lenet5-mini-w40-mnist-patterns": "6b05f30351056829",
        "mnist5k": "52c032d2c9ab616b",
        "mnist5k-d8": "70656ea94fc0aac8",
        "mnist5k-w40": "6a6941c71a3f81d0",
        "quickstart": "62cded06b470c6b6",
        "resnet18-imagenet": "6586c796ada54250",
        "resnet18-imagenet-tenth": "344b7f5205b0649d",
        "resnet50-imagenet": "d23da8fc8ea3996d",
        "resnet56-cifar10": "e7e99a8f8d8acdb8",
        "resnet56-cifar10-tenth": "d4b12bf0e153a921",
        "resnet56-cifar25k": "363ff1117a08d5d2",
        "resnet56-cifar25k-released": "d205a4125e756f1a",
        "tinyllava-vqa": "1b3c5a480a4eaf8c",
        "unet-mnist-cr-diff": "cbffaf5dd7f0a229",
        "vgg19-cifar100": "e7a988a212c71b51",
        "vit-b16-imagenet": "075528e49c30a675",
    }


def test_what_the_paper_has_as_panels_is_built_in() -> None:
    """Names, ratios and numbers of masks of the published panels, all but the LeNet5-Mini grid's, tested below."""
    panels = {
        "lenet5-mini-d6-mnist": ("lenet5-mini-d6", "mnist", {"conv1": 0.5}, 252),
        "lenet5-mini-d8-mnist": ("lenet5-mini-d8", "mnist", {"conv1": 0.5}, 252),
        "lenet5-mini-kmnist": ("lenet5-mini", "kmnist", {"conv1": 0.5}, 252),
        "lenet5-mini-w20-mnist": ("lenet5-mini-w20", "mnist", {"conv1": 0.5}, 1000),
        "lenet5-mini-w40-mnist": ("lenet5-mini-w40", "mnist", {"conv1": 0.5}, 1000),
        "resnet56-cifar10": ("resnet56", "cifar10", {"layer*.conv1": 0.5}, 1000),
        "vgg19-cifar100": ("vgg19", "cifar100", {"features.*": 0.5}, 1000),
    }
    for name, (model, data, prune, masks) in panels.items():
        spec = builtin_studies()[name]
        (cell,) = plan(spec).cells
        assert (spec.model, spec.data, spec.cells[0].prune, cell.count) == (model, data, prune, masks)
        assert (spec.repeats, spec.final.value) == (3, "best_on_test")
    sites = {
        name: len(plan(builtin_studies()[name]).cells[0].space.sites) for name in ("resnet56-cifar10", "vgg19-cifar100")
    }
    assert sites == {"resnet56-cifar10": 27, "vgg19-cifar100": 16}


def test_the_tenth_is_a_tenth_of_the_retraining() -> None:
    for name in ("lenet5-mini-mnist-tenth", "resnet56-cifar10-tenth"):
        spec = builtin_studies()[name]
        assert spec.early is not None
        assert spec.early.epochs * 10 == spec.retrain.epochs
        assert [milestone * 10 for milestone in spec.early.milestones] == list(spec.retrain.milestones)
        same = spec.early.model_copy(update={"epochs": spec.retrain.epochs, "milestones": spec.retrain.milestones})
        assert same == spec.retrain


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive_seed("0" * 64, "retraining order", 1) == 4921774460249226839


@pytest.mark.parametrize(
    "change",
    [
        {"retrain.lr": 0.003},
        {"repeats": 3},
        {"seed": 1},
        {"final": "best_on_test"},
        {"data": "mnist"},
        {"cells.0.draw": 20},
        {"train.keep": "best_on_test"},
    ],
)
def test_what_changes_a_result_changes_the_identity(change: dict[str, Any]) -> None:
    assert load_spec("quickstart", change).digest() != quickstart().digest()


def test_names_and_neutral_defaults_do_not() -> None:
    same = quickstart(name="other", description="something else", retrain__keep="last", seed=0)
    assert same.digest() == quickstart().digest()


def test_the_facts_of_a_study_read_back_as_the_same_study() -> None:
    for spec in builtin_studies().values():
        assert parse_spec(spec.facts(), "again") == spec


def test_base_weights_stand_in_the_identity_by_content(tmp_path: Path) -> None:
    state = build("lenet5-mini", SHAPE, seed=1).state_dict()
    for name in ("a", "b"):
        save_file(state, tmp_path / f"{name}.safetensors")
    save_file(build("lenet5-mini", SHAPE, seed=2).state_dict(), tmp_path / "c.safetensors")
    digests = [quickstart(base_weights=str(tmp_path / f"{name}.safetensors")).digest() for name in "abc"]
    assert digests[0] == digests[1] != digests[2]
    untrained = quickstart(base_weights=str(tmp_path / "a.safetensors"), train=None)
    assert untrained.digest() == digests[0]


def test_weights_that_do_not_fit_say_where(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(build("lenet5-mini-w20", SHAPE).state_dict(), path)
    with pytest.raises(ModelError, match=r"do not fit the network: `conv1.weight` has shape \(20, 1, 5, 5\)"):
        plan(quickstart(base_weights=str(path)))
    save_file(build("lenet5-mini-d6", SHAPE).state_dict(), path)
    with pytest.raises(ModelError, match=r"do not fit the network: it has fc3.bias, fc3.weight besides"):
        plan(quickstart(base_weights=str(path)))
    path.write_bytes(b"not weights")
    with pytest.raises(ModelError, match="are no safetensors file"):
        plan(quickstart(base_weights=str(path)))


def test_a_cell_of_a_study_is_a_study() -> None:
    cell = load_spec("lenet5-mini-mnist-conv2-0.3")
    assert [c.prune for c in cell.cells] == [{"conv2": 0.3}]
    with pytest.raises(SpecError, match="unknown study `lenet5-mini-mnist-conv2-0.9`: did you mean"):
        load_spec("lenet5-mini-mnist-conv2-0.9")


def test_the_papers_grid_is_as_the_paper_has_it() -> None:
    spec = builtin_studies()["lenet5-mini-mnist"]
    counts = {cell.name: cell.count for cell in plan(spec).cells}
    for conv in ("conv1", "conv2", "conv3"):
        assert [counts[f"{conv}-0.{d}"] for d in range(2, 9)] == [45, 120, 210, 252, 210, 120, 45]
    joint = [name for name in counts if "+" in name]
    assert sorted(counts[name] for name in joint) == [1000] * 4
    assert (spec.repeats, spec.final.value) == (3, "best_on_test")
    for recipe, lr in ((spec.train, 0.01), (spec.retrain, 0.001)):
        assert recipe is not None
        assert (recipe.lr, recipe.epochs, recipe.milestones, recipe.factor) == (lr, 30, (20,), 0.1)
        assert (recipe.momentum, recipe.weight_decay, recipe.batch_size) == (0.9, 1e-4, 256)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"retrain.milestones": []}, "`milestones` and `schedule: step` go together"),
        ({"retrain.milestones": [4, 2]}, r"`milestones` must rise, but got \[4, 2\]"),
        ({"retrain.optimiser": "adamw"}, "`momentum` belongs to `optimiser: sgd`"),
        ({"retrain.optimiser": "adam"}, "`retrain.optimiser`: input should be 'sgd' or 'adamw', but got 'adam'"),
        ({"retrain.lr": 0}, "`retrain.lr`: input should be greater than 0, but got 0"),
        ({"retrain.lr": float("nan")}, "`retrain.lr`: input should be a finite number"),
        ({"repeats": 0}, "`repeats`: input should be greater than or equal to 1, but got 0"),
        ({"name": "a b"}, "`name`: string should match pattern"),
        ({"train": None}, "`train` is missing: say how the base network is trained, or give `base_weights`"),
        ({"cells": []}, "`cells`"),
        ({"cells": [{"prune": {"conv1": 0.5}}] * 2}, "cell `conv1-0.5` stands 2 times in `cells`"),
        ({"cells": [{"prune": {"conv1": 0.5}, "drawn": 3}]}, r"unknown key `drawn`: did you mean `draw`\? .*cells.0"),
        ({"schema": 2}, "`schema`"),
        ({"final": "first"}, "`final`: input should be 'last', 'mean_last_5', 'best_on_test' or 'best_on_validation'"),
        ({"name.first": "x"}, "cannot set `name.first`"),
    ],
)
def test_a_broken_rule_names_the_key_and_the_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as problem:
        changed(quickstart().facts(), change, "quickstart")
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- list\n", "must hold keys and values, but holds list"),
        ("a: [1,\n", "is no YAML"),
        ("name: x\n", "key `model` is missing"),
        ("!!python/object/apply:os.system ['true']\n", "is no YAML"),
    ],
)
def test_a_file_that_is_no_study_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=message) as problem:
        load_spec(str(path))
    assert "\n" not in str(problem.value)
