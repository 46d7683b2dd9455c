"""Files written whole or not at all."""

from pathlib import Path

from trueoracle.errors import ReportError


def check_folder(folder: Path) -> None:
    """`ReportError` where there is no such folder: better said before the work than after."""
    if not folder.is_dir():
        raise ReportError(f"the folder `{folder}` does not exist: make it, or name another")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is never seen half-written; `ReportError` where it cannot be."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ReportError(f"`{path}` cannot be written: {error.strerror or error}") from None
