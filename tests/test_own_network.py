"""A user's own network: from a module of the working folder, or passed in Python; listed, judged, studied, refused."""

from inspect import getsource
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import trueoracle
from trueoracle import Study, StudySpec
from trueoracle.cli.app import app, main
from trueoracle.nets import build, find_sites, remove, silenced
from trueoracle.words.errors import ModelError, SpecError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape

GREY = InputShape(channels=1, height=32, width=32, classes=10)


class Wired(nn.Module):
    """A user's class; its text is part of the module below."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = nn.Conv2d(1, 6, 5, stride=3), nn.Conv2d(6, 8, 3), nn.Conv2d(6, 4, 3)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))


MODULE = f"""
import torch
from torch import Tensor, nn


{getsource(Wired)}

def of_shape(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape.height * shape.width, 6), nn.ReLU(), nn.Linear(6, shape.classes))


class Detached(Wired):
    def forward(self, x):
        x = torch.from_numpy(self.first(x).detach().numpy())
        return self.head(torch.from_numpy(self.second(x).detach().numpy()).mean((2, 3)))


class Failing(nn.Module):
    def __init__(self):
        raise RuntimeError("no weights here")


def two(a, b):
    return Wired()


def with_default(classes=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, classes))


def no_module():
    return "net"


instance = Wired()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module that only the working folder holds."""
    name = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def wired() -> nn.Module:
    torch.manual_seed(0)
    return Wired()


def test_a_factory_gets_the_shape_if_it_needs_one(module: str) -> None:
    net = build(f"{module}:of_shape", GREY, seed=3)
    assert [tuple(p.shape) for p in net.parameters()] == [(6, 1024), (6,), (10, 6), (10,)]
    again = build(f"{module}:of_shape", GREY, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert sum(p.numel() for p in build(f"{module}:Wired", GREY).parameters()) == 156 + 440 + 220 + 90


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ("Missing", "cannot be imported: module .* has no attribute 'Missing'"),
        ("instance", "must be a function or class that makes a network, but is a Wired"),
        ("two", "must need no argument or an `InputShape` alone, but it needs a, b"),
        ("no_module", "must make a torch.nn.Module, but made a str"),
        ("Failing", "cannot be made for 1x32x32 images of 10 classes: RuntimeError: no weights here"),
        ("with_default", r"must map an image to a tensor of shape \(1, 10\), a logit a class, but gives \(1, 3\)"),
    ],
)
def test_what_makes_no_network_is_refused(module: str, thing: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"`{module}:{thing}` {message}"):
        build(f"{module}:{thing}", GREY)


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="`no_such_package.nets:Net` cannot be imported: No module named"):
        build("no_such_package.nets:Net", GREY)


def test_images_of_another_size_are_refused(module: str) -> None:
    with pytest.raises(ModelError, match="cannot take 3x8x8 images of 10 classes: "):
        build(f"{module}:Wired", InputShape(channels=3, height=8, width=8, classes=10))


def test_it_trains_and_prunes_like_any(module: str, tmp_path: Path) -> None:
    sgd = {"optimiser": "sgd", "lr": 0.05, "batch_size": 64, "epochs": 1}
    spec = StudySpec.model_validate(
        {
            "name": "own", "model": f"{module}:Wired", "data": "digits", "train": sgd, "retrain": sgd,
            "cells": [{"prune": {"first": 0.5}, "draw": 2}, {"prune": {"*": 0.5}, "draw": 2}], "repeats": 1, "final": "last",
        }
    )  # fmt: skip
    study = Study(spec, store=f"sqlite:///{tmp_path / 's.db'}", threads=1, backend="loop", progress=Quiet())
    assert study.run().finished == 2 + 2
    pruned = study.trials().query("cell == '*-0.5'")["pruned"]
    assert pruned.str.contains("first").all()
    assert pruned.str.contains("second").all()


def test_a_module_is_judged_as_it_is() -> None:
    net = wired()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    table = trueoracle.pruned_losses(net, None, "digits", {"first": 0.5}, threads=1, progress=Quiet())
    assert len(table) == 20
    assert table["pruned_train_loss"].nunique() > 1
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert net.training


def test_sites_of_a_module() -> None:
    table = trueoracle.sites(wired(), shape=GREY, progress=Quiet())
    expected = pd.DataFrame(
        [
            ("first", "filter", 6, 25 + 1 + 8 * 9, 100 * 25 + 64 * 8 * 9, ["second"], []),
            ("second", "filter", 8, 6 * 9 + 1 + 10, 64 * 6 * 9 + 10, ["head"], []),
        ],
        columns=["site", "kind", "units", "parameters_per_unit", "operations_per_unit", "coupled", "normalised_by"],
    )
    pd.testing.assert_frame_equal(table, expected)
    with pytest.raises(SpecError, match="which images `Wired` takes is not known: name a dataset"):
        trueoracle.sites(wired())


def oracle_of(model: str, *prune: str) -> list[str]:
    words = ["oracle", "--model", model, "--data", "digits", "-o", "o.csv"]
    return words + [word for text in prune for word in ("--prune", text)]


@pytest.mark.parametrize(
    ("prune", "message"),
    [
        (["unused=0.5"], "`unused` is no site: the forward pass does not lead there"),
        (["head=0.5"], "`head` is no site: its units are the network's outputs"),
        (["fisrt=0.5"], "unknown site `fisrt`: did you mean `first`? known are first, second"),
        (["third.*=0.5"], "no site is called `third.*`: known are first, second"),
        (["first=0.5", "f*=0.5"], "the site `first` is chosen twice: by `first` and by `f*`"),
        (["first=0.1"], "ratio 0.1 prunes nothing of `first`"),
    ],
)
def test_a_site_that_does_nothing_is_one_clear_line_and_exit_code_2(
    prune: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_site_errors.py").write_text(MODULE)
    from safetensors.torch import save_file

    save_file(wired().state_dict(), "w.safetensors")
    words = oracle_of("own_site_errors:Wired", *prune)
    monkeypatch.setattr("sys.argv", ["trueoracle", *words, "--weights", "w.safetensors"])
    with pytest.raises(SystemExit) as end:
        main()
    captured = capsys.readouterr()
    assert end.value.code == 2
    assert captured.err.startswith(f"error: {message}")
    assert captured.err.count("\n") == 1
    assert not Path("o.csv").exists()


def test_a_network_that_cannot_be_traced_is_named(module: str) -> None:
    with pytest.raises(
        ModelError,
        match="Detached has no site: of `first`, no layer sums over its units: they lead nowhere, or out of PyTorch",
    ):
        trueoracle.sites(f"{module}:Detached", "digits", progress=Quiet())


def test_weights_are_needed_where_a_network_has_none(module: str) -> None:
    with pytest.raises(ModelError, match=f"`{module}:Wired` comes without weights: give them"):
        trueoracle.pruned_losses(f"{module}:Wired", None, "digits", {"first": 0.5}, progress=Quiet())


def test_the_command_lists_sites() -> None:
    result = CliRunner().invoke(app, ["sites", "lenet5-mini"], catch_exceptions=False)
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert ["conv1", "filter", "10", "276", "44,600", "conv2"] in lines
    assert ["fc1", "neuron", "10", "21", "20", "fc2"] in lines
    narrow = CliRunner().invoke(app, ["sites", "resnet20"], catch_exceptions=False, env={"COLUMNS": "40"})
    lines = [line.split() for line in narrow.output.splitlines()]
    assert ["layer1.0.conv1", "filter", "16", "290", "294,912", ".bn1,", ".conv2"] in lines


def test_a_convolution_in_groups_makes_whole_groups_the_units() -> None:
    torch.manual_seed(0)
    net = Between(nn.Conv2d(6, 12, 3, groups=3)).eval()
    net.last = nn.Conv2d(12, 4, 3)
    site = find_sites(net, GREY)["conv"]
    assert site.units == 3
    pruned = remove(net, Mask(rank=0, sites=(SiteMask(site="conv", units=3, kept=(0, 2)),)), find_sites(net, GREY))
    between = pruned.get_submodule("between")
    assert (between.in_channels, between.out_channels, between.groups) == (4, 8, 2)
    assert torch.equal(pruned.last.weight, net.last.weight[:, [0, 1, 2, 3, 8, 9, 10, 11]])


def test_frozen_layers_are_sites_too_and_stay_frozen() -> None:
    net = wired().requires_grad_(False)
    assert list(trueoracle.sites(net, shape=GREY, progress=Quiet())["site"]) == ["first", "second"]
    assert not any(parameter.requires_grad for parameter in net.parameters())


class Between(nn.Module):
    """A layer of the user's choice between the only two convolutions."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.conv, self.between, self.last, self.head = (
            nn.Conv2d(1, 6, 3), between, nn.Conv2d(6, 4, 3), nn.Linear(4, 10)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if isinstance(self.between, nn.MultiheadAttention):
            tokens = x.flatten(2).mT
            x = self.between(tokens, tokens, tokens)[0].mT.unflatten(2, x.shape[2:])
        else:
            x = self.between(x)
        return self.head(self.last(x).mean((2, 3)))  # type: ignore[no-any-return]


