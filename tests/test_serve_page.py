"""The server's pages as a reader has them: driven in Chromium, while studies run and after."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

from conftest import TINY
from made_up import made_up_selection, made_up_study, more_trials
from seen import check_names, check_width, contrasts
from served import ask, serving
from trueoracle import Study, analysis
from trueoracle.analysis.best import best_mask
from trueoracle.report.findings import find
from trueoracle.report.wording import interval, signed
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.store import Store
from trueoracle.words.progress import Quiet

MASKS = 20_000


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Page]:
    """A page that must neither complain nor ask anybody but its server for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: request.url.startswith("http://127.0.0.1:") or problems.append(request.url))
    yield page
    context.close()
    assert problems == []


@pytest.fixture(scope="module")
def landscape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the oracle writes it, with standard errors."""
    path = tmp_path_factory.mktemp("landscape") / "conv1.parquet"
    losses = np.random.default_rng(0).gamma(4, 0.5, 252)
    pruned = [mask.pruned_json for mask in map(MaskSpace((SiteChoice.at_ratio("conv1", 10, 0.5),)).unrank, range(252))]
    pd.DataFrame(
        {
            "mask": range(252),
            "pruned": pruned,
            "pruned_train_loss": losses,
            "pruned_train_accuracy": 1 / (1 + losses),
            "standard_error": 0.01,
        }
    ).to_parquet(path, row_group_size=100)
    return path


@pytest.fixture(scope="module")
def small(finished: Study, landscape: Path) -> Iterator[str]:
    """The address of a study that was really run, and of a landscape."""
    with serving(finished.store_url, landscapes=[landscape]) as address:
        yield address


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a study of 40,000 made-up trials."""
    url = f"sqlite:///{tmp_path_factory.mktemp('large') / 'store.db'}"
    made_up_study(Store(url, create=True), MASKS)
    with serving(url) as address:
        yield address


def pages_of(address: str, page: Page) -> list[str]:
    """Every kind of page, found by following links."""
    page.goto(address)
    study = page.locator("th a").first.get_attribute("href")
    page.goto(f"{address.rstrip('/')}{study}")
    expect(page.locator("#verdict")).to_be_visible(timeout=60_000)
    page.goto(f"{address.rstrip('/')}{study}/trials")
    mask = page.locator("td a").first.get_attribute("href")
    key = str(study).rpartition("/")[2]
    kinds = (
        "/",
        f"{study}",
        f"{study}/trials",
        f"{study}/cells/0",
        f"{mask}",
        f"/compare?study={key}",
        f"{study}/figures",
        "/landscapes/0",
    )
    return [address.rstrip("/") + path for path in kinds]


def test_every_page_can_be_read_without_seeing_it_and_on_a_telephone(small: str, open_page: Page) -> None:
    for path in pages_of(small, open_page):
        open_page.set_viewport_size({"width": 1280, "height": 900})
        open_page.goto(path)
        check_names(open_page)
        for width in (360, 400):
            check_width(open_page, width)
        for width in (700, 1000):
            open_page.set_viewport_size({"width": width, "height": 900})
            assert open_page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_every_page(small: str, open_page: Page, scheme: str) -> None:
    open_page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for path in pages_of(small, open_page):
        open_page.goto(path)
        assert min(contrasts(open_page, ("h1", "color"), ("main", "color"), ("a", "color"))) >= 4.5


def test_the_keyboard_alone_leads_to_a_mask_and_back(small: str, open_page: Page) -> None:
    open_page.goto(small)
    open_page.keyboard.press("Tab")
    assert open_page.locator(":focus").inner_text() == "Skip to the content"
    for name, title in (("quickstart", "quickstart"), ("Trials", "Trials of quickstart")):
        tab_to(open_page, lambda text, name=name: text == name)
        open_page.keyboard.press("Enter")
        expect(open_page.locator("h1")).to_have_text(title)
    tab_to(open_page, str.isdecimal)
    mask = focused_words(open_page)
    open_page.keyboard.press("Enter")
    expect(open_page.locator("h1")).to_contain_text(f"Mask {mask} of ")
    open_page.go_back()
    expect(open_page.locator("h1")).to_have_text("Trials of quickstart")


