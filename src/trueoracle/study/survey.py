"""The pruned train losses of many masks, a group of masks after another, in threads."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from trueoracle.executors import Executor
from trueoracle.oracle import Evaluator, PrunedLosses, accumulate
from trueoracle.words.errors import SpecError
from trueoracle.words.examples import Examples
from trueoracle.words.progress import Advance, Progress


def survey(
    evaluator: Evaluator,
    ranks: Sequence[int],
    train: Examples,
    executor: Executor,
    progress: Progress,
    *,
    what: str,
    population: int | None = None,
    folder: Path | None = None,
    identity: str = "",
) -> Iterator[PrunedLosses]:
    """The losses of the masks of `ranks` (rising) on `train`, in groups that follow one another.

    `population` is the size of the split that `train` is a part of, if it is. With `folder`, sums of unfinished
    groups are kept there (see `accumulate`), so that a kill costs little; `identity` names what they are sums of.
    """
    with progress.task(f"pruned train loss, {what}", len(ranks), "masks") as advance:
        yield from in_groups(
            evaluator, ranks, train, executor, advance, population=population, folder=folder, identity=identity
        )


def in_groups(
    evaluator: Evaluator,
    ranks: Sequence[int],
    train: Examples,
    executor: Executor,
    advance: Advance,
    *,
    population: int | None = None,
    folder: Path | None = None,
    identity: str = "",
) -> Iterator[PrunedLosses]:
    """As `survey`; `advance` is told of masks, in parts of a group as its images are done."""
    step = evaluator.masks_at_once
    for start in range(0, len(ranks), step):
        group = ranks[start : start + step]
        told = 0
        images = 0

        def tell(more: int, group: Sequence[int] = group) -> None:
            nonlocal told, images
            images += more
            now = len(group) * images // len(train)
            advance(now - told)
            told = now

        yield accumulate(
            evaluator,
            group,
            train,
            run=executor.run,
            advance=tell,
            population=population,
            keep=folder / f"{start}.safetensors" if folder is not None else None,
            identity=identity,
        )


def part_of(train: Examples, images: int | None, seed: int) -> Examples:
    """`images` of the split drawn at random, or all of it for None; `SpecError` where it has fewer."""
    if images is None:
        return train
    if not 2 <= images <= len(train):
        raise SpecError(f"`images` must lie in [2, {len(train)}], but got {images}")
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:images]
    return train.take(chosen.to(train.device))
