"""Learning curves of a cell: where the masks lie epoch by epoch, the oracle mask's drawn out."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from trueoracle.report import drawing
from trueoracle.report.drawing import Scale
from trueoracle.report.findings import CellFindings

WIDTH, HEIGHT = 640, 300
_TOP, _BOTTOM = 30, 250
_PANELS = ((72, 302), (400, 630))  # left and right ends, in pixels

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One of the two pictures, with its scales, by which a mask's curve is drawn into it."""

    svg: Markup
    across: Scale
    up: Scale


def curves(cell: CellFindings) -> tuple[Markup, Panel, Panel]:
    """The picture with its two panels: train loss from before retraining (epoch 0) on, and test accuracy.

    Bands hold 50% and 90% of the masks around the median; each repeat of the oracle mask has its line.
    """
    found = cell.curves
    left = _panel(found.train_loss_nE1, found.oracle_train_loss_RE1, _PANELS[0], "train loss (nats)", first=0, log=True)
    right = _panel(found.test_accuracy_nE, found.oracle_test_accuracy_RE, _PANELS[1], "test accuracy", first=1)
    return drawing.picture(WIDTH, HEIGHT, describe(cell), [left.svg, right.svg], kind="curves"), left, right


def describe(cell: CellFindings) -> str:
    """The picture in words."""
    found = cell.curves
    first, last = np.median(found.test_accuracy_nE[:, [0, -1]], axis=0)
    masks, epochs = found.test_accuracy_nE.shape
    return (
        f"Learning curves of {masks:,} masks of {cell.record.name} over {epochs} epochs: the median test accuracy goes from "
        f"{first:.4g} after the first epoch to {last:.4g} after the last; the oracle mask ends at "
        f"{found.oracle_test_accuracy_RE[:, -1].mean():.4g}."
    )


def _panel(
    values_nE: Values, oracle_RE: Values, ends: tuple[float, float], title: str, *, first: int, log: bool = False
) -> Panel:
    """A panel whose first column is that of epoch `first`."""
    epochs = np.arange(first, first + values_nE.shape[1], dtype=float)
    low5, low25, median, high75, high95 = np.quantile(values_nE, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    across = Scale(low=first, high=max(float(epochs[-1]), first + 1), start=ends[0], end=ends[1], whole=True)
    up = Scale.around(np.concatenate([low5, high95, oracle_RE.ravel()]), _BOTTOM, _TOP, log=log)
    x = across(epochs)
    parts = [
        drawing.bottom_axis(across, _BOTTOM, "epoch of retraining", most=5),
        drawing.left_axis(up, ends[0], title, right=ends[1], most=5),
        drawing.band(x, up(low5), up(high95), "band wide"),
        drawing.band(x, up(low25), up(high75), "band narrow"),
        drawing.curve(x, up(median), "median"),
        *(drawing.curve(x, up(repeat), "oracle-curve") for repeat in oracle_RE),
        Markup('<path class="chosen-curve" d=""/>'),
    ]
    return Panel(svg=drawing.group("panel", parts), across=across, up=up)
