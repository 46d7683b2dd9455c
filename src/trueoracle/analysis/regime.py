"""Under which conditions the question was asked: collapse, additivity, what the networks keep."""

from math import log

from trueoracle.analysis.masks import CellMasks, Values
from trueoracle.analysis.result import Absent, Regime
from trueoracle.analysis.units import Units


def regime(cell: CellMasks, x: Values, units: Units | Absent) -> Regime:
    """The regime of the cell, with `x` (n,) as the predictor."""
    chance = cell.classes if isinstance(cell.classes, Absent) else log(cell.classes)
    return Regime(
        classes=cell.classes,
        chance_loss=chance,
        collapsed_share=_collapsed(cell, chance),
        free_unit_effects=units if isinstance(units, Absent) else units.effects,
        x_main_effects=_share(x, units),
        y_main_effects=_share(cell.y, units),
        parameters_kept=cell.parameters_kept,
        operations_kept=cell.operations_kept,
    )


def _collapsed(cell: CellMasks, chance: float | Absent) -> float | Absent:
    if isinstance(chance, Absent):
        return chance
    if cell.loss is None:
        return Absent(why="there is no column `pruned_train_loss`")
    return float((cell.loss > chance).mean())


def _share(values: Values, units: Units | Absent) -> float | Absent:
    if isinstance(units, Absent):
        return units
    model = units.fit(values)
    return model if isinstance(model, Absent) else model.share
