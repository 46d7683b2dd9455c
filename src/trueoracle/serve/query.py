"""What an address says, as values, and values as an address: the whole state of a page stands in its address."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from trueoracle.store import CellRecord
from trueoracle.store.browse import SORTS, Order, Span, TrialFilter
from trueoracle.words.errors import TrueOracleError, unknown
from trueoracle.words.trial import Outcome

ROWS, MOST_ROWS = 100, 500


class AddressError(TrueOracleError):
    """An address asks for what cannot be."""


@dataclass(frozen=True, kw_only=True)
class TrialsQuery:
    """A page of a list of trials: which, in which order, how many, from which place on."""

    which: TrialFilter
    order: Order
    page: int
    rows: int
    given: Mapping[str, str]

    @property
    def start(self) -> int:
        """The place of the first trial of the page."""
        return (self.page - 1) * self.rows

    def address(self, **changes: str | int) -> str:
        """The query that this is, changed; `page` goes back to the first unless it is what changes."""
        changed = {**self.given, "page": "", **{name: str(value) for name, value in changes.items()}}
        return "?" + urlencode({name: value for name, value in changed.items() if value})

    def sorted_by(self, column: str) -> str:
        """The query sorted by a column, or turned round where it is already."""
        turned = self.order.by == column and not self.order.falling
        return self.address(sort=f"-{column}" if turned else column)


def trials_query(params: QueryParams, cells: list[CellRecord]) -> TrialsQuery:
    """From an address; `AddressError` names what is wrong in it."""
    given = {name: params[name].strip() for name in _KNOWN if params.get(name, "").strip()}
    names = {cell.name: cell.index for cell in cells}
    cell = given.get("cell")
    if cell is not None and cell not in names:
        raise AddressError(unknown("cell", cell, names))
    by = given.get("sort", "cell")
    falling, by = by.startswith("-"), by.removeprefix("-")
    if by not in SORTS:
        raise AddressError(unknown("column to sort by", by, SORTS))
    return TrialsQuery(
        which=TrialFilter(
            cells=() if cell is None else (names[cell],),
            outcome=_outcome(given.get("outcome")),
            mask=_mask(given.get("mask")),
            loss=_span(given, "loss"),
            accuracy=_span(given, "accuracy"),
        ),
        order=Order(by=by, falling=falling),
        page=_whole(given, "page", 1, 10**9),
        rows=_whole(given, "rows", ROWS, MOST_ROWS),
        given=given,
    )


_KNOWN = ("cell", "outcome", "mask", "loss_from", "loss_to", "accuracy_from", "accuracy_to", "sort", "rows", "page")


def _outcome(text: str | None) -> Outcome | None:
    if text is None:
        return None
    known = {outcome.name.lower(): outcome for outcome in Outcome}
    if text not in known:
        raise AddressError(unknown("outcome", text, known))
    return known[text]


def _mask(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 4000:
        raise AddressError(f"a mask is named by its rank, such as 17, but got `{text[:50]}`")
    return int(text)


def _span(given: Mapping[str, str], name: str) -> Span:
    low, high = (_number(given, f"{name}_{end}") for end in ("from", "to"))
    if low is not None and high is not None and low > high:
        raise AddressError(f"`{name}_from` must be at most `{name}_to`, but got {low:g} and {high:g}")
    return low, high


def _number(given: Mapping[str, str], name: str) -> float | None:
    if name not in given:
        return None
    try:
        value = float(given[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise AddressError(f"`{name}` must be a number, but got `{given[name][:50]}`")
    return value


def _whole(given: Mapping[str, str], name: str, otherwise: int, most: int) -> int:
    text = given.get(name)
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and 1 <= int(text) <= most):
        raise AddressError(f"`{name}` must lie in [1, {most}], but got `{text[:50]}`")
    return int(text)
