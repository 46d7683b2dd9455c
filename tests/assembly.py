"""Reading what a compiler wrote: the innermost loops of its assembly, and what in them is stored to the stack."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LABEL = re.compile(r"^([.\w$]+):")
_JUMP = re.compile(r"^(?:j\w+|b(?:\.\w+)?|cbn?z|tbn?z)\b.*?([.\w$]+)$")
_MULTIPLY_ADD = re.compile(r"^(?:vfn?m\w*(?:231|213|132)[ps]s|fmla|fmls|v?mulps)\b")
_ARM_STORE = re.compile(r"^st(?:r|p|ur)\w*\s.*\[sp\b")
_X86_MOVE = re.compile(r"^v?(?:mov|extract|vextract)\w*\s.*,\s*[-\w]*\(%(rsp|rbp)[^)]*\)$")
_FRAME = re.compile(r"^movq\s+%rsp,\s*%rbp$")


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Instructions from where a loop's jump leads to the jump; no other loop lies among them."""

    function: str
    lines: tuple[str, ...]
    framed: bool

    @property
    def multiply_adds(self) -> int:
        """How many of them multiply vectors."""
        return sum(bool(_MULTIPLY_ADD.match(line)) for line in self.lines)

    @property
    def adds_up_in_double(self) -> bool:
        """Whether it adds float64, as only sums over whole blocks do."""
        return any(re.match(r"v?addsd|fadd d", line) for line in self.lines)

    @property
    def stack_stores(self) -> list[str]:
        """Those that store to the stack; where `framed`, %rbp points there too."""
        return [line for line in self.lines if _ARM_STORE.match(line) or self._is_x86_stack_store(line)]

    def _is_x86_stack_store(self, line: str) -> bool:
        found = _X86_MOVE.match(line)
        return bool(found) and (found[1] == "rsp" or self.framed)


def innermost_loops(assembly: str) -> Iterator[Loop]:
    """All of a file of assembly, AT&T's for x86 or GNU's for ARM."""
    function, labels, lines = "", dict[str, int](), list[str]()
    for raw in [*assembly.splitlines(), "end:"]:
        line = re.split(r"\s*(?:#|//|;)", raw.strip())[0].strip()
        label = _LABEL.match(line)
        if label and not label[1].startswith((".L", "L")):
            yield from _loops(function, labels, lines)
            function, labels, lines = label[1], {}, []
        elif label:
            labels[label[1]] = len(lines)
        elif line and not line.startswith("."):
            lines.append(re.sub(r"\s+", " ", line))


def _loops(function: str, labels: dict[str, int], lines: list[str]) -> Iterator[Loop]:
    spans = set()
    for at, line in enumerate(lines):
        jump = _JUMP.match(line)
        if jump and labels.get(jump[1], at + 1) <= at:
            spans.add((labels[jump[1]], at))
    framed = any(_FRAME.match(line) for line in lines)
    for first, last in sorted(spans):
        if not any((a, b) != (first, last) and first <= a and b <= last for a, b in spans):
            yield Loop(function=function, lines=tuple(lines[first : last + 1]), framed=framed)
