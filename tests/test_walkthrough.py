"""The walk-through of the docs, as it stands there but for its sizes."""

import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import trueoracle
from trueoracle.cli.app import app

TEXT = (Path(__file__).parents[1] / "docs" / "walkthrough.md").read_text()

SECTIONS = dict(re.findall(r"^##? (.*?)\n(.*?)(?=^## |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL))
SMALLER = {
    "From pictures and a network of your own to ONNX": {
        "photos 200 100": "photos 24 8",
        "--budget 54-epochs": "--budget 8-epochs --set train.epochs=2 --set retrain.epochs=2 --compare none",
    },
    "A deep network: ResNet56 on CIFAR-10": {
        "--budget 6-epochs": "--budget 3-epochs --set width_factor=0.25 --set validation_images=60 --set train.epochs=1 "
        "--set train.evaluate_every=1 --set train.warmup_epochs=0 --set oracle_images=100 --compare none",
    },
}


def walk(section: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the files of a section of the text and give its commands, in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    for name, content in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", SECTIONS[section], flags=re.DOTALL):
        (folder / name).write_text(content)
    commands = "".join(re.findall(r"```sh\n(.*?)```", SECTIONS[section], flags=re.DOTALL))
    for size, small in SMALLER[section].items():
        assert commands.count(size) == 1, size
        commands = commands.replace(size, small)
    for line in commands.splitlines():
        program, *words = shlex.split(line.replace("$TRUEORACLE_DATA", "data"))
        if program == "python":
            monkeypatch.setattr(sys, "argv", words)
            runpy.run_path(words[0], run_name="__main__")
        else:
            assert program == "trueoracle"
            told = CliRunner().invoke(app, words, catch_exceptions=False)
            assert told.exit_code == 0, f"{line}\n{told.output}"


@pytest.fixture
def place(tmp_path: Path, cifar10_part: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    cifar10_part(tmp_path / "data", 400)
    monkeypatch.setenv("TRUEORACLE_DATA", str(tmp_path / "data"))
    return tmp_path


def test_a_network_of_ones_own_on_a_folder_of_pictures(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    walk("From pictures and a network of your own to ONNX", place, monkeypatch)
    said = re.search(
        r"(\w+) in PyTorch, (\w+) in ONNX Runtime\nlargest difference of a logit: (\S+)", capsys.readouterr().out
    )
    assert said is not None
    assert said[1] == said[2]
    assert float(said[3]) < 1e-4
    assert (place / "chosen" / "report.html").read_text().count("photos-half")
    net = trueoracle.load(place / "pruned", model="photonet:PhotoNet")
    assert [net.get_parameter(f"features.{at}.weight").shape[0] for at in (0, 4, 8)] == [8, 16, 32]


def test_a_deep_network(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk("A deep network: ResNet56 on CIFAR-10", place, monkeypatch)
    assert "resnet56-chosen" in (place / "chosen-resnet56" / "report.html").read_text()
    assert (place / "resnet56-pruned" / "model.onnx").stat().st_size > 0
    net = trueoracle.load(place / "resnet56-pruned")
    assert {net.get_parameter(f"layer{at}.0.conv1.weight").shape[0] for at in (1, 2, 3)} == {2, 4, 8}
