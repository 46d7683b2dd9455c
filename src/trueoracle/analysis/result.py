"""What is found about one cell: one predictor x against one result y over its masks. Values only, ready for JSON.

A part that cannot be had is `Absent` and says why in a sentence, so nothing is ever missing in silence. Probabilities
that take masks for independent are called naive: masks share units. How each figure is made: docs/statistics.md.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from trueoracle.analysis.metric import Better, Metric, metric
from trueoracle.analysis.target import Target
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
    space that the masks were drawn from, on these images, and are corrected for its being finite; where all its masks are here,
    they are those of retraining. `kendall_retraining_interval` keeps the masks and asks what other retrainings
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


@dataclass(frozen=True, kw_only=True, slots=True)
class OnOthers:
    """What `other_images` images of the same kind would show of these masks, told from their answers to `images`.

    `tau` is what Kendall's tau will be there, with its `interval`; `zero_p` tests that it is none, `equivalence_p` that
    |tau| is the margin or more. `ceiling` is the tau with the results at hand of one who knows what each mask reaches there,
    whatever the retraining; `relative_tau` is agreement over it, absent where it may be nothing.
    `reliability` is that of results on `images` images, as a correlation; `deviation` the standard deviation of tau as measured here, from images
    and retraining. `mask_error` is the standard error of a mask's result less the oracle mask's, from images and retraining, as measured here.
    """

    images: int
    other_images: int
    tau: float
    interval: Interval
    zero_p: float
    equivalence_p: float
    ceiling: float
    ceiling_interval: Interval
    relative_tau: float | Absent
    relative_interval: Interval | Absent
    mask_error: float
    reliability: float
    deviation: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Variances of the final accuracy of one trial, by what makes it vary, each but the last as it would be without the others.

    `masks`: what masks are worth; `retraining`: the luck of a retraining, on all images alike; `images`: which images
    were in the test set, as different masks fail on different ones; `retraining_by_images`: the luck of a retraining on single images.
    """

    masks: float
    retraining: float
    images: float
    retraining_by_images: float


