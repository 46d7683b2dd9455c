"""The oracle searched instead of asked for everything: the masks that a search proposes, by any path of the oracle."""

from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import numpy as np
import pyarrow as pa
import torch

from trueoracle.executors import Executor
from trueoracle.oracle import PrunedLosses, accumulate, loss_table
from trueoracle.search import Ask, Found, Hunt, Judged, Memory, check_search, find_search, search
from trueoracle.study.landscape import Landscape, Question, write_tables
from trueoracle.words.examples import Examples
from trueoracle.words.progress import Progress


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
) -> Found:
    """What the search finds in the question's space, or among its masks where they are `drawn`.

    With `keep`, losses are kept in that file, from which the same search goes on after a kill.
    """
    images, identity = question.images, question.identity
    if find_search(wanted.method).lists:  # it begins with few images, which must be drawn at random
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(wanted.seed))
        images, identity = images.take(order.to(images.device)), f"{identity} shuffled"
    judge = OracleJudge(question=question, images=images, executor=executor)
    memory = Memory(judge, keep, identity, at_once=min(question.evaluator.masks_at_once, 2**14))
    return search(
        memory,
        question.space,
        len(images),
        wanted,
        listed=question.ranks if drawn else None,
        progress=progress,
    )


def found_table(found: Found, path: str) -> pa.Table:
    """A row for each mask that the search evaluated on all images, in order of rank; column `searched` marks them."""
    order = sorted(range(len(found.ranks)), key=found.ranks.__getitem__)
    losses = PrunedLosses(
        ranks=[found.ranks[place] for place in order],
        loss_M=found.loss_M[order],
        accuracy_M=found.accuracy_M[order],
        standard_error_M=found.standard_error_M[order],
        images=found.images,
        path=path,
    )
    return loss_table(losses, found.space).append_column("searched", pa.array(np.ones(len(order), dtype=bool)))


def write_found(
    question: Question,
    wanted: Hunt,
    output: Path,
    executor: Executor,
    progress: Progress,
    *,
    top: int = 10,
    drawn: bool = False,
) -> tuple[str, Landscape]:
    """Search, say what was found, and write the masks that were evaluated into `output` (.parquet or .csv), whole or not at all.

    While it goes on, losses are kept in a folder beside it.
    """
    check_search(question.space, wanted, question.ranks if drawn else None)
    folder = output.with_name(f"{output.name}.unfinished")
    folder.mkdir(exist_ok=True)
    found = hunt(question, wanted, executor, progress, folder / "losses.jsonl", drawn)
    table = found_table(found, question.evaluator.path)
    partial = folder / output.name
    landscape = Landscape(path=question.evaluator.path, images=found.images)
    landscape.add(table, top)
    write_tables(partial, [table])
    partial.replace(output)
    rmtree(folder)
    return found.sentence, landscape
