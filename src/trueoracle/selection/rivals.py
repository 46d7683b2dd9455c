"""What a chosen mask is held against: the masks that other rules would have retrained, once each and in full.

Each rule's best on validation images is taken, as its user would; it is then trained as often as the chosen mask was, and
test images say how they compare.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from torch import nn

from trueoracle.criteria import l1
from trueoracle.fleet import train_alone
from trueoracle.selection.foremost import foremost
from trueoracle.selection.judging import DRAWS
from trueoracle.selection.ladder import Choice, Key, on_test
from trueoracle.selection.waves import Waves
from trueoracle.study import Plan
from trueoracle.words.selection import Rival
from trueoracle.words.trial import Outcome, Trial


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """The rules, each with `number` masks of the chosen mask's cell; fewer where the cell has fewer.

    `lowest` are masks of that cell, those of lowest pruned train loss first.
    """

    waves: Waves
    base: nn.Module
    plan: Plan
    lowest: Sequence[int]
    number: int

    def against(self, choice: Choice) -> tuple[Rival, ...]:
        """Every rule's best mask and the dense network, trained on by the same recipe, beside the chosen mask.

        A rule whose masks all diverged is left out.
        """
        index, repeats = choice.chosen.mask[0], choice.chosen.repeats
        masks_of = {name: [(index, rank) for rank in ranks] for name, ranks in self._rules(index).items()}
        once = _by_mask(self.waves.rivals({key for keys in masks_of.values() for key in keys}, 1, "rivals").trials)
        best = {name: found for name, keys in masks_of.items() if (found := _best(keys, once)) is not None}
        again = _by_mask(self.waves.rivals({*best.values(), choice.chosen.mask}, repeats, "rivals-again").trials)
        chosen = again[choice.chosen.mask]
        rivals = [
            self._rival(name, masks_of[name], key, chosen, again.get(key, once[key])) for name, key in best.items()
        ]
        return (*rivals, self._dense(chosen))

    def _rules(self, index: int) -> dict[str, Sequence[int]]:
        """The masks that each rule likes best in this cell, `number` of them or all."""
        space = self.plan.cells[index].of_units
        number = min(self.number, space.count)
        units = {one.site: l1(self.base, self.plan.sites[one.site]) for one in space.sites}
        return {
            "lowest pruned train loss": self.lowest[:number],
            "L1": list(islice(foremost(space, units), number)),
            "random": space.draw(number, self.plan.seed("rivals", 0)),
        }

    def _rival(
        self, rule: str, masks: Sequence[Key], best: Key, chosen: Sequence[Trial], trials: Sequence[Trial]
    ) -> Rival:
        return Rival(
            name=rule if len(masks) == 1 else f"best of {len(masks)}: {rule}",
            mask=best[1],
            masks=len(masks),
            epochs=len(masks) * self.waves.lengths[-1],
            test=on_test(trials),
            beaten=beats(chosen, trials),
        )

    def _dense(self, chosen: Sequence[Trial]) -> Rival:
        waves, recipe = self.waves, self.waves.template.retrain
        trained = train_alone(
            self.base, waves.data, recipe, self.plan.seed("dense order", 0), backend=waves.backend,
            progress=waves.progress, final=waves.template.final, teacher=self.base,
        )  # fmt: skip
        trial = Trial(
            cell=0, mask=0, repeat=0, seed=0, outcome=trained.outcome, curve=trained.curve, final=None, seconds=0.0,
            answers=trained.answers,
        )  # fmt: skip
        return Rival(
            name="dense network, trained on", mask=None, masks=0, epochs=recipe.epochs, test=on_test([trial]),
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


def _by_mask(trials: Sequence[Trial]) -> dict[Key, list[Trial]]:
    found: dict[Key, list[Trial]] = {}
    for trial in trials:
        if trial.outcome is Outcome.FINISHED:
            found.setdefault((trial.cell, trial.mask), []).append(trial)
    return found


def _best(masks: Sequence[Key], trials: Mapping[Key, Sequence[Trial]]) -> Key | None:
    """The first of those most accurate on validation images; None where none finished."""
    return max((key for key in masks if key in trials), key=lambda key: _on_validation(trials[key]), default=None)


def _on_validation(trials: Sequence[Trial]) -> float:
    return float(np.mean([trial.answers["validation"].right.mean() for trial in trials]))
