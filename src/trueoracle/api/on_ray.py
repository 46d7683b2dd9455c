"""Workers as tasks of a Ray cluster (`trueoracle[ray]`): each takes part in the study as `trueoracle work` does.

Ray places them, and that is all that it is asked: a task is a loop over pieces that it claims in the store and stores
itself, so nothing comes back, and what a lost task held is done by others when its lease ends. Ray retries nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from socket import create_connection
from typing import Any

from trueoracle.api.workers import told_while
from trueoracle.store import Status, Store
from trueoracle.store.dialects import sqlite_file
from trueoracle.words.errors import SpecError, StoreError
from trueoracle.words.progress import Progress, Quiet

_LONGEST_GREETING = 10.0
_LONGEST_GOODBYE = 30.0
_LOOK_SECONDS = 0.5


def run_on_ray(
    store: Store,
    digest: str,
    total: int,
    workers: int | None,
    words: Mapping[str, Any],
    progress: Progress,
    address: str,
) -> Status:
    """Let so many tasks do the study, or as many as the cluster has places for; Ctrl-C cancels them.

    `words` are those of `trueoracle.api.work`; data folders and files in the study are looked for where a task runs.
    `StoreError` where tasks ended and left some of it, with what the first one died of.
    """
    ray = _ray()
    with _connected(ray, address):
        where = _reachable(ray, store)
        needs = {"num_cpus": words["threads"], "num_gpus": 1 if words["device"] == "cuda" else 0}
        task = ray.remote(max_retries=0, **needs)(take_part)
        running = [task.remote(where, digest, dict(words)) for _ in range(workers or _places(ray, needs))]
        lost: list[str] = []

        def alive() -> int:
            nonlocal running
            done, running = ray.wait(running, num_returns=len(running), timeout=_LOOK_SECONDS)
            lost.extend(problem for ref in done if (problem := _problem(ray, ref)))
            return len(running)

        try:
            told_while(alive, store, digest, total, progress)
        finally:
            _cancel(ray, running)
    status = store.status(digest, total)
    if lost and status.left > status.failed:
        raise StoreError(f"{len(lost)} workers ended early: {lost[0]}")
    return status


def take_part(store: str, digest: str, words: Mapping[str, Any]) -> None:
    """One worker, where Ray places it."""
    from trueoracle.api.workers import work

    for _ in work(store, study=digest, progress=Quiet(), **words):
        pass


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise SpecError("`executor` ray needs Ray: pip install 'trueoracle[ray]'") from None


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """A connection to the cluster: the one that this process has, or one for as long as this lasts."""
    if ray.is_initialized():
        yield
        return
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, ValueError, ray.exceptions.RayError) as problem:
        reason = str(problem).splitlines()[0]
        raise SpecError(f"no Ray cluster answers at `{address}` ({reason}): `ray start --head` begins one") from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """`OSError` where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        create_connection((host.strip("[]"), int(port)), timeout=_LONGEST_GREETING).close()


def _reachable(ray: Any, store: Store) -> str:
    """The store's URL as every task can use it; `SpecError` where it is a file, and they run on several machines."""
    path = sqlite_file(store.url)
    if path is None:
        return store.url
    if len({node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}) > 1:
        raise SpecError(f"the store {store.url} is a file of this machine: name a PostgreSQL one for several machines")
    return f"sqlite:///{path.resolve()}"


def _places(ray: Any, needs: Mapping[str, float]) -> int:
    """How many tasks the cluster can hold at a time."""
    there = ray.cluster_resources()
    of_each = [
        there.get(name, 0) // needs[need] for name, need in (("CPU", "num_cpus"), ("GPU", "num_gpus")) if needs[need]
    ]
    return max(1, int(min(of_each)))


def _problem(ray: Any, ref: Any) -> str | None:
    """What a task that ended died of, in a line; None where it did not."""
    try:
        ray.get(ref)
    except ray.exceptions.RayTaskError as problem:
        return str(problem.cause)
    except ray.exceptions.RayError as problem:
        return str(problem).splitlines()[0]
    return None


def _cancel(ray: Any, running: list[Any]) -> None:
    """Interrupt what is still running, so that it gives back what it holds; after a while, kill it."""
    for ref in running:
        ray.cancel(ref)
    _, left = ray.wait(running, num_returns=len(running), timeout=_LONGEST_GOODBYE) if running else ([], [])
    for ref in left:
        ray.cancel(ref, force=True)
