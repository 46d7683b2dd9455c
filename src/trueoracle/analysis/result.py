"""What is found about one cell: one predictor x against one result y over its masks. Values only, ready for JSON.

A part that cannot be had is `Absent` and says why in a sentence, so nothing is ever missing in silence. Probabilities
that take masks for independent are called naive: masks share units. How each figure is made: docs/statistics.md.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from trueoracle.analysis.verdict import Answer, Caveat, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Absent:
    """A part that cannot be had; `why` is the sentence for the reader."""

    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A confidence interval of the given level."""

    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Association:
    """Rank and linear correlation of x and y over the masks, y being the mean of a mask's repeats.

    `kendall_tau` is tau-b. The intervals are of a bootstrap over masks, each drawn with all its repeats: they refer to the
    space that the masks were drawn from. `kendall_retraining_interval` keeps the masks and asks what other retrainings
    of the same masks would give. `tied_x` and `tied_y` count pairs of equal values. The p-values are naive.
    """

    kendall_tau: float
    kendall_interval: Interval | Absent
    kendall_retraining_interval: Interval | Absent
    kendall_p: float
    spearman_rho: float
    spearman_interval: Interval | Absent
    spearman_p: float
    pearson_r: float
    pearson_interval: Interval | Absent
    pearson_p: float
    tied_x: int
    tied_y: int
    resamples: int


