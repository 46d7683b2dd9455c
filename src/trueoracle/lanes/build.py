"""Compiling generated kernels once a machine: their source is a module in the cache folder, and Numba keeps what it
compiled beside it.

The module's name holds a digest of its source, of this room and of the processor that the code is made for, so a
changed kernel is another module, no old code is ever taken for it, and a folder shared by machines is safe.
"""

import importlib.util
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from threading import Lock
from types import ModuleType

import numba

from trueoracle.lanes.target import compiled_for
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

    All of `trueoracle.lanes` is in scope there. Compiles where no earlier run has, and says so: seconds. Where
    the cache folder cannot be written it says that too, and compiles for this process alone.
    """
    text = SCOPE + source
    module_name = f"trueoracle_{name}_{_digest(text)}"
    with _LOADING:
        if module_name not in sys.modules:
            path = _written(f"{module_name}.py", text, progress)
            if not any((path.parent / "__pycache__").glob(f"{module_name}.*.nbi")):
                progress.say(f"compiling the {name} kernels: seconds, once on this machine")
            _load(module_name, path)
        return sys.modules[module_name]


def _load(module_name: str, path: Path) -> None:
    """Run the module under its name, by which Numba's cache looks for it while it is being loaded."""
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise


def _written(name: str, text: str, progress: Progress) -> Path:
    try:
        return _write(cache_folder() / "kernels", name, text)
    except OSError as error:
        progress.say(f"kernels cannot be kept in `{cache_folder()}` ({error.strerror}): compiling for this run alone")
        return _write(Path(mkdtemp(prefix="trueoracle-kernels-")), name, text)


def _write(folder: Path, name: str, text: str) -> Path:
    """Whole or not at all; a file that is there stays, for Numba's cache goes by its date."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if not path.exists() or path.read_text() != text:
        with NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.write(text)
        Path(file.name).replace(path)
    return path


def _digest(text: str) -> str:
    digest = sha256(f"{numba.__version__}\n{compiled_for()}\n{text}".encode())
    digest.update(_room())
    return digest.hexdigest()[:16]


@cache
def _room() -> bytes:
    """The source of this room, whose instructions end up in the compiled code."""
    return b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
