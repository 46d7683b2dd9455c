"""Criteria and predictors against each other, over cells, base networks and studies.

Masks of a cell share units, and cells of a base network share its weights: what is drawn anew, and so the unit of every
interval and test, is the base network. A figure is averaged over a network's cells, then Student's interval is taken over
networks. Networks that several studies share count once.

Ranks follow Demšar (J. Mach. Learn. Res. 7, 2006), with his picture. His test after Friedman's is not taken: it holds the ranks of
a block for exchangeable, but near twins among criteria (L1 and L2) stand side by side wherever they stand, and whether two
differ would hang on which others are in the list (Benavoli, Corani and Mangili, J. Mach. Learn. Res. 17, 2016). Instead every pair is
compared by its own differences of agreement over networks (paired t), corrected over all pairs (Holm).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from trueoracle.analysis.blocks import Block, Blocks, LeftOut, Scored, blocks_of
from trueoracle.analysis.cells import result_of
from trueoracle.analysis.decision import holm
from trueoracle.analysis.masks import Values
from trueoracle.analysis.metric import Better, Metric, metric
from trueoracle.analysis.pooled import over_networks
from trueoracle.analysis.rank import kendall_tau
from trueoracle.analysis.result import Absent, Interval, RegretBasis
from trueoracle.store import Store
from trueoracle.words.errors import TableError
from trueoracle.words.progress import Progress, Quiet

ALPHA = 0.05
K = 5  # the best so many masks, of which a predictor should name some


def compare(
    store: Store,
    studies: Sequence[str],
    xs: Sequence[str] | None = None,
    y: str | None = None,
    k: int = K,
    progress: Progress | None = None,
    better: Mapping[str, Better] | None = None,
    seed: int = 0,
) -> "Leaderboard":
    """The leaderboard of predictors `xs`, None for all that are stored, over all finished cells of studies (by name or digest).

    `better` says of columns which values are better; else their names do, and of a criterion lower is. Without `y` it is what
    the studies' task is judged by. `TableError` for an unknown column, or where nothing can be judged.
    """
    if k < 1:
        raise TableError(f"`k` must be at least 1, but got {k}")
    y = y or result_of(store, studies)
    return leaderboard(blocks_of(store, studies, xs, y, k, progress or Quiet(), better, seed), y, k)


@dataclass(frozen=True, kw_only=True, slots=True)
class Over:
    """A figure over base networks: the mean of one value each, and its 95% interval for other networks of the kind."""

    mean: float
    interval: Interval | Absent


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One predictor. `mean_rank` counts from 1, the best, by agreement in each cell; ties share the middle of their ranks.

    `agreement` is the mean tau, positive where the predictor is right, `relative` its share of the noise ceiling. `regret` is in the
    result's unit. `by_study` is the mean rank in the cells of each study, which differ by recipe, data or network; empty where
    there is one study. `rank_over` holds two more 95% intervals of the mean rank: one value each of "cells" or "studies", so for others of
    their kind on these networks; absent where there is one. `hit` is the share of the k masks it likes best that are among the k best. `seconds` are core-seconds that one mask
    takes, on average over the cells where that was measured.
    """

    place: int
    x: str
    better: Better
    mean_rank: Over
    rank_over: Mapping[str, Interval | Absent]
    by_study: Mapping[str, Over]
    agreement: Over
    relative: Over | Absent
    regret: Over
    hit: Over | Absent
    seconds: float | Absent


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """Predictors from the best mean rank, over `blocks`; `unranked` names those that do not judge all of them, and why.

    `apart` holds the pairs of places, from 0, that differ: Holm's p over all pairs is at most 0.05. `chance` is the `hit` of a random choice.
    """

    rows: tuple[Row, ...]
    apart: frozenset[tuple[int, int]]
    blocks: tuple[Block, ...]
    left_out: tuple[LeftOut, ...]
    unranked: Mapping[str, str]
    y: str
    k: int
    chance: float | Absent
    notes: tuple[str, ...]

    @property
    def networks(self) -> int:
        """How many base networks: the number of cases that intervals and tests rest on."""
        return len({block.network for block in self.blocks})

    @property
    def studies(self) -> tuple[str, ...]:
        """The studies that the blocks are of."""
        return tuple(dict.fromkeys(block.study for block in self.blocks))

    @cached_property
    def alike(self) -> dict[tuple[str, str], float]:
        """Of every two studies, how alike their orders of the predictors are: Kendall's tau of the mean ranks, 1 where they are the same.

        Studies in which all mean ranks are equal are left out.
        """
        ranks = {
            study: np.array([row.by_study[study].mean for row in self.rows])
            for study in self.studies
            if self.rows[0].by_study
        }
        telling = [study for study, rank_K in ranks.items() if len(set(rank_K.tolist())) > 1]
        return {(a, b): kendall_tau(ranks[a], ranks[b]) for a, b in combinations(telling, 2)}

    @property
    def y_metric(self) -> Metric:
        """What the result means; a loss without its unit, which tasks differ in."""
        found = metric(self.y)
        return found if found.unit == "share" else replace(found, unit="")

    @property
    def excluded(self) -> int:
        """How many trials of the blocks did not finish, and are left out."""
        return sum(block.excluded for block in self.blocks)

    @property
    def searched(self) -> int:
        """How many masks of the blocks a search found or a criterion gave: they are no random sample, and left out."""
        return sum(block.searched for block in self.blocks)

    @property
    def left_out_by_reason(self) -> list[tuple[str, list[str]]]:
        """Why cells are not judged, each with the cells (and their study, where there are several)."""
        several = len({*self.studies, *(one.study for one in self.left_out)}) > 1
        found: dict[str, list[str]] = {}
        for one in self.left_out:
            found.setdefault(one.why, []).append(f"{one.cell} of {one.study}" if several else one.cell)
        return list(found.items())

    @property
    def remarks(self) -> list[str]:
        """What a reader must know beside the figures, a sentence each without its full stop."""
        found = []
        if self.networks == 1:
            found.append(
                "There is one base network: nothing is said of others, and no predictor can be told from another"
            )
        if len(set(Counter(block.network for block in self.blocks).values())) > 1:
            found.append("Some base networks are judged on fewer cells than others")
        unknown = next((block.halves.why for block in self.blocks if isinstance(block.halves, Absent)), None)
        if unknown is not None:
            found.append(f"Figures and ceiling are of these test images only: {unknown}")
        if self.excluded:
            found.append(f"{self.excluded} trials diverged or failed and are left out")
        if self.searched:
            found.append(
                f"{self.searched} masks that a search found or a criterion gave are left out: they are no random sample"
            )
        return [*found, *self.notes]

    @property
    def bases(self) -> tuple[RegretBasis, ...]:
        """What picked the best masks, and what measured them."""
        return tuple(basis for basis in RegretBasis if any(basis in block.bases for block in self.blocks))

    @cached_property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """Longest runs of places, first and last, in which no two predictors differ; those of one place are left out."""
        found: list[tuple[int, int]] = []
        for first in range(len(self.rows)):
            last = first
            while last + 1 < len(self.rows) and all((i, last + 1) not in self.apart for i in range(first, last + 1)):
                last += 1
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return tuple(found)

    @property
    def winner(self) -> str | None:
        """The predictor that differs from all others and ranks first, if there is one."""
        others = range(1, len(self.rows))
        return self.rows[0].x if others and all((0, other) in self.apart for other in others) else None

    def table(self) -> pd.DataFrame:
        """A row a predictor; each figure with its interval (`regret`, `regret_low`, `regret_high`), missing where absent."""
        facts = [
            {"place": row.place, "predictor": row.x, "better": row.better.value, **_flat(row)} for row in self.rows
        ]
        return pd.DataFrame(facts)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON: figures that cannot be had are null."""
        return {
            "y": self.y,
            "k": self.k,
            "studies": list(self.studies),
            "base_networks": self.networks,
            "cells": [_block(block) for block in self.blocks],
            "left_out": [{"study": one.study, "cell": one.cell, "why": one.why} for one in self.left_out],
            "unranked": dict(self.unranked),
            "predictors": [
                {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in facts.items()}
                for facts in self.table().to_dict("records")
            ],
            "differ": [[self.rows[first].x, self.rows[second].x] for first, second in sorted(self.apart)],
            "winner": self.winner,
            "order_in_studies": [{"studies": list(pair), "tau": tau} for pair, tau in self.alike.items()],
            "chance": None if isinstance(self.chance, Absent) else self.chance,
            "regret": [basis.value for basis in self.bases],
            "trials_left_out": self.excluded,
            "searched_masks_left_out": self.searched,
            "notes": list(self.notes),
        }


def _flat(row: Row) -> dict[str, float]:
    found = {}
    for name in ("mean_rank", "agreement", "relative", "regret", "hit"):
        over = getattr(row, name)
        ends = over if isinstance(over, Absent) else over.interval
        found[name] = np.nan if isinstance(over, Absent) else over.mean
        found[f"{name}_low"] = np.nan if isinstance(ends, Absent) else ends.low
        found[f"{name}_high"] = np.nan if isinstance(ends, Absent) else ends.high
    for study, over in row.by_study.items():
        found[f"mean_rank in {study}"] = over.mean
    for what, ends in row.rank_over.items():
        found[f"mean_rank_low over {what}"] = np.nan if isinstance(ends, Absent) else ends.low
        found[f"mean_rank_high over {what}"] = np.nan if isinstance(ends, Absent) else ends.high
    found["seconds"] = np.nan if isinstance(row.seconds, Absent) else row.seconds
    return found


def _block(block: Block) -> dict[str, Any]:
    return {
        "study": block.study,
        "cell": block.case,
        "base_network": block.network,
        "masks": block.masks,
        "ceiling": None if isinstance(block.ceiling, Absent) else block.ceiling,
        "agreement": {x: score.agreement for x, score in block.scores.items()},
        "regret": {x: score.regret for x, score in block.scores.items()},
    }


def leaderboard(blocks: Blocks, y: str, k: int = K) -> Leaderboard:
    """The predictors that judge every block, ranked; `TableError` where no cell can tell predictors apart."""
    if not blocks.found:
        first = blocks.left_out[0] if blocks.left_out else None
        raise TableError(
            "no cell can be judged" + (f": {first.cell} of {first.study} is left out, as {first.why}" if first else "")
        )
    names = [x for x in blocks.better if all(x in block.scores for block in blocks.found)]
    if not names:
        raise TableError("no predictor judges all the cells: compare fewer studies")
    table = _Table(blocks=blocks.found, names=names)
    ranks, agreements, regrets = table.over(_ranks, 1, len(names)), table.over(_agreements, -1, 1), table.over(_regrets)
    shares, hits = table.relative(), table.hits()
    studies = table.ranks_by_study()
    over = {
        "cells": table.ranks_over("cells", lambda block: block.cell),
        "studies": table.ranks_over("studies", lambda block: block.study),
    }
    order = sorted(range(len(names)), key=lambda at: (ranks[at].mean, at))
    rows = [
        Row(
            place=place,
            x=names[at],
            better=blocks.better[names[at]],
            mean_rank=ranks[at],
            rank_over={what: intervals[at] for what, intervals in over.items()},
            by_study={study: of_study[at] for study, of_study in studies.items()},
            agreement=agreements[at],
            relative=shares if isinstance(shares, Absent) else shares[at],
            regret=regrets[at],
            hit=hits if isinstance(hits, Absent) else hits[at],
            seconds=_seconds(names[at], blocks.found),
        )
        for place, at in enumerate(order, start=1)
    ]
    chances = [block.chance for block in blocks.found if not isinstance(block.chance, Absent)]
    return Leaderboard(
        rows=tuple(rows),
        apart=different(table.per_network(_agreements)[:, order]),
        blocks=blocks.found,
        left_out=blocks.left_out,
        unranked={x: _unranked(x, blocks.found) for x in blocks.better if x not in names},
        y=y,
        k=k,
        chance=float(np.mean(chances)) if chances else blocks.found[0].chance,
        notes=blocks.notes,
    )


def different(value_NK: Values, alpha: float = ALPHA) -> frozenset[tuple[int, int]]:
    """The pairs (i < j) of K predictors whose values over N networks differ: paired t, Holm over all pairs.

    Nothing differs where there is one network.
    """
    N, K = value_NK.shape
    pairs = list(combinations(range(K), 2))
    if N < 2 or not pairs:
        return frozenset()
    first, second = np.array(pairs).T
    difference_NP = value_NK[:, first] - value_NK[:, second]
    mean_P, error_P = difference_NP.mean(axis=0), difference_NP.std(axis=0, ddof=1) / np.sqrt(N)
    with np.errstate(divide="ignore", invalid="ignore"):
        score_P = np.where(mean_P == 0, 0.0, np.abs(mean_P) / error_P)
    corrected = holm(2 * stats.t.sf(score_P, N - 1))
    return frozenset(pair for pair, p in zip(pairs, corrected.tolist(), strict=True) if p <= alpha)


_Figures = Callable[[Sequence[Scored]], Values]


def _agreements(scores: Sequence[Scored]) -> Values:
    return np.array([score.agreement for score in scores])


def _ranks(scores: Sequence[Scored]) -> Values:
    return np.asarray(stats.rankdata(-_agreements(scores)), float)


def _regrets(scores: Sequence[Scored]) -> Values:
    return np.array([score.regret for score in scores])


def _hits(scores: Sequence[Scored]) -> Values:
    """NaN where a cell has too few masks."""
    return np.array([np.nan if isinstance(score.hit, Absent) else score.hit for score in scores])


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Blocks by base network. Letters: N networks, K predictors."""

    blocks: Sequence[Block]
    names: Sequence[str]

    def per(
        self, key: Callable[[Block], str], what: _Figures, among: Callable[[Block], bool] = lambda _: True
    ) -> Values:
        """The mean of a figure over the blocks that share a key: shape (keys, K); keys without such a block are left out."""
        of_key: dict[str, list[Values]] = {}
        for block in filter(among, self.blocks):
            of_key.setdefault(key(block), []).append(what([block.scores[x] for x in self.names]))
        return np.array([np.mean(values, axis=0) for values in of_key.values()])

    def per_network(self, what: _Figures, among: Callable[[Block], bool] = lambda _: True) -> Values:
        """The mean of a figure over the cells of each network: shape (N, K)."""
        return self.per(lambda block: block.network, what, among)

    def ranks_over(self, what: str, key: Callable[[Block], str]) -> list[Interval | Absent]:
        """Of each predictor's mean rank, the interval over what shares a key."""
        return [over_networks(of_x.tolist(), 1, len(self.names), what) for of_x in self.per(key, _ranks).T]

    def over(self, what: _Figures, low: float = -np.inf, high: float = np.inf) -> list[Over]:
        return _over(self.per_network(what), low, high)

    def ranks_by_study(self) -> dict[str, list[Over]]:
        """The mean ranks in each study's cells; empty for one study."""
        studies = dict.fromkeys(block.study for block in self.blocks)
        if len(studies) == 1:
            return {}
        return {
            study: _over(self.per_network(_ranks, lambda block: block.study == study), 1, len(self.names))  # noqa: B023 - called at once
            for study in studies
        }

    def hits(self) -> list[Over] | Absent:
        """Of the cells that have enough masks."""
        if all(isinstance(block.chance, Absent) for block in self.blocks):
            why = self.blocks[0].chance
            assert isinstance(why, Absent)
            return why
        return _over(self.per_network(_hits, lambda block: not isinstance(block.chance, Absent)), 0, 1)

    def relative(self) -> list[Over] | Absent:
        """Mean agreement over mean ceiling of each network: a mean of ratios would hang on the cells that tell least."""
        reach: dict[str, list[float]] = {}
        for block in self.blocks:
            if isinstance(block.ceiling, Absent):
                return Absent(why=f"the ceiling of {block.cell} of {block.study} is not known: {block.ceiling.why}")
            reach.setdefault(block.network, []).append(block.ceiling)
        reach_N = np.array([np.mean(values) for values in reach.values()])
        return _over(self.per_network(_agreements) / reach_N[:, None])


def _over(value_NK: Values, low: float = -np.inf, high: float = np.inf) -> list[Over]:
    return [Over(mean=float(np.mean(of_x)), interval=over_networks(of_x.tolist(), low, high)) for of_x in value_NK.T]


def _seconds(x: str, blocks: Sequence[Block]) -> float | Absent:
    known = [block.seconds[x] for block in blocks if x in block.seconds]
    return float(np.mean(known)) if known else Absent(why="what it costs was not measured")


def _unranked(x: str, blocks: Sequence[Block]) -> str:
    """Where a predictor does not judge, and why there."""
    silent = [block for block in blocks if x not in block.scores]
    first = silent[0]
    where = f"in {len(silent)} of {len(blocks)} cells, such as {first.case} of {first.study}"
    return f"{first.silent.get(x, 'it is not measured')} {'in all cells' if len(silent) == len(blocks) else where}"
