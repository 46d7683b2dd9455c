"""What a bar says."""

import io

from rich.console import Console

from trueoracle.words.progress import Bars


def test_tasks_inside_one_another_are_lines_of_one_display() -> None:
    out = io.StringIO()
    bars = Bars(Console(file=out, width=80))
    with bars.task("retraining", 2, "trials") as settle, bars.task("retraining", 16, "model-epochs") as advance:
        for _ in range(2):
            advance(8)
            settle(1)
            bars.say("news")
    with bars.task("a task of so long a name that it does not fit", 10**6, "model-epochs") as advance:
        advance(10**6)
    lines = out.getvalue().splitlines()
    assert [line for line in lines if line == "news"] == ["news", "news"]
    assert any("2/2" in line and "trials" in line for line in lines)
    assert any("16/16" in line and "model-epochs" in line and "/s" in line for line in lines)
    assert len([line for line in lines if line.strip()]) == 5
