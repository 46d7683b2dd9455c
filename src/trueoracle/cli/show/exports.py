"""What an export is made of, and what it saves."""

from typing import TYPE_CHECKING

from rich.table import Table

from trueoracle.cli.show.lines import print_table, say

if TYPE_CHECKING:
    from trueoracle.selection import Exported


def exported(found: "Exported") -> None:
    """The files with their checks, the figures, the costs and the latency before and after."""
    origin = found.facts.origin
    if origin is not None:
        say(
            f"mask {origin.mask} of {origin.study}, cell {origin.cell}, repeat {origin.repeat}, written to {found.folder}"
        )
    for name, figure in found.facts.figures.items():
        interval = "" if figure.low is None else f" (95% {figure.low:.4f} to {figure.high:.4f})"
        say(f"{name}: {figure.value:.4f}{interval} on {figure.examples} examples")
    print_table(_files(found))
    print_table(_costs(found))
    if found.timed:
        print_table(_latency(found))


def _files(found: "Exported") -> Table:
    table = Table("file", "bytes", "largest difference of a logit", title="files, read back and compared")
    for check in found.checks:
        table.add_row(check.file, f"{check.bytes:,}", f"{check.difference:.1g}")
    return table


def _costs(found: "Exported") -> Table:
    table = Table("", "whole", "pruned", "left", title="cost")
    for name in ("parameters", "macs"):
        whole, pruned = getattr(found.whole, name), getattr(found.pruned, name)
        table.add_row("operations" if name == "macs" else name, f"{whole:,}", f"{pruned:,}", f"{pruned / whole:.1%}")
    return table


def _latency(found: "Exported") -> Table:
    table = Table(
        "runtime",
        "network",
        "batch",
        "median ms",
        "quartiles",
        title="latency, on one thread of this processor, or on a GPU where it is named",
    )
    for timed in found.timed:
        latency = timed.latency
        quartiles = f"{latency.low * 1e3:.3f} to {latency.high * 1e3:.3f}"
        table.add_row(timed.runtime, timed.network, str(latency.batch), f"{latency.median * 1e3:.3f}", quartiles)
    return table