def test_what_feeds_attention_its_heads_and_what_it_gives_are_sites() -> None:
    torch.manual_seed(0)
    net = Between(nn.MultiheadAttention(6, 2, batch_first=True))
    sites = find_sites(net, GREY)
    assert list(sites) == ["conv", "between", "between.out_proj", "last"]
    parts = [("conv", 6, (1, 2, 4)), ("between", 2, (1,)), ("between.out_proj", 6, (0, 5))]
    mask = Mask(rank=0, sites=tuple(SiteMask(site=site, units=units, kept=kept) for site, units, kept in parts))
    attention = remove(net, mask, sites).get_submodule("between")
    assert isinstance(attention, nn.MultiheadAttention)
    assert (attention.embed_dim, attention.num_heads, attention.head_dim) == (3, 1, 3)
    rows = [3, 4, 5, 9, 10, 11, 15, 16, 17]  # the second head's queries, keys and values
    whole = net.get_submodule("between")
    assert torch.equal(attention.in_proj_weight, whole.in_proj_weight[rows][:, [1, 2, 4]])  # type: ignore[index]
    assert torch.equal(attention.out_proj.weight, whole.out_proj.weight[[0, 5]][:, [3, 4, 5]])  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    "between", [nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6), nn.PReLU(6), nn.InstanceNorm2d(6)]
)
def test_a_layer_that_works_on_each_unit_goes_along(between: nn.Module) -> None:
    torch.manual_seed(0)
    net = Between(between).double().eval()
    images = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    sites = find_sites(net, GREY)
    assert "between" in sites["conv"].coupled
    mask = Mask(rank=0, sites=(SiteMask(site="conv", units=6, kept=(1, 4)),))
    with torch.no_grad():
        with silenced(net, mask, sites):
            expected = net(images)
        torch.testing.assert_close(remove(net, mask, sites)(images), expected, rtol=1e-9, atol=1e-9)


