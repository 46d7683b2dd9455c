"""The searches by name: those that trueoracle brings, and those of plug-ins (`trueoracle.searches`)."""

from trueoracle.search import annealing, cr_diff, draws, entropy, evolution, greedy, racing, sitewise, swaps
from trueoracle.search.problem import Method
from trueoracle.words.errors import SpecError
from trueoracle.words.plugins import look_up, with_plugins

SEARCHES: dict[str, Method] = {
    "swaps": swaps.METHOD,
    "draws": draws.METHOD,
    "greedy-backward": greedy.BACKWARD,
    "greedy-forward": greedy.FORWARD,
    "sitewise": sitewise.METHOD,
    "annealing": annealing.METHOD,
    "evolution": evolution.METHOD,
    "cross-entropy": entropy.METHOD,
    "race": racing.METHOD,
}

RATIO_SEARCHES: dict[str, Method] = {"cr-diff": cr_diff.METHOD}
"""For spaces of ratios alone (`trueoracle.search.cr_diff`), where the order of the levels means something."""


def find_search(name: str) -> Method:
    """The search of this name; `SpecError` where there is none."""
    return look_up("search", name, with_plugins("searches", {**SEARCHES, **RATIO_SEARCHES}), SpecError)
