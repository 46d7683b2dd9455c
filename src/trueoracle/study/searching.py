"""The oracle searched instead of asked for everything: the masks that a search proposes, by any path of the oracle."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import rmtree
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from trueoracle.data import Dataset
from trueoracle.executors import Executor
from trueoracle.nets import Removal, cost, find_sites, remove
from trueoracle.oracle import Loop, PrunedLosses, accumulate, evaluator, loss_table
from trueoracle.search import Ask, Ceiling, Found, Hunt, Judged, Memory, check_search, find_search, search
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.store.landscape import Landscape
from trueoracle.study.landscape import Question, write_tables
from trueoracle.words.errors import SpecError, unknown
from trueoracle.words.examples import Examples
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.progress import Progress
from trueoracle.words.spec import ratio_of

_AT_ONCE = 2**14  # masks judged together: so much a kill can lose
Fixed = Literal["parameters", "macs"]
_CALLED = {"parameters": "parameters", "macs": "multiply-accumulates"}


@dataclass(frozen=True, kw_only=True)
class OracleJudge:
    """Judges the masks that a search asks for: those of the question's space by its path, others one by one.

    The others are few: masks that prune less, through which a greedy search passes.
    """

    question: Question
    images: Examples
    executor: Executor

    def __call__(self, ask: Ask) -> Judged:
        """The answer, computed in threads over blocks of the images."""
        ours = ask.space == self.question.space
        evaluator = self.question.evaluator if ours else self.question.one_by_one(ask.space)
        whole = len(ask.images) == len(self.images)
        images = self.images if whole else self.images.take(slice(ask.images.start, ask.images.stop))
        found = accumulate(evaluator, ask.ranks, images, run=self.executor.run, population=self.question.population)
        return Judged(loss_M=found.loss_M, accuracy_M=found.accuracy_M, standard_error_M=found.standard_error_M)


def hunt(
    question: Question,
    wanted: Hunt,
    executor: Executor,
    progress: Progress,
    keep: Path | None = None,
    drawn: bool = False,
    fix: Fixed | None = None,
) -> Found:
    """What the search finds in the question's space, or among its masks where they are `drawn`.

    With `fix`, among all masks of its sites that leave no more parameters, or multiply-accumulates, than those of the
    space do: units move between sites.

    With `keep`, losses are kept in that file, from which the same search goes on after a kill.
    """
    images, identity = question.images, question.identity
    if find_search(wanted.method).lists:  # it begins with few images, which must be drawn at random
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(wanted.seed))
        images, identity = images.take(order.to(images.device)), f"{identity} shuffled"
    judge = OracleJudge(question=question, images=images, executor=executor)
    memory = Memory(judge, keep, identity, at_once=min(question.evaluator.masks_at_once, _AT_ONCE))
    return search(
        memory,
        question.space,
        len(images),
        wanted,
        listed=question.ranks if drawn else None,
        ceiling=None if fix is None else ceiling_of(question, fix),
        progress=progress,
    )


def ceiling_of(question: Question, fix: Fixed) -> Ceiling:
    """What the masks of the question's space leave, as the most that others may."""
    if fix not in get_args(Fixed):
        raise SpecError(unknown("cost", fix, get_args(Fixed)))
    sites = question.space.sites

    @cache
    def of(counts: tuple[int, ...]) -> int:
        parts = (
            SiteMask(site=choice.site, units=choice.units, kept=tuple(range(count)))
            for choice, count in zip(sites, counts, strict=True)
            if count < choice.units
        )
        found: int = getattr(question.cost_of(Mask(rank=0, sites=tuple(parts))), fix)
        return found

    return Ceiling(of=_CALLED[fix], cost=of, most=of(tuple(choice.units - choice.pruned for choice in sites)))


def question_of(
    net: nn.Module, space: MaskSpace, data: Dataset, progress: Progress, *, images: Examples, removal: Removal
) -> Question:
    """The question that a study's cell asks its oracle, to be searched: no masks are listed."""
    sites = find_sites(net, data.shape)
    return Question(
        space=space,
        ranks=(),
        evaluator=evaluator(net, space, data.shape, removal, progress=progress),
        one_by_one=lambda other: Loop(net=net, space=other, shape=data.shape, removal=removal, known=sites),
        cost_of=lambda mask: cost(remove(net, mask, sites, removal), data.shape),
        images=images,
        population=len(data.train),
        identity="",
    )


