"""Analyses as a flat table, and as the paper's: tau / p by layers and ratio, for LaTeX."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from trueoracle.analysis.result import Absent, CellAnalysis

_NAMED_BY = ("x", "k")  # what tells the parts of a list apart


def as_table(found: Sequence[CellAnalysis]) -> pd.DataFrame:
    """A row a group with every figure, parts joined by underscores (`association_kendall_interval_low`).

    Parts of lists are named by their predictor or their k (`choice_at_5_precision`); absent figures are missing.
    """
    whole = [cell.as_dict() for cell in found]
    return pd.DataFrame([_flat({key: facts[key] for key in facts if key != "absent"}, "") for facts in whole])


def _flat(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {k: v for key, part in value.items() for k, v in _flat(part, f"{name}_{key}".lstrip("_")).items()}
    if isinstance(value, list):
        if not any(isinstance(part, Mapping) for part in value):
            return {name: "; ".join(map(str, value))}
        return {k: v for part in value for k, v in _flat(part, f"{name}_{_key(part)}").items()}
    return {name: value}


def _key(part: Mapping[str, Any]) -> str:
    return str(next(part[key] for key in _NAMED_BY if key in part))


def as_latex(found: Sequence[CellAnalysis]) -> str:
    r"""A booktabs table in the paper's form: layers down, ratios across, tau / p in each place.

    Layers and ratio are read from the cells' names, such as `conv1+conv2-0.5`; where they are not all so named, each
    group has a row of its own. p is that of relabelled units; a naive one, where no other can be had, carries a dagger.
    """
    places = [_layers_and_ratio(cell.group) for cell in found]
    if any(place is None for place in places) or len(set(places)) < len(places):
        places = [None] * len(found)
    ratios = sorted({place[1] for place in places if place is not None})
    rows: dict[str, dict[float, str]] = {}
    for cell, place in zip(found, places, strict=True):
        layers, ratio = place or (cell.group, 0.0)
        rows.setdefault(layers, {})[ratio] = _entry(cell)
    head = ["Layers", *(f"${ratio:g}$" for ratio in ratios)] if ratios else ["Group", "$\\tau$ / $p$"]
    across = ratios or [0.0]
    lines = [
        "\\begin{tabular}{l" + "c" * len(across) + "}",
        "\\toprule",
        " & ".join(head) + " \\\\",
        "\\midrule",
        *(" & ".join([_escaped(layers), *(row.get(r, "") for r in across)]) + " \\\\" for layers, row in rows.items()),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join([f"% Kendall's tau-b / p of {found[0].x} against {found[0].y}. {_P_NOTE}", *lines, ""])


_P_NOTE = "p: permutation of unit labels; with a dagger, naive (masks taken for independent)."


def _layers_and_ratio(group: str) -> tuple[str, float] | None:
    layers, _, ratio = group.rpartition("-")
    try:
        return (layers, float(ratio)) if layers else None
    except ValueError:
        return None


def _entry(cell: CellAnalysis) -> str:
    naive = isinstance(cell.null, Absent)
    p = cell.kendall_p if isinstance(cell.null, Absent) else cell.null.p
    dagger = "$^{\\dagger}$" if naive else ""
    return f"${cell.kendall_tau:.2f}$ / ${_figure(p)}${dagger}"


def _figure(p: float) -> str:
    if p >= 0.001:
        return f"{p:.3f}"
    digits, exponent = f"{p:.0e}".split("e")
    return f"{digits} \\times 10^{{{int(exponent)}}}"


def _escaped(text: str) -> str:
    for special in ("&", "%", "_", "#", "$"):
        text = text.replace(special, f"\\{special}")
    return text or "all masks"
