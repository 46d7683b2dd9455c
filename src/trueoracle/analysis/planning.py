"""How many masks and repeats it takes to tell tau = t from zero, or to show |tau| < margin, and what that costs.

The model is the bivariate normal copula, in which tau = (2 / pi) arcsin r. Three facts of a study enter it:
repeats, as the mean of R of them has reliability R q / (1 + (R - 1) q) where one has q, which lowers r by its square
root; masks, by the variance of tau in a sample of n (Esscher, Skand. Aktuarietidskr. 7, 1924); and units: by chance alone their
effects on x and on y align with a standard deviation of sqrt(a b / f) in r, where f is the number of free unit effects and a, b the
shares of the variance of x and y that unit effects explain. No number of masks makes that part smaller.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import asin, ceil, pi, sin, sqrt
from typing import Any

from scipy.stats import norm

from trueoracle.analysis.claim import Claim
from trueoracle.analysis.machines import Machines, Takes
from trueoracle.analysis.result import Absent, CellAnalysis
from trueoracle.words.errors import SpecError

MOST = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What is known or assumed before a study. `tau` is between x and what masks end with on average, before noise.

    `reliability` is that of one repeat, in (0, 1]. `effects` is the number of free unit effects (units less sites), None
    where no null of shared units will be tested; `x_share` and `y_share` are the variances that they explain. `space` is how many masks
    there are in all, None where that is unknown or beyond count; `cells` how many tests are corrected for together.
    `images` and `deviation` are the pilot's test images and the deviation of tau that they and retraining make.
    """

    tau: float
    reliability: float
    effects: int | None = None
    x_share: float = 1.0
    y_share: float = 1.0
    space: int | None = None
    cells: int = 1
    images: int | None = None
    deviation: float | None = None
    margin: float = 0.1
    alpha: float = 0.05
    power: float = 0.8

    def __post_init__(self) -> None:
        if not -1 < self.tau < 1:
            raise SpecError(f"`tau` must lie in (-1, 1), but got {self.tau}")
        if not 0 < self.reliability <= 1:
            raise SpecError(f"`reliability` must lie in (0, 1], but got {self.reliability}")
        if self.effects is not None and self.effects < 1:
            raise SpecError(f"`effects` must be at least 1, but got {self.effects}")
        for name in ("margin", "alpha", "power"):
            if not 0 < getattr(self, name) < 1:
                raise SpecError(f"`{name}` must lie in (0, 1), but got {getattr(self, name)}")
        for name in ("space", "cells"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise SpecError(f"`{name}` must be at least 1, but got {getattr(self, name)}")
        for name in ("x_share", "y_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"`{name}` must lie in [0, 1], but got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Need:
    """So many `masks` retrained `repeats` times; `tau` is what the study will see on average, lowered by the noise.

    `seconds` is the cost in core-seconds, where the cost of a trial is known. `images` is how many test images it takes to show the claim
    of the pilot's own masks on other images.
    """

    repeats: int
    tau: float
    masks: int | Absent
    trials: int | Absent
    seconds: float | Absent
    images: int | Absent

    def on(self, machines: Machines) -> Takes | None:
        """How long it takes on these machines; None where the trials or their cost are not known."""
        if isinstance(self.trials, Absent) or isinstance(self.seconds, Absent):
            return None
        return machines.take(self.trials, self.seconds / self.trials)

    def as_dict(self) -> dict[str, Any]:
        """All figures, absent ones as {"absent": why}: ready for JSON."""
        return {name: {"absent": v.why} if isinstance(v, Absent) else v for name, v in vars(self).items()}


def from_pilot(
    cell: CellAnalysis,
    tau: float,
    *,
    reliability: float | None = None,
    effects: int | None = None,
    cells: int = 1,
    margin: float = 0.1,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Assumptions:
    """What a pilot says about noise and units, where it is not given; `SpecError` where it cannot say how noisy repeats are."""
    regime = cell.regime
    shares = regime.x_main_effects, regime.y_main_effects
    x_share, y_share = (1.0 if isinstance(share, Absent) else share for share in shares)
    if effects is None and not isinstance(regime.free_unit_effects, Absent):
        effects = regime.free_unit_effects
    known = None if isinstance(cell.on_others, Absent) else cell.on_others
    return Assumptions(
        tau=tau,
        reliability=_reliability(cell) if reliability is None else reliability,
        effects=effects,
        x_share=x_share,
        y_share=y_share,
        space=None if isinstance(cell.space, Absent) else cell.space,
        cells=cells,
        images=None if known is None else known.images,
        deviation=None if known is None else known.deviation,
        margin=margin,
        alpha=alpha,
        power=power,
    )


def _reliability(cell: CellAnalysis) -> float:
    """Of one repeat: Spearman and Brown's formula, backwards."""
    if isinstance(cell.ceiling, Absent):
        raise SpecError(
            f"the pilot's cell `{cell.group}` cannot say how noisy retraining is ({cell.ceiling.why}): give `--reliability`"
        )
    mean, R = cell.ceiling.reliability, cell.ceiling.repeats
    if mean == 0:
        raise SpecError(
            f"in the pilot's cell `{cell.group}` repeats of one mask differ as much as masks do: give `--reliability`"
        )
    return mean / (R - (R - 1) * mean)


def needs(claim: Claim, given: Assumptions, repeats: Sequence[int], trial_seconds: float | Absent) -> list[Need]:
    """What the claim takes, for each number of repeats."""
    if claim is Claim.EQUIVALENCE and abs(given.tau) >= given.margin:
        raise SpecError(
            f"equivalence cannot be shown where tau = {given.tau:g} lies outside the margin {given.margin:g}"
        )
    if claim is Claim.RELATION and given.tau == 0:
        raise SpecError("a relation of tau = 0 cannot be told from 0: name another `tau`")
    return [_need(claim, given, R, trial_seconds) for R in repeats]


def _need(claim: Claim, given: Assumptions, R: int, trial_seconds: float | Absent) -> Need:
    if R < 1:
        raise SpecError(f"`repeats` must be at least 1, but got {R}")
    masks = _least(claim, given, R)
    trials = masks if isinstance(masks, Absent) else masks * R
    seconds = trials if isinstance(trials, Absent) else trial_seconds
    return Need(
        repeats=R,
        tau=seen_tau(given.tau, given.reliability, R),
        masks=masks,
        trials=trials,
        seconds=seconds if isinstance(seconds, Absent) or isinstance(trials, Absent) else seconds * trials,
        images=_images(claim, given),
    )


def _images(claim: Claim, given: Assumptions) -> int | Absent:
    """Test images for which the pilot's masks, all kept, show the claim: the deviation of tau falls with their root."""
    if given.images is None or given.deviation is None:
        return Absent(why="how many test images it takes is told by a pilot whose answers to single images are known")
    if claim is Claim.RELATION:
        gap, tail = abs(given.tau), given.alpha / given.cells / 2
        reach = norm.ppf(1 - tail) + norm.ppf(given.power)
    else:
        gap, tail = given.margin - abs(given.tau), given.alpha / given.cells
        sides = 2 if given.tau == 0 else 1  # both tests must reject, as near where tau is zero
        reach = norm.ppf(1 - tail) + norm.ppf(1 - (1 - given.power) / sides)
    return ceil(given.images * (float(reach) * given.deviation / gap) ** 2)


def _least(claim: Claim, given: Assumptions, R: int) -> int | Absent:
    """The fewest masks of the power asked for, by bisection: power rises with masks.

    Never more than the space has, and never fewer than its test needs: of drawn masks, twice the free unit effects.
    """
    most = MOST if given.space is None else min(MOST, given.space)
    if power(claim, given, most, R) < given.power:
        if claim is Claim.RELATION and given.effects is not None:
            return Absent(
                why=f"no number of masks is enough: among {given.effects} free unit effects chance alone reaches "
                f"|tau| = {critical_tau(given, most):.2f}; prune sites of more units"
            )
        return Absent(
            why=f"more than {most:,} masks" if most == MOST else f"not even all {most:,} masks of the space show it"
        )
    low, high = min(most, 3 if given.effects is None else 2 * given.effects + 2), most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(claim, given, middle, R) >= given.power else (middle + 1, high)
    return low


def power(claim: Claim, given: Assumptions, n: int, R: int) -> float:
    """The chance that a study of n masks, R repeats each, shows the claim."""
    tau = seen_tau(given.tau, given.reliability, R)
    deviation = max(1e-12, tau_deviation(tau, n) * _left(given, n))
    if claim is Claim.RELATION:
        critical = critical_tau(given, n)
        return float(norm.cdf((abs(tau) - critical) / deviation) + norm.cdf((-abs(tau) - critical) / deviation))
    z = norm.ppf(1 - given.alpha / given.cells)
    within = norm.cdf((given.margin - tau) / deviation - z) + norm.cdf((given.margin + tau) / deviation - z) - 1
    return float(max(0.0, within))


def critical_tau(given: Assumptions, n: int) -> float:
    """|tau| that a two-sided test of level alpha against zero needs with n masks; the spread under the null adds
    what n masks leave open and what unit effects align by chance.
    """
    aligned = 0.0 if given.effects is None else given.x_share * given.y_share / given.effects
    drawn = tau_deviation(0.0, n) * _left(given, n)
    return float(norm.ppf(1 - given.alpha / given.cells / 2) * sqrt(drawn**2 + (2 / pi) ** 2 * aligned))


def _left(given: Assumptions, n: int) -> float:
    """What drawing adds where the space is finite: nothing once all its masks are there."""
    return 1.0 if given.space is None else sqrt(max(0.0, 1 - n / given.space))


def seen_tau(tau: float, reliability: float, R: int) -> float:
    """What noise leaves of tau: between x and means of R repeats, each of the given reliability."""
    mean = R * reliability / (1 + (R - 1) * reliability)
    return 2 / pi * asin(sin(pi / 2 * tau) * sqrt(mean))


def tau_deviation(tau: float, n: int) -> float:
    """Standard deviation of Kendall's tau in n independent draws from a bivariate normal distribution."""
    r = sin(pi / 2 * tau)
    third = 1 / 9 - (2 / pi * asin(r / 2)) ** 2
    return sqrt(2 / (n * (n - 1)) * (1 - tau**2 + 2 * (n - 2) * third))
