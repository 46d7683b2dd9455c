"""Exports: a folder that gives the network back, in this process, in a fresh one, and without trueoracle."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from torch import nn

import trueoracle
from test_cli import call
from trueoracle import Study
from trueoracle.nets import build, find_sites, remove
from trueoracle.selection import Exported, Subject, export
from trueoracle.selection.formats import torch_export
from trueoracle.words.errors import ModelError, SpecError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import InputShape

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)
SMALL = InputShape(channels=1, height=8, width=8, classes=3)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def exported(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return finished.export(tmp_path_factory.mktemp("export") / "net", cell="conv1-0.5")


@pytest.fixture
def folder(exported: Exported, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(copytree(exported.folder, tmp_path / "net"))


@pytest.fixture
def own() -> Subject:
    net = Own().eval()
    mask = Mask(rank=0, sites=(SiteMask(site="conv", units=6, kept=(1, 2, 5)),))
    return Subject(
        model="mine:Own",
        width_factor=1.0,
        shape=SMALL,
        whole=net,
        pruned=remove(net, mask, find_sites(net, SMALL)),
        mask=mask,
        images_BCHW=torch.randn(5, 1, 8, 8),
    )


def test_the_best_mask_comes_with_its_trials_figures(finished: Study, exported: Exported) -> None:
    trials = finished.trials()
    trials = trials[trials["cell"] == "conv1-0.5"]
    assert exported.facts.origin is not None
    mine = trials[(trials["mask"] == int(exported.facts.origin.mask)) & (trials["repeat"] == 0)].iloc[0]
    figure = exported.facts.figures["final_test_accuracy"]
    assert figure.value == mine["final_test_accuracy"]
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < figure.value < figure.high
    assert exported.facts.figures["final_test_loss"].value == mine["final_test_loss"]
    assert len(exported.facts.sites["conv1"].kept) == 5
    assert exported.pruned.parameters < exported.whole.parameters


def test_every_file_gives_the_same_outputs(exported: Exported) -> None:
    assert [check.file for check in exported.checks] == ["model.safetensors", "model.onnx", "model.pt2"]
    assert all(check.difference < 1e-4 for check in exported.checks)
    assert sorted(path.name for path in exported.folder.iterdir()) == [
        "model.onnx", "model.pt2", "model.safetensors", "pruning.json",
    ]  # fmt: skip
    assert {(t.runtime, t.network, t.latency.batch) for t in exported.timed} == {
        (runtime, network, batch)
        for runtime in ("torch", "ONNX Runtime")
        for network in ("whole", "pruned")
        for batch in (1, 32)
    }


def test_where_there_is_a_gpu_it_is_timed_too(finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = ("torch on a stand-in", torch.device("cpu"))
    monkeypatch.setattr(import_module("trueoracle.selection.export"), "_gpus", lambda: iter([stand_in]))
    exported = finished.export(tmp_path / "pruned", formats=[], cell="conv1-0.5")
    assert [(t.runtime, t.network, t.latency.batch) for t in exported.timed] == [
        (runtime, network, batch)
        for batch in (1, 32)
        for runtime in ("torch", "torch on a stand-in")
        for network in ("whole", "pruned")
    ]


ELSEWHERE = """
import sys
import numpy as np, torch, trueoracle
images = torch.from_numpy(np.load(sys.argv[2]))
with torch.inference_mode():
    np.save(sys.argv[3], trueoracle.load(sys.argv[1])(images).numpy())
