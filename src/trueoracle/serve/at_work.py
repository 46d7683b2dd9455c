"""Who is at work on a study, and how long each is still waited for where nobody hears of it."""

from dataclasses import dataclass

from trueoracle.store import Store


@dataclass(frozen=True, kw_only=True)
class AtWork:
    """A worker with its claimed `pieces`, of such `stages`; `seconds_left` of the lease that ends first, below 0 where it is late.

    `trials` is what it has stored, `rate` how many a second, None where it is not known yet.
    """

    worker: str
    pieces: int
    stages: tuple[str, ...]
    seconds_left: float
    trials: int
    rate: float | None


def at_work(store: Store, study: str) -> tuple[AtWork, ...]:
    """The workers that hold pieces of the study, by name."""
    held: dict[str, list[tuple[str, float]]] = {}
    for one in store.in_flight(study):
        held.setdefault(one.worker, []).append((one.stage, one.seconds_left))
    run_of = {run.worker: run for run in store.runs(study)}
    return tuple(
        AtWork(
            worker=worker,
            pieces=len(pieces),
            stages=tuple(dict.fromkeys(stage for stage, _ in pieces)),
            seconds_left=min(seconds for _, seconds in pieces),
            trials=run_of[worker].trials if worker in run_of else 0,
            rate=run_of[worker].rate if worker in run_of else None,
        )
        for worker, pieces in held.items()
    )
