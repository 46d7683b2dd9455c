"""From sums over blocks of images to losses: in threads, resumable, the same whatever the number of threads.

Letters: M masks, N images.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from trueoracle.oracle.evaluator import Evaluator, Sums
from trueoracle.words.errors import StoreError
from trueoracle.words.examples import Examples
from trueoracle.words.progress import Advance

# Enough blocks for every thread, and on a part of the split enough to judge by their spread how sure a mean is; none so
# large that Ctrl-C is obeyed late. Each costs a pass over the sums of all masks.
_FEWEST_BLOCKS, _FEWEST_TO_JUDGE, _MOST_WORK = 8, 32, 2 * 10**9
_MULTIPLE = 16  # of the images of a block: the lanes of a vector
# A save comes after so many times what the last one took, and after so many seconds, so that it costs a kill and
# the work little.
_TIMES_A_SAVE, _SECONDS_A_SAVE = 50, 0.5

Stop = Callable[[], bool]
Run = Callable[[Callable[[int, Stop], tuple[int, Sums]], Iterable[int]], Iterator[tuple[int, Sums]]]
"""Does independent work in threads: `run(work, items)` yields results as they come (see `study.executor`)."""


@dataclass(frozen=True, kw_only=True)
class PrunedLosses:
    """Mean cross-entropy (nats) and accuracy of M masks over `images` images, before retraining, by rank.

    `standard_error_M` is that of the loss as an estimate for the whole train split of which the images were drawn;
    0 where they are all of it. `path` says how the losses were computed.
    """

    ranks: Sequence[int]
    loss_M: NDArray[np.float64]
    accuracy_M: NDArray[np.float64]
    standard_error_M: NDArray[np.float64]
    images: int
    path: str

    def parts(self, size: int) -> Iterator["PrunedLosses"]:
        """The same in parts of `size` masks."""
        for start in range(0, len(self.ranks), size):
            part = slice(start, start + size)
            yield replace(
                self,
                ranks=self.ranks[part],
                loss_M=self.loss_M[part],
                accuracy_M=self.accuracy_M[part],
                standard_error_M=self.standard_error_M[part],
            )


@dataclass(kw_only=True)
class _Total:
    """Running sums over the blocks done so far; `squares_M` of the blocks' mean losses, weighted by their size."""

    loss_M: NDArray[np.float64]
    squares_M: NDArray[np.float64]
    correct_M: NDArray[np.int64]
    blocks: int = 0
    waiting: dict[int, Sums] = field(default_factory=dict)

    def add(self, number: int, sums: Sums, sizes: Sequence[int]) -> None:
        """Take in the sums of a block, in the order of the blocks: those that come early wait for their turn."""
        self.waiting[number] = sums
        while self.blocks in self.waiting:
            sums = self.waiting.pop(self.blocks)
            self.loss_M += sums.loss_M
            self.squares_M += sums.loss_M**2 / sizes[self.blocks]
            self.correct_M += sums.correct_M
            self.blocks += 1


def accumulate(
    evaluator: Evaluator,
    ranks: Sequence[int],
    examples: Examples,
    *,
    run: Run,
    advance: Advance = lambda _images: None,
    population: int | None = None,
    keep: Path | None = None,
    identity: str = "",
) -> PrunedLosses:
    """The pruned losses of the masks of `ranks` over these examples; `advance` is told of them as they are done.

    `population` is the size of the train split that the examples were drawn from, if they are a part of it. With
    `keep`, the sums so far are written to that file now and then (it takes a fiftieth of the time), when interrupted
    and at the end, whole or not at all, and what the file holds is gone on from. `identity` is whatever determines
    the sums beside the ranks and the evaluator's path; `StoreError` where the file holds those of another. Memory:
    24 bytes a mask, and 16 a mask for every block in work or waiting.
    """
    fewest = _FEWEST_BLOCKS if population in (None, len(examples)) else _FEWEST_TO_JUDGE
    blocks = _blocks(len(examples), len(ranks), evaluator.images_at_once, fewest)
    sizes = [block.stop - block.start for block in blocks]
    identity = f"{identity} {evaluator.path} {ranks[0]}-{ranks[-1]} of {len(ranks)} on {len(examples)} by {sizes[0]}"
    total = _resumed(keep, identity, len(ranks))
    advance(sum(sizes[: total.blocks]))

    def work(number: int, _stop: Stop) -> tuple[int, Sums]:
        return number, evaluator.sums(ranks, examples.take(blocks[number]))

    next_save = monotonic() + _SECONDS_A_SAVE
    try:
        for number, sums in run(work, range(total.blocks, len(blocks))):
            total.add(number, sums, sizes)
            advance(sizes[number])
            if keep is not None and monotonic() > next_save:
                next_save = _save(keep, total, identity)
    finally:
        if keep is not None:
            _save(keep, total, identity)
    count = len(examples)
    return PrunedLosses(
        ranks=ranks,
        loss_M=total.loss_M / count,
        accuracy_M=total.correct_M / count,
        standard_error_M=_standard_error(total, count, len(blocks), population or count),
        images=count,
        path=evaluator.path,
    )


def _blocks(count: int, masks: int, images_at_once: int, fewest: int) -> list[slice]:
    size = min(images_at_once, -(-count // fewest), _MOST_WORK // masks)
    size = max(1, size // _MULTIPLE) * _MULTIPLE
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _standard_error(total: _Total, count: int, blocks: int, population: int) -> NDArray[np.float64]:
    """From the spread of the blocks' means (batch means), with the correction for a finite population."""
    if count == population or blocks < 2:
        return np.full_like(total.loss_M, 0.0 if count == population else np.nan)
    spread = np.maximum(total.squares_M - total.loss_M**2 / count, 0) / (blocks - 1)
    error: NDArray[np.float64] = np.sqrt(spread / count * (1 - count / population))
    return error


def _resumed(keep: Path | None, identity: str, masks: int) -> _Total:
    if keep is None or not keep.exists():
        return _Total(loss_M=np.zeros(masks), squares_M=np.zeros(masks), correct_M=np.zeros(masks, dtype=np.int64))
    try:
        with safe_open(keep, framework="numpy") as file:
            facts: dict[str, str] = file.metadata() or {}
            arrays: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError) as error:
        raise StoreError(f"the sums kept in `{keep}` cannot be read ({error}): remove the file to begin anew") from None
    if facts.get("identity") != identity:
        raise StoreError(f"`{keep}` keeps the sums of another network, space or data: remove it to begin anew")
    return _Total(**arrays, blocks=int(facts["blocks"]))


def _save(keep: Path, total: _Total, identity: str) -> float:
    """When the next one is due."""
    begin = monotonic()
    arrays = {"loss_M": total.loss_M, "squares_M": total.squares_M, "correct_M": total.correct_M}
    with NamedTemporaryFile(dir=keep.parent, prefix=f".{keep.name}.", delete=False) as file:
        file.write(save(arrays, metadata={"identity": identity, "blocks": str(total.blocks)}))
    Path(file.name).replace(keep)
    return monotonic() + max(_SECONDS_A_SAVE, _TIMES_A_SAVE * (monotonic() - begin))
