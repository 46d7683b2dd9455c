"""Studies: the built-in ones, what one is made of, and how far one is."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from trueoracle.cli.show.lines import columns, say
from trueoracle.store import LEASE_SECONDS
from trueoracle.study import masks_in_play, masks_of, retraining_seconds

if TYPE_CHECKING:
    from trueoracle.store import InFlight, RunRecord, Status, Store
    from trueoracle.words.spec import CellSpec, StudySpec


def studies(specs: "Iterable[StudySpec]", past: "Store | None") -> None:
    """A line a study; time as far as trials in the store `past` tell it."""
    rows = [("study", "network", "data", "masks", "trials", "core-time")]
    for spec in specs:
        masks = masks_in_play(spec)
        counts = ("?", "?") if masks is None else (f"{masks:,}", f"{masks * spec.repeats:,}")
        rows.append((spec.name, spec.model, spec.data, *counts, _time(spec, past)))
    columns(rows, right=(3, 4, 5))
    say("core-time: of all retraining on one core, by the trials that the store keeps of such a network on such data;")
    say("  - where it keeps none. What a study does: trueoracle studies NAME")


def study(spec: "StudySpec", past: "Store | None") -> None:
    """What a study does and takes."""
    say(f"{spec.name}: {' '.join(spec.description.split())}")
    masks, time = masks_in_play(spec), _time(spec, past)
    say(f"network {spec.model}, data {spec.data}, scale {spec.scale.value}")
    if masks is not None:
        bases = f" over {spec.base_networks} base networks" if spec.base_networks > 1 else ""
        say(f"{masks:,} masks{bases}, retrained {spec.repeats} times each: {masks * spec.repeats:,} trials")
    say(f"core-time of retraining: {'not measured yet' if time == '-' else time}")
    say("cells:")
    for sites, cells in groupby(spec.cells, key=lambda cell: cell.place[0].replace("+", " + ")):
        say(f"  {sites} at {', '.join(_ratio_and_masks(cell, spec) for cell in cells)}")
    if len(spec.cells) > 1:
        say(f"one cell alone: trueoracle run {spec.name}-{spec.cells[0].name}, and so on")


def status(name: str, facts: "Status", epochs: int) -> None:
    """How far a study is, in one line; `epochs` are those of its retraining."""
    line = f"{name}: {facts.finished} of {facts.total} trials finished, {facts.diverged} diverged, {facts.failed} failed, {facts.left} left"
    if facts.rate:
        line += f"; {60 * facts.rate:.1f} trials a minute, {epochs * facts.rate:.3g} model-epochs a second"
    if facts.left and facts.seconds_left:
        line += f", {facts.seconds_left / 60:.0f} minutes left at that rate"
    say(line)


def workers(in_flight: "Sequence[InFlight]", runs: "Sequence[RunRecord]") -> None:
    """A line for each worker that holds something of the study: how many pieces of which stage, when it was heard of, and
    what it has stored.
    """
    run_of = {run.worker: run for run in runs}
    for worker, found in groupby(in_flight, key=lambda one: one.worker):
        held = list(found)
        stages = ", ".join(f"{count} of {stage}" for stage, count in Counter(one.stage for one in held).items())
        silent = LEASE_SECONDS - min(one.seconds_left for one in held)
        late = "" if silent < LEASE_SECONDS else ": others take that over"
        say(f"  {worker}: at work on {stages}, heard of {silent:,.0f} seconds ago{late}{_stored(run_of.get(worker))}")


def _stored(run: "RunRecord | None") -> str:
    if run is None or run.rate is None:
        return ""
    return f"; {run.trials:,} trials stored, {60 * run.rate:.1f} a minute"


def _ratio_and_masks(cell: "CellSpec", spec: "StudySpec") -> str:
    """`0.5 (252 masks)`; the ratios of several sites where they differ."""
    ratios = dict.fromkeys(cell.shares.values())
    masks = masks_of(cell, spec)
    drawn = "all" if masks is None else f"{masks:,}"
    return f"{' + '.join(ratios)} ({drawn} masks{', drawn' if cell.draw is not None else ''})"


def _time(spec: "StudySpec", past: "Store | None") -> str:
    """About how long on one core; a dash where nothing tells."""
    seconds = None if past is None else retraining_seconds(spec, past)
    if seconds is None:
        return "-"
    unit, name = next((unit, name) for unit, name in _UNITS if seconds >= unit or unit == 1)
    return f"{seconds / unit:,.3g} {name}"


_UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))
