"""What can be pruned of a network, and how the losses of its masks lie."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from trueoracle import api
from trueoracle.cli.show.lines import columns, print_table, say

if TYPE_CHECKING:
    import pandas as pd

    from trueoracle.store.landscape import Landscape


def landscape(found: "Landscape", output: Path) -> None:
    """How the losses of a space lie: a histogram, and the masks of lowest loss."""
    from trueoracle.store.landscape import BIN

    say(f"{found.masks:,} masks on {found.images:,} images, written to {output} (path: {found.path})")
    filled = found.counts.nonzero()[0]
    step = max(1, -(-(filled[-1] + 1 - filled[0]) // 12)) if len(filled) else 1
    for start in range(filled[0], filled[-1] + 1, step) if len(filled) else ():
        count = int(found.counts[start : start + step].sum())
        bar = "#" * round(50 * count / found.masks)
        say(f"{BIN * start:7.2f} to {BIN * (start + step):5.2f} {count:>12,} {bar}")
    table = Table(title="lowest pruned train loss")
    for heading in ("mask", "loss", "accuracy", "pruned"):
        table.add_column(heading, justify="left" if heading == "pruned" else "right", overflow="fold")
    for row in found.best.itertuples():
        error = f" ± {row.standard_error:.2g}" if hasattr(row, "standard_error") else ""
        table.add_row(
            str(row.mask), f"{row.pruned_train_loss:.6g}{error}", f"{row.pruned_train_accuracy:.4f}", str(row.pruned)
        )
    print_table(table)
    if found.rivals is not None:
        say(f"{found.rivals:,} other masks lie within two standard errors of the lowest loss")


def judged_units(table: "pd.DataFrame", output: Path) -> None:
    """How far criteria agree of each site, a line each; and who has nothing to say of what, and why."""
    units, names = table[["site", "unit"]].drop_duplicates(), table["criterion"].drop_duplicates()
    say(f"{len(units):,} units of {units['site'].nunique():,} sites by {len(names)} criteria, written to {output}")
    rows = [("site", "units", "criteria", "agreement", "outsider", "agrees")]
    for row in api.criteria_agreement(table).to_dict("records"):
        mean, of_outsider = (_two_digits(row[name]) for name in ("agreement", "outsider_agreement"))
        rows.append((row["site"], f"{row['units']:,}", str(row["criteria"]), mean, row["outsider"] or "-", of_outsider))
    columns(rows, right=(1, 2, 3, 5))
    say(
        "agreement: Spearman's rank correlation of two criteria, mean over all pairs; the outsider agrees least with the"
    )
    say("others, in the mean as said; controls, and criteria that say the same of all units, are left out of both")
    refused = table[table["refused"] != ""].drop_duplicates(["criterion", "site"])
    for name, of_name in refused.groupby("criterion"):
        more = f" ({len(of_name) - 1} more)" if len(of_name) > 1 else ""
        say(
            f"{name} cannot judge {len(of_name)} of {units['site'].nunique()} sites: {of_name['refused'].iloc[0]}{more}"
        )


def _two_digits(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"


def sites(found: "pd.DataFrame") -> None:
    """A line a site."""
    rows = [("site", "kind", "units", "parameters", "operations", "coupled")]
    for row in found.to_dict("records"):
        numbers = (f"{row[name]:,}" for name in ("units", "parameters_per_unit", "operations_per_unit"))
        coupled = _few([_beside(row["site"], layer) for layer in row["coupled"]])
        if row["normalised_by"]:
            coupled += f"; normalised by {_few([_beside(row['site'], layer) for layer in row['normalised_by']])}"
        rows.append((row["site"], row["kind"], *numbers, coupled))
    columns(rows, right=(2, 3, 4))
    say(
        "parameters and operations (multiply-accumulates for one image or token) are what the network saves with one unit;"
    )
    say("a coupled layer's name begins with a dot where what comes before is the site's")
    if found["normalised_by"].map(bool).any():
        say(
            "what normalises over units is computed of those that are left, so that removal changes more than silence would"
        )


def _few(names: list[str], most: int = 12) -> str:
    """Names in a row; of very many the first ones and their number."""
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"


def _beside(site: str, layer: str) -> str:
    """The layer's name without what it shares with the site's."""
    parts, ours = layer.split("."), site.split(".")
    shared = next(
        (at for at, (a, b) in enumerate(zip(parts, ours, strict=False)) if a != b), min(len(parts), len(ours))
    )
    return "." + ".".join(parts[shared:]) if shared else layer
