"""Criteria of single weights, a file each: a module of this folder is one, named as the file, and holds it as `CRITERION`.

Such a criterion gives each weight of a layer an importance, higher for one to keep; the mask that it gives keeps the most
important ones of every group. Chance needs no criterion: masks are drawn.
"""

from importlib import import_module
from pkgutil import iter_modules

from trueoracle.criteria.weighed import WeightCriterion


def weight_criteria() -> dict[str, WeightCriterion]:
    """All of them by name, in alphabetical order."""
    names = sorted(module.name for module in iter_modules(__path__))
    return {name: import_module(f"{__name__}.{name}").CRITERION for name in names}