def test_a_selection_is_seen_to_climb(tmp_path: Path, open_page: Page) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = Store(url, create=True)
    with serving(url) as address:
        open_page.goto(address)
        expect(open_page.locator("#live")).to_have_text("live")
        assert open_page.locator("#selections").count() == 0
        begun = {"stopped": True, "study": "", "rivals": (), "reason": "it is not finished"}
        store.keep_selection(made_up_selection([(0.8,), (0.7,)], **begun))
        expect(open_page.locator("#selections tbody tr")).to_contain_text("the best so far: it is not finished")
        tab_to(open_page, lambda text: text == "made-up")
        open_page.keyboard.press("Enter")
        expect(open_page.locator("h1")).to_have_text("made-up")
        expect(open_page.locator("#rungs tbody tr")).to_have_count(1)
        expect(open_page.locator("#live")).to_have_text("live")
        open_page.evaluate("window.loaded = 1")
        store.keep_selection(made_up_selection([(0.8, 0.85), (0.7,)], **begun))
        expect(open_page.locator("#rungs tbody tr")).to_have_count(2)
        expect(open_page.locator("#rungs .chosen-curve")).to_have_count(1)
        store.keep_selection(made_up_selection([(0.8, 0.85, 0.9), (0.7,)]))
        expect(open_page.locator("#verdict-title")).to_have_text("The chosen mask")
        expect(open_page.locator("#against")).to_have_count(1)
        assert open_page.evaluate("window.loaded") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_selections_page_can_be_read_by_all(tmp_path: Path, open_page: Page, scheme: str) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = Store(url, create=True)
    store.keep_selection(made_up_selection([(0.8, 0.85, 0.93), (0.82, 0.84), (0.5,)], name="mine <b>"))
    open_page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    with serving(url) as address:
        for path in ("", "selections/mine%20%3Cb%3E"):
            open_page.set_viewport_size({"width": 1280, "height": 900})
            open_page.goto(f"{address}{path}")
            check_names(open_page)
            assert min(contrasts(open_page, ("h1", "color"), ("main", "color"), ("a", "color"))) >= 4.5
            for width in (360, 400):
                check_width(open_page, width)
        assert open_page.locator("h1").inner_text() == "mine <b>"
        status, _, page = ask(address, "/selections/none")
        assert (status, "no selection `none` has trained anything in this store yet" in page) == (404, True)


def tab_to(page: Page, wanted: Callable[[str], bool]) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if wanted(focused_words(page)):
            return
    raise AssertionError("the keyboard does not lead there")


def focused_words(page: Page) -> str:
    words: str = page.evaluate("document.activeElement.textContent.trim()")
    return words


def test_a_mask_is_drawn_on_its_network(small: str, finished: Study, open_page: Page) -> None:
    row = finished.trials().iloc[0]
    store = Store(finished.store_url)
    at = f"{small}studies/{finished.plan.digest[:12]}/cells/0/masks/{row['mask']}"
    open_page.goto(at)
    cell = store.cells(finished.plan.digest)[0]
    units, kept = cell.sites["conv1"]
    assert open_page.locator("svg.mask .kept .unit").count() == kept
    assert open_page.locator("svg.mask .pruned .unit").count() == units - kept
    assert open_page.locator("svg.mask text").all_text_contents()[0] == f"conv1: {kept} of {units} kept"
    assert "fc1: 10" in open_page.locator("svg.mask text").all_text_contents()
    assert str(open_page.locator("svg.mask").get_attribute("aria-label")).startswith(
        f"mask {row['mask']} of conv1-0.5 drawn on its network: conv1 without "
    )
    assert open_page.locator("svg.curves .repeat-curve").count() == 2 * 2


def test_new_trials_appear_without_reloading_and_the_filter_stays(tmp_path: Path, open_page: Page) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = Store(url, create=True)
    study = made_up_study(store, 40, retrained=10)
    with serving(url) as address:
        open_page.goto(f"{address}studies/{study.digest[:12]}/trials")
        open_page.locator("#f-cell").select_option("conv2-0.25")
        expect(open_page.locator("#count")).to_have_text("10 trials")
        expect(open_page.locator("#live")).to_contain_text("live")  # the new page's script has run
        open_page.locator("#f-accuracy-from").fill("0.5")
        open_page.keyboard.press("Enter")
        expect(open_page).to_have_url(f"{address}studies/{study.digest[:12]}/trials?cell=conv2-0.25&accuracy_from=0.5")
        open_page.evaluate("window.kept = 'the same page'")
        open_page.locator("tbody a").first.focus()
        focused = open_page.evaluate("document.activeElement.id")
        expect(open_page.locator("#live")).to_contain_text("live")
        more_trials(store, study, start=10, stop=25)
        expect(open_page.locator("#count")).to_have_text("25 trials", timeout=5000)
        assert open_page.evaluate("window.kept") == "the same page"
        assert open_page.evaluate("document.activeElement.id") == focused
        assert open_page.url.endswith("?cell=conv2-0.25&accuracy_from=0.5")
        open_page.reload()
        expect(open_page.locator("#f-cell")).to_have_value("conv2-0.25")
        expect(open_page.locator("#count")).to_have_text("25 trials")
        open_page.goto("about:blank")


