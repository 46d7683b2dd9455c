"""What a chosen mask is held against: the masks that other rules would have retrained, in full, for the same number of masks.

Each rule's best on validation images is taken, as its user would; test images then say how it compares.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from trueoracle.criteria import l1
from trueoracle.fleet import train_alone
from trueoracle.selection.candidates import Candidates
from trueoracle.selection.judging import DRAWS
from trueoracle.selection.ladder import Choice, Key, on_test
from trueoracle.selection.waves import Waves
from trueoracle.space import MaskSpace
from trueoracle.study import Plan
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.selection import Rival
from trueoracle.words.trial import Outcome, Trial


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """The rules, each with `number` masks of the chosen mask's cell; fewer where the cell has fewer."""

    waves: Waves
    base: nn.Module
    plan: Plan
    candidates: Sequence[Candidates]
    number: int

    def against(self, choice: Choice) -> tuple[Rival, ...]:
        """Every rule's best mask and the dense network, trained on by the same recipe, beside the chosen mask."""
        index = choice.chosen.mask[0]
        cell, number = self.plan.cells[index], min(self.number, self.plan.cells[index].space.count)
        units = {one.site: l1(self.base, self.plan.sites[one.site]) for one in cell.space.sites}
        rules = {
            "lowest pruned train loss": self.candidates[index].lowest[:number],
            "L1": [rank for rank, _ in zip(best_masks(cell.of_units, units), range(number), strict=False)],
            "random": cell.space.draw(number, self.plan.seed("rivals", 0)),
        }
        masks = {(index, rank) for ranks in rules.values() for rank in ranks}
        told = self.waves.rivals(sorted({*masks, choice.chosen.mask}), choice.chosen.repeats)
        trials = _by_mask(told.trials)
        found = [
            self._rival(name, [(index, rank) for rank in ranks], trials, choice.chosen.mask)
            for name, ranks in rules.items()
        ]
        return (*found, self._dense(trials[choice.chosen.mask]))

    def _rival(self, name: str, masks: Sequence[Key], trials: Mapping[Key, list[Trial]], chosen: Key) -> Rival:
        best = max((key for key in masks if key in trials), key=lambda key: _on_validation(trials[key]))
        return Rival(
            name=name if len(masks) == 1 else f"best of {len(masks)}: {name}",
            masks=len(masks),
            epochs=sum(len(trial.curve) for key in masks for trial in trials.get(key, ())),
            test=on_test(trials[best]),
            beaten=beats(trials[chosen], trials[best]) if best != chosen else 0.5,
        )

    def _dense(self, chosen: Sequence[Trial]) -> Rival:
        waves, recipe = self.waves, self.waves.template.retrain
        trained = train_alone(
            self.base, waves.data, recipe, self.plan.seed("dense order", 0), backend=waves.backend,
            progress=waves.progress, final=waves.template.final,
        )  # fmt: skip
        trial = Trial(
            cell=0, mask=0, repeat=0, seed=0, outcome=trained.outcome, curve=trained.curve, final=None, seconds=0.0,
            answers=trained.answers,
        )  # fmt: skip
        return Rival(
            name="dense network, trained on", masks=0, epochs=recipe.epochs, test=on_test([trial]),
            beaten=beats(chosen, [trial]),
        )  # fmt: skip


def beats(one: Sequence[Trial], other: Sequence[Trial]) -> float:
    """The chance that `one` is more accurate than `other` on other images like those of the test split.

    By the bootstrap over images that both answer, repeats averaged; equal ones count half.
    """
    differences_I = np.mean([trial.answers["test"].right for trial in one], axis=0) - np.mean(
        [trial.answers["test"].right for trial in other], axis=0
    )
    images = len(differences_I)
    counts_DI = np.random.default_rng(1).multinomial(images, np.full(images, 1 / images), DRAWS)
    sums_D = counts_DI @ differences_I
    return float((sums_D > 1e-9).mean() + 0.5 * (np.abs(sums_D) <= 1e-9).mean())


def best_masks(space: MaskSpace, importance: Mapping[str, Tensor]) -> Iterator[int]:
    """Masks by rank, those that keep most importance first.

    Every mask but the best is one step from a mask that keeps no less: a unit it keeps given up for the next better one.
    So the masks reached from the best, the most important first, come in order (as k-best sums do).
    """
    units = [importance[one.site].tolist() for one in space.sites]
    orders = [sorted(range(len(of_site)), key=of_site.__getitem__, reverse=True) for of_site in units]
    values = [[of_site[unit] for unit in order] for of_site, order in zip(units, orders, strict=True)]
    first = tuple(tuple(range(one.units - one.pruned)) for one in space.sites)
    worth = sum(values[site][place] for site, kept in enumerate(first) for place in kept)
    heap, seen = [(-worth, first)], {first}
    while heap:
        cost, places = heapq.heappop(heap)
        parts = tuple(
            SiteMask(site=one.site, units=one.units, kept=tuple(sorted(orders[site][place] for place in places[site])))
            for site, one in enumerate(space.sites)
        )
        yield space.rank(Mask(rank=0, sites=parts))
        for site, kept in enumerate(places):
            for place in kept:
                if place + 1 >= space.sites[site].units or place + 1 in kept:
                    continue
                moved = tuple(sorted((*(p for p in kept if p != place), place + 1)))
                step = (*places[:site], moved, *places[site + 1 :])
                if step not in seen:
                    seen.add(step)
                    heapq.heappush(heap, (cost + values[site][place] - values[site][place + 1], step))


def _by_mask(trials: Sequence[Trial]) -> dict[Key, list[Trial]]:
    found: dict[Key, list[Trial]] = {}
    for trial in trials:
        if trial.outcome is Outcome.FINISHED:
            found.setdefault((trial.cell, trial.mask), []).append(trial)
    return found


def _on_validation(trials: Sequence[Trial]) -> float:
    return float(np.mean([trial.answers["validation"].right.mean() for trial in trials]))
