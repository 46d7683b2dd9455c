"""The paper's figures for a manuscript: vector PDF and SVG by Matplotlib, sized for two columns, the same bytes every time."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from trueoracle.analysis import Absent, Options
from trueoracle.analysis.cells import X
from trueoracle.report.curves import titles
from trueoracle.report.findings import CellFindings, Findings, find
from trueoracle.report.grid import Grid, grids
from trueoracle.report.nulls import naive_deviation
from trueoracle.report.scatter import chance_loss, noise_halfwidth
from trueoracle.report.wording import column, probability, signed, y_title
from trueoracle.store import Store
from trueoracle.words.errors import ReportError
from trueoracle.words.files import check_folder, write_whole
from trueoracle.words.progress import Progress, Quiet

# Inches: one column, and both columns, of a two-column page.
COLUMN, BOTH = 3.35, 6.9

# Okabe and Ito's palette, safe for the colour-blind.
BLUE, _ORANGE, _GREEN, _GREY, BLACK = "#0072B2", "#D55E00", "#009E73", "#777777", "#000000"
_WRONG_TO_RIGHT = LinearSegmentedColormap.from_list("wrong to right", [_ORANGE, "#FFFFFF", BLUE])

# Matplotlib's own Times-like font comes with it, so that every machine draws the same; PDF embeds it, SVG holds outlines.
STYLE: dict[Any, Any] = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "trueoracle",
}


def write_figures(
    store: Store,
    study: str,
    folder: Path,
    x: str = X,
    y: str | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write every figure of a study (by name or digest) into `folder`, each as PDF and SVG; the paths written.

    The folder is made where it does not exist (its parent must). `ReportError` where a file cannot be written.
    """
    check_folder(folder.parent)
    if folder.exists():
        check_folder(folder)
    progress = progress or Quiet()
    return save_figures(find(store, study, progress, x, y, options), folder, progress)


def save_figures(found: Findings, folder: Path, progress: Progress) -> list[Path]:
    """As `write_figures`, of what was found already."""
    drawings = list(_drawings(found))
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ReportError(f"the folder `{folder}` cannot be made: {error.strerror}") from None
    written = []
    with (
        mpl.rc_context({**mpl.rcParamsDefault, **STYLE}),
        progress.task("drawing", len(drawings), "figures") as advance,
    ):
        for name, draw in drawings:
            figure = draw()
            written += [save(figure, folder / f"{name}.{kind}") for kind in ("pdf", "svg")]
            advance(1)
    return written


