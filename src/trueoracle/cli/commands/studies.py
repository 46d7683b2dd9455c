"""`trueoracle studies`."""

from typing import Annotated

import typer

from trueoracle import api
from trueoracle.cli import show
from trueoracle.cli.options import StoreUrl
from trueoracle.store import DEFAULT_URL


def studies(
    study: Annotated[
        str | None, typer.Argument(help="A built-in study, NAME-CELL for one cell of it, or a YAML file: all about it.")
    ] = None,
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """List the built-in studies, or say what one of them does and takes."""
    from trueoracle.store import Store, store_exists
    from trueoracle.study import load_spec

    past = Store(store) if store_exists(store) else None
    if study is None:
        show.studies(api.studies().values(), past)
    else:
        show.study(load_spec(study), past)
