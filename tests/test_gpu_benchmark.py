"""The script for a GPU, on a CPU: every section runs, what it claims equal is, and what fails is kept beside the rest."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    return gpu


def found(gpu: Any, section: str) -> dict[str, dict[str, Any]]:
    setting = gpu.Setting(device=torch.device("cpu"), tiny=True, seconds=0.0)
    return dict(gpu.SECTIONS[section](setting))


@pytest.mark.parametrize("section", ["machine", "graphs", "fleets", "sizes", "convolution", "precision", "kernels"])
def test_a_section_measures_both_networks(gpu: Any, section: str) -> None:
    cases = found(gpu, section)
    expected = {"device", "ceilings"} if section == "machine" else {"lenet5-mini", "resnet20"}
    assert {case.partition(",")[0] for case in cases} == expected
    numbers = [value for facts in cases.values() for name, value in facts.items() if name.endswith(("ms", "second"))]
    assert all(value > 0 for value in numbers)


def test_fleets_equal_the_loop_and_products_equal_convolutions(gpu: Any) -> None:
    for case, facts in found(gpu, "equality").items():
        if case.endswith("float32"):
            assert facts["relative_difference"] < 1e-6
        else:
            assert facts["largest_difference_of_weights"] < 1e-12
            assert facts["outcomes"] == [["FINISHED"] * 2, ["FINISHED"] * 2, ["DIVERGED"] * 2]
    for facts in found(gpu, "convolution").values():
        assert 0 < facts["largest_difference_of_weights_after_a_step"] < 1e-4


def test_what_a_section_ends_in_is_kept(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*words: str) -> dict[str, dict[str, Any]]:
        monkeypatch.setattr("sys.argv", ["gpu.py", "--output", str(tmp_path), *words])
        gpu.main()
        kept: dict[str, dict[str, Any]] = json.loads((tmp_path / "gpu.json").read_text())
        return kept

    run("machine", "--device", "cpu", "--tiny")
    assert run("study", "--minutes", "0")["study"] == {"problem": {"what": "no time was left"}}
    kept = run("equality", "--device", "cpu", "--tiny", "--minutes", "0.001")
    assert kept["equality"]["problem"] == {"what": "the time was over"}
    assert kept["machine"]["device"]["device"] == "cpu"
    if not torch.cuda.is_available():
        assert "torch finds no GPU here" in run("graphs")["graphs"]["problem"]["what"]
