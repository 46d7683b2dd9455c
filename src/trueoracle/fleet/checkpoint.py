"""A long training written down now and then, so that a kill costs seconds, and read back to the bit.

A file a training, of safetensors, in a folder of the user's cache: what is lost with it is work in flight. It is
written whole or not at all, and one that is broken, or of another training, is not read but made again.
"""

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic, time
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trueoracle.words.errors import StoreError
from trueoracle.words.files import write_whole
from trueoracle.words.trial import Figures, SplitAnswers

_LEAST_SECONDS = 2.0
_ABANDONED_SECONDS = 30 * 86_400
_TIMES_THE_WRITING = 50  # so much longer is trained than was written: two per cent


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a training goes on: in this epoch, after so many of its batches."""

    epoch: int
    batches: int


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a checkpoint holds of a fleet; `kept` are the networks that the recipe keeps, or that diverged."""

    position: Position
    fleet: dict[str, Tensor]
    kept: dict[int, dict[str, Tensor]]
    curves: list[list[Figures]]
    answers: dict[int, Mapping[str, SplitAnswers]]
    diverged: set[int]


class Checkpoint:
    """The file of one training. `identity` says which: everything that its numbers depend on."""

    def __init__(self, folder: Path, identity: str, device: torch.device) -> None:
        name = sha256(identity.encode()).hexdigest()
        self._path, self._identity, self._device = folder / f"{name[:32]}.safetensors", name, device
        self._last, self._wait = monotonic(), _LEAST_SECONDS

    def due(self) -> bool:
        """Whether so much was trained since the last writing that another costs little."""
        return monotonic() - self._last >= self._wait

    def keep(
        self,
        position: Position,
        fleet: Mapping[str, Tensor],
        kept: Mapping[int, Mapping[str, Tensor]],
        curves: Sequence[Sequence[Figures]],
        answers: Mapping[int, Mapping[str, SplitAnswers]],
        diverged: AbstractSet[int],
    ) -> None:
        """Write the fleet as it is now. A full disk does not end a training: it goes on without."""
        begin = monotonic()
        tensors = {f"fleet/{name}": _whole(value) for name, value in fleet.items()}
        for index, state in kept.items():
            tensors |= {f"kept/{index}/{name}": _whole(value) for name, value in state.items()}
        for index, of_splits in answers.items():
            tensors |= _packed(index, of_splits)
        facts = {
            "position": asdict(position),
            "curves": [[asdict(figures) for figures in curve] for curve in curves],
            "images": {str(i): {split: a.images for split, a in of.items()} for i, of in answers.items()},
            "diverged": sorted(diverged),
        }
        text = json.dumps(facts)
        described = {"identity": self._identity, "facts": text, "checksum": _checksum(text, tensors)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, lambda partial: _write(partial, tensors, described), StoreError)
        except (StoreError, OSError):
            self.forget()
        self._last = monotonic()
        self._wait = max(_LEAST_SECONDS, _TIMES_THE_WRITING * (self._last - begin))

    def read(self) -> Kept | None:
        """What was written last of this very training; None where nothing is, or nothing that is whole."""
        if not self._path.is_file():
            return None
        try:
            with safe_open(self._path, framework="pt") as file:
                described = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            if described.get("identity") != self._identity:
                return None
            if described.get("checksum") != _checksum(described["facts"], tensors):
                return None
        except (SafetensorError, OSError, KeyError):
            return None
        return self._parsed(json.loads(described["facts"]), tensors)

    def forget(self) -> None:
        """The training has ended: nothing is to go on."""
        with suppress(OSError):
            self._path.unlink()

    def _parsed(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Kept:
        kept: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("kept/"):
                _, index, weight = name.split("/", 2)
                kept.setdefault(int(index), {})[weight] = value.to(self._device)
        return Kept(
            position=Position(**facts["position"]),
            fleet={n.removeprefix("fleet/"): v.to(self._device) for n, v in tensors.items() if n.startswith("fleet/")},
            kept=kept,
            curves=[[Figures(**figures) for figures in curve] for curve in facts["curves"]],
            answers={int(i): _unpacked(int(i), images, tensors) for i, images in facts["images"].items()},
            diverged=set(facts["diverged"]),
        )


def forget_abandoned(folder: Path) -> None:
    """Take away what nobody went on with for so long."""
    for path in folder.glob("*.safetensors"):
        with suppress(OSError):
            if time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def _write(path: Path, tensors: dict[str, Tensor], described: dict[str, str]) -> None:
    try:
        save_file(tensors, path, described)
    except SafetensorError as error:  # what it says where the disk is full
        raise OSError(str(error)) from error


def _packed(index: int, of_splits: Mapping[str, SplitAnswers]) -> dict[str, Tensor]:
    named = {}
    for split, answers in of_splits.items():
        for kind, content in (("bits", answers.bits), ("losses", answers.losses)):
            if content is not None:
                named[f"answers/{index}/{split}/{kind}"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return named


def _unpacked(index: int, images: Mapping[str, int], tensors: Mapping[str, Tensor]) -> dict[str, SplitAnswers]:
    def content(split: str, kind: str) -> bytes | None:
        found = tensors.get(f"answers/{index}/{split}/{kind}")
        return None if found is None else found.numpy().tobytes()

    return {
        split: SplitAnswers(images=count, bits=content(split, "bits") or b"", losses=content(split, "losses"))
        for split, count in images.items()
    }


def _whole(value: Tensor) -> Tensor:
    """A copy on the CPU that shares its memory with nothing."""
    return value.detach().cpu().contiguous().clone()


def _checksum(facts: str, tensors: Mapping[str, Tensor]) -> str:
    found = sha256(facts.encode())
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
