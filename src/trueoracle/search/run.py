"""Conducting a search: ask after ask, within a budget, until nothing is left to ask for."""

from collections import defaultdict
from collections.abc import Sequence
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from trueoracle.search.budget import Hunt
from trueoracle.search.found import Found
from trueoracle.search.memory import Judged, Memory
from trueoracle.search.methods import find_search
from trueoracle.search.problem import Ask, Ceiling, Kept, Losses, Problem
from trueoracle.space import MaskSpace, Subsets
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Advance, Progress, Quiet

_SECONDS_BETWEEN_NEWS = 5.0
_IDLE = 100_000  # asks one after another that bring nothing new: nothing new will come


def search(
    memory: Memory,
    space: MaskSpace,
    images: int,
    hunt: Hunt,
    *,
    listed: Sequence[int] | None = None,
    ceiling: Ceiling | None = None,
    progress: Progress | None = None,
) -> Found:
    """What the hunt finds in `space` (or among the ranks `listed` of it) over so many images.

    With a `ceiling`, it searches all masks of the sites of `space` that the ceiling bears; ranks are then those of
    `Subsets`.

    Repeatable: the same seed and budget in evaluations give the same masks in the same order, whatever `memory` knows
    before; what it knows is counted as if it were evaluated, so that a search gone on with after a kill ends as an
    undisturbed one. `SpecError` for an unknown search, a space it cannot take, or a budget too small to find anything.
    """
    check_search(space, hunt, listed, ceiling)
    return _Conducted(hunt, memory, space, images, listed, ceiling, progress or Quiet()).run()


def check_search(
    space: MaskSpace, hunt: Hunt, listed: Sequence[int] | None = None, ceiling: Ceiling | None = None
) -> None:
    """`SpecError` where `search` would refuse: better said before the work."""
    name, method, evaluations = hunt.method, find_search(hunt.method), hunt.budget.evaluations
    if ceiling is not None and not method.exchanges:
        raise SpecError(f"search `{name}` keeps the ratios of the sites: where {ceiling.of} are fixed, take `swaps`")
    if listed is not None and not method.lists:
        raise SpecError(f"search `{name}` makes its masks itself: it takes no drawn ones, as `race` does")
    count = space.count if listed is None else len(listed)
    if method.lists and count > method.lists:
        raise SpecError(f"search `{name}` lists its masks, at most {method.lists:,}: draw so many, or try `swaps`")
    needs = method.needs(space)
    if hunt.budget.open and not method.by_itself:
        raise SpecError(f"search `{name}` goes on until its budget is spent: say how many `evaluations`")
    if evaluations is not None and evaluations < needs:
        raise SpecError(
            f"search `{name}` takes up to {needs:,} evaluations to its first mask here, but `evaluations` is "
            f"{evaluations:,}"
        )


