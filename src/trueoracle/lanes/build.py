"""Compiling once a machine, the one way for all compiled code: its source is a module in the cache folder, and Numba keeps
what it compiled beside it.

The module's name holds a digest of its source, of this room and of the processor that the code is made for, so a
changed kernel is another module, no old code is ever taken for it, and a folder shared by machines is safe.

What Numba keeps is code, and pickles that run code when they are read. So the folder is the user's own and closed to
others, and nothing in it is read that does not have the checksum which was noted when it was compiled.
"""

import json
import os
import stat
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from threading import Lock
from types import ModuleType

import numba

from trueoracle.lanes.target import compiled_for
from trueoracle.words.errors import CacheError
from trueoracle.words.folders import cache_folder
from trueoracle.words.progress import Progress

SCOPE = """\
import numpy
from numba import njit
from trueoracle.lanes.functions import exp2, log2_near_one, max_of_row, split_exponent, sum_of_exp2
from trueoracle.lanes.rows import (
    add_rows, dense, dense_by_lane, load_row, lower_row, max_rows, relu_row, scale_add, spread_row, store_row,
    weigh_add, zero_row,
)
from trueoracle.lanes.vector import (
    add, any_lane, choose, count_up, either, greater, hold_loads, lift, load, maximum, multiply, multiply_add, spread, store,
    subtract, total,
)

"""
_LOADING = Lock()


def build(name: str, source: str, progress: Progress) -> ModuleType:
    """The module of this `source`, whose functions say `@njit(signature, nogil=True, cache=True)`.

    All of `trueoracle.lanes` is in scope there. Compiles where no earlier run has, or where what it kept is damaged, and
    says so: seconds. Where the cache folder cannot be written it says that too, and compiles for this process alone.
    `CacheError` where others could have put code of theirs into it.
    """
    text = SCOPE + source
    module_name = f"trueoracle_{name}_{_digest(text)}"
    with _LOADING:
        if module_name not in sys.modules:
            path = _written(f"{module_name}.py", text, progress)
            sums = path.with_suffix(".sums")
            if not _as_noted(path, sums):
                _drop(path)
                progress.say(f"compiling the {name} kernels: seconds, once on this machine")
            _load(module_name, path, text)
            _note(path, sums)
        return sys.modules[module_name]


def _load(module_name: str, path: Path, text: str) -> None:
    """Run the text as the module's, under its name, by which Numba's cache looks for it while it is being loaded."""
    module = ModuleType(module_name)
    module.__file__ = str(path)
    sys.modules[module_name] = module
    try:
        # this text, made here, and not whatever stands in the file by now
        exec(compile(text, path, "exec"), vars(module))
    except BaseException:
        del sys.modules[module_name]
        raise


def _kept(path: Path) -> list[Path]:
    """What Numba keeps of a module."""
    return sorted((path.parent / "__pycache__").glob(f"{path.stem}.*.nb[ic]"))


def _sums(path: Path) -> dict[str, str]:
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in _kept(path)}


def _as_noted(path: Path, sums: Path) -> bool:
    """Whether the whole module is there as it was compiled."""
    try:
        noted = json.loads(sums.read_text())
        return bool(noted) and noted == _sums(path)
    except (OSError, ValueError):
        return False


def _note(path: Path, sums: Path) -> None:
    """Two processes that compile at once may note what the other has just replaced: the next one compiles again."""
    text = json.dumps(_sums(path))
    if not sums.exists() or sums.read_text() != text:
        _write(sums, text)


def _drop(path: Path) -> None:
    for file in _kept(path):
        file.unlink(missing_ok=True)


def _written(name: str, text: str, progress: Progress) -> Path:
    try:
        folder = cache_folder() / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close(folder)
        return _source(folder / name, text)
    except OSError as error:
        progress.say(f"kernels cannot be kept in `{cache_folder()}` ({error.strerror}): compiling for this run alone")
        return _source(Path(mkdtemp(prefix="trueoracle-kernels-")) / name, text)


def _close(folder: Path) -> None:
    """Shut the folder to others; `CacheError` where they may have written to it already."""
    if not hasattr(os, "getuid"):  # a system without owners and modes
        return
    facts = folder.stat()
    if facts.st_uid != os.getuid():
        raise CacheError(
            f"`{folder}` holds code that would be run, and belongs to another user: name a folder of your own by TRUEORACLE_CACHE"
        )
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheError(
            f"`{folder}` holds code that would be run, and others may write to it: remove it, or name another by TRUEORACLE_CACHE"
        )
    if facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        folder.chmod(0o700)


def _source(path: Path, text: str) -> Path:
    """A file that is there stays, for Numba's cache goes by its date."""
    if not path.exists() or path.read_bytes() != text.encode():
        _write(path, text)
    return path


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    with NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


def _digest(text: str) -> str:
    digest = sha256(f"{numba.__version__}\n{compiled_for()}\n{text}".encode())
    digest.update(_room())
    return digest.hexdigest()[:16]


@cache
def _room() -> bytes:
    """The source of this room, whose instructions end up in the compiled code."""
    return b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
