"""`trueoracle doctor`."""

from trueoracle import api
from trueoracle.cli import show
from trueoracle.cli.options import DataDir, StoreUrl
from trueoracle.store import DEFAULT_URL


def doctor(store: StoreUrl = DEFAULT_URL, data_dir: DataDir = None) -> None:
    """Check versions, devices, data and the store."""
    show.facts(api.doctor(store, data_dir))
