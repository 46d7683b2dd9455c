"""Rungs: the retraining recipe in full, and short forms of it on which many masks can be tried.

A training of few epochs is no beginning of a longer one where the learning rate follows a schedule: the long one is
then still at its high rate, and its networks are not yet what they will be. So a rung is a recipe of its own, with the
whole schedule pressed into its epochs, and a mask that rises is retrained anew. A rung of an epoch or two costs more than it
tells: a recipe of few epochs has one rung, itself.
"""

from math import gcd

from trueoracle.words.spec import Recipe

_STEP = 3  # each rung is about so many times as long as the one below
_LOWEST = 9  # the lowest has this part of the epochs
_LEAST = 3  # no rung but the last is shorter


def rung_epochs(epochs: int) -> tuple[int, ...]:
    """The lengths of the rungs, rising, the last of all `epochs`: 27 gives 3, 9 and 27; 20 gives 6 and 20; 8 itself."""
    short = {epochs // _LOWEST, epochs // _STEP}
    return tuple(sorted({length for length in short if length >= _LEAST} | {epochs}))


def shortened(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with its schedule pressed into so many epochs; what would fall on the first epoch is left out."""
    if epochs == recipe.epochs:
        return recipe
    share = epochs / recipe.epochs
    milestones = sorted({place for one in recipe.milestones if 0 < (place := round(one * share)) < epochs})
    changes = {
        "epochs": epochs,
        "evaluate_every": gcd(epochs, recipe.evaluate_every),
        "milestones": tuple(milestones),
        "schedule": "constant" if recipe.schedule == "step" and not milestones else recipe.schedule,
        "warmup_epochs": min(int(recipe.warmup_epochs * share), epochs - 1),
        "steps": None if recipe.steps is None else max(1, round(recipe.steps * share)),
    }
    return Recipe.model_validate({**recipe.model_dump(), **changes})
