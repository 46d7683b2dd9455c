"""The report as a reader has it: the real page, driven in Chromium without a network."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from made_up import made_up_study
from seen import check_names, check_width, contrasts
from trueoracle import Study
from trueoracle.analysis import Options
from trueoracle.report import write_report
from trueoracle.store import Store
from trueoracle.words.errors import ReportError

DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
MASKS = 20_000


@pytest.fixture(scope="module")
def small(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study that was really run."""
    path = tmp_path_factory.mktemp("small") / "report.html"
    finished.report(path)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of 40,000 made-up trials of five epochs in two cells."""
    folder = tmp_path_factory.mktemp("large")
    store = Store(f"sqlite:///{folder / 'store.db'}", create=True)
    made_up_study(store, MASKS)
    write_report(store, "made-up", folder / "report.html", options=Options(resamples=199))
    return folder / "report.html"


@pytest.fixture
def problems() -> list[str]:
    """What pages complain of, and what they ask the network for."""
    return []


@pytest.fixture
def open_page(browser: Browser, problems: list[str]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: request.url.startswith("file:") or problems.append(request.url))
    yield page
    context.close()
    assert problems == []


def test_pointing_at_a_mask_shows_what_it_prunes(small: Path, finished: Study, open_page: Page) -> None:
    open_page.goto(small.as_uri())
    star = open_page.locator("article[data-sites=conv1] path.oracle")
    star.hover()
    trials = finished.trials()
    oracle = trials[trials["cell"] == "conv1-0.5"].sort_values("pruned_train_loss").iloc[0]
    units = ", ".join(map(str, json.loads(oracle["pruned"])["conv1"]))
    words = open_page.locator("#tip").inner_text().splitlines()
    assert words[0] == f"mask {oracle['mask']}, the oracle mask"
    assert words[1] == f"conv1 without {units}"
    assert words[2] == f"pruned train loss: {oracle['pruned_train_loss']:.6g}"
    assert words[3].startswith("final test accuracy: 0.")
    open_page.keyboard.press("Escape")
    assert open_page.locator("#tip").is_hidden()


def test_the_keyboard_walks_through_masks_from_the_oracle_mask_on(small: Path, open_page: Page) -> None:
    open_page.goto(small.as_uri())
    slider = open_page.locator("article input[type=range]").first
    slider.focus()
    assert "the oracle mask" in str(slider.get_attribute("aria-valuetext"))
    losses = []
    for _ in range(5):
        words = str(slider.get_attribute("aria-valuetext"))
        losses.append(float(words.split("pruned train loss: ")[1].split(";")[0]))
        slider.press("ArrowRight")
    assert losses == sorted(losses)
    assert open_page.locator("#tip").is_visible()
    assert open_page.locator("article .chosen-curve").first.get_attribute("d")


def test_the_filter_shows_the_cells_asked_for_and_a_link_brings_back_others(small: Path, open_page: Page) -> None:
    open_page.goto(small.as_uri())
    assert open_page.locator("article.cell:visible").count() == 2
    open_page.get_by_label("sites").select_option("conv3")
    expect(open_page.locator("article.cell:visible h3")).to_have_text(["conv3-0.2"])
    expect(open_page.locator("#filter-count")).to_have_text("1 of 2 cells shown")
    open_page.get_by_label("ratio").select_option("0.5")
    expect(open_page.locator("article.cell:visible")).to_have_count(0)
    open_page.locator("table.grid a").first.click()
    expect(open_page.locator("article.cell:visible")).to_have_count(2)
    assert open_page.url.endswith("#cell-conv1-0.5")


def test_the_page_can_be_read_without_seeing_it(small: Path, open_page: Page) -> None:
    open_page.goto(small.as_uri())
    check_names(open_page)
    assert open_page.locator("svg[role=img]").count() >= 4
    assert open_page.locator("header, main, nav, footer").count() == 4
    open_page.keyboard.press("Tab")
    assert open_page.locator(":focus").inner_text() == "Skip to the verdict"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_page(small: Path, open_page: Page, scheme: str) -> None:
    open_page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    open_page.goto(small.as_uri())
    assert min(contrasts(open_page, ("h1", "color"), (".note", "color"), ("a", "color"), (".tick", "fill"))) >= 4.5
    assert min(contrasts(open_page, ("g.masks path", "stroke"), ("path.oracle", "fill"))) >= 3


@pytest.mark.parametrize("width", [360, 400, 420, 600])
def test_nothing_sticks_out_of_a_telephone_or_scrolls_sideways_in_it(small: Path, open_page: Page, width: int) -> None:
    open_page.goto(small.as_uri())
    check_width(open_page, width)


def test_on_a_telephone_every_number_is_named_and_words_in_pictures_can_be_read(small: Path, open_page: Page) -> None:
    open_page.set_viewport_size({"width": 400, "height": 844})
    open_page.goto(small.as_uri())
    unnamed = "all => all.filter(td => td.textContent && !td.dataset.label).length"
    assert open_page.locator("table.numbers td, table.grid td").evaluate_all(unnamed) == 0
    height = "all => Math.min(...all.map(text => text.getBoundingClientRect().height))"
    assert open_page.locator(".picture text").evaluate_all(height) >= 9


def test_40000_trials_are_drawn_within_two_seconds_and_15_megabytes(large: Path, open_page: Page) -> None:
    assert large.stat().st_size < 15_000_000
    assert seconds_to_draw(open_page, large) < 2
    open_page.locator("article svg.scatter").first.scroll_into_view_if_needed()
    open_page.evaluate(DRAWN)
    star = open_page.locator("article path.oracle").first
    star.hover()
    assert "the oracle mask\nconv1 without " in open_page.locator("#tip").inner_text()
    points = "all => all.reduce((n, path) => n + path.getAttribute('d').split('M').length - 1, 0)"
    drawn = open_page.locator("svg.scatter g.masks path, svg.scatter g.anomalies path").evaluate_all(points)
    assert drawn == 2 * (MASKS - 1)


def seconds_to_draw(page: Page, path: Path) -> float:
    """Core-seconds of all of Chromium from the address given to the second frame painted: other work does not count."""
    browser = page.context.browser
    assert browser is not None
    session = browser.new_browser_cdp_session()

    def spent() -> dict[int, float]:
        return {one["id"]: one["cpuTime"] for one in session.send("SystemInfo.getProcessInfo")["processInfo"]}

    before = spent()
    page.goto(path.as_uri())
    page.evaluate(DRAWN)
    return sum(seconds - before.get(process, 0.0) for process, seconds in spent().items())


def test_a_page_that_cannot_be_written_is_said_before_the_work(finished: Study, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="the folder `.*nowhere` does not exist: make it, or name another"):
        finished.report(tmp_path / "nowhere" / "report.html")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ReportError, match="`.*taken` is a folder: name a file"):
        finished.report(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
