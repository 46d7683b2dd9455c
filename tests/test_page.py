"""The report as a reader has it: the real page, driven in Chromium without a network."""

import json
import os
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from trueoracle import Study
from trueoracle.analysis import Options
from trueoracle.report import write_report
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.store import BaseRecord, CellRecord, MaskRecord, Store, StudyRecord
from trueoracle.words.errors import ReportError
from trueoracle.words.spec import CellSpec, Recipe, StudySpec
from trueoracle.words.trial import Figures, FinalProtocol, Outcome, Trial

CHROMIUM = shutil.which("chromium")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"]  # fmt: skip
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
UNITS, MASKS = 64, 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Without it the page is not tested, but never so in CI."""
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no `chromium`: Debian's package is called so")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


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
    made_up_study(store)
    write_report(store, "made-up", folder / "report.html", options=Options(resamples=199))
    return folder / "report.html"


def made_up_study(store: Store) -> None:
    recipe = Recipe(optimiser="sgd", lr=0.1, epochs=5, batch_size=128)
    cells = (CellSpec(prune={"conv1": 0.5}, draw=MASKS), CellSpec(prune={"conv2": 0.25}, draw=MASKS))
    spec = StudySpec(name="made-up", model="vgg19", data="cifar10", train=recipe, retrain=recipe, cells=cells, repeats=1,
                     final=FinalProtocol.LAST)  # fmt: skip
    study = spec.digest()
    store.add_study(StudyRecord(digest=study, name=spec.name, spec=json.dumps(spec.facts())))
    store.put_base(study, BaseRecord(base=0, weights=b"", train_loss=0.01, train_accuracy=1.0, test_loss=0.3, test_accuracy=0.93,
                                     parameters=1000, macs=5000, classes=10, data_fingerprint="", seconds=1.0))  # fmt: skip
    choices = [SiteChoice.at_ratio(site, UNITS, ratio) for cell in cells for site, ratio in cell.prune.items()]
    spaces = [MaskSpace((choice,)) for choice in choices]
    store.put_cells(study, [
        CellRecord(index=index, base=0, name=cell.name, sites={space.sites[0].site: (UNITS, UNITS - space.sites[0].pruned)},
                   space=space.count, masks=MASKS, parameters=500, macs=2000)
        for index, (cell, space) in enumerate(zip(cells, spaces, strict=True))
    ])  # fmt: skip
    run = store.begin_run(study, 1, {"machine": "made up"})
    for index, space in enumerate(spaces):
        put_cell(store, study, index, space, run)


def put_cell(store: Store, study: str, cell: int, space: MaskSpace, run: int) -> None:
    """Losses that add up over units, and accuracies that follow them loosely."""
    rng = np.random.default_rng(cell)
    effect = rng.gamma(1.0, 0.05, UNITS)
    masks, trials = [], []
    for rank in space.draw(MASKS, seed=cell):
        mask = space.unrank(rank)
        loss = float(effect[list(mask.sites[0].pruned)].sum())
        accuracy = float(np.clip(0.92 - 0.01 * loss + rng.normal(0, 0.005), 0, 1))
        curve = tuple(Figures(train_loss=loss / epoch, train_accuracy=0.9, test_loss=0.3, test_accuracy=accuracy - 0.1 / epoch)
                      for epoch in range(1, 6))  # fmt: skip
        masks.append(
            MaskRecord(
                cell=cell, rank=rank, pruned=mask.pruned_json, loss=loss, accuracy=0.5, standard_error=0.0, scores={}
            )
        )
        trials.append(Trial(cell=cell, mask=rank, repeat=0, seed=0, outcome=Outcome.FINISHED, curve=curve, final=curve[-1],
                            seconds=0.1))  # fmt: skip
    digits = len(str(space.count - 1))
    store.put_masks(study, masks, digits)
    store.put_trials(study, trials, digits, run)


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
    assert open_page.locator("article.cell:visible").count() == 0
    open_page.locator("table.grid a").first.click()
    assert open_page.locator("article.cell:visible").count() == 2
    assert open_page.url.endswith("#cell-conv1-0.5")


def test_the_page_can_be_read_without_seeing_it(small: Path, open_page: Page) -> None:
    open_page.goto(small.as_uri())
    assert open_page.locator("h1").count() == 1
    levels = [int(tag[1]) for tag in open_page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(h => h.tagName)")]
    assert all(below - above <= 1 for above, below in pairwise(levels))
    silent = "all => all.filter(svg => !svg.closest('[aria-hidden=true]') && !svg.matches('[aria-hidden=true]') && !svg.getAttribute('aria-label')).length"
    assert open_page.locator("svg").evaluate_all(silent) == 0
    assert open_page.locator("svg[role=img]").count() >= 4
    assert open_page.locator("table:not(:has(caption))").count() == 0
    assert open_page.locator("header, main, nav, footer").count() == 4
    unnamed = "all => all.filter(e => !e.labels?.length && !e.getAttribute('aria-label')).length"
    assert open_page.locator("input, select").evaluate_all(unnamed) == 0
    ids = open_page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))
    open_page.keyboard.press("Tab")
    assert open_page.locator(":focus").inner_text() == "Skip to the verdict"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_page(small: Path, open_page: Page, scheme: str) -> None:
    open_page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    open_page.goto(small.as_uri())
    contrast = """selectors => {
        const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
        const light = colour => {
            paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
                .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
            return .2126 * r + .7152 * g + .0722 * b;
        };
        const page = light(getComputedStyle(document.body).backgroundColor);
        return selectors.map(([selector, property]) => {
            const words = light(getComputedStyle(document.querySelector(selector))[property]);
            return (Math.max(words, page) + .05) / (Math.min(words, page) + .05);
        });
    }"""
    words = open_page.evaluate(contrast, [["h1", "color"], [".note", "color"], ["a", "color"], [".tick", "fill"]])
    marks = open_page.evaluate(contrast, [["g.masks path", "stroke"], ["path.oracle", "fill"]])
    assert min(words) >= 4.5
    assert min(marks) >= 3


@pytest.mark.parametrize("width", [360, 400, 420, 600])
def test_nothing_sticks_out_of_a_telephone_or_scrolls_sideways_in_it(small: Path, open_page: Page, width: int) -> None:
    open_page.set_viewport_size({"width": width, "height": 844})
    open_page.goto(small.as_uri())
    open_page.locator("details").evaluate_all("all => all.forEach(part => part.open = true)")
    assert open_page.evaluate("document.documentElement.scrollWidth") == width
    wider = """all => all.filter(e => e.scrollWidth > e.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(e).overflowX))
                      .map(e => e.outerHTML.slice(0, 80))"""
    assert open_page.locator("body *").evaluate_all(wider) == []
    outside = """(all, width) => all.filter(e => e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert open_page.locator("td, tbody th, svg.picture, .picture text, p, li").evaluate_all(outside, width) == []


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
    with pytest.raises(ReportError, match="`.*taken` cannot be written: Is a directory"):
        finished.report(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
