"""What the benchmarks share: seconds of processor time, rounds of two rivals, and the machine beside them."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from trueoracle.lanes import LANES, aligned, build, target
from trueoracle.words.progress import Quiet

Work = Callable[[], object]
Clock = Callable[[], float]

# Twelve registers of sums at once keep both multiply-add units of a core busy.
_SUMS, _STEPS, _REPEATS = 12 * target().numbers // LANES, 2_000_000, 7


def core_seconds(work: Work, clock: Clock = time.process_time) -> float:
    """Seconds of processor time, over all threads, that `work` takes; by another `clock`, that clock's seconds."""
    begin = clock()
    work()
    return clock() - begin


def in_turns(rounds: int, clock: Clock = time.process_time, **rivals: Work) -> dict[str, list[float]]:
    """By name, the seconds of each round. Rivals alternate, so that a machine that slows down slows all of them."""
    spent: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, work in rivals.items():
            spent[name].append(core_seconds(work, clock))
    return spent


def multiply_add_peak() -> float:
    """Floating-point operations a second of one core, in single precision: two for each multiply-add in each lane."""
    names = [f"sum{i}" for i in range(_SUMS)]
    lines = ['@njit("void(float32[::1], int64)", nogil=True, cache=True)', "def peak(a, steps):", "    w = load(a, 0)"]
    lines += [f"    {name} = load(a, {i * LANES})" for i, name in enumerate(names)]
    lines += ["    for _ in range(steps):", *(f"        {name} = multiply_add({name}, w, w)" for name in names)]
    lines += [f"    store(a, {i * LANES}, {name})" for i, name in enumerate(names)]
    kernel = build("peak", "\n".join(lines) + "\n", Quiet()).peak
    values = aligned(_SUMS * LANES)
    best = min(core_seconds(lambda: kernel(values, _STEPS)) for _ in range(_REPEATS))
    return 2 * LANES * _SUMS * _STEPS / best


def data_folder() -> Path | None:
    """The folder that `TRUEORACLE_DATA` names, if it names one."""
    named = os.environ.get("TRUEORACLE_DATA")
    return Path(named) if named else None


def machine() -> dict[str, float | int | str]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "vectors": str(target()),
        "torch_vectors": torch.backends.cpu.get_cpu_capability(),
        "peak_gflops_a_core": round(multiply_add_peak() / 1e9, 1),
        "python": platform.python_version(),
        **{name: version(name) for name in ("trueoracle", "torch", "numba")},
    }


def show(results: Mapping[str, Mapping[str, Any]], *, as_json: bool) -> None:
    """One JSON object with an object a case, or a paragraph of words a case."""
    if as_json:
        print(json.dumps(results, indent=2))
        return
    for case, facts in results.items():
        print(case)
        for name, value in facts.items():
            print(f"  {name.replace('_', ' '):<36} {value if isinstance(value, str | list) else format(value, ',.4g')}")


def _processor() -> str:
    """The processor's name; Linux keeps it where Python does not look."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
