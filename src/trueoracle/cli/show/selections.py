"""The mask that a selection chose, and what it was held against."""

from rich.table import Table

from trueoracle.cli.show.lines import print_table, say
from trueoracle.words.selection import Measured, Selected

_CANDIDATES = 8


def selected(found: Selected) -> None:
    """The choice in a few lines, the rungs, the foremost candidates, and the rivals."""
    chosen = found.chosen
    state = "best so far" if found.stopped else "chosen"
    say(
        f"{state}: mask {chosen.mask} of {chosen.cell} ({chosen.origin}), retrained {chosen.highest.repeats} x {chosen.highest.epochs} epochs"
    )
    for site, units in found.pruned.items():
        say(f"  {site}: without {', '.join(map(str, units))}")
    say(f"test accuracy {_measured(found.test)} on {found.test.images} images, which chose nothing")
    say(
        f"the best candidate is expected to be better by {found.regret:.2%} (95% {found.regret_low:.2%} to "
        f"{found.regret_high:.2%}); the chosen one is the best with probability {chosen.best:.2f}"
    )
    if found.limit:
        say(f"the limit was {found.limit}")
    (whole, left), (macs, macs_left) = found.parameters, found.macs
    say(
        f"parameters {whole:,} to {left:,} ({left / whole:.1%}), operations {macs:,} to {macs_left:,} ({macs_left / macs:.1%})"
    )
    say(
        f"cost: {found.spent:,.0f} model-epochs, {found.seconds:.1f} s of training, of {found.budget}; it ended because {found.reason}"
    )
    print_table(_rungs(found))
    print_table(_candidates(found))
    if found.rivals:
        print_table(_rivals(found))
    if found.study:
        say(f"kept as `{found.study}`: trueoracle export {found.study} --mask best -o FOLDER")
    else:
        say("not finished: give the same command again to go on")


def _rungs(found: Selected) -> Table:
    table = Table("epochs", "masks", "trainings", "correlation with the next", title="rungs")
    for rung in found.rungs:
        told = "" if rung.correlation is None else f"{rung.correlation:.2f}"
        table.add_row(str(rung.epochs), str(rung.masks), str(rung.trainings), told)
    return table


def _candidates(found: Selected) -> Table:
    table = Table("mask", "from", "epochs", "validation", "expected", "best with", "test", title="candidates")
    cells = len({one.cell for one in found.candidates}) > 1
    for one in found.candidates[:_CANDIDATES]:
        table.add_row(
            f"{one.cell} {one.mask}" if cells else str(one.mask),
            one.origin,
            f"{one.highest.repeats} x {one.highest.epochs}",
            f"{one.highest.validation_accuracy:.2%}",
            f"{one.worth:.2%} ± {one.deviation:.2%}",
            f"{one.best:.2f}",
            f"{one.test_accuracy:.2%}",
        )
    if (more := len(found.candidates) - _CANDIDATES) > 0:
        table.caption = f"and {more} more"
    return table


def _rivals(found: Selected) -> Table:
    table = Table("held against", "model-epochs", "test", "beaten with", title="rivals, beside the budget")
    for rival in found.rivals:
        table.add_row(rival.name, f"{rival.epochs:,}", _measured(rival.test), f"{rival.beaten:.2f}")
    return table


def _measured(figure: Measured) -> str:
    return f"{figure.value:.2%} ({figure.low:.2%} to {figure.high:.2%})"
