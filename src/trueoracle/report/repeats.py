"""Learning curves of the repeats of one mask, a line each."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from markupsafe import Markup

from trueoracle.report import drawing
from trueoracle.report.drawing import Scale
from trueoracle.store.browse import Point

WIDTH, HEIGHT = 330, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 322, 34, 250

Line = list[tuple[int, float]]


def repeat_curves(
    what: str, pruned_train_loss: float, points: Sequence[Point], *, of_noise: bool
) -> tuple[Markup, Markup]:
    """Train loss from before retraining (epoch 0) on, and test accuracy (of noise the loss), of the repeats of a mask called `what`."""
    repeats = [list(group) for _, group in groupby(points, key=lambda point: point.repeat)]
    losses = [[(0, pruned_train_loss), *((point.epoch, point.train_loss) for point in repeat)] for repeat in repeats]
    ends = [[(p.epoch, p.test_loss if of_noise else p.test_accuracy) for p in repeat] for repeat in repeats]
    before, after = ("train loss", "test loss") if of_noise else ("train loss (nats)", "test accuracy")
    return (
        _picture(what, before, losses, log=all(y > 0 for line in losses for _, y in line)),
        _picture(what, after, ends),
    )


def _picture(what: str, title: str, lines: list[Line], *, log: bool = False) -> Markup:
    epochs, values = (np.array([point[at] for line in lines for point in line], float) for at in (0, 1))
    across = Scale(low=epochs.min(), high=max(epochs.max(), epochs.min() + 1), start=_LEFT, end=_RIGHT, whole=True)
    up = Scale.around(values, _BOTTOM, _TOP, log=log)
    parts = [
        drawing.bottom_axis(across, _BOTTOM, "epoch of retraining", most=5),
        drawing.left_axis(up, _LEFT, title, right=_RIGHT, most=5),
        *(drawing.curve(across([x for x, _ in line]), up([y for _, y in line]), "repeat-curve") for line in lines),
    ]
    ends = ", ".join(f"{line[-1][1]:.4g}" for line in lines)
    words = f"Learning curves of {what}, {len(lines)} repeats: {title} ends at {ends}."
    return drawing.picture(WIDTH, HEIGHT, words, parts, kind="curves")
