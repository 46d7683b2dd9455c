"""Who does the work: threads of this process. torch computes outside Python's lock, and the data is shared."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from threading import Event
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

Stop = Callable[[], bool]


class Executor(Protocol):
    """Does independent pieces of work, in any order."""

    workers: int

    def run(self, work: Callable[[T, Stop], R], items: Iterable[T]) -> Generator[R]:
        """The results as they come. `work` asks the stop it is given now and then, and ends early by raising."""
        ...


class Threads:
    """`workers` threads, each with one torch thread of its own, so that results depend on no thread count."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, work: Callable[[T, Stop], R], items: Iterable[T]) -> Generator[R]:
        """As `Executor.run`; when the consumer leaves early or is interrupted, work in flight is told to stop."""
        stop = Event()
        queue = iter(items)
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                running: set[Future[R]] = {pool.submit(work, item, stop.is_set) for item in islice(queue, self.workers)}
                while running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    running |= {pool.submit(work, item, stop.is_set) for item in islice(queue, len(done))}
                    for future in done:
                        yield future.result()
            finally:
                stop.set()
