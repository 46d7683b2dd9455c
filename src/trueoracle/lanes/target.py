"""The machine that compiled code is made for: how wide its vector registers are, how many, and whether they fuse.

`TRUEORACLE_VECTORS` names a narrower one than the machine has: its code then uses nothing that such a machine lacks.
"""

import os
import platform
from dataclasses import dataclass
from functools import cache

import numba
from numba.core.codegen import get_host_cpu_features
from numba.core.registry import cpu_target

from trueoracle.words.errors import TargetError

VARIABLE = "TRUEORACLE_VECTORS"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of vector registers: `registers` of so many float32 `numbers`.

    `fuses` says that a product and a sum are rounded once, together; `permutes`, that one instruction chooses one of
    four numbers lane by lane, by which a fleet leaves out work. Results of targets that do both are equal bit for bit;
    of others, to rounding. `processor` is LLVM's name of a processor that has these registers and none wider.
    """

    name: str
    numbers: int
    registers: int
    fuses: bool
    permutes: bool
    processor: str

    def __str__(self) -> str:
        rounding = "fused" if self.fuses else "separate"
        return f"{self.name}: {self.registers} registers of {self.numbers} float32, {rounding} multiply-add"


AVX512 = Target(name="avx512", numbers=16, registers=32, fuses=True, permutes=True, processor="x86-64-v4")
AVX2 = Target(name="avx2", numbers=8, registers=16, fuses=True, permutes=True, processor="x86-64-v3")
SSE = Target(name="sse", numbers=4, registers=16, fuses=False, permutes=False, processor="x86-64")
NEON = Target(name="neon", numbers=4, registers=32, fuses=True, permutes=False, processor="generic")
# An architecture not spoken of here: the narrowest of what is, and Numba's own choice of instructions.
PLAIN = Target(name="plain", numbers=4, registers=16, fuses=False, permutes=False, processor="generic")

_FEATURES = {AVX512: {"avx512f", "avx512vl"}, AVX2: {"avx2", "fma"}, SSE: set[str]()}


def family(architecture: str, features: set[str]) -> list[Target]:
    """What a machine of this architecture can run, its own first, then narrower ones."""
    match architecture.lower():
        case "x86_64" | "amd64":
            return [target for target, needed in _FEATURES.items() if needed <= features]
        case "aarch64" | "arm64":
            return [NEON]
    return [PLAIN]


def chosen(asked: str | None, known: list[Target]) -> Target:
    """The target of this name out of `known`, the machine's own where none is asked for; `TargetError` where it has none."""
    if not asked:
        return known[0]
    found = next((target for target in known if target.name == asked), None)
    if found is None:
        names = ", ".join(target.name for target in known)
        raise TargetError(f"`{VARIABLE}` must be one of {names} on this machine, but got `{asked}`")
    return found


@cache
def target() -> Target:
    """What this process compiles for, from the machine and the environment; it does not change any more."""
    known = family(platform.machine(), {name[1:] for name in _features().split(",") if name.startswith("+")})
    found = chosen(os.environ.get(VARIABLE), known)
    if found != known[0]:
        numba.config.CPU_NAME, numba.config.CPU_FEATURES = found.processor, ""
    return found


def compiled_for() -> tuple[str, ...]:
    """Target and processor of all that Numba compiles in this process: (target, triple, processor, features).

    `TargetError` where Numba was at work for a wider one before the narrower was asked for.
    """
    ours = target()
    triple, processor, features = cpu_target.target_context.codegen().magic_tuple()
    if numba.config.CPU_NAME == ours.processor != processor:
        raise TargetError(f"`{VARIABLE}={ours.name}` came too late: this process has compiled code for `{processor}`")
    return ours.name, triple, processor, features


def _features() -> str:
    """LLVM's list of what the machine has, or the one that Numba was told."""
    told: str | None = numba.config.CPU_FEATURES
    return get_host_cpu_features() if told is None else told
