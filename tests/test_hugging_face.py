"""Networks of `transformers`: sizes known from the literature, the paper's sites, folders as the hub has them."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file
from transformers import AutoModelForImageClassification, BertConfig, BertModel, ResNetConfig, ViTConfig

from trueoracle import Study, StudySpec
from trueoracle.cli.app import main
from trueoracle.nets import build, find_sites, load_weights
from trueoracle.oracle import Loop, evaluator
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import ModelError, SpecError
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import parse_spec

IMAGENET = InputShape(channels=3, height=224, width=224, classes=1000)
SMALL = InputShape(channels=3, height=32, width=32, classes=10)
CONFIGS = {
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1], layer_type="basic"),
    "vit": ViTConfig(
        hidden_size=24, num_attention_heads=4, intermediate_size=20, num_hidden_layers=2, image_size=32, patch_size=8
    ),
}


def saved(folder: Path, kind: str = "vit", classes: int = 10, grey: bool = False) -> Path:
    """A small classifier as a repository of the hub has it, randomly initialised."""
    config = deepcopy(CONFIGS[kind])
    config.num_labels, config.num_channels = classes, 1 if grey else 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForImageClassification.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("hf-resnet18", 11_689_512), ("hf-resnet50", 25_557_032), ("vit-b16", 86_567_656)],
)
def test_parameters_are_those_of_the_literature(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in build(name, IMAGENET).parameters()) == parameters


def test_the_papers_sites() -> None:
    eighth = {
        name: find_sites(build(name, SMALL, width_factor=1 / 8), SMALL) for name in ("hf-resnet18", "hf-resnet50")
    }
    stages = "model.resnet.encoder.stages"
    basic = [f"{stages}.{stage}.layers.{block}.layer.0.convolution" for stage in range(4) for block in range(2)]
    assert list(eighth["hf-resnet18"].matching("*.layer.0.convolution")) == basic
    bottleneck = [
        f"{stages}.{stage}.layers.{block}.layer.{place}.convolution"
        for stage, blocks in enumerate((3, 4, 6, 3))
        for block in range(blocks)
        for place in (0, 1)
    ]
    assert list(eighth["hf-resnet50"].matching("*.layer.[01].convolution")) == bottleneck
    vit = find_sites(build("vit-b16", SMALL, width_factor=1 / 6), SMALL)
    layers = [f"model.vit.layers.{layer}.{part}" for layer in range(12) for part in ("attention", "mlp.fc1")]
    assert list(vit) == ["model.vit.embeddings.patch_embeddings.projection", "model.vit.layers", *layers]


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_folder_is_loaded_with_its_weights(kind: str, tmp_path: Path) -> None:
    net = build(f"hf:{saved(tmp_path, kind)}", SMALL, trained=True)
    stored = load_file(tmp_path / "model.safetensors")  # its names may be older ones than the module's
    state = net.state_dict()
    assert len(state) == len(stored)
    sums = (sorted(tensor.double().sum().item() for tensor in tensors.values()) for tensors in (state, stored))
    assert next(sums) == next(sums)
    assert torch.equal(
        state["model.classifier.weight" if kind == "vit" else "model.classifier.1.weight"],
        stored["classifier.weight" if kind == "vit" else "classifier.1.weight"],
    )
    assert not net.training


def test_other_classes_have_a_new_last_layer_where_it_will_be_trained(tmp_path: Path) -> None:
    name = f"hf:{saved(tmp_path, classes=7)}"
    first, again, other = (build(name, SMALL, seed=seed).state_dict() for seed in (0, 0, 1))
    head, body = "model.classifier.weight", "model.vit.layers.0.mlp.fc1.weight"
    assert first[head].shape == (10, 24)
    assert torch.equal(first[head], again[head])
    assert not torch.equal(first[head], other[head])
    assert torch.equal(first[body], other[body])
    with pytest.raises(ModelError, match="knows 7 classes, but the data has 10: train it on the data first"):
        build(name, SMALL, trained=True)


def test_what_is_no_image_classifier_is_refused(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=20)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"`hf:.*` cannot be loaded: Unrecognized configuration class"):
        build(f"hf:{tmp_path}", SMALL)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded: .*model.safetensors"):
        build(f"hf:{tmp_path}", SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 3}, "lack "),
        ({"num_hidden_layers": 1}, "have, besides what its configuration knows, "),
        ({"intermediate_size": 30}, "have in another shape "),
    ],
)
def test_weights_of_another_network_are_refused(change: dict[str, int], message: str, tmp_path: Path) -> None:
    path = saved(tmp_path) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=f"the weights of `hf:.*` {message}.*vit.layers"):
        build(f"hf:{tmp_path}", SMALL)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (saved(tmp_path) / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="cannot be loaded"):
        build(f"hf:{tmp_path}", SMALL)


def test_a_folder_that_does_not_exist() -> None:
    with pytest.raises(ModelError, match="`hf:./nowhere/at/all` cannot be loaded"):
        build("hf:./nowhere/at/all", SMALL)


def test_images_of_other_sizes_are_refused(tmp_path: Path) -> None:
    large = InputShape(channels=3, height=48, width=48, classes=10)
    with pytest.raises(ModelError, match=r"cannot take 3x48x48 images of 10 classes: .*48\*48"):
        build(f"hf:{saved(tmp_path)}", large)
    with pytest.raises(ModelError, match="vit-b16 takes square images whose side is a multiple of 16"):
        build("vit-b16", InputShape(channels=3, height=28, width=28, classes=10))


def test_the_oracle_takes_the_loop_and_says_why(tmp_path: Path) -> None:
    net = build(f"hf:{saved(tmp_path)}", SMALL)
    space = MaskSpace((SiteChoice(site="model.vit.layers.0.attention", units=4, pruned=2),))
    heads = evaluator(net, space, SMALL)
    assert isinstance(heads, Loop)
    assert heads.path == "loop: the units of `model.vit.layers.0.attention` are no filters or neurons, but heads"
    space = MaskSpace((SiteChoice(site="model.vit.layers.0.mlp.fc1", units=20, pruned=10),))
    assert evaluator(net, space, SMALL).path.startswith("loop: torch.fx cannot trace ImageClassifier: ")


def test_tensors_of_another_architecture_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(build("resnet20", SMALL, width_factor=0.25).state_dict(), path)
    with pytest.raises(ModelError, match="do not fit the network: it lacks"):
        load_weights(build("hf-resnet18", SMALL, width_factor=0.125), path)


SGD = {"optimiser": "sgd", "lr": 0.01, "batch_size": 64, "epochs": 1}


def study_of(folder: Path, **changes: object) -> StudySpec:
    facts: dict[str, object] = {
        "name": "as-it-is", "model": f"hf:{folder}", "data": "digits", "retrain": SGD, "repeats": 1, "final": "last", "train_images": 200, "test_images": 50,
        "cells": [{"prune": {"*.attention": 0.5, "*.0.mlp.fc1": 0.5}, "draw": 2}],
    }  # fmt: skip
    return parse_spec(facts | changes, "a study")


def test_a_study_of_a_model_as_it_is(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", grey=True)
    study = Study(study_of(folder), store=f"sqlite:///{tmp_path / 's.db'}", threads=1, progress=Quiet())
    assert study.run().finished == 2
    stored = load(study.base_weights())
    given = build(f"hf:{folder}", InputShape(channels=1, height=32, width=32, classes=10)).state_dict()
    assert all(torch.equal(stored[name], given[name]) for name in given)
    kept = study.trials()["pruned"].map(json.loads)
    assert all(len(sites["model.vit.layers.1.attention"]) == 2 for sites in kept)
    assert all(len(sites["model.vit.layers.0.mlp.fc1"]) == 10 for sites in kept)


def test_only_a_model_of_the_hub_needs_no_training(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="`train` is missing"):
        study_of(tmp_path, model="vit-b16")
    with pytest.raises(SpecError, match="a model that is not trained is one base network, but `base_networks` is 2"):
        study_of(tmp_path, base_networks=2)


def test_a_model_that_cannot_be_had_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["trueoracle", "sites", "hf:./nowhere/at/all", "--data", "cifar10"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
