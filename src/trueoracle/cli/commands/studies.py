"""`trueoracle studies`."""

from trueoracle import api
from trueoracle.cli import show


def studies() -> None:
    """List the built-in studies."""
    show.studies(api.studies().values())
