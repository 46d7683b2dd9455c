"""Learning curves of a cell: where the masks lie epoch by epoch, the oracle mask's drawn out."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from trueoracle.analysis import Absent
from trueoracle.report import drawing
from trueoracle.report.drawing import Scale
from trueoracle.report.findings import CellFindings
from trueoracle.report.wording import column

WIDTH, HEIGHT = 330, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 322, 34, 250

Values = NDArray[np.float64]
Epochs = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A picture with its scales, by which a mask's curve is drawn into it."""

    svg: Markup
    across: Scale
    up: Scale


def curves(cell: CellFindings) -> tuple[Panel, Panel]:
    """Two pictures: train loss from before retraining (epoch 0) on, and test accuracy, of noise the test loss.

    Bands hold 50% and 90% of the masks around the median; each repeat of the oracle mask has its line.
    """
    found = cell.curves
    before, after = titles(cell)
    return (
        _panel(cell, found.train_loss_nE1, found.oracle_train_loss_RE1, before, found.epochs_E1, log=True),
        _panel(cell, found.result_nE, found.oracle_result_RE, after, found.epochs_E1[1:]),
    )


def titles(cell: CellFindings) -> tuple[str, str]:
    """What the two pictures show; losses are in nats where there are classes to be guessed."""
    guessing = not isinstance(cell.analysis.regime.chance_loss, Absent)
    return "train loss" + " (nats)" * guessing, column(cell.curves.result)


def describe(cell: CellFindings, what: str, values_nE: Values, oracle_RE: Values, epochs_E: Epochs) -> str:
    """A picture in words."""
    before, after = np.median(values_nE[:, [0, -1]], axis=0)
    begin = f"after epoch {epochs_E[0]}" if epochs_E[0] else "before retraining"
    return (
        f"Learning curves of {len(values_nE):,} masks of {cell.record.name} over {epochs_E[-1]} epochs: the median {what} "
        f"goes from {before:.4g} {begin} to {after:.4g} after the last; the oracle mask ends at {oracle_RE[:, -1].mean():.4g}."
    )


def _panel(
    cell: CellFindings, values_nE: Values, oracle_RE: Values, title: str, epochs_E: Epochs, *, log: bool = False
) -> Panel:
    """A picture of a value an epoch."""
    low5, low25, median, high75, high95 = np.quantile(values_nE, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    first, last = map(float, epochs_E[[0, -1]])
    across = Scale(low=first, high=max(last, first + 1), start=_LEFT, end=_RIGHT, whole=True)
    up = Scale.around(np.concatenate([low5, high95, oracle_RE.ravel()]), _BOTTOM, _TOP, log=log)
    x = across(epochs_E.astype(float))
    parts = [
        drawing.bottom_axis(across, _BOTTOM, "epoch of retraining", most=5),
        drawing.left_axis(up, _LEFT, title, right=_RIGHT, most=5),
        drawing.band(x, up(low5), up(high95), "band wide"),
        drawing.band(x, up(low25), up(high75), "band narrow"),
        drawing.curve(x, up(median), "median"),
        *(drawing.curve(x, up(repeat), "oracle-curve") for repeat in oracle_RE),
        Markup('<path class="chosen-curve" d=""/>'),
    ]
    words = describe(cell, title.removesuffix(" (nats)"), values_nE, oracle_RE, epochs_E)
    return Panel(svg=drawing.picture(WIDTH, HEIGHT, words, parts, kind="curves"), across=across, up=up)
