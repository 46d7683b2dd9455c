"""Files that a user asked for, written whole or not at all."""

from collections.abc import Callable
from pathlib import Path

from trueoracle.words.errors import ReportError, TrueOracleError


def check_folder(folder: Path) -> None:
    """`ReportError` where there is no such folder: better said before the work than after."""
    if not folder.is_dir():
        raise ReportError(f"the folder `{folder}` does not exist: make it, or name another")


def check_file(path: Path) -> None:
    """`ReportError` where no file can be put at `path`."""
    check_folder(path.parent)
    if path.is_dir():
        raise ReportError(f"`{path}` is a folder: name a file")


def write_whole(path: Path, write: Callable[[Path], object], error: type[TrueOracleError]) -> None:
    """Let `write` fill a file that is never seen half-written; `error` where it cannot be, and then nothing is left."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        partial.replace(path)
    except BaseException as problem:
        partial.unlink(missing_ok=True)
        if isinstance(problem, OSError):
            raise error(f"`{path}` cannot be written: {problem.strerror or problem}") from None
        raise
