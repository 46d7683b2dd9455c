"""Who does a study's work: this process alone, others that it starts, or tasks of a Ray cluster."""

import re
from dataclasses import dataclass

from trueoracle.api.environment import gpus, threads_or_all
from trueoracle.words.errors import SpecError, unknown

EXECUTORS = ("threads", "local", "ray")


@dataclass(frozen=True, kw_only=True)
class Crew:
    """`workers` of so many `threads` each: processes, or tasks of the cluster at `ray`; None: as many as it can hold."""

    workers: int | None
    threads: int
    ray: str | None = None

    @classmethod
    def of(
        cls, executor: str, workers: int | None, threads: int | None, device: str, ray_address: str | None
    ) -> "Crew | None":
        """As the words of a run say; None where it is this process alone. `SpecError` where they do not go together."""
        if executor not in EXECUTORS:
            raise SpecError(unknown("executor", executor, EXECUTORS))
        if ray_address is not None and executor != "ray":
            raise SpecError(f"`ray_address` goes with `executor` ray, but got executor={executor}")
        if ray_address not in (None, "auto") and not re.fullmatch(r".+:\d{1,5}", ray_address):
            raise SpecError(f"`ray_address` must be auto or HOST:PORT, but got {ray_address}")
        if workers is not None and workers < 1:
            raise SpecError(f"`workers` must be at least 1, but got {workers}")
        if executor == "ray":
            return cls(
                workers=workers, threads=1 if threads is None else threads_or_all(threads), ray=ray_address or "auto"
            )
        if executor == "local":
            count = workers or (max(1, len(gpus())) if device == "cuda" else threads_or_all(None))
            share = max(1, threads_or_all(None) // count)
            return cls(workers=count, threads=share if threads is None else threads_or_all(threads))
        if workers is not None:
            raise SpecError("`workers` go with `executor` local or ray: this process has `threads`")
        return None