class NullKind(Enum):
    """How x was relabelled to make the null distribution."""

    ALL = "every relabelling of the units, over a set of masks that relabelling maps on itself"
    RANDOM = "random relabellings of the units, over a set of masks that relabelling maps on itself"
    LOSS_FUNCTION = "random relabellings of the units, each relabelled mask evaluated by the loss function given"
    MAIN_EFFECTS = (
        "random relabellings of the units in a model of x with one effect a unit, fitted to the drawn masks; "
        "what the model leaves is shuffled among the masks"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitNull:
    """Kendall's tau where the units of each site have been relabelled at random: no relation, the same overlaps.

    `p` is two-sided, counts the study's own labelling among the `relabellings`, and is known to `p_error` (one
    standard error of the Monte Carlo draw; 0 where every relabelling was taken). 95% of null |tau| lie at or below
    `abs_tau_95`. `taus` holds up to 2,000 of the null taus, for drawing.
    """

    kind: NullKind
    relabellings: int
    p: float
    p_error: float
    abs_tau_95: float
    taus: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling:
    """The tau that a perfect predictor would reach: one that knows what each mask ends with on average.

    `repeat_deviation` is the standard deviation of one retraining of one mask, in y's own unit. `reliability` is the
    share of the variance of the ranks of the means of `repeats` repeats that is the masks' own. `relative_tau` is the predictor's agreement
    (tau, positive where x is right) over `tau`.
    """

    repeats: float
    repeat_deviation: float
    reliability: float
    tau: float
    interval: Interval
    relative_tau: float | Absent
    relative_interval: Interval | Absent


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What kind of yes or no: tests against zero and against relations as large as `margin`, over `cells` cells.

    `zero_p` is the null's p where there is one, else the naive p (`zero_p_naive` is then true). `equivalence_p` is the
    larger p of two one-sided tests of |tau| >= margin. Holm's correction decides `answer`; Benjamini and Hochberg's stands
    beside it.
    """

    answer: Answer
    margin: float
    alpha: float
    zero_p: float
    zero_p_naive: bool
    zero_p_holm: float
    zero_p_bh: float
    equivalence_p: float | Absent
    equivalence_p_holm: float | Absent
    equivalence_p_bh: float | Absent
    cells: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AtK:
    """The k masks that x likes best, against y. Ranks count from 1, the best; equal values share the better rank.

    `precision` is the share of them among the k best (a random choice has k/n on average: `chance_precision`), `best_rank` the best rank
    among them. `anomaly_ratio` is the share of masks that end strictly better, averaged over the k masks, each in the
    oracle's place; `_low` and `_high` are the extremes over the k.
    """

    k: int
    precision: float
    chance_precision: float
    best_rank: int
    anomaly_ratio: float
    anomaly_ratio_low: float
    anomaly_ratio_high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What matters to someone who picks a mask by x: how good the oracle mask (the one that x likes best) is after it.

    `regret` is the best attainable result minus the attained, in y's own unit, never the observed maximum where repeats
    allow better: `regret_held_out` says that the best mask was picked by some repeats and measured by others.
    `observed_regret` takes the observed maximum and so is too high. `regret_in_noise` is in standard deviations of
    one retraining. `percentile` is the share of other masks that end worse, ties counted half, in [0, 1].
    `anomalies` masks end strictly better (compared as the paper does, to the last bit), a share of `anomaly_ratio`; `tied_with_oracle` tie.
    `tenth_tau` is Kendall's tau within the tenth of the masks (`tenth_n` of them) that x likes best.
    """

    oracle_mask: int | None
    oracle_x: float
    oracle_result: float
    best_result: float
    regret: float
    regret_held_out: bool
    regret_interval: Interval | Absent
    regret_in_noise: float | Absent
    observed_regret: float
    percentile: float
    anomalies: int
    anomaly_ratio: float
    tied_with_oracle: int
    at: tuple[AtK, ...]
    tenth_n: int
    tenth_tau: float | Absent
    tenth_interval: Interval | Absent


@dataclass(frozen=True, kw_only=True, slots=True)
class Regime:
    """Under which conditions the question was asked.

    `collapsed_share` is the share of masks whose pruned train loss lies above `chance_loss` = ln(classes), worse than guessing.
    `free_unit_effects` counts the units less the sites: as many things masks can differ in. `x_main_effects` and `y_main_effects` are the (adjusted) shares of variance that one effect a unit explains.
    `parameters_kept` and `operations_kept` are shares of the base network's.
    """

    classes: int | Absent
    chance_loss: float | Absent
    collapsed_share: float | Absent
    free_unit_effects: int | Absent
    x_main_effects: float | Absent
    y_main_effects: float | Absent
    parameters_kept: float | Absent
    operations_kept: float | Absent


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictorScore:
    """One predictor among several on the same masks; `agreement` is tau, positive where the predictor is right.

    `rank` is its place, 1 the best. `unit_p` is that of the null of relabelled units, `naive_p` the usual one.
    """

    rank: int
    x: str
    agreement: float
    interval: Interval | Absent
    naive_p: float
    unit_p: float | Absent
    regret: float
    percentile: float
    anomaly_ratio: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CellAnalysis:
    """Everything found about x against y in one group of masks: a cell of a study, or a group of a table's rows.

    `n` masks took part, with `trials` finished trials; `excluded` trials without figures were left out.
    `predictors` ranks every predictor asked about, x among them.
    """

    group: str
    x: str
    y: str
    n: int
    trials: int
    excluded: int
    verdict: Verdict
    caveats: tuple[Caveat, ...]
    association: Association
    null: UnitNull | Absent
    ceiling: Ceiling | Absent
    decision: Decision
    choice: Choice
    regime: Regime
    predictors: tuple[PredictorScore, ...]

    @property
    def kendall_tau(self) -> float:
        """Kendall's tau-b of x and y."""
        return self.association.kendall_tau

    @property
    def kendall_p(self) -> float:
        """The naive p of Kendall's tau."""
        return self.association.kendall_p

    @property
    def anomaly_ratio(self) -> float:
        """Share of masks that end strictly better than the oracle mask."""
        return self.choice.anomaly_ratio

    @property
    def agreement(self) -> float:
        """Kendall's tau, signed so that positive means: what looks better before retraining ends better."""
        return next(p.agreement for p in self.predictors if p.x == self.x)

    def as_dict(self) -> dict[str, Any]:
        """All figures but the null's sample, enums as their sentences, absent parts as {"absent": why}: for JSON."""
        facts = _plain(asdict(self))
        facts.get("null", {}).pop("taus", None)
        first = {key: facts[key] for key in ("group", "x", "y", "n")}
        flat = {"kendall_tau": self.kendall_tau, "kendall_p": self.kendall_p, "anomaly_ratio": self.anomaly_ratio}
        return {**first, **flat, **facts}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {"absent": value["why"]} if value.keys() == {"why"} else {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise AssertionError("a figure that is not finite must be Absent")
    return value