def hunt_beside(
    known: Mapping[int, tuple[float, float, float]],
    question: Question,
    wanted: Hunt,
    executor: Executor,
    progress: Progress,
) -> Found:
    """As `hunt`, but masks whose loss, accuracy and standard error are `known` by rank are not judged again."""
    memory = Memory(OracleJudge(question=question, images=question.images, executor=executor), at_once=_AT_ONCE)
    if known:
        loss_M, accuracy_M, error_M = np.array(list(known.values())).T
        ask = Ask(space=question.space, ranks=list(known), images=range(len(question.images)))
        memory.learn(ask, Judged(loss_M=loss_M, accuracy_M=accuracy_M, standard_error_M=error_M))
    return search(memory, question.space, len(question.images), wanted, progress=progress)


def found_table(found: Found, path: str) -> pa.Table:
    """A row for each mask that the search evaluated on all images, in order of rank; column `searched` marks them."""
    order = sorted(range(len(found.ranks)), key=found.ranks.__getitem__)
    if found.ceiling is not None:
        return _under_ceiling(found, order, found.ceiling)
    losses = PrunedLosses(
        ranks=[found.ranks[place] for place in order],
        loss_M=found.loss_M[order],
        accuracy_M=found.accuracy_M[order],
        standard_error_M=found.standard_error_M[order],
        images=found.images,
        path=path,
    )
    return loss_table(losses, found.space).append_column("searched", pa.array(np.ones(len(order), dtype=bool)))


def _under_ceiling(found: Found, order: list[int], ceiling: Ceiling) -> pa.Table:
    """Masks are named by the integer whose binary digits are the kept units, as text; `cost` says what each leaves."""
    masks = [found.mask(found.ranks[place]) for place in order]
    digits = max((len(str(mask.rank)) for mask in masks), default=1)
    return pa.table(
        {
            "mask": [str(mask.rank).zfill(digits) for mask in masks],
            "pruned": [mask.pruned_json for mask in masks],
            "pruned_train_loss": found.loss_M[order],
            "pruned_train_accuracy": found.accuracy_M[order],
            "cost": [ceiling.cost(tuple(len(part.kept) for part in mask.sites)) for mask in masks],
            "searched": np.ones(len(order), dtype=bool),
        }
    )


def cell_of(mask: Mask) -> str:
    """The mask alone as a cell of a study, in YAML's flow style; sites that lose nothing are left out."""
    losing = tuple(part for part in mask.sites if part.pruned)
    space = MaskSpace(tuple(SiteChoice(site=p.site, units=p.units, pruned=len(p.pruned)) for p in losing))
    ratios = ", ".join(f"{part.site}: {ratio_of(len(part.pruned), part.units):g}" for part in losing)
    return f"{{prune: {{{ratios}}}, masks: [{space.rank(Mask(rank=0, sites=losing))}]}}"


def write_found(
    question: Question,
    wanted: Hunt,
    output: Path,
    executor: Executor,
    progress: Progress,
    *,
    top: int = 10,
    drawn: bool = False,
    fix: Fixed | None = None,
) -> tuple[str, Landscape]:
    """Search, say what was found, and write the masks that were evaluated into `output` (.parquet or .csv), whole or not at all.

    While it goes on, losses are kept in a folder beside it.
    """
    ceiling = None if fix is None else ceiling_of(question, fix)
    check_search(question.space, wanted, question.ranks if drawn else None, ceiling)
    folder = output.with_name(f"{output.name}.unfinished")
    folder.mkdir(exist_ok=True)
    found = hunt(question, wanted, executor, progress, folder / "losses.jsonl", drawn, fix)
    table = found_table(found, question.evaluator.path)
    partial = folder / output.name
    landscape = Landscape(path=question.evaluator.path, images=found.images)
    landscape.add(table, top)
    write_tables(partial, [table])
    partial.replace(output)
    rmtree(folder)
    cell = "" if ceiling is None else f"; as a cell of a study: {cell_of(found.mask(found.best))}"
    return found.sentence + cell, landscape
