"""When a file counts as the same as before."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path


def files_key(folder: Path, files: Iterable[Path]) -> str:
    """A name for what these files below `folder` hold: it changes with their names, sizes and times of change.

    Sets of hundreds of gigabytes are not read to find out that they are the same as yesterday.
    """
    digest = sha256()
    for file in files:
        state = file.stat()
        digest.update(f"{file.relative_to(folder)}/{state.st_size}/{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
