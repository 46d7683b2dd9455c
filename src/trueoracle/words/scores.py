"""Scores that masks get beside their pruned train loss: their names and directions, known without loading what measures them.

A criterion's score is the importance that the mask throws away: lower is better for all of them.
"""

from typing import Literal

Direction = Literal["lower", "higher"]

IMAGES = 256
"""So many train examples are looked at where nothing else is said."""

OF_STUDIES: dict[str, Direction] = {"early_area": "lower"}
"""Scores that only a study measures, whose names do not say which is better."""

UNIT_CRITERIA = (
    "activation_mean", "activation_std", "apoz", "chip", "fisher", "flap", "fpgm", "grasp", "group_fisher", "group_norm", "hrank",
    "lamp", "nisp", "obd", "obs", "reversed_l1", "ria", "snip", "synflow", "taylor_activation", "taylor_gate", "taylor_second_order", "taylor_weight", "wanda", "whc",
)  # fmt: skip
"""Criteria whose scores a study does not take by itself, but `trueoracle criteria --measure` does."""

WEIGHT_CRITERIA = ("lamp", "magnitude", "movement", "obd", "ria", "snip", "wanda")
"""Criteria of single weights: they give masks, and score all masks of weights."""

SHIPPED = "tp:"
"""With it begin the names of what Torch-Pruning's own importances say, which are measured where they are asked for by name."""

SHIPPED_CRITERIA = tuple(
    SHIPPED + name for name in ("activation", "bn_scale", "fpgm", "group_norm", "hessian", "l1", "lamp", "taylor")
)

MASK_PREDICTORS: dict[str, Direction] = {
    "first_step_loss": "lower",
    "gradient_norm": "higher",
    "jacob_cov": "higher",
    "jacobian_singular_value": "higher",
    "logit_shift": "lower",
    "naswot": "higher",
    "operations": "higher",
    "parameters": "higher",
    "quadratic_retrained_loss": "lower",
    "recalibrated_sampled_loss": "lower",
    "reconstruction": "lower",
    "sampled_train_accuracy": "higher",
    "sampled_train_loss": "lower",
}
"""Each with the direction in which its source, or its sense, says that a mask is better."""


def column(name: str, images: int) -> str:
    """What a score is called in every table: `name`, or `name@images` where not the usual number was looked at."""
    return name if images == IMAGES else f"{name}@{images}"


def measured(column: str) -> str:
    """The name of what a column holds, without the number of images."""
    return column.partition("@")[0]
