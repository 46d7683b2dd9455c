"""Successive halving: many masks on a low rung, fewer on each higher one, repeats for those that may still win.

How many rise is not fixed. Some do; the masks on both rungs then tell how well the lower one foretells the higher; and
more follow while it is likely enough that the best of all would be among those left behind, as far as the budget goes.

The ladder trains nothing: it asks for waves of trainings and is told what became of them. Letters: M masks.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from trueoracle.selection.budget import Purse
from trueoracle.selection.judging import DRAWS, Forecast, Numbers, Worth, forecast, signs, worth
from trueoracle.words.errors import SpecError
from trueoracle.words.selection import Measured, Seen
from trueoracle.words.trial import Outcome, Trial

Key = tuple[int, int]
"""A mask: the index of its cell and its rank."""

SURE = 0.95
MOST_REPEATS = 5
_CONTENDERS = 3  # so many at most are trained again at a time
_WORTHLESS = 0.2  # repeats stop where retraining is a smaller part than this of what is unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class Wave:
    """Masks to be trained on a rung, counted from 0, so many times each; those trainings that are known are not asked for
    again.
    """

    rung: int
    masks: tuple[Key, ...]
    repeats: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where a mask ended: its highest rung, what was seen of it on every rung, and what it may be worth on the top rung.

    `test_accuracy` is the mean over its repeats on its highest rung; it chose nothing.
    """

    mask: Key
    rung: int
    seen: tuple[Seen, ...]
    worth: float
    deviation: float
    best: float
    test_accuracy: float

    @property
    def repeats(self) -> int:
        """How often it was trained on its highest rung."""
        return self.seen[-1].repeats


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The mask that is expected to be worth most, and how sure that is.

    `regret` is by how much the best candidate is expected to be better, in accuracy on other images, with a 95%
    interval; `standings` are all candidates, the best first; `forecasts` how each rung foretells the next.
    """

    chosen: Standing
    regret: float
    regret_low: float
    regret_high: float
    standings: tuple[Standing, ...]
    forecasts: tuple[Forecast, ...]
    reason: str


class Ladder:
    """Waves until the choice is sure, or the budget spent.

    `lengths` are the epochs of the rungs, rising. It begins when it was told of all candidates on the lowest (see
    `first_masks`).
    """

    def __init__(self, lengths: Sequence[int], purse: Purse, seed: int) -> None:
        self.lengths, self._purse, self._seed = tuple(lengths), purse, seed
        self._trials: list[dict[Key, list[Trial]]] = [defaultdict(list) for _ in lengths]
        self.reason = "the budget was spent"

    def waves(self) -> Iterator[Wave]:
        """What is to be trained next; `tell` what became of it before asking for more."""
        for rung in range(1, len(self.lengths)):
            yield from self._rise(rung)
        yield from self._repeat()
        yield from self._spend(len(self.lengths) - 1)

    def tell(self, wave: Wave, trials: Iterable[Trial]) -> None:
        """What became of a wave: the trials of its masks, those that were known before included."""
        known = self._trials[wave.rung]
        for trial in trials:
            before = {one.repeat for one in known[trial.cell, trial.mask]}
            if trial.repeat not in before:
                known[trial.cell, trial.mask].append(trial)
                self._purse.pay([trial])

    @property
    def empty(self) -> bool:
        """Whether no mask was retrained to its end yet, so that there is none to choose."""
        return not any(self._on(rung) for rung in range(len(self.lengths)))

    def choice(self) -> Choice:
        """The best mask as far as is known; `SpecError` before any mask was trained, or where all diverged."""
        top = max((rung for rung in range(len(self.lengths)) if self._on(rung)), default=None)
        if top is None:
            raise SpecError("no mask was retrained to its end, so there is none to choose")
        place_of, worths, forecasts = self._towards(top)
        keys = list(place_of)
        draws = np.column_stack([w.draws(self._seed + rung) for rung, w in worths])
        own = [key for key in keys if place_of[key] == top]
        means = np.concatenate([w.mean_M for _, w in worths])
        chosen = max(range(len(own)), key=lambda at: means[at])
        best = np.bincount(draws.argmax(1), minlength=len(keys)) / len(draws)
        regrets = draws.max(1) - draws[:, chosen]
        low, high = np.quantile(regrets, [0.025, 0.975])
        deviations = np.concatenate([w.deviation_M for _, w in worths])
        standings = [
            self._standing(key, place_of[key], float(means[at]), float(deviations[at]), float(best[at]))
            for at, key in enumerate(keys)
        ]
        first = standings[chosen]
        rest = sorted((one for one in standings if one is not first), key=lambda one: (-one.rung, -one.worth, one.mask))
        return Choice(
            chosen=first,
            regret=float(regrets.mean()),
            regret_low=float(low),
            regret_high=float(high),
            standings=(first, *rest),
            forecasts=tuple(forecasts),
            reason=self.reason,
        )

    def on_test(self, standing: Standing) -> Measured:
        """The test accuracy of a mask where it ended: looked at, and never chosen by."""
        return on_test(self._trials[standing.rung][standing.mask])

    def _rise(self, rung: int) -> Iterator[Wave]:
        """The best of the rung below, first some of them, then as many as must follow."""
        below = self._on(rung - 1)
        worth_below = self._worth(rung - 1, below)
        order = [below[at] for at in np.argsort(-worth_below.mean_M, kind="stable")]
        rungs_left = len(self.lengths) - rung
        left = min(self._purse.left / rungs_left, self._purse.left - sum(self.lengths[rung + 1 :]))
        affordable = int(left / self.lengths[rung])
        if rungs_left == 1 and affordable > _CONTENDERS:
            affordable -= affordable // 4  # for repeats
        most = min(len(order), max(1, affordable))
        some = min(most, max(2, ceil(most / 2)))
        yield Wave(rung=rung, masks=tuple(order[:some]), repeats=1)
        while some < most:
            more = self._missing(rung, order[:most])
            if not more:
                return
            some += len(more)
            yield Wave(rung=rung, masks=tuple(order[:some]), repeats=1)

    def _spend(self, rung: int) -> Iterator[Wave]:
        """What is left of the budget, on the masks left behind that may be the best."""
        here, below = self._on(rung), self._on(rung - 1) if rung else []
        order = [below[at] for at in np.argsort(-self._worth(rung - 1, below).mean_M, kind="stable")] if below else []
        more = self._missing(rung, order)[: int(self._purse.left / self.lengths[rung])]
        if more:
            self.reason = "the budget was spent"
            yield Wave(rung=rung, masks=(*here, *more), repeats=1)

    def _missing(self, rung: int, order: Sequence[Key]) -> list[Key]:
        """Those next in order without whom it is not sure enough that the best is on the rung."""
        place_of, worths, _ = self._towards(rung)
        keys = list(place_of)
        draws = np.column_stack([w.draws(self._seed + at) for at, w in worths])
        best = dict(zip(keys, np.bincount(draws.argmax(1), minlength=len(keys)) / len(draws), strict=True))
        sure = sum(best[key] for key in keys if place_of[key] == rung)
        behind = [key for key in order if not self._trials[rung][key]]
        missing: list[Key] = []
        for key in behind:
            if sure >= SURE:
                break
            missing.append(key)
            sure += best.get(key, 0.0)
        return missing

    def _repeat(self) -> Iterator[Wave]:
        """Repeats of those on the top rung that may still win."""
        top = len(self.lengths) - 1
        for repeats in range(2, MOST_REPEATS + 1):
            finalists = self._on(top)
            if len(finalists) < 2:
                self.reason = "no other mask is left on the top rung"
                return
            now = self._worth(top, finalists)
            best = np.bincount(now.draws(self._seed).argmax(1), minlength=len(finalists)) / DRAWS
            if best.max() >= SURE:
                self.reason = f"no other mask on the top rung is likely to win (below {1 - SURE:.0%} together)"
                return
            again = self._of_repeats(top, finalists)
            if repeats > 2 and again / (repeats - 1) < _WORTHLESS * float(now.deviation_M.min() ** 2):
                self.reason = "repeats tell no more: what is unknown is how other images would be answered"
                return
            order = np.argsort(-now.mean_M, kind="stable")
            affordable = int(self._purse.left / self.lengths[top])
            contenders = [finalists[at] for at in order if best[at] >= 1 - SURE][: min(affordable, _CONTENDERS)]
            if len(contenders) < 2:
                return
            yield Wave(rung=top, masks=tuple(contenders), repeats=repeats)
        self.reason = f"the last masks were trained {MOST_REPEATS} times"

    def _on(self, rung: int) -> list[Key]:
        """The masks that finished there every time: one that diverged once is no choice."""
        return [key for key, trials in self._trials[rung].items() if trials and _finished(trials)]

    def _worth(self, rung: int, masks: Sequence[Key]) -> Worth:
        of = [self._trials[rung][key] for key in masks]
        right_MI = np.array([np.mean([trial.answers["validation"].right for trial in one], axis=0) for one in of])
        finals = [[trial.final for trial in one if trial.final] for one in of]
        train_M = [np.mean([final.train_accuracy for final in one]) for one in finals]
        loss_M = [np.mean([final.train_loss for final in one]) for one in finals]
        repeats_M = np.array([len(one) for one in of])
        return worth(right_MI, signs(train_M, loss_M), self._of_repeats(rung, masks) / repeats_M)

    def _of_repeats(self, rung: int, masks: Sequence[Key]) -> float:
        """The variance of the accuracy of one mask over repeats, pooled over those that have some; else 0."""
        sums, free = 0.0, 0
        for key in masks:
            values = [trial.answers["validation"].right.mean() for trial in self._trials[rung][key]]
            sums += float(np.var(values)) * len(values)
            free += len(values) - 1
        return sums / free if free else 0.0

    def _towards(self, top: int) -> tuple[dict[Key, int], list[tuple[int, Worth]], list[Forecast]]:
        """The highest rung of every mask up to `top`, and what masks are worth there: those left behind by forecast.

        The masks stand in the order of the worths, the top rung's first.
        """
        forecasts: list[Forecast] = []
        place_of: dict[Key, int] = {}
        worths: list[tuple[int, Worth]] = []
        lost = {key for on_rung in self._trials for key, trials in on_rung.items() if trials and not _finished(trials)}
        for rung in range(top, -1, -1):
            own = self._on(rung)
            if not own:
                continue
            now = self._worth(rung, own)
            if rung < top:
                forecasts.insert(0, self._forecast(rung, own, now))
            left = [at for at, key in enumerate(own) if key not in place_of and key not in lost]
            place_of.update({own[at]: rung for at in left})
            expected = _part(now, left)
            for step in forecasts:
                expected = step.of(expected)
            if left:
                worths.append((rung, expected))
        return place_of, worths, forecasts

    def _forecast(self, rung: int, own: Sequence[Key], now: Worth) -> Forecast:
        """How this rung, where masks are worth so much now, foretells the next."""
        risen = self._on(rung + 1)
        above, both = self._worth(rung + 1, risen), [key for key in own if key in set(risen)]
        places = {key: at for at, key in enumerate(own)}, {key: at for at, key in enumerate(risen)}
        return forecast(_part(now, [places[0][key] for key in both]), _part(above, [places[1][key] for key in both]))

    def _standing(self, key: Key, rung: int, mean: float, deviation: float, best: float) -> Standing:
        finals = [trial.final for trial in self._trials[rung][key] if trial.final]
        return Standing(
            mask=key,
            rung=rung,
            seen=tuple(self._seen(key, at) for at in range(rung + 1) if self._trials[at][key]),
            worth=mean,
            deviation=deviation,
            best=best,
            test_accuracy=float(np.mean([final.test_accuracy for final in finals])),
        )

    def _seen(self, key: Key, rung: int) -> Seen:
        finals = [trial.final for trial in self._trials[rung][key] if trial.final]
        return Seen(
            epochs=self.lengths[rung],
            repeats=len(finals),
            validation_accuracy=float(np.mean([final.validation_accuracy for final in finals])),
        )


def _finished(trials: Sequence[Trial]) -> bool:
    return all(trial.outcome is Outcome.FINISHED for trial in trials)


def first_masks(epochs: float, lengths: Sequence[int]) -> int:
    """How many masks begin on the lowest rung: each rung has an equal part of the budget, and every one
    above at least a training.

    `SpecError` where the budget cannot tell two masks apart and train one of them in full.
    """
    low, above = lengths[0], lengths[1:]
    least = 2 * low + sum(above)
    if epochs < least:
        rungs = f"two masks of {low}" + "".join(f" and one of {one}" for one in above)
        raise SpecError(
            f"the budget buys {max(0.0, epochs):.3g} model-epochs, too few to choose: at least {least} are needed, for "
            f"{rungs} epochs"
        )
    return max(2, int(min(epochs / len(lengths), epochs - sum(above)) / low))


def on_test(trials: Sequence[Trial]) -> Measured:
    """The mean test accuracy over repeats, with the 95% interval of the bootstrap over images."""
    right_I = np.mean([trial.answers["test"].right for trial in trials], axis=0)
    counts_DI = np.random.default_rng(0).multinomial(len(right_I), np.full(len(right_I), 1 / len(right_I)), DRAWS)
    low, high = np.quantile(counts_DI @ right_I / len(right_I), [0.025, 0.975])
    return Measured(value=float(right_I.mean()), low=float(low), high=float(high), images=len(right_I))


def _part(whole: Worth, places: Sequence[int]) -> Worth:
    chosen: Numbers = whole.mean_M[list(places)]
    return Worth(mean_M=chosen, deviation_M=whole.deviation_M[list(places)])