def test_a_page_that_lost_its_server_says_so_and_comes_back(tmp_path: Path, browser: Browser) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = Store(url, create=True)
    study = made_up_study(store, 20, retrained=5)
    context = browser.new_context()
    page = context.new_page()
    with serving(url) as address:
        page.goto(f"{address}studies/{study.digest[:12]}")
        expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#live")).to_contain_text("trying again")
    more_trials(store, study, start=5, stop=20)
    with serving(url, port=int(address.rstrip("/").rpartition(":")[2])):
        expect(page.locator("#progress .tiles")).to_contain_text("40 of 40", timeout=15_000)
    context.close()


def test_a_study_is_followed_from_its_first_trial_to_its_last(tmp_path: Path, open_page: Page) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    Store(url, create=True)
    work = Thread(target=Study("quickstart", set=TINY, store=url, threads=1, progress=Quiet()).run)
    with serving(url) as address:
        open_page.goto(address)
        expect(open_page.locator("#studies")).to_contain_text("No study is kept here yet")
        work.start()
        expect(open_page.locator("tbody")).to_contain_text("of 20", timeout=60_000)
        expect(open_page.locator("tbody")).to_contain_text("20 of 20", timeout=60_000)
        expect(open_page.locator("tbody")).to_contain_text("done")
        open_page.goto("about:blank")
    work.join()


def test_numbers_are_those_of_the_analysis(small: str, finished: Study, open_page: Page) -> None:
    found = analysis.analyze_study(Store(finished.store_url), finished.plan.digest)
    open_page.goto(f"{small}studies/{finished.plan.digest[:12]}")
    expect(open_page.locator("#results table.numbers tbody tr")).to_have_count(len(found), timeout=60_000)
    rows = open_page.locator("#results table.numbers tbody tr")
    for place, cell in enumerate(found):
        cells = [rows.nth(place).locator("th").inner_text(), *rows.nth(place).locator("td").all_inner_texts()]
        assert cells[:4] == [cell.group, str(cell.n), signed(cell.kendall_tau, 3), interval(cell.interval)]
    best = best_mask([cell.masks for cell in find(Store(finished.store_url), finished.plan.digest, Quiet()).cells])
    assert open_page.locator("#best-mask").inner_text() == f"{100 * best.result:.2f} %"


def test_cells_side_by_side_have_the_numbers_of_each(small: str, finished: Study, open_page: Page) -> None:
    open_page.goto(f"{small}compare?study={finished.plan.digest[:12]}")
    expect(open_page.locator("#compared tbody tr")).to_have_count(2, timeout=60_000)
    found = analysis.analyze_study(Store(finished.store_url), finished.plan.digest)
    for row, cell in zip(open_page.locator("#compared tbody tr").all(), found, strict=True):
        shown = [row.locator("th").inner_text(), *row.locator("td").all_inner_texts()[2:4]]
        assert shown == [cell.group, signed(cell.kendall_tau, 3), interval(cell.interval)]
    assert open_page.locator("svg.scatter").count() == 2
    open_page.locator("#cells-choice summary").click()
    open_page.get_by_role("checkbox", name="conv3-0.2").check()
    open_page.get_by_role("button", name="Show").click()
    expect(open_page.locator("#compared tbody tr th")).to_have_text(["conv3-0.2"])
    assert "cell=conv3-0.2" in open_page.url


def test_a_landscape_is_shown_with_its_lowest_mask(small: str, landscape: Path, open_page: Page) -> None:
    table = pd.read_parquet(landscape).sort_values("pruned_train_loss")
    open_page.goto(small)
    open_page.get_by_role("link", name="conv1.parquet").click()
    assert open_page.locator("tbody tr th").first.inner_text() == str(table["mask"].iloc[0])
    assert "252 masks" in open_page.locator("main p").first.inner_text()
    assert open_page.locator("svg .binned rect").count() <= 252
    near = (table["pruned_train_loss"] - table["pruned_train_loss"].min() <= 2 * np.hypot(0.01, 0.01)).sum() - 1
    assert f" {near} other masks" in open_page.locator("main p").first.inner_text()


