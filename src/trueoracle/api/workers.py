"""Workers: processes that take part in the studies of a store, started by hand on any machine or by a run on its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

from trueoracle.api.environment import gpus, threads_or_all
from trueoracle.api.study import Study
from trueoracle.api.trackers import check_tracker
from trueoracle.store import DEFAULT_URL, Status, Store
from trueoracle.words.errors import StoreAway, StoreError, TrueOracleError
from trueoracle.words.known import check_device, find_backend
from trueoracle.words.progress import Progress

_LOOK_SECONDS = 0.5
_LONGEST_GOODBYE = 30


def work(
    store: str = DEFAULT_URL,
    *,
    study: str | None = None,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    backend: str = "auto",
    log_to: str | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[str, str]]:
    """Take part in the unfinished studies of a store, or in one; of each, its name and what came of it.

    A study that cannot be run here, for its data or network is not found, is passed over with the reason; `StoreError`
    where that is so of all.
    """
    check_device(device)
    find_backend(backend)
    threads_or_all(threads)
    check_tracker(log_to)
    opened = Store(store, create=False)
    records = opened.studies() if study is None else [opened.find(study)]
    passed: list[str] = []
    for record in records:
        try:
            one = Study.stored(
                record.digest, store=store, data_dir=data_dir, device=device, threads=threads, backend=backend,
                log_to=log_to, progress=progress,
            )  # fmt: skip
            if not one.status().left:
                continue
            found = one.run()
        except TrueOracleError as problem:
            if study is not None:
                raise
            passed.append(f"{record.name}: {problem}")
            yield record.name, f"passed over, for {problem}"
            continue
        yield record.name, f"{found.finished + found.diverged} of {found.total} trials are settled"
    if passed and len(passed) == len(records):
        raise StoreError(f"none of the studies can be run here: {passed[0]}")


def run_by_workers(
    store: Store, digest: str, total: int, workers: int | None, words: Mapping[str, Any], progress: Progress
) -> Status:
    """Let so many processes do the study, GPUs dealt out among them; as they end, so does this. Ctrl-C ends them all.

    `words` are those of `work`. `StoreError` where one ends otherwise than by being done, with the last line that it wrote.
    """
    options = [text for name, value in words.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "trueoracle", "work", "--store", store.url, "--study", digest, *options, "--leash"]
    pipe = subprocess.PIPE
    cards = gpus() if words["device"] == "cuda" else []
    started = [
        subprocess.Popen(
            command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, text=True, start_new_session=True,
            env={**os.environ, **({"CUDA_VISIBLE_DEVICES": cards[number % len(cards)]} if cards else {})},
        )
        for number in range(workers or 1)
    ]  # fmt: skip
    last_words: dict[int, str] = {}
    listeners = [Thread(target=_listen, args=(one, last_words), daemon=True) for one in started]
    for listener in listeners:
        listener.start()
    try:
        told_while(lambda: _alive(started), store, digest, total, progress)
    finally:
        _end(started)
        for listener in listeners:
            listener.join()
    status = store.status(digest, total)
    failed = [one for one in started if one.returncode]
    if failed and status.left > status.failed:
        raise StoreError(
            f"{len(failed)} of {len(started)} workers ended early: {last_words.get(failed[0].pid, 'killed')}"
        )
    return status


def told_while(alive: Callable[[], int], store: Store, digest: str, total: int, progress: Progress) -> None:
    """Tell how far the study is while any worker is alive; `alive` waits a moment and says how many are."""
    before = store.status(digest, total).left
    told = 0
    with progress.task("by workers", before, "trials") as advance:
        while alive():
            with suppress(StoreAway):  # the workers wait for it, and so does this
                done = before - store.status(digest, total).left
                advance(done - told)
                told = done
        advance(before - store.status(digest, total).left - told)


def _alive(started: "Sequence[subprocess.Popen[str]]") -> int:
    sleep(_LOOK_SECONDS)
    return sum(one.poll() is None for one in started)


def _end(started: "Sequence[subprocess.Popen[str]]") -> None:
    """See that none is left: one that is at work still is interrupted, and has some time to give back what it holds."""
    for one in started:
        if one.poll() is None:
            one.send_signal(signal.SIGINT)
    for one in started:
        try:
            one.wait(_LONGEST_GOODBYE)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()
        assert one.stdin is not None
        one.stdin.close()


def end_with_parent() -> None:
    """End this process, as Ctrl-C does, when its standard input is closed: its parent has ended, however it did."""

    def wait() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=wait, daemon=True).start()


def _listen(process: "subprocess.Popen[str]", last_words: dict[int, str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.strip():
            last_words[process.pid] = line.strip()
    process.stderr.close()
