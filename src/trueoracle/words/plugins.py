"""Names that a spec may use: what trueoracle brings, and what other installed packages add by entry points."""

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from trueoracle.words.errors import TrueOracleError, unknown

T = TypeVar("T")


def with_plugins(room: str, builtin: Mapping[str, T]) -> dict[str, T]:
    """`builtin` and every entry point of the group `trueoracle.<room>`; no built-in name is replaced."""
    added = {point.name: _load(point) for point in entry_points(group=f"trueoracle.{room}")}
    return {**added, **builtin}


def plugin_names(room: str) -> list[str]:
    """The names that other packages add to a room; nothing of them is loaded."""
    return [point.name for point in entry_points(group=f"trueoracle.{room}")]


def look_up(kind: str, name: str, known: Mapping[str, T], error: type[TrueOracleError]) -> T:
    """The entry called `name`, or `error` with the nearest known name."""
    if name not in known:
        raise error(unknown(kind, name, known))
    return known[name]


def imported(name: str, error: type[TrueOracleError]) -> Any:
    """What `package.module:thing` names, or `error`; modules of the working folder are found, as with `python -m`."""
    module, _, thing = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return getattr(import_module(module), thing)
    except Exception as problem:  # whatever the module raises
        raise error(f"`{name}` cannot be imported: {problem}") from problem


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:  # whatever the other package raises
        raise TrueOracleError(f"the entry point `{point.name}` of `{point.group}` cannot be loaded: {error}") from error
