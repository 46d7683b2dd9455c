"""Mask predictors, a file each: a module of this folder is one, named as the file, and holds it as `PREDICTOR`.

Others add theirs through the entry-point group `trueoracle.predictors`.
"""

from importlib import import_module
from pkgutil import iter_modules

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.words.plugins import with_plugins


def mask_predictors() -> dict[str, MaskPredictor]:
    """All that are known, by name, in alphabetical order."""
    names = sorted(module.name for module in iter_modules(__path__))
    return with_plugins("predictors", {name: import_module(f"{__name__}.{name}").PREDICTOR for name in names})
