"""`trueoracle plan`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from trueoracle import analysis, api
from trueoracle.cli import show
from trueoracle.cli.options import StoreUrl
from trueoracle.store import DEFAULT_URL


def plan(
    pilot: Annotated[
        str | None, typer.Argument(help="A stored study whose noise, units and rate are taken over.")
    ] = None,
    tau: Annotated[
        float | None,
        typer.Option(help="tau between x and what masks end with on average. [default: 0.2, for equivalence 0]"),
    ] = None,
    claim: Annotated[analysis.Claim, typer.Option(help="What is to be shown.")] = analysis.Claim.RELATION,
    repeats: Annotated[
        list[int] | None, typer.Option(help="Repeats a mask; again for several. [default: 1 2 3 5]")
    ] = None,
    reliability: Annotated[
        float | None, typer.Option(help="Without a pilot: correlation of two repeats over masks.")
    ] = None,
    units: Annotated[
        list[int] | None, typer.Option(help="Without a pilot: units of a site; again for each site.")
    ] = None,
    trial_seconds: Annotated[float | None, typer.Option(help="Without a pilot: core-seconds a trial.")] = None,
    cells: Annotated[
        int | None, typer.Option(help="Cells whose tests are corrected together (Holm). [default: the pilot's]")
    ] = None,
    margin: Annotated[float, typer.Option(help="|tau| below it does not matter.")] = 0.1,
    alpha: Annotated[float, typer.Option(help="Level of the test.")] = 0.05,
    power: Annotated[float, typer.Option(help="Chance of showing the claim if it holds.")] = 0.8,
    nodes: Annotated[
        int | None, typer.Option(help="Machines to share it: how long it takes, and what limits them.")
    ] = None,
    cores: Annotated[int | None, typer.Option(help="Of one of them. [default: this machine's]")] = None,
    price: Annotated[float | None, typer.Option(help="Of one of them an hour, in any currency.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A list with an object a cell and number of repeats.")
    ] = False,
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """How many masks and repeats a claim takes, and what they cost. How it is computed: docs/statistics.md."""
    machines = api.machines(nodes, cores, price)
    found = api.plan_claim(
        claim, pilot=pilot, tau=tau, repeats=repeats or (1, 2, 3, 5), reliability=reliability, units=units or (),
        trial_seconds=trial_seconds, cells=cells, margin=margin, alpha=alpha, power=power, store=store,
    )  # fmt: skip
    takes = [None if machines is None else need.on(machines) for _, need in found]
    if as_json:
        rows = [
            {"cell": cell, **need.as_dict(), **({} if of_need is None else asdict(of_need))}
            for (cell, need), of_need in zip(found, takes, strict=True)
        ]
        print(json.dumps(rows, indent=2))
    else:
        show.needs(claim, found, takes)
