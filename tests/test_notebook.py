"""What a notebook shows: parts of the report in a frame, and progress as lines that change in place."""

import sys
from html import unescape
from types import ModuleType, SimpleNamespace

import pytest
from playwright.sync_api import Browser, expect

from trueoracle import Study
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Bars, Lines, NotebookBars, bars


def test_a_frame_holds_the_report_and_its_script_works_there(finished: Study, browser: Browser) -> None:
    shown = finished.show()
    page = browser.new_page()
    page.set_content(f"<h1>a notebook</h1>{shown._repr_html_()}")
    frame = page.frame_locator("iframe")
    expect(frame.locator("h1")).to_have_text("quickstart")
    frame.locator("article path.oracle").first.hover()
    expect(frame.locator("#tip")).to_contain_text("the oracle mask")
    page.close()
    assert repr(shown).splitlines()[0].startswith("conv1-0.5: pruned train loss ")


def test_one_part_or_one_cell_is_shown_alone(finished: Study) -> None:
    part = unescape(finished.show("results")._repr_html_())
    assert 'id="results"' in part
    assert 'id="verdict"' not in part
    cell = unescape(finished.show(cell="conv3-0.2")._repr_html_())
    assert 'id="cell-conv3-0.2"' in cell
    assert 'id="cell-conv1-0.5"' not in cell
    assert repr(finished.show(cell="conv3-0.2")).startswith("conv3-0.2: ")
    for wrong, sentence in (({"part": "result"}, "unknown part `result`"), ({"cell": "conv9"}, "unknown cell `conv9`"),
                            ({"part": "run", "cell": "conv3-0.2"}, "a cell stands in the part `cells`")):  # fmt: skip
        with pytest.raises(SpecError, match=sentence):
            finished.show(**wrong)


def test_progress_changes_its_own_line_and_says_what_it_is_about() -> None:
    outputs: dict[str, str] = {}

    def display(html: str, output: str | None) -> str:
        name = output or str(len(outputs))
        outputs[name] = html
        return name

    lines = NotebookBars(display)
    with lines.task("outer <b>", 4, "cells") as advance, lines.task("inner", 2, "masks") as within:
        within(2)
        advance(3)
    lines.say("news & more")
    assert len(outputs) == 3
    assert "outer &lt;b&gt;" in outputs["0"]
    assert '<progress max="4" value="3">' in outputs["0"]
    assert "2 of 2 masks" in outputs["1"]
    assert outputs["2"] == "<div>news &amp; more</div>"


@pytest.mark.parametrize(("terminal", "elsewhere"), [("1", Bars), ("0", Lines)])
def test_a_kernels_notebook_shows_its_own_bars(terminal: str, elsewhere: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert isinstance(bars(), elsewhere)
    fake, shown = ModuleType("IPython"), ModuleType("IPython.display")
    fake.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    shown.HTML, shown.DisplayHandle = str, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    assert isinstance(bars(), NotebookBars)
    fake.get_ipython = lambda: SimpleNamespace()  # type: ignore[attr-defined]
    assert isinstance(bars(), elsewhere)
