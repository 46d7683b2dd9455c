"""What a column of numbers means: whether higher or lower is better, and its unit. Known names are listed; others are asked for."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

from trueoracle.words.errors import TableError
from trueoracle.words.scores import MASK_PREDICTORS, OF_STUDIES, SHIPPED_CRITERIA, UNIT_CRITERIA, measured

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Unit = Literal["share", "nats", ""]


class Better(Enum):
    """Which of two values is better; of a predictor, which promises more."""

    LOWER = "lower is better"
    HIGHER = "higher is better"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A column with its meaning; a share lies in [0, 1] and is shown as per cent."""

    name: str
    better: Better
    unit: Unit = ""

    @property
    def sign(self) -> float:
        """+1 where higher is better, else -1."""
        return 1.0 if self.better is Better.HIGHER else -1.0

    def measured(self, values: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Shares to a millionth, so that means equal but for rounding error tie; others as they are."""
        return values.round(6) if self.unit == "share" else values


# Words of a column's name, between underscores and the like, that say which values are better.
_HIGHER = {"accuracy", "acc", "auc", "auroc", "bleu", "f1", "iou", "miou", "map", "psnr", "ssim"}
_LOWER = {"loss", "error", "err", "fid", "mae", "mse", "rmse", "nll", "perplexity", "ppl"}
# Whole names: what these criteria say is thrown away.
_CRITERIA = {"l1", "l2", "bn_scale", "random"}
# Words after which a name no longer means what its other words say.
_TURNS = {"drop", "change", "gap", "gain", "decrease", "increase", "difference", "delta", "kept"}


def metric(name: str, better: Better | None = None) -> Metric:
    """The metric of a column: as said, else as its name says; `TableError` where the name says nothing known."""
    found = better or known(name)
    if found is None:
        raise TableError(
            f"whether a higher or a lower `{name}` is better is not known: say `--x-higher-is-better {name}` or "
            f"`--x-lower-is-better {name}` of a predictor, `--y-...` of a result"
        )
    words = _words(name)
    unit: Unit = "share" if "accuracy" in words else "nats" if "loss" in words else ""
    return Metric(name=name, better=found, unit="" if words & _TURNS else unit)


def known(name: str) -> Better | None:
    """What a name says by itself: the direction of the known words in it, where they agree."""
    if name in _CRITERIA or measured(name) in (*UNIT_CRITERIA, *SHIPPED_CRITERIA):
        return Better.LOWER
    if (said := {**OF_STUDIES, **MASK_PREDICTORS}.get(measured(name))) is not None:
        return Better[said.upper()]
    words = _words(name)
    if words & _TURNS or bool(words & _HIGHER) == bool(words & _LOWER):
        return None
    return Better.HIGHER if words & _HIGHER else Better.LOWER


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower()))


def directions(higher: Collection[str], lower: Collection[str]) -> Mapping[str, Better]:
    """Columns with the direction that a user gave them; `TableError` where one is given both."""
    for name in set(higher) & set(lower):
        raise TableError(f"column `{name}` cannot be better both when higher and when lower")
    return {**dict.fromkeys(higher, Better.HIGHER), **dict.fromkeys(lower, Better.LOWER)}