class StaysOn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.head = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 3), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.dropout(self.last(self.conv(x)), 0.5, training=True).mean((2, 3)))  # type: ignore[no-any-return]


def test_a_network_that_gives_no_answer_to_go_by_is_refused_on_every_path() -> None:
    torch.manual_seed(0)
    broken = wired()
    broken.head.weight.data[0] = torch.nan  # type: ignore[operator, union-attr]
    for net, message in ((StaysOn(), "the same question in two ways"), (broken, "logits that are not finite")):
        for path in ("auto", "loop", "batched"):
            with pytest.raises(ModelError, match=message):
                trueoracle.pruned_losses(net, None, "digits", {"*": 0.5}, path=path, progress=Quiet())


def test_masked_and_computed_weights_are_refused_with_what_to_do() -> None:
    net = wired()
    torch.nn.utils.prune.random_unstructured(net.first, "weight", amount=0.5)  # type: ignore[arg-type, no-untyped-call]
    with pytest.raises(
        ModelError, match=r"`first` is masked by torch\.nn\.utils\.prune: make its mask permanent first"
    ):
        trueoracle.pruned_losses(net, None, "digits", {"first": 0.5}, progress=Quiet())
    torch.nn.utils.prune.remove(net.first, "weight")  # type: ignore[arg-type, no-untyped-call]
    assert "first" in find_sites(net, GREY)
    nn.utils.parametrizations.spectral_norm(net.second)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="make it permanent .torch.nn.utils.parametrize.remove_parametrizations"):
        find_sites(net, GREY)


def test_shared_weights_stay_shared() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(),
        nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10),
    )  # fmt: skip
    net[4].weight = net[2].weight
    mask = Mask(rank=0, sites=(SiteMask(site="0", units=6, kept=(1, 2, 5)),))
    pruned = remove(net, mask, find_sites(net, GREY))
    assert pruned.get_submodule("4").weight is pruned.get_submodule("2").weight
    assert pruned.get_submodule("2").weight.shape == (3, 3, 3, 3)
