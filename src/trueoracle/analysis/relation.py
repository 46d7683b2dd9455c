"""The relation of a predictor x with a result y over masks, and the paper's anomaly ratio."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trueoracle.analysis.verdict import Verdict, verdict
from trueoracle.errors import TableError

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Relation:
    """Rank and linear correlation of x and y over `n` masks of one group.

    `kendall_tau` is tau-b; `kendall_p`, `spearman_p` and `pearson_p` are the usual two-sided p-values, which
    take masks for independent and so are naive: masks share units. `anomaly_ratio` is the share of the n masks
    whose y is strictly better than that of the mask with the lowest x, the first where several tie
    (arXiv 2412.00143). Like the paper's it compares means of floats to their last bit, so a mask that only ties
    with the oracle mask may count; `tied_with_oracle` says how many tie. `tied_x` and `tied_y` count pairs of equal values, `excluded` the trials left out.
    """

    group: str
    x: str
    y: str
    n: int
    kendall_tau: float
    kendall_p: float
    spearman_rho: float
    spearman_p: float
    pearson_r: float
    pearson_p: float
    anomaly_ratio: float
    anomalies: int
    tied_with_oracle: int
    tied_x: int
    tied_y: int
    excluded: int
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """All figures, the verdict as its sentence: ready for JSON."""
        return {**asdict(self), "verdict": self.verdict.value}


def relate(x: Values, y: Values, *, group: str, names: tuple[str, str], excluded: int = 0) -> Relation:
    """The relation of `x` and `y` (both of shape (n,)); lower x is taken to promise better y.

    y is better when higher, unless its name speaks of a loss or an error. Raises `TableError` for fewer than
    three masks, for values that are not finite, and for a constant column.
    """
    _check(x, y, group, names)
    raw_y = y
    x, y = as_measured(x, names[0]), as_measured(y, names[1])
    tau, rho, r = stats.kendalltau(x, y), stats.spearmanr(x, y), stats.pearsonr(x, y)
    sign = -1.0 if lower_is_better(names[1]) else 1.0
    oracle = int(np.argmin(x))
    anomalies = better_than_oracle(x, sign * raw_y)
    return Relation(
        group=group,
        x=names[0],
        y=names[1],
        n=len(x),
        kendall_tau=float(tau.statistic),
        kendall_p=float(tau.pvalue),
        spearman_rho=float(rho.statistic),
        spearman_p=float(rho.pvalue),
        pearson_r=float(r.statistic),
        pearson_p=float(r.pvalue),
        anomaly_ratio=float(anomalies.mean()),
        anomalies=int(anomalies.sum()),
        tied_with_oracle=int((y == y[oracle]).sum()) - 1,
        tied_x=tied_pairs(x),
        tied_y=tied_pairs(y),
        excluded=excluded,
        verdict=verdict(-sign * float(tau.statistic), float(tau.pvalue)),
    )


def better_than_oracle(x: Values, goodness: Values) -> NDArray[np.bool_]:
    """Which masks have strictly higher `goodness` than the (first) mask of lowest `x`."""
    return np.asarray(goodness > goodness[int(np.argmin(x))])


def as_measured(values: Values, name: str) -> Values:
    """Accuracies to a millionth, so that means equal but for rounding error tie; other columns as they are."""
    return np.round(values, 6) if "accuracy" in name.lower() else values


def lower_is_better(name: str) -> bool:
    """Whether a column of this name is a loss or an error."""
    return "loss" in name.lower() or "error" in name.lower()


def tied_pairs(values: Values) -> int:
    """How many pairs of entries are equal."""
    _, counts = np.unique(values, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())


def _check(x: Values, y: Values, group: str, names: tuple[str, str]) -> None:
    where = f"in group `{group}`" if group else "in the table"
    if len(x) < 3:
        raise TableError(f"a correlation needs at least 3 masks, but {where} there are {len(x)}")
    for values, name in zip((x, y), names, strict=True):
        if not np.isfinite(values).all():
            missing = int((~np.isfinite(values)).sum())
            raise TableError(
                f"column `{name}` holds {missing} missing or infinite values {where}: drop those rows first"
            )
        if (as_measured(values, name) == as_measured(values[:1], name)).all():
            raise TableError(f"column `{name}` is constant ({values[0]:g}) {where}: nothing can correlate with it")
