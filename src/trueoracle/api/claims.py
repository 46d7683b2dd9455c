"""What it takes to show a claim: from a pilot study, or from assumptions."""

from collections.abc import Sequence
from math import comb, inf, prod

from trueoracle import analysis
from trueoracle.api.environment import threads_or_all
from trueoracle.store import DEFAULT_URL, Store
from trueoracle.words.errors import SpecError


def machines(nodes: int | None, cores: int | None = None, price: float | None = None) -> "analysis.Machines | None":
    """So many machines of so many cores, this machine's if not said; None where no `nodes` are asked about."""
    if nodes is not None:
        return analysis.Machines(nodes=nodes, cores=threads_or_all(None) if cores is None else cores, price=price)
    for name, value in (("cores", cores), ("price", price)):
        if value is not None:
            raise SpecError(f"`{name}` says something of machines: give `nodes`, how many there are")
    return None


def plan_claim(
    claim: "analysis.Claim",
    *,
    pilot: str | None = None,
    tau: float | None = None,
    repeats: Sequence[int] = (1, 2, 3, 5),
    reliability: float | None = None,
    units: Sequence[int] = (),
    trial_seconds: float | None = None,
    cells: int | None = None,
    margin: float = 0.1,
    alpha: float = 0.05,
    power: float = 0.8,
    store: str = DEFAULT_URL,
) -> "list[tuple[str, analysis.Need]]":
    """(cell, what the claim takes) for each cell of the pilot, or for assumed noise, and each number of repeats.

    What is given (`reliability` of one repeat, `units` of each site, core-`trial_seconds`, the number of `cells` whose tests are
    corrected together) outranks the pilot.
    """
    if tau is None:
        tau = 0.2 if claim is analysis.Claim.RELATION else 0.0
    if trial_seconds is not None and not 0 < trial_seconds < inf:
        raise SpecError(f"`trial_seconds` must be above 0 and finite, but got {trial_seconds:g}")
    effects = sum(units) - len(units) if units else None
    given = {"margin": margin, "alpha": alpha, "power": power}
    if pilot is None:
        if reliability is None:
            raise SpecError("name a pilot study, or give `--reliability`, the correlation of two repeats over masks")
        assumed = analysis.Assumptions(
            tau=tau,
            reliability=reliability,
            effects=effects,
            space=prod(comb(size, size // 2) for size in units) if units else None,
            cells=1 if cells is None else cells,
            margin=margin,
            alpha=alpha,
            power=power,
        )
        seconds = analysis.Absent(why="give `--trial-seconds`") if trial_seconds is None else trial_seconds
        return [("", need) for need in analysis.needs(claim, assumed, repeats, seconds)]
    opened = Store(store)
    rates = analysis.trial_seconds(opened, pilot)
    found = []
    analyses = analysis.analyze_study(opened, pilot)
    for cell in analyses:
        together = len(analyses) if cells is None else cells
        assumed = analysis.from_pilot(cell, tau, reliability=reliability, effects=effects, cells=together, **given)
        seconds = rates[cell.group] if trial_seconds is None else trial_seconds
        found += [(cell.group, need) for need in analysis.needs(claim, assumed, repeats, seconds)]
    return found