class NullKind(Enum):
    """How x was relabelled to make the null distribution."""

    ALL = "every relabelling of the units, over a set of masks that relabelling maps on itself"
    RANDOM = "random relabellings of the units, over a set of masks that relabelling maps on itself"
    LOSS_FUNCTION = "random relabellings of the units, each relabelled mask evaluated by the loss function given"
    MAIN_EFFECTS = (
        "random relabellings of the units in a model of x's normal scores with one effect a unit, fitted to the drawn masks; "
        "what the model leaves is shuffled among the masks"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitNull:
    """Kendall's tau where the units of each site have been relabelled at random: no relation, the same overlaps.

    `p` is two-sided, counts the study's own labelling among the `relabellings` (where no other is as extreme, `p_at_most` says
    that p may be smaller), and is known to `p_error` (one
    standard error of the Monte Carlo draw; 0 where every relabelling was taken). 95% of null |tau| lie at or below
    `abs_tau_95`. `taus` holds up to 2,000 of the null taus, for drawing.
    """

    kind: NullKind
    relabellings: int
    p: float
    p_at_most: bool
    p_error: float
    abs_tau_95: float
    taus: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling:
    """The tau of one who knows what each mask ends with *on these images*, on average over retrainings.

    `repeat_deviation` is the standard deviation of one retraining of one mask, in y's own unit. `reliability` is the
    share of the variance of the ranks of the means of `repeats` repeats that is the masks' own. What one who knows
    other images reaches stands in `OnOthers`: a predictor cannot know the luck of these.
    """

    repeats: float
    repeat_deviation: float
    reliability: float
    tau: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What kind of yes or no: tests against zero and against relations as large as `margin`, over `cells` cells.

    `target_p` tests that tau is zero for the target of the line; `unit_p` that unrelated units would show as much.
    A relation must pass both, so `zero_p` is the larger; where neither can be had it is the naive p (`zero_p_naive`).
    `equivalence_p` is the larger p of two one-sided tests of |tau| >= margin, for the target. Holm's correction
    decides `answer`; Benjamini and Hochberg's stands beside it.
    """

    answer: Answer
    margin: float
    alpha: float
    target_p: float | Absent
    unit_p: float | Absent
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

    `precision` is the share of them among the k best (a random choice has `chance_precision`, more than k/n where results tie
    there), `best_rank` the best rank among them. Where masks tie in x at the k-th place, all figures are averages over
    which of them are taken. `anomaly_ratio` is the share of masks that end strictly better, averaged over the k masks, each in the
    oracle's place; `_low` and `_high` are the extremes over the k.
    """

    k: int
    precision: float
    chance_precision: float
    best_rank: float
    anomaly_ratio: float
    anomaly_ratio_low: float
    anomaly_ratio_high: float


class RegretBasis(Enum):
    """What picked the best mask, and what measured it."""

    VALIDATION = "picked on validation images, measured on test images by other repeats"
    HALVES = "picked on one half of the test images, measured on the other by other repeats"
    REPEATS = "picked by some repeats, measured by others on the same images: the luck of the images is in it"
    OBSERVED = "the best observed mask, so too high: the luck of images and of retraining is in it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What matters to someone who picks a mask by x: how good the oracle mask (the one that x likes best) is after it.

    Where x likes several masks best, every figure is an average over them, and `oracle_mask` is the first by rank.
    `regret` is the best attainable result minus the attained, in y's own unit; `regret_basis` says what picked the best mask
    and what measured it. `regret_interval` is for `OnOthers.other_images` other images. `observed_regret` takes the
    observed maximum and so is too high. `regret_in_noise` is in standard deviations of one retraining. `percentile` is the share of other masks that end worse, ties counted half, in [0, 1].
    `anomalies` masks end strictly better (compared as the paper does, to the last bit), a share of `anomaly_ratio`; `tied_with_oracle` tie.
    `tenth_tau` is Kendall's tau within the tenth of the masks (`tenth_n` of them) that x likes best.
    """

    oracle_mask: int | Absent
    oracle_x: float
    oracle_result: float
    best_result: float
    regret: float
    regret_basis: RegretBasis
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

    `rank` is its place, 1 the best. `interval` is the target's. `unit_p` is that of the null of relabelled units, `naive_p` the
    usual one; `p_holm` is the former, or else the latter, corrected over the predictors (Holm). `over_first` and `over_random` are
    agreement less that of the first predictor named (or `random`'s), paired: all predictors meet the same images and masks.
    """

    rank: int
    x: str
    agreement: float
    interval: Interval | Absent
    naive_p: float
    unit_p: float | Absent
    p_holm: float
    over_first: Interval | Absent
    over_random: Interval | Absent
    regret: float
    percentile: float
    anomaly_ratio: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Stratified:
    """What a sample stratified over the loss says of the masks it was drawn from: every mask counts as many as it stands for.

    `n` masks, those drawn at random among them, stand for `stands_for` that were drawn from the space and evaluated.
    """

    n: int
    stands_for: int
    kendall_tau: float
    kendall_interval: Interval | Absent
    anomaly_ratio: float
    anomaly_interval: Interval | Absent


@dataclass(frozen=True, kw_only=True, slots=True)
class CellAnalysis:
    """Everything found about x against y in one group of masks: a cell of a study, or a group of a table's rows.

    `n` masks of a `space` of so many took part, with `trials` finished trials; `excluded` trials without figures were left out.
    `predictors` ranks every predictor asked about, x among them. `stratified` is all that counts the masks drawn where the
    loss is low.
    """

    group: str
    x: str
    y: str
    x_better: Better
    y_better: Better
    target: Target
    n: int
    space: int | Absent
    trials: int
    excluded: int
    verdict: Verdict
    caveats: tuple[Caveat, ...]
    association: Association
    on_others: OnOthers | Absent
    null: UnitNull | Absent
    ceiling: Ceiling | Absent
    spread: Spread | Absent
    decision: Decision
    choice: Choice
    regime: Regime
    predictors: tuple[PredictorScore, ...]
    stratified: Stratified | Absent

    @property
    def kendall_tau(self) -> float:
        """Kendall's tau-b of x and y."""
        return self.association.kendall_tau

    @property
    def kendall_p(self) -> float:
        """The naive p of Kendall's tau."""
        return self.association.kendall_p

    @property
    def interval(self) -> Interval | Absent:
        """The 95% interval of tau for the target."""
        if self.target is Target.SPACE:
            return self.association.kendall_interval
        if self.target is Target.NETWORKS:
            return Absent(why="one base network says nothing of others: a study of several has an interval over them")
        return self.on_others if isinstance(self.on_others, Absent) else self.on_others.interval

    @property
    def reachable(self) -> float | Absent:
        """The tau of a perfect predictor: of one who knows other images where the target is these, else of one who knows these."""
        if self.target is Target.IMAGES and not isinstance(self.on_others, Absent):
            return self.on_others.ceiling
        return self.ceiling if isinstance(self.ceiling, Absent) else self.ceiling.tau

    @property
    def images(self) -> int | Absent:
        """How many test images the answers are to."""
        return self.on_others if isinstance(self.on_others, Absent) else self.on_others.images

    @property
    def x_metric(self) -> Metric:
        """What x means."""
        return self._metric(self.x, self.x_better)

    @property
    def y_metric(self) -> Metric:
        """What y means."""
        return self._metric(self.y, self.y_better)

    def _metric(self, name: str, better: Better) -> Metric:
        """Losses are in nats where there are classes to be guessed: that of noise is none."""
        found = metric(name, better)
        return (
            replace(found, unit="") if found.unit == "nats" and isinstance(self.regime.chance_loss, Absent) else found
        )

    @property
    def anomaly_ratio(self) -> float:
        """Share of masks that end strictly better than the oracle mask."""
        return self.choice.anomaly_ratio

    @property
    def agreement(self) -> float:
        """Kendall's tau, signed so that positive means: what looks better before retraining ends better."""
        return next(p.agreement for p in self.predictors if p.x == self.x)

    def as_dict(self) -> dict[str, Any]:
        """All figures but the null's sample, for JSON: `docs/analysis.schema.json` says the type of each.

        What cannot be had is null; `absent` says why, by the path of the figure (`ceiling`, `choice.tenth_tau`).
        """
        absent: dict[str, str] = {}
        facts = _plain(asdict(self), "", absent)
        if facts["null"] is not None:
            del facts["null"]["taus"]
        first = {"schema": SCHEMA, **{key: facts[key] for key in ("group", "x", "y", "target", "n")}}
        flat = {"kendall_tau": self.kendall_tau, "kendall_p": self.kendall_p, "anomaly_ratio": self.anomaly_ratio}
        interval = _plain(
            self.interval if isinstance(self.interval, Absent) else asdict(self.interval), "interval", absent
        )
        return {**first, **flat, "interval": interval, **facts, "absent": absent}


SCHEMA = 2  # of the JSON; raised whenever a key changes its name, its type or its meaning


def _plain(value: Any, path: str, absent: dict[str, str]) -> Any:
    if isinstance(value, Absent):
        value = {"why": value.why}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        if value.keys() == {"why"}:
            absent[path] = value["why"]
            return None
        return {k: _plain(v, f"{path}.{k}".lstrip("."), absent) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part, f"{path}[{place}]", absent) for place, part in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise AssertionError("a figure that is not finite must be Absent")
    return value
