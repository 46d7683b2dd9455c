"""What a mask predictor is: a number a mask, with its direction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from trueoracle.criteria.pruned import Pruned


@dataclass(frozen=True, kw_only=True)
class MaskPredictor:
    """`measure` says of a pruned network how it will do after retraining, in a figure of its own.

    `better` is the direction that its source, or its sense, gives it. `measure` raises `CannotJudge` where it has nothing to say.
    """

    better: Literal["lower", "higher"]
    measure: Callable[[Pruned], float]