"""

WITHOUT = """
import sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx", providers=["CPUExecutionProvider"])
(logits,) = session.run(None, {"images": np.load(sys.argv[2])})
assert "torch" not in sys.modules and "trueoracle" not in sys.modules
np.save(sys.argv[3], logits)
"""


def test_a_program_does_not_hold_the_images_that_its_example_was_cut_from(tmp_path: Path) -> None:
    images = torch.zeros(2_000, 1, 8, 8)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    torch_export.write(net, images[:2], tmp_path / "part.pt2")
    torch_export.write(net, images[:2].clone(), tmp_path / "alone.pt2")
    assert (tmp_path / "part.pt2").stat().st_size < 1.1 * (tmp_path / "alone.pt2").stat().st_size < images.nbytes
    assert torch_export.reader(tmp_path / "part.pt2")(images[:5]).shape == (5, 2)


@pytest.mark.parametrize("program", [ELSEWHERE, WITHOUT], ids=["load", "onnxruntime alone"])
def test_it_runs_in_a_fresh_process(exported: Exported, tmp_path: Path, program: str) -> None:
    images = np.random.default_rng(0).normal(size=(7, 1, 32, 32)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    arguments = [str(exported.folder), str(tmp_path / "images.npy"), str(tmp_path / "logits.npy")]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True)
    with torch.inference_mode():
        wanted = trueoracle.load(exported.folder)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_a_network_of_ones_own_needs_the_module_or_its_name(own: Subject, tmp_path: Path) -> None:
    export(own, tmp_path / "net", ())
    with pytest.raises(ModelError, match=r"`mine:Own` is no built-in network: say what was pruned"):
        trueoracle.load(tmp_path / "net")
    whole = Own()
    again = trueoracle.load(tmp_path / "net", model=whole)
    with torch.inference_mode():
        assert torch.equal(again(own.images_BCHW), own.pruned(own.images_BCHW))  # type: ignore[arg-type]
    assert whole.conv.out_channels == 6  # left alone


def test_another_network_is_refused(own: Subject, tmp_path: Path) -> None:
    export(own, tmp_path / "net", ())
    wider = Own()
    wider.conv, wider.norm, wider.head = nn.Conv2d(1, 7, 3), nn.BatchNorm2d(7), nn.Linear(7, 3)
    with pytest.raises(ModelError, match="keeps units of 6 at `conv`, but the network has 7 there"):
        trueoracle.load(tmp_path / "net", model=wider)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("model.safetensors", b"x", "is not the file that was exported: its SHA-256 differs"),
        ("pruning.json", b"{", "is no JSON"),
        ("pruning.json", b"[]", "says no `format`"),
        ("pruning.json", b'{"format": 2}', "is of format 2, but this trueoracle knows formats up to 1"),
        ("pruning.json", b'{"format": 1}', "`trueoracle`: field required"),
    ],
)
def test_a_changed_file_is_refused(folder: Path, name: str, content: bytes, why: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=why):
        trueoracle.load(folder)


@pytest.mark.parametrize(
    ("name", "why"), [("model.safetensors", "lacks `model.safetensors`"), ("pruning.json", "is no exported network")]
)
def test_a_missing_file_is_refused(folder: Path, name: str, why: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=why):
        trueoracle.load(folder)


def test_another_mask_in_the_facts_is_refused(folder: Path) -> None:
    facts = json.loads((folder / "pruning.json").read_text())
    facts["sites"]["conv1"]["kept"] = [0, 1]
    (folder / "pruning.json").write_text(json.dumps(facts))
    with pytest.raises(ModelError, match="do not fit the network: `conv1.weight` has shape"):
        trueoracle.load(folder)


def test_a_file_that_would_give_other_outputs_is_never_left(own: Subject, tmp_path: Path) -> None:
    class Forgetful(Own):
        """Adds a number that no state dict holds."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + getattr(self, "shift", 0.0)

    net = Forgetful().eval()
    pruned = remove(net, own.mask, find_sites(net, SMALL))
    pruned.shift = 1.0
    with pytest.raises(ModelError, match=r"`model.safetensors` gives other outputs than the network in memory"):
        export(replace(own, whole=net, pruned=pruned), tmp_path / "net", ())
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_traced_leaves_nothing(own: Subject, tmp_path: Path) -> None:
    class Branching(Own):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.sum() > -1e9 else x

    net = Branching().eval()
    pruned = remove(net, own.mask, find_sites(net, SMALL))
    with pytest.raises(ModelError, match="the network cannot be written as pt2"):
        export(replace(own, whole=net, pruned=pruned), tmp_path / "net", ("pt2",))
    assert list(tmp_path.iterdir()) == []


def test_the_command(finished: Study, tmp_path: Path) -> None:
    words = ("export", "quickstart", "--store", finished.store_url, "--cell", "conv3-0.2", "--mask")
    rank = str(finished.trials().query("cell == 'conv3-0.2'")["mask"].iloc[0])
    printed = call(*words, rank, "--repeat", "1", "--format", "onnx", "-o", str(tmp_path / "net"))
    assert f"mask {rank} of quickstart, cell conv3-0.2, repeat 1" in printed
    assert "on 360 examples" in printed
    assert "model.pt2" not in printed
    facts = json.loads((tmp_path / "net" / "pruning.json").read_text())
    assert facts["origin"]["repeat"] == 1
    with pytest.raises(ModelError, match="exists already"):
        call(*words, rank, "-o", str(tmp_path / "net"))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({}, "the study has 2 cells: name one of conv1-0.5, conv3-0.2"),
        ({"cell": "conv1-0.4"}, "unknown cell `conv1-0.4`: did you mean `conv1-0.5`?"),
        ({"cell": "conv1-0.5", "mask": 252}, r"`mask` must lie in \[0, 252\)"),
        ({"cell": "conv1-0.5", "mask": "worst"}, "`mask` must be best or a rank, such as 17, but got `worst`"),
        ({"cell": "conv1-0.5", "repeat": 2}, r"`repeat` must lie in \[0, 2\)"),
        ({"cell": "conv1-0.5", "formats": ["onxx"]}, "unknown format `onxx`: did you mean `onnx`?"),
    ],
)
def test_what_is_no_mask_is_refused(finished: Study, tmp_path: Path, how: dict[str, object], why: str) -> None:
    with pytest.raises((SpecError, ModelError), match=why):
        finished.export(tmp_path / "net", **how)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_said_before_the_work(
    finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trueoracle.selection.formats.find_spec", lambda _package: None)
    why = r"the format `onnx` needs the package `onnxscript`: .*, or leave it out: --format pt2"
    with pytest.raises(ModelError, match=why):
        finished.export(tmp_path / "net", cell="no such cell")


def test_the_whole_network_may_be_built_in(tmp_path: Path) -> None:
    whole = build("lenet5-mini", SHAPE)
    mask = Mask(rank=0, sites=(SiteMask(site="conv2", units=10, kept=(0, 9)),))
    subject = Subject(
        model="lenet5-mini",
        width_factor=1.0,
        shape=SHAPE,
        whole=whole,
        pruned=remove(whole, mask, find_sites(whole, SHAPE)),
        mask=mask,
        images_BCHW=torch.randn(2, 1, 32, 32),
    )
    export(subject, tmp_path / "net", ())
    assert trueoracle.load(tmp_path / "net").conv2.out_channels == 2  # type: ignore[union-attr]
