"""The README's Python example, as it stands there."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    tau, trials = capsys.readouterr().out.split()
    assert -1 <= float(tau) <= 1
    assert trials == "20"
    assert "conv1-0.5" in (tmp_path / "report.html").read_text()
