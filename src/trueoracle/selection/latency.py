"""How long a network takes for a batch: median and spread of repeated runs on one thread."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

_RUNS, _SECONDS, _LEAST = 200, 2.0, 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Seconds a batch of `batch` examples: the median of `runs`, and the quartiles around it."""

    batch: int
    median: float
    low: float
    high: float
    runs: int


def latency(run: Callable[[Tensor], Tensor], examples_BCHW: Tensor) -> Latency:
    """Run again and again for two seconds or 200 times, whichever ends first, after a few runs that do not count.

    torch is given one thread while it lasts, so that figures compare between machines and formats. On a GPU a run ends
    when the GPU has done its part.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = _timed(run, examples_BCHW)
    finally:
        torch.set_num_threads(threads)
    low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return Latency(batch=len(examples_BCHW), median=float(median), low=float(low), high=float(high), runs=len(seconds))


def _timed(run: Callable[[Tensor], Tensor], examples_BCHW: Tensor) -> list[float]:
    on_gpu = examples_BCHW.device.type == "cuda"

    def once() -> float:
        begin = perf_counter()
        run(examples_BCHW)
        if on_gpu:
            torch.cuda.synchronize()
        return perf_counter() - begin

    for _ in range(3):
        once()
    seconds: list[float] = []
    while len(seconds) < _LEAST or (len(seconds) < _RUNS and sum(seconds) < _SECONDS):
        seconds.append(once())
    return seconds
