"""Unit criteria that look at more than a unit's own size, a file each: named as the file, which holds it as `CRITERION`.

Those that every study stores, and those that other packages add, are in `trueoracle.criteria`.
"""

from importlib import import_module
from pkgutil import iter_modules

from trueoracle.criteria.criterion import UnitCriterion


def unit_criteria() -> dict[str, UnitCriterion]:
    """All of them by name, in alphabetical order."""
    names = sorted(module.name for module in iter_modules(__path__))
    return {name: import_module(f"{__name__}.{name}").CRITERION for name in names}
