"""What a bar says."""

import io
from time import monotonic, sleep

from rich.console import Console

from trueoracle.words.progress import Bars, Lines


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


def until(out: io.StringIO, words: str, times: int = 1) -> None:
    """Wait for them."""
    deadline = monotonic() + 60
    while out.getvalue().count(words) < times:
        assert monotonic() < deadline
        sleep(0.002)


def test_a_log_file_has_a_plain_line_now_and_then_and_one_at_the_end() -> None:
    out = io.StringIO()
    lines = Lines(out, seconds=0.05)
    with lines.task("retraining", 3, "trials") as advance:
        advance(1)
        until(out, "retraining: 1 of 3 trials, ")
        advance(1)
        until(out, "retraining: 2 of 3 trials, ")
        lines.say("news")
        advance(1)
    *before, last = out.getvalue().splitlines()
    assert "news" in before
    assert all("s left" in line for line in before if "2 of 3" in line)
    assert last.startswith("retraining: 3 of 3 trials, ")
    assert "left" not in last
    assert "\r" not in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_of_a_task_that_stands_still_lines_come_more_and_more_rarely() -> None:
    out = io.StringIO()
    began = monotonic()
    with Lines(out, seconds=0.05).task("retraining", 3, "trials"):
        until(out, "retraining: 0 of 3 trials, ", 4)
    assert monotonic() - began > 0.05 * (1 + 2 + 4 + 8)


def test_lines_are_rare_and_those_of_a_task_that_was_cut_short_say_where_it_stood() -> None:
    out = io.StringIO()
    with Lines(out, seconds=3600).task("retraining", 100, "trials") as advance:
        for _ in range(40):
            advance(1)
    (only,) = out.getvalue().splitlines()
    assert only.startswith("retraining: 40 of 100 trials, ")


class Unread(io.StringIO):
    """Nobody reads this any more."""

    def __init__(self) -> None:
        super().__init__()
        self.tried = 0

    def write(self, _text: str) -> int:
        self.tried += 1
        raise BrokenPipeError


def test_work_goes_on_where_the_reader_of_its_lines_has_gone() -> None:
    out = Unread()
    lines, done = Lines(out, seconds=0.01), 0
    with lines.task("retraining", 3, "trials") as advance:
        for _ in range(3):
            advance(1)
            done += 1
        deadline = monotonic() + 60
        while not out.tried:
            assert monotonic() < deadline
            sleep(0.002)
    assert done == 3
    assert out.tried == 1  # the first line is the last one
