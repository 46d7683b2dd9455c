"""Studies: the built-in ones, and how far one is."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trueoracle.cli.show.lines import say

if TYPE_CHECKING:
    from trueoracle.store import Status
    from trueoracle.words.spec import StudySpec


def studies(specs: "Iterable[StudySpec]") -> None:
    """The built-in studies, with the cells that can be run alone."""
    for spec in specs:
        say(f"{spec.name}: {' '.join(spec.description.split())}")
        if len(spec.cells) > 1:
            say(f"  one cell alone: {', '.join(f'{spec.name}-{cell.name}' for cell in spec.cells)}")


def status(name: str, facts: "Status", epochs: int) -> None:
    """How far a study is, in one line; `epochs` are those of its retraining."""
    line = f"{name}: {facts.finished} of {facts.total} trials finished, {facts.diverged} diverged, {facts.failed} failed, {facts.left} left"
    if facts.rate:
        line += f"; {60 * facts.rate:.1f} trials a minute, {epochs * facts.rate:.3g} model-epochs a second"
    if facts.left and facts.seconds_left:
        line += f", {facts.seconds_left / 60:.0f} minutes left at that rate"
    say(line)