def _drawings(study: Findings) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Names of figures, and what draws them."""
    if len(study.cells) > 1:
        for grid in grids(study.cells):
            suffix = f"-base{grid.base}" if len(study.bases) > 1 else ""
            yield f"grid{suffix}", partial(draw_grid, study, grid)
    for cell in study.cells:
        name = re.sub(r"[^A-Za-z0-9._+-]+", "-", cell.analysis.group)
        yield f"scatter-{name}", partial(draw_scatter, study, cell)
        yield f"curves-{name}", partial(draw_curves, cell)
        if not isinstance(cell.analysis.null, Absent):
            yield f"null-{name}", partial(draw_null, cell)


def draw_scatter(study: Findings, cell: CellFindings) -> Figure:
    """Before against after retraining, one column wide: anomalies, oracle mask, chosen masks, chance line, noise band."""
    figure, (axes,) = figure_of(COLUMN, 2.6, 1)
    star = np.arange(len(cell.x)) == cell.oracle
    half, chance = noise_halfwidth(cell), chance_loss(cell)
    if half is not None:
        middle = float(cell.y[cell.oracle])
        axes.axhspan(middle - half, middle + half, color=_GREY, alpha=0.18, linewidth=0, label="noise band")
    size = 2.6 if len(cell.x) <= 3000 else 1.2
    for chosen, marker, colour, label in (
        (~cell.anomalies & ~star, "o", BLUE, "other masks"),
        (cell.anomalies & ~star, "D", _ORANGE, "anomalies"),
    ):
        axes.plot(cell.x[chosen], cell.y[chosen], marker, color=colour, markersize=size, markeredgewidth=0, alpha=0.6,
                  label=f"{label} ({chosen.sum():,})", zorder=2)  # fmt: skip
    if len(cell.searched.x):
        axes.plot(cell.searched.x, cell.searched.y, "^", color="none", markersize=4, markeredgecolor=BLACK, markeredgewidth=0.7,
                  label=f"chosen by their loss ({len(cell.searched.x):,})", zorder=2)  # fmt: skip
    axes.plot(cell.x[star], cell.y[star], "*", color=BLACK, markersize=9, markeredgecolor="white", markeredgewidth=0.6,
              label=f"{'exact' if cell.exact else 'approximate'} oracle mask", zorder=3)  # fmt: skip
    if chance is not None and axes.get_xlim()[0] <= chance <= axes.get_xlim()[1]:
        axes.axvline(chance, color=BLACK, linestyle=":", linewidth=0.9, label=f"chance, ln({cell.base.classes})")
    axes.set_xlabel(column(cell.analysis.x))
    axes.set_ylabel(y_title(cell.analysis.y, study.spec.final, study.spec.repeats))
    axes.set_title(_headline(cell))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, handletextpad=0.3)
    return figure


def draw_grid(study: Findings, grid: Grid) -> Figure:
    """The results grid: a row a set of sites, a column a ratio; blue where the predictor is right, orange where wrong."""
    rows, columns = len(grid.rows), len(grid.columns)
    figure, (axes,) = figure_of(min(BOTH, 1.4 + 0.62 * columns), 0.7 + 0.36 * rows, 1)
    agreement = np.full((rows, columns), np.nan)
    for (sites, ratio), cell in grid.cells.items():
        row, place = grid.rows.index(sites), grid.columns.index(ratio)
        a = cell.analysis
        agreement[row, place] = a.agreement
        axes.text(place, row - 0.12, signed(a.kendall_tau), ha="center", va="center", weight="bold")
        axes.text(place, row + 0.24, probability(a.decision.zero_p), ha="center", va="center", fontsize=6)
    edges = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
    axes.pcolormesh(*edges, agreement, cmap=_WRONG_TO_RIGHT, vmin=-1.5, vmax=1.5, edgecolors="white", linewidth=1.5)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xlabel="pruning ratio")
    axes.set_xticks(range(columns), grid.columns)
    axes.set_yticks(range(rows), grid.rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"Kendall's τ of {column(study.x)} and {column(study.y)}, p below it")
    return figure


def draw_curves(cell: CellFindings) -> Figure:
    """Learning curves, both columns wide: bands of 50% and 90% of the masks, their median, the oracle mask's repeats."""
    figure, (left, right) = figure_of(BOTH, 2.2, 2)
    found = cell.curves
    _draw_bands(left, found.train_loss_nE1, found.oracle_train_loss_RE1, found.epochs_E1)
    _draw_bands(right, found.result_nE, found.oracle_result_RE, found.epochs_E1[1:])
    left.set_yscale("log")
    left.set_ylabel(titles(cell)[0])
    right.set_ylabel(titles(cell)[1])
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def draw_null(cell: CellFindings) -> Figure:
    """The null distribution of τ, one column wide, with the measured τ and the noise ceiling marked."""
    null, ceiling, tau = cell.analysis.null, cell.analysis.reachable, cell.analysis.kendall_tau
    assert not isinstance(null, Absent)
    figure, (axes,) = figure_of(COLUMN, 2.0, 1)
    axes.hist(null.taus, bins=50, density=True, color=_GREY, alpha=0.6, label="units relabelled")
    top = axes.get_ylim()[1]
    deviation, ends = naive_deviation(cell.analysis.n), axes.get_xlim()
    grid = np.linspace(*ends, 400)
    naive = np.exp(-0.5 * (grid / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
    axes.plot(grid, naive, "--", color=BLACK, linewidth=0.8, label="masks independent (naive)")
    axes.axvline(tau, color=BLUE, linewidth=1.4, label=f"measured, {signed(tau)}")
    if not isinstance(ceiling, Absent):
        at = float(np.copysign(ceiling, tau))
        axes.axvline(at, color=_GREEN, linewidth=1.4, linestyle="-.", label=f"noise ceiling, {signed(at)}")
    axes.set_ylim(0, top)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Kendall's τ")
    axes.set_title(_headline(cell))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_bands(
    axes: Axes, values_nE: NDArray[np.float64], oracle_RE: NDArray[np.float64], epochs: NDArray[np.int64]
) -> None:
    low5, low25, median, high75, high95 = np.quantile(values_nE, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    axes.fill_between(epochs, low5, high95, color=BLUE, alpha=0.15, linewidth=0, label="90% of the masks")
    axes.fill_between(epochs, low25, high75, color=BLUE, alpha=0.3, linewidth=0, label="50%")
    axes.plot(epochs, median, color=BLUE, linewidth=0.9, label="median")
    for repeat, curve in enumerate(oracle_RE):
        axes.plot(epochs, curve, color=BLACK, linewidth=1.2, label="oracle mask" if repeat == 0 else None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch of retraining")


def _headline(cell: CellFindings) -> str:
    return f"{cell.analysis.group}: τ = {signed(cell.analysis.kendall_tau)}, {cell.analysis.n:,} masks"


def figure_of(width: float, height: float, panels: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches with panels side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [figure.add_subplot(1, panels, place + 1) for place in range(panels)]


def save(figure: Figure, path: Path) -> Path:
    """The file, without a date, so that the same figure is the same bytes."""
    buffer = BytesIO()
    dates = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    figure.savefig(buffer, format=path.suffix[1:], metadata=dates.get(path.suffix), dpi=600)
    write_whole(path, lambda partial: partial.write_bytes(buffer.getvalue()), ReportError)
    return path
