"""What was evaluated once is never evaluated again: the losses so far, by mask and images, kept in a file if wanted.

Letters: M masks.
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueoracle.search.problem import Ask
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import StoreError

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Mean losses (nats) and accuracies of M masks over the images of an ask, as its ranks are ordered.

    `standard_error_M` is that of the loss as an estimate for the split that the images were drawn from, 0 where they
    are all of it.
    """

    loss_M: Values
    accuracy_M: Values
    standard_error_M: Values


Judge = Callable[[Ask], Judged]
"""Evaluates the masks of an ask, whose ranks rise; any path of the oracle can stand behind it."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is known of one mask on the images [start, stop); `seconds` is what it took, in core-seconds."""

    start: int
    stop: int
    loss: float
    accuracy: float
    standard_error: float
    seconds: float


_ByStart = dict[int, list[_Piece]]
"""What is known of one mask, by the first image."""


class Memory:
    """Answers asks: from what it remembers, and by `judge` where that does not suffice.

    With `keep`, every answer is added to that file before it is given, and what the file holds is remembered: after a
    kill, a search that is begun again asks for the same and waits only for what is new. `identity` is whatever
    determines the answers; `StoreError` where the file holds those of another. `at_once` masks at most are judged
    together: so much a kill can lose.
    """

    def __init__(self, judge: Judge, keep: Path | None = None, identity: str = "", at_once: int = 1024) -> None:
        self._judge = judge
        self._at_once = at_once
        self._keep = keep
        self._pieces: dict[MaskSpace, dict[int, _ByStart]] = defaultdict(lambda: defaultdict(dict))
        if keep is not None:
            self._open(keep, identity)

    def learn(self, ask: Ask, judged: Judged) -> None:
        """Remember what is known from elsewhere."""
        self._add(ask, judged, 0.0)

    def __call__(self, ask: Ask) -> tuple[Judged, Values]:
        """The answer, and what it took or once took of each mask, in core-seconds."""
        self._complete(ask)
        of_space = self._pieces[ask.space]
        whole = [_joined(_chain(of_space[rank], ask.images)) for rank in ask.ranks]
        columns = np.array([(p.loss, p.accuracy, p.standard_error, p.seconds) for p in whole]).reshape(-1, 4).T
        loss_M, accuracy_M, standard_error_M, seconds_M = columns
        return Judged(loss_M=loss_M, accuracy_M=accuracy_M, standard_error_M=standard_error_M), seconds_M

    def _complete(self, ask: Ask) -> None:
        """Have judged what is missing: masks that lack the same images together."""
        of_space, lacking = self._pieces[ask.space], defaultdict(set)
        for rank in ask.ranks:
            known = _chain(of_space[rank], ask.images)
            begin = known[-1].stop if known else ask.images.start
            if begin < ask.images.stop:
                lacking[begin].add(rank)
        for begin, ranks in sorted(lacking.items()):
            left = iter(sorted(ranks))
            while together := list(islice(left, self._at_once)):
                self._have_judged(Ask(space=ask.space, ranks=together, images=range(begin, ask.images.stop)))

    def _have_judged(self, ask: Ask) -> None:
        before = process_time()
        judged = self._judge(ask)
        seconds = process_time() - before
        if self._keep is not None:
            self._write(self._keep, _line(ask, judged, seconds))
        self._add(ask, judged, seconds / len(ask.ranks))

    def _add(self, ask: Ask, judged: Judged, seconds: float) -> None:
        of_space = self._pieces[ask.space]
        rows = zip(ask.ranks, judged.loss_M, judged.accuracy_M, judged.standard_error_M, strict=True)
        for rank, loss, accuracy, error in rows:
            piece = _Piece(ask.images.start, ask.images.stop, float(loss), float(accuracy), float(error), seconds)
            of_space[rank].setdefault(piece.start, []).append(piece)

    def _open(self, keep: Path, identity: str) -> None:
        """Read the file, or begin it. A last line that a kill cut short is dropped."""
        text = keep.read_text(encoding="utf-8") if keep.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        try:
            first, *lines = [json.loads(line) for line in whole.splitlines()] or [{"identity": identity}]
            if first != {"identity": identity}:
                raise StoreError(f"`{keep}` keeps the losses of another search: remove it to begin anew")
            for facts in lines:
                self._add(*_read(facts))
        except (ValueError, KeyError, TypeError) as problem:
            if isinstance(problem, StoreError):
                raise
            raise StoreError(f"the losses kept in `{keep}` cannot be read: remove the file to begin anew") from None
        if len(whole) < len(text) or not text:
            keep.write_text(whole or json.dumps(first) + "\n", encoding="utf-8")

    def _write(self, keep: Path, facts: dict[str, Any]) -> None:
        with keep.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _chain(known: _ByStart, images: range) -> list[_Piece]:
    """Pieces that follow one another from the first image asked for, as far as they reach, the longest first."""
    chain: list[_Piece] = []
    start = images.start
    while fits := [piece for piece in known.get(start, ()) if start < piece.stop <= images.stop]:
        chain.append(max(fits, key=lambda piece: piece.stop))
        start = chain[-1].stop
    return chain


def _joined(pieces: Sequence[_Piece]) -> _Piece:
    """One piece of several that follow one another; the standard error is that of batch means, the pieces the batches."""
    if len(pieces) == 1:
        return pieces[0]
    sizes = np.array([piece.stop - piece.start for piece in pieces], dtype=np.float64)
    loss, accuracy = (np.average([getattr(p, name) for p in pieces], weights=sizes) for name in ("loss", "accuracy"))
    error = 0.0
    if any(piece.standard_error != 0 for piece in pieces):
        spread = np.sum(sizes * (np.array([piece.loss for piece in pieces]) - loss) ** 2) / (len(pieces) - 1)
        error = float(np.sqrt(spread / sizes.sum()))
    seconds = sum(piece.seconds for piece in pieces)
    return _Piece(pieces[0].start, pieces[-1].stop, float(loss), float(accuracy), error, seconds)


def _line(ask: Ask, judged: Judged, seconds: float) -> dict[str, Any]:
    """One answer as it stands in the file; ranks as text, since JSON's numbers are not exact in every reader."""
    return {
        "space": [[choice.site, choice.units, choice.pruned] for choice in ask.space.sites],
        "images": [ask.images.start, ask.images.stop],
        "ranks": [str(rank) for rank in ask.ranks],
        "losses": judged.loss_M.tolist(),
        "accuracies": judged.accuracy_M.tolist(),
        "standard_errors": judged.standard_error_M.tolist(),
        "seconds": seconds,
    }


def _read(facts: dict[str, Any]) -> tuple[Ask, Judged, float]:
    sites = tuple(SiteChoice(site=site, units=units, pruned=pruned) for site, units, pruned in facts["space"])
    ranks = [int(rank) for rank in facts["ranks"]]
    columns = (np.array(facts[name], dtype=np.float64) for name in ("losses", "accuracies", "standard_errors"))
    loss_M, accuracy_M, error_M = columns
    ask = Ask(space=MaskSpace(sites), ranks=ranks, images=range(*facts["images"]))
    judged = Judged(loss_M=loss_M, accuracy_M=accuracy_M, standard_error_M=error_M)
    return ask, judged, float(facts["seconds"]) / len(ranks)
