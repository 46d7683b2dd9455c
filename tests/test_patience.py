"""A worker outlasts a database that is away for a while, and no longer than that."""

import pytest

from trueoracle.study import sharing
from trueoracle.words.errors import StoreAway, StoreError


def away_for(times: int, problem: StoreError) -> "tuple[list[int], object]":
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        if len(asked) <= times:
            raise problem
        return "here"

    return asked, ask


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "sleep", lambda _seconds: None)


def test_what_is_away_is_asked_again() -> None:
    asked, ask = away_for(2, StoreAway("away"))
    assert sharing.patiently(ask) == "here"  # type: ignore[arg-type]
    assert len(asked) == 3


def test_nobody_waits_who_is_told_to_stop() -> None:
    asked, ask = away_for(2, StoreAway("away"))
    with pytest.raises(StoreAway):
        sharing.patiently(ask, lambda: True)  # type: ignore[arg-type]
    assert len(asked) == 1


def test_another_problem_is_not_waited_for() -> None:
    asked, ask = away_for(2, StoreError("damaged"))
    with pytest.raises(StoreError, match="damaged"):
        sharing.patiently(ask)  # type: ignore[arg-type]
    assert len(asked) == 1
