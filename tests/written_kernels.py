"""Prints the assembly of the kernels of LeNet5-Mini, fleet and oracle, for a kind of vector registers.

    python tests/written_kernels.py avx512|avx2|sse|neon

Compiled as this process compiles (`TRUEORACLE_VECTORS`); for another architecture, what LLVM made of them so far is
handed to its backend: compiled, but never run.
"""

import re
import sys
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import binding

from trueoracle.fleet.chain import find_chain
from trueoracle.fleet.kernels import lay_out, source
from trueoracle.lanes import Target, target
from trueoracle.lanes.build import SCOPE
from trueoracle.lanes.target import NEON
from trueoracle.nets import build
from trueoracle.oracle.exact.source import source as oracle_source
from trueoracle.oracle.exact.structure import Structure, Sum
from trueoracle.words.shape import InputShape

HOT = "forward_|weigh_|backward_|prefix|first|leaves_by_table"


def fleet(kind: Target, channels: int) -> str:
    """The source of a fleet's kernels."""
    net = build("lenet5-mini", InputShape(channels=channels, height=32, width=32, classes=10), seed=0)
    sizes = {name: parameter.numel() for name, parameter in net.named_parameters()}
    return source(lay_out(find_chain(net, (channels, 32, 32)), sizes, lone=False), kind)


def pairs(kind: Target) -> str:
    """The source of the oracle's, two convolutions being sites."""
    sums = (Sum(consumer=2, rows=10, kept=5),)
    widths = (10,) * 5
    return oracle_source(
        Structure(target=kind, channels=1, widths=widths, first=0, first_rows=10, first_parts=2, sums=sums)
    )


def compiled(text: str) -> dict[str, Any]:
    """The hot functions of a module, by name, compiled by Numba now and not taken from its cache."""
    found: dict[str, Any] = {}

    def njit(signature: str, **_: object) -> Callable[[Any], Any]:
        def compile_if_hot(function: Any) -> Any:
            if re.match(HOT, function.__name__):
                found[function.__name__] = numba.njit(signature, nogil=True)(function)
            return function

        return compile_if_hot

    scope: dict[str, object] = {}
    exec(SCOPE, scope)
    scope["njit"] = njit
    exec(text, scope)
    return found


def retargeted(code: str, kind: Target) -> str:
    """One function's LLVM code, without what calls it from Python, through the backend of ARM."""
    functions = re.findall(r"^define .*?^}", code, re.M | re.S)
    callers = [text for text in functions if re.match(r"define [^\n]*@[\"\w.]*(?:cpython|cfunc|NRT_)", text)]
    for text in callers:
        code = code.replace(text, "")
    module = binding.parse_assembly(code)
    machine = binding.Target.from_triple("aarch64-linux-gnu").create_target_machine(cpu=kind.processor, opt=3)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    written: str = machine.emit_assembly(module)
    return written


def main(name: str) -> None:
    """Print."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    kind = target() if target().name == name else NEON
    for text in (fleet(kind, 1), fleet(kind, 3), pairs(kind)):
        for function in compiled(text).values():
            native = kind is target()
            written = (function.inspect_asm if native else function.inspect_llvm)()
            sys.stdout.writelines(code if native else retargeted(code, kind) for code in written.values())


if __name__ == "__main__":
    main(sys.argv[1])
