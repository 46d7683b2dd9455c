"""Conducting a study: read its specification, check it whole, then train, prune, retrain and store."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.study.chosen_weights import stored_masks
    from trueoracle.study.conduct import Paused, conduct
    from trueoracle.study.forecast import masks_in_play, masks_of, retraining_seconds
    from trueoracle.study.loading import at_scale, builtin_studies, changed, load_spec
    from trueoracle.study.plan import Plan, PlannedCell, drawn_questions, plan, study_data
    from trueoracle.study.retrain import retrained
    from trueoracle.study.scoring import Scoring

__all__ = [
    "Paused",
    "Plan",
    "PlannedCell",
    "Scoring",
    "at_scale",
    "builtin_studies",
    "changed",
    "conduct",
    "drawn_questions",
    "load_spec",
    "masks_in_play",
    "masks_of",
    "plan",
    "retrained",
    "retraining_seconds",
    "stored_masks",
    "study_data",
]

on_demand(__name__)
