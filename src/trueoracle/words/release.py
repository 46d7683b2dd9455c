"""Which trueoracle this is."""

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """Its version; of a source tree on the path that nobody installed, that it is one."""
    try:
        return version("trueoracle")
    except PackageNotFoundError:
        return "source, not installed"
