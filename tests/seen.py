"""What holds of every page that people look at, or listen to."""

from itertools import pairwise

from playwright.sync_api import Page

_UNNAMED = """all => all.filter(e => !e.labels?.length && !e.getAttribute('aria-label')).length"""
_SILENT = """all => all.filter(svg => !svg.closest('[aria-hidden=true]') && !svg.matches('[aria-hidden=true]')
                                   && !svg.getAttribute('aria-label')).length"""
_WIDER = """all => all.filter(e => e.scrollWidth > e.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(e).overflowX))
                   .map(e => e.outerHTML.slice(0, 80))"""
_OUTSIDE = """(all, width) => all.filter(e => e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 80))"""
_CONTRASTS = """selectors => {
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


def check_names(page: Page) -> None:
    """Headings in order, and a name for all that a screen reader comes by; no id twice."""
    assert page.locator("h1").count() == 1
    levels = [int(tag[1]) for tag in page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(h => h.tagName)")]
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert page.locator("svg").evaluate_all(_SILENT) == 0
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("input, select, progress").evaluate_all(_UNNAMED) == 0
    assert page.locator("main").count() == 1
    assert page.locator("nav:not([aria-label])").count() == 0
    assert page.locator("a, button").evaluate_all("all => all.filter(e => !e.textContent.trim()).length") == 0
    ids = page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))


def check_width(page: Page, width: int) -> None:
    """Nothing is cut off at this width, and nothing has to be scrolled sideways."""
    page.set_viewport_size({"width": width, "height": 844})
    page.locator("details").evaluate_all("all => all.forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("body *").evaluate_all(_WIDER) == []
    assert (
        page.locator("td, tbody th, svg.picture, .picture text, p, li, input, select").evaluate_all(_OUTSIDE, width)
        == []
    )


def contrasts(page: Page, *of: tuple[str, str]) -> list[float]:
    """The contrast ratio to the page of a property of the first element that a selector finds (WCAG 2.2)."""
    found: list[float] = page.evaluate(_CONTRASTS, list(map(list, of)))
    return found