def test_what_is_filtered_is_taken_home_and_so_are_the_report_and_figures(
    small: str, finished: Study, open_page: Page
) -> None:
    at = f"{small}studies/{finished.plan.digest[:12]}"
    trials = finished.trials().assign(searched=False)
    wanted = trials[
        (trials["cell"] == "conv1-0.5") & (trials["pruned_train_loss"] >= trials["pruned_train_loss"].median())
    ]
    open_page.goto(f"{at}/trials?cell=conv1-0.5&loss_from={float(trials['pruned_train_loss'].median())!r}")
    for kind, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        with open_page.expect_download() as started:
            open_page.locator(f"#{kind}").click()
        table = read(started.value.path())
        assert started.value.suggested_filename == f"quickstart-trials.{kind}"
        pd.testing.assert_frame_equal(table, wanted[list(table.columns)].reset_index(drop=True), check_dtype=False)
    open_page.goto(at)
    expect(open_page.locator("#verdict")).to_be_visible(timeout=60_000)
    with open_page.expect_download() as started:
        open_page.get_by_role("link", name="Report").click()
    assert started.value.path().read_text().startswith("<!doctype html>")
    open_page.get_by_role("link", name="Figures").click()
    with open_page.expect_download(timeout=90_000) as started:
        open_page.locator("#archive").click(timeout=90_000)
    names = ZipFile(started.value.path()).namelist()
    assert {
        f"figures-{finished.plan.digest[:12]}/scatter-conv1-0.5.pdf",
        f"figures-{finished.plan.digest[:12]}/grid.svg",
    } <= set(names)


def test_a_cell_is_walked_through_with_the_pointer_and_after_news_too(
    small: str, finished: Study, open_page: Page
) -> None:
    open_page.goto(f"{small}studies/{finished.plan.digest[:12]}/cells/0")
    expect(open_page.locator("article.cell")).to_be_visible(timeout=60_000)
    open_page.locator("article path.oracle").hover()
    expect(open_page.locator("#tip")).to_contain_text("the oracle mask")
    open_page.evaluate("""() => {
        const part = document.getElementById("findings"), other = part.cloneNode(true);
        part.replaceWith(other);
        other.dispatchEvent(new CustomEvent("replaced", {bubbles: true}));
    }""")
    open_page.keyboard.press("Escape")
    open_page.locator("article input[type=range]").focus()
    expect(open_page.locator("#tip")).to_contain_text("the oracle mask")


@pytest.mark.slow
def test_no_more_than_5000_points_are_drawn(tmp_path: Path, open_page: Page) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    study = made_up_study(Store(url, create=True), 5100)
    with serving(url) as address:
        open_page.goto(f"{address}studies/{study.digest[:12]}/cells/0")
        expect(open_page.locator("article.cell")).to_be_visible(timeout=120_000)
        check_points(open_page)
        open_page.goto("about:blank")


def check_points(page: Page) -> None:
    points = "all => all.reduce((n, path) => n + (path.getAttribute('d') || '').split('M').length - 1, 0)"
    drawn = page.locator("svg.scatter path").evaluate_all(points)
    squares = page.locator("svg.scatter .binned rect").count()
    assert drawn < 10
    assert 100 < squares <= 5000
    assert page.locator("article input[type=range]").count() == 0
    assert page.locator("svg *").count() < 6000


@pytest.mark.slow
def test_40000_trials_are_listed_and_filtered_within_a_second(large: str, open_page: Page) -> None:
    open_page.goto(large)
    at = open_page.locator("th a").first.get_attribute("href")
    for query in (
        "",
        "?sort=-final_test_accuracy",
        "?cell=conv2-0.25&loss_from=0.5&sort=pruned_train_loss",
        "?page=400",
    ):
        assert min(seconds_to_show(open_page, f"{large.rstrip('/')}{at}/trials{query}") for _ in range(3)) < 1
        assert open_page.locator("tbody tr").count() == 100


def seconds_to_show(page: Page, address: str) -> float:
    page.goto(address)
    milliseconds: float = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    return milliseconds / 1000


@pytest.mark.slow
def test_a_million_trials_are_opened_within_three_seconds(tmp_path: Path, open_page: Page) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    study = made_up_study(Store(url, create=True), 500_000, curves=False)
    with serving(url) as address:
        for path in (
            "",
            f"studies/{study.digest[:12]}",
            f"studies/{study.digest[:12]}/trials",
            f"studies/{study.digest[:12]}/trials?sort=-final_test_accuracy",
        ):
            assert seconds_to_show(open_page, address + path) < 3
            assert "1,000,000" in open_page.locator("main").inner_text()
        open_page.goto("about:blank")
