"""torch's own random numbers, made to depend on a seed alone.

torch has one generator a device for the whole process, and threads that train side by side would draw from it in
turns. What draws from it (kornia, dropout) does so in here, one thread at a time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_ONE_AT_A_TIME = Lock()


@contextmanager
def torch_seeded(seed: int) -> Iterator[Callable[[], bool]]:
    """What is drawn in here depends on `seed` alone, and nothing outside notices.

    The value, called before the end, says whether anything was drawn at all.
    """
    in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = [torch.cuda.current_device()] if in_use else []
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        before = _states(devices)
        yield lambda: any(not torch.equal(a, b) for a, b in zip(before, _states(devices), strict=True))


def _states(devices: list[int]) -> list[torch.Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]
