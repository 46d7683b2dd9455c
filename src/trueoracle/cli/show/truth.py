"""The public table: its studies, what made one, its cells, its best and worst masks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trueoracle.cli.show.lines import columns, say
from trueoracle.truth.columns import records

if TYPE_CHECKING:
    import pandas as pd

    from trueoracle.truth import Remade, TruthTable

_ENDS = 5  # masks of a cell that are shown from each end
_Y = "final_test_accuracy"


def table_list(table: "TruthTable") -> None:
    """A line a study."""
    say(f"version {table.manifest.version}, licence {table.manifest.licence}, {table.folder}")
    rows = [("study", "network", "data", "base networks", "cells", "trials", "of", "trained for", "size")]
    for name, facts in table.manifest.studies.items():
        spec = facts.spec
        size = sum(file.bytes for file in facts.files.values())
        rows.append((name, str(spec["model"]), str(spec["data"]), str(len(table.frame(name, "networks"))),
                     str(len(table.cells(name))), f"{facts.trials:,}", f"{facts.planned:,}", f"{facts.seconds / 60:.0f} minutes",
                     f"{size / 1e6:.1f} MB"))  # fmt: skip
    columns(rows, right=(3, 4, 5, 6, 7, 8))


def table_study(table: "TruthTable", name: str) -> None:
    """What made a study, and a line a cell; or, of one cell, its masks from both ends."""
    study, _, cell = name.partition("/")
    facts = table.facts(study)
    trials = table.trials(name)
    if cell:
        _cell(name, trials)
        return
    say(f"{study}: {' '.join(str(facts.spec.get('description', '')).split())}")
    say(
        f"{facts.trials:,} of {facts.planned:,} trials, {facts.seconds / 60:.0f} thread-minutes of retraining; digest {facts.digest[:12]}"
    )
    say(f"code: {facts.commit or 'not said'}; machine: {facts.hardware or 'not said'}")
    say(f"files: {', '.join(f'{file} ({own.rows:,} rows)' for file, own in facts.files.items())}")
    rows = [("cell", "masks", "trials", "test accuracy", "worst to best mask", "pruned train loss")]
    for of_cell, own in trials.groupby("cell", sort=False):
        means = _means(own)
        loss = own["pruned_train_loss"]
        rows.append((str(of_cell), f"{len(means):,}", f"{len(own):,}", f"{own[_Y].mean():.2%}", f"{means[_Y].min():.2%} to {means[_Y].max():.2%}",
                     f"{loss.min():.3g} to {loss.max():.3g}"))  # fmt: skip
    columns(rows, right=(1, 2, 3, 4, 5))
    say("test accuracy: after retraining, of all trials; worst to best: of the means of masks over their repeats")


def verified(study: str, found: "Sequence[Remade]") -> None:
    """How many trials came out as they are in the table."""
    same = sum(one.same for one in found)
    say(f"{study}: the files are as published; {same} of {len(found)} trials made again are the same to the bit")
    for one in found:
        if not one.same:
            say(
                f"  {one.cell}, base {one.base}, mask {one.mask}, repeat {one.repeat}: differs by up to {one.largest:.3g}"
            )
    if same < len(found):
        say(
            "another kind of processor, or another version of torch, rounds otherwise: small differences are no error in the table"
        )


def _cell(name: str, trials: "pd.DataFrame") -> None:
    means = _means(trials).sort_values(_Y, ascending=False)
    say(f"{name}: {len(means):,} masks of base networks, {len(trials):,} trials; means over repeats")
    rows = [("base", "mask", "keeps", "test accuracy", "pruned train loss")]
    shown = records(means if len(means) <= 2 * _ENDS else means.iloc[[*range(_ENDS), *range(-_ENDS, 0)]])
    for at, row in enumerate(shown):
        if at == _ENDS and len(means) > 2 * _ENDS:
            rows.append(("...", "", "", "", ""))
        kept = " | ".join(" ".join(map(str, site)) for site in row["kept"])
        rows.append((str(row["base"]), str(row["mask"]), kept, f"{row[_Y]:.2%}", f"{row['pruned_train_loss']:.4g}"))
    columns(rows, right=(0, 1, 3, 4))


def _means(trials: "pd.DataFrame") -> "pd.DataFrame":
    """A row a mask of a base network: units of two networks have nothing to do with each other."""
    of_mask = trials.groupby(["base", "mask"])
    return of_mask[[_Y, "pruned_train_loss"]].mean().join(of_mask["kept"].first()).reset_index()
