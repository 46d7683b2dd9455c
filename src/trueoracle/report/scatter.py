"""The paper's picture: pruned train loss against what the mask reaches after retraining."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from trueoracle.analysis.choice import better_than
from trueoracle.analysis.masks import higher_is_better

# Okabe and Ito's palette, safe for the colour-blind.
_BLUE, _ORANGE, _BLACK = "#0072B2", "#E69F00", "#000000"


def scatter(masks: pd.DataFrame, x: str, y: str, oracle: str) -> go.Figure:
    """A point a mask of `masks` (columns `mask`, `pruned`, x, y); the mask of lowest x is the star.

    Masks strictly better than it, the anomalies, have another colour. `oracle` names the star.
    """
    sign = 1.0 if higher_is_better(y) else -1.0
    losses, results = masks[x].to_numpy(float), masks[y].to_numpy(float)
    anomaly = better_than(sign * results, int(np.argmin(losses)))
    star = np.arange(len(masks)) == int(np.argmin(losses))
    figure = go.Figure()
    for name, chosen, colour, symbol, size in (
        ("other masks", ~anomaly & ~star, _BLUE, "circle", 7),
        ("anomalies: better than the oracle mask", anomaly, _ORANGE, "diamond", 7),
        (oracle, star, _BLACK, "star", 15),
    ):
        rows = masks[chosen]
        figure.add_scatter(
            x=rows[x],
            y=rows[y],
            mode="markers",
            name=f"{name} ({len(rows)})" if symbol != "star" else name,
            marker={"color": colour, "symbol": symbol, "size": size, "opacity": 0.8},
            customdata=rows[["mask", "pruned"]].astype(str),
            hovertemplate="mask %{customdata[0]}<br>pruned %{customdata[1]}<br>%{x:.4f}, %{y:.4f}<extra></extra>",
        )
    figure.update_layout(
        template="plotly_white",
        height=460,
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
        xaxis_title=x.replace("_", " "),
        yaxis_title=y.replace("_", " ") + " (mean of repeats)",
        legend={"orientation": "h", "y": 1.08, "x": 0},
    )
    return figure
