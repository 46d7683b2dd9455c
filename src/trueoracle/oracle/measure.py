"""From blocks of images to pruned losses: any evaluator, several threads, interrupted and resumed at will."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from trueoracle.errors import StoreError
from trueoracle.oracle.evaluator import Evaluator, Sums
from trueoracle.progress import Progress

Floats = NDArray[np.float64]

_BLOCK = 512
# A standard error needs several blocks to be estimated from.
_FEWEST_BLOCKS = 8
_SECONDS_BETWEEN_SAVES = 20.0


class Interrupted(Exception):
    """`stop` said yes. What was added up so far is in the partial file, if one was given."""


@dataclass(frozen=True, kw_only=True)
class PrunedLosses:
    """Mean cross-entropy (nats) and accuracy of M masks on the same images, in the order of `ranks`.

    `images` of the `population` images of the split were used. `standard_error_M` is how far, by the spread among
    blocks of images, a loss may be from that on the whole split: 0 where that was used. `path` names the evaluator.
    """

    ranks: Sequence[int]
    loss_M: Floats
    accuracy_M: Floats
    standard_error_M: Floats
    images: int
    population: int
    path: str

    def best(self, count: int) -> NDArray[np.int64]:
        """The places of the `count` lowest losses, lowest first, ties to the lower place."""
        return np.argsort(self.loss_M, kind="stable")[:count]


@dataclass(frozen=True, kw_only=True)
class Images:
    """What to measure on: images and labels, drawn from `population` of them (all of them where equal).

    `fingerprint` names the network, the data, the space and the removal: partial sums of another are refused.
    """

    images_NCHW: Tensor
    labels_N: Tensor
    population: int
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels_N)

    def blocks(self) -> list[slice]:
        """Equal blocks, but for a smaller last one; the same whatever the number of threads."""
        size = _BLOCK
        if len(self) < self.population:
            size = min(_BLOCK, max(16, len(self) // _FEWEST_BLOCKS // 16 * 16))
        return [slice(begin, min(begin + size, len(self))) for begin in range(0, len(self), size)]


@dataclass(kw_only=True)
class _Partial:
    """Sums over the first `done` blocks; `square_M` adds up each block's squared loss sum over its size."""

    loss_M: Floats
    square_M: Floats
    correct_M: NDArray[np.int64]
    done: int = 0
    saved: float = field(default_factory=monotonic)

    def add(self, sums: Sums, size: int) -> None:
        self.loss_M += sums.loss_M
        self.square_M += sums.loss_M**2 / size
        self.correct_M += sums.correct_M
        self.done += 1


def measure(
    evaluator: Evaluator,
    ranks: Sequence[int],
    images: Images,
    progress: Progress,
    *,
    threads: int = 1,
    partial: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    what: str = "pruned train loss",
) -> PrunedLosses:
    """The pruned losses of the masks of these ranks (rising), block of images by block.

    Threads work on different blocks, and blocks are added up in their order, so results do not depend on how many
    there are. With `partial`, sums are kept in that file now and then and when interrupted, and taken up from it;
    it is removed at the end. `StoreError` if the file is another measurement's; `Interrupted` where `stop` says
    yes; a `KeyboardInterrupt` passes through. Memory: 24 bytes a mask and 32 more for each thread, besides the
    evaluator's own.
    """
    blocks = images.blocks()
    name = f"{images.fingerprint}/{evaluator.path}/{len(images)}/{_name(ranks)}"
    sums = _resumed(partial, name, len(ranks))
    with progress.task(what, len(images), "images") as advance:
        advance(sum(block.stop - block.start for block in blocks[: sums.done]))
        try:
            for block, found in _in_order(evaluator, ranks, images, blocks[sums.done :], threads):
                sums.add(found, block.stop - block.start)
                advance(block.stop - block.start)
                if sums.done < len(blocks) and stop():
                    raise Interrupted
                if partial is not None and monotonic() - sums.saved > _SECONDS_BETWEEN_SAVES:
                    _save(partial, name, sums)
        except (KeyboardInterrupt, Interrupted):
            if partial is not None:
                _save(partial, name, sums)
            raise
    if partial is not None:
        partial.unlink(missing_ok=True)
    return _result(evaluator, ranks, images, sums)


def _in_order(
    evaluator: Evaluator, ranks: Sequence[int], images: Images, blocks: list[slice], threads: int
) -> Iterator[tuple[slice, Sums]]:
    """Each block's sums in the order of the blocks, `threads` of them in the making at any time."""
    pool = ThreadPoolExecutor(threads)
    left = iter(blocks)

    def begin(block: slice) -> tuple[slice, Future[Sums]]:
        return block, pool.submit(evaluator.sums, ranks, images.images_NCHW[block], images.labels_N[block])

    waiting = [begin(block) for block in islice(left, threads)]
    try:
        while waiting:
            block, future = waiting.pop(0)
            found = future.result()
            waiting += [begin(following) for following in islice(left, 1)]
            yield block, found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(evaluator: Evaluator, ranks: Sequence[int], images: Images, sums: _Partial) -> PrunedLosses:
    n = len(images)
    return PrunedLosses(
        ranks=ranks,
        loss_M=sums.loss_M / n,
        accuracy_M=sums.correct_M / n,
        standard_error_M=_standard_error(sums, n, images.population),
        images=n,
        population=images.population,
        path=evaluator.path,
    )


def _standard_error(sums: _Partial, images: int, population: int) -> Floats:
    """The variance among block means, weighted by the blocks' sizes, over the images, and drawn without replacement."""
    if images == population:
        return np.zeros_like(sums.loss_M)
    if sums.done < 2:
        return np.full_like(sums.loss_M, np.nan)
    spread = np.maximum(sums.square_M - sums.loss_M**2 / images, 0) / (sums.done - 1)
    return np.asarray(np.sqrt(spread / images * (1 - images / population)))


def _name(ranks: Sequence[int]) -> str:
    if isinstance(ranks, range):
        return f"{ranks.start}-{ranks.stop}-{ranks.step}"
    return sha256(",".join(map(str, ranks)).encode()).hexdigest()


def _resumed(path: Path | None, name: str, masks: int) -> _Partial:
    if path is None or not path.exists():
        zeros = np.zeros(masks)
        return _Partial(loss_M=zeros, square_M=zeros.copy(), correct_M=np.zeros(masks, dtype=np.int64))
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
            if facts.get("measurement") != name:
                raise StoreError(f"`{path}` holds the partial sums of another measurement: move it away to begin anew")
            loss_M, square_M, correct_M = (file.get_tensor(key) for key in ("loss", "square", "correct"))
            return _Partial(loss_M=loss_M, square_M=square_M, correct_M=correct_M, done=int(facts["done"]))
    except (OSError, SafetensorError) as error:
        raise StoreError(f"the partial sums in `{path}` cannot be read: {error}") from None


def _save(path: Path, name: str, sums: _Partial) -> None:
    """Whole or not at all."""
    tensors = {"loss": sums.loss_M, "square": sums.square_M, "correct": sums.correct_M}
    content = save(tensors, metadata={"measurement": name, "done": str(sums.done)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)
    sums.saved = monotonic()