class _Conducted:
    """One search under way: what it asked for so far, what that cost, what it found."""

    def __init__(
        self,
        hunt: Hunt,
        memory: Memory,
        space: MaskSpace,
        images: int,
        listed: Sequence[int] | None,
        ceiling: Ceiling | None,
        progress: Progress,
    ) -> None:
        self._hunt, self._method, self._budget = hunt, find_search(hunt.method), hunt.budget
        self._memory, self._space, self._images, self._progress = memory, space, images, progress
        self._listed: Sequence[int] = range(space.count) if listed is None else listed
        self._ceiling, self._subsets = ceiling, Subsets.of(space)
        self._count = space.count if listed is None else len(listed)  # Python's `len` ends at 2^63
        self._asked: dict[MaskSpace, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._whole: dict[int, tuple[float, float, float]] = {}
        self._mask_images = 0
        self._seconds = 0.0
        self._ends: list[int] = []
        self._news = monotonic() + _SECONDS_BETWEEN_NEWS
        self._told = np.inf

    def run(self) -> Found:
        """All of it; `SpecError` where the budget ends before there is a mask."""
        problem = Problem(
            space=self._space, listed=self._listed, images=self._images, seed=self._hunt.seed,
            confidence=self._hunt.confidence, spent=self._spent, ended=self._ends.append, ceiling=self._ceiling,
        )  # fmt: skip
        most = self._count if self._ceiling is None else self._budget.evaluations or self._count
        total = most if self._budget.evaluations is None else min(most, self._budget.evaluations)
        with self._progress.task(f"search `{self._hunt.method}`", total, "evaluations") as advance:
            claimed = self._go(problem, advance)
        if not self._whole:
            raise SpecError(f"search `{self._hunt.method}` spent its budget before it had a mask: give it more")
        return self._found(claimed)

    def _go(self, problem: Problem, advance: Advance) -> float | None:
        """Ask and tell until the search ends, the budget is spent or every mask is known; what the search claims."""
        asking = self._method.propose(problem)
        idle = done = 0
        try:
            ask = next(asking)
            while idle < _IDLE:
                new = self._cost(ask)
                idle = 0 if new else idle + 1
                affordable = self._affordable(ask) if new else ask
                losses = self._tell(affordable)
                steps = self._mask_images // self._images - done
                advance(steps)
                done += steps
                self._say_news()
                if len(affordable.ranks) < len(ask.ranks) or self._finished:
                    break
                ask = asking.send(losses)
        except StopIteration as end:
            claim: float | None = end.value
            return claim
        asking.close()
        return None

    @property
    def _finished(self) -> bool:
        """Nothing is unknown. A search that ends by itself is let end, since it may state a confidence."""
        return self._ceiling is None and len(self._whole) == self._count and not self._method.by_itself

    def _cost(self, ask: Ask, ranks: Sequence[int] | None = None) -> int:
        """Mask-images that were not asked for before; images are asked for from the first on."""
        covered = self._asked[ask.space]
        distinct = set(ask.ranks if ranks is None else ranks)
        return sum(max(0, ask.images.stop - max(ask.images.start, covered[rank])) for rank in distinct)

    def _affordable(self, ask: Ask) -> Ask:
        """The ask, or as many of its first masks as the budget allows."""
        if self._budget.share(0.0, self._seconds) >= 1:
            return Ask(space=ask.space, ranks=(), images=ask.images)
        if self._budget.evaluations is None:
            return ask
        left = self._budget.evaluations * self._images - self._mask_images
        if self._cost(ask) <= left:
            return ask
        taken: list[int] = []
        for rank in ask.ranks:
            left -= 0 if rank in taken else self._cost(ask, [rank])
            if left < 0:
                break
            taken.append(rank)
        return Ask(space=ask.space, ranks=taken, images=ask.images)

    def _tell(self, ask: Ask) -> Losses:
        """Have the masks judged, note what is found, and make every loss comparable: no number counts as infinite."""
        if not ask.ranks:
            return np.zeros(0)
        judged, seconds_M = self._memory(ask)
        covered = self._asked[ask.space]
        first = {rank: place for place, rank in reversed(list(enumerate(ask.ranks)))}
        for rank, place in first.items():
            if ask.images.stop > covered[rank]:
                self._mask_images += ask.images.stop - max(ask.images.start, covered[rank])
                self._seconds += float(seconds_M[place])
                covered[rank] = ask.images.stop
        if ask.images == range(self._images):
            if self._ceiling is not None:
                self._note([self._subsets.rank(self._kept(ask.space, rank)) for rank in ask.ranks], judged)
            elif ask.space == self._space:
                self._note(ask.ranks, judged)
        return np.where(np.isnan(judged.loss_M), np.inf, judged.loss_M)

    def _note(self, ranks: Sequence[int], judged: Judged) -> None:
        rows = zip(ranks, judged.loss_M, judged.accuracy_M, judged.standard_error_M, strict=True)
        for rank, *facts in rows:
            if rank not in self._whole:
                self._whole[rank] = tuple(map(float, facts))  # type: ignore[assignment]

    def _kept(self, space: MaskSpace, rank: int) -> Kept:
        """What a mask keeps of every site: of one that is no part of its space, all units."""
        kept = {part.site: part.kept for part in space.unrank(rank).sites}
        return tuple(kept.get(choice.site, tuple(range(choice.units))) for choice in self._space.sites)

    def _spent(self) -> float:
        return self._budget.share(self._mask_images / self._images, self._seconds)

    def _say_news(self) -> None:
        """The best so far, now and then."""
        if monotonic() < self._news or not self._whole:
            return
        self._news = monotonic() + _SECONDS_BETWEEN_NEWS
        best = min(self._whole, key=lambda rank: np.nan_to_num(self._whole[rank][0], nan=np.inf))
        if self._whole[best][0] < self._told:
            self._told = self._whole[best][0]
            count = self._mask_images // self._images
            self._progress.say(f"best so far, after {count:,} evaluations: mask {best}, loss {self._told:.6g}")

    def _found(self, claimed: float | None) -> Found:
        columns: NDArray[np.float64] = np.array(list(self._whole.values())).T
        loss_M, accuracy_M, standard_error_M = columns
        return Found(
            method=self._hunt.method,
            space=self._space,
            listed=self._count if self._ceiling is None else None,
            ceiling=self._ceiling,
            images=self._images,
            ranks=tuple(self._whole),
            loss_M=loss_M,
            accuracy_M=accuracy_M,
            standard_error_M=standard_error_M,
            evaluations=self._mask_images / self._images,
            core_seconds=self._seconds,
            ends=tuple(self._ends),
            confidence=claimed,
        )
