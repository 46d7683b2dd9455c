"""What can go wrong by a user's hand: one class a room, one base for all, each message one clear line."""

from collections.abc import Iterable
from difflib import get_close_matches


class TrueOracleError(ValueError):
    """A rule was broken by an input; the message names the value and the rule. The CLI exits with code 2."""


class SpecError(TrueOracleError):
    """A study's specification breaks a rule."""


class ModelError(TrueOracleError):
    """A network, a site or a weights file does not exist or does not fit."""


class DataError(TrueOracleError):
    """A dataset is unknown, missing or broken."""


class StoreError(TrueOracleError):
    """A store cannot be opened, read or written, or lacks what is asked for."""


class StoreAway(StoreError):
    """The database cannot be reached at the moment, and may be again."""


class TableError(TrueOracleError):
    """A table cannot be read, or cannot bear the statistics asked of it."""


class TargetError(TrueOracleError):
    """Vector registers are asked for that the machine does not have."""


class CacheError(TrueOracleError):
    """The cache is not safe to use."""


class ReportError(TrueOracleError):
    """A page or a figure cannot be written."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line saying that `name` is no `kind`, with the nearest known name and then all of them."""
    names = sorted(known)
    begun = [known_name for known_name in names if len(name) > 2 and known_name.startswith(name)]
    nearest = begun or get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean `{nearest[0]}`? " if nearest else ""
    return f"unknown {kind} `{name}`: {hint}known are {', '.join(names) or 'none'}"
