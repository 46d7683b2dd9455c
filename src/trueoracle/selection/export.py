"""A pruned network written to a folder, every file of it read back and compared before the folder is there.

Letters: B examples, K classes.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import torch
from torch import Tensor, nn

from trueoracle.data import Normalisation
from trueoracle.fleet import tf32
from trueoracle.nets import Cost, cost, state_bytes, unmasked
from trueoracle.nets.probe import logits_of_noise
from trueoracle.selection.bundle import WEIGHTS, Figure, Held, Images, Kept, Origin, Pruning, sha256_of, write_facts
from trueoracle.selection.formats import FORMATS
from trueoracle.selection.latency import Latency, latency
from trueoracle.selection.loading import load
from trueoracle.words.errors import ModelError, unknown
from trueoracle.words.mask import AnyMask, Mask, WeightMask
from trueoracle.words.progress import Progress, Quiet
from trueoracle.words.release import release
from trueoracle.words.shape import InputShape, NoiseShape, Shape

TOLERANCE = 1e-5
"""The largest difference of a logit that a written file may show, as a share of the largest logit where that is above 1."""

_BATCHES = (1, 32)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is exported: `pruned` is `whole` without what `mask` prunes, retrained; both on the CPU in eval mode.

    `images_BCHW` are real inputs, normalised, on which files are compared and latency is taken; None for text.
    """

    model: str
    width_factor: float
    shape: Shape
    whole: nn.Module
    pruned: nn.Module
    mask: AnyMask
    images_BCHW: Tensor | None
    normalisation: Normalisation | None = None
    origin: Origin | None = None
    figures: dict[str, Figure] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A written file: its size, and the largest difference of a logit between it and the network in memory."""

    file: str
    bytes: int
    difference: float


@dataclass(frozen=True, kw_only=True)
class Timed:
    """The latency of one network, whole or pruned, in one runtime."""

    runtime: str
    network: str
    latency: Latency


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and what it costs beside the whole network."""

    folder: Path
    facts: Pruning
    checks: tuple[Check, ...]
    whole: Cost
    pruned: Cost
    timed: tuple[Timed, ...]


def export(
    subject: Subject, folder: Path, formats: Sequence[str] = ("onnx", "pt2"), progress: Progress | None = None
) -> Exported:
    """Write the network to `folder`, which must not exist: weights and `pruning.json`, and a file a format.

    Every file is read back and must give the logits of the network in memory, within `TOLERANCE`. `ModelError` where
    one does not, for an unknown format, or a network that a format cannot hold; then no folder is left.
    """
    check_export(folder, formats, subject.shape)
    progress = progress or Quiet()
    pruned = cost(subject.pruned, subject.shape)
    subject = replace(subject, pruned=unmasked(subject.pruned))
    partial = Path(mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with progress.task("writing and checking", 1 + len(formats), "files") as advance:
            checks = []
            for check in _written(subject, partial, formats):
                checks.append(check)
                advance(1)
        facts = _facts(subject, partial, formats)
        write_facts(facts, partial)
        timed = tuple(_timed(subject, partial, formats, progress))
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Exported(
        folder=folder,
        facts=facts,
        checks=tuple(checks),
        whole=cost(subject.whole, subject.shape),
        pruned=pruned,
        timed=timed,
    )


def check_export(folder: Path, formats: Sequence[str], shape: Shape) -> None:
    """`ModelError` where nothing can be written to `folder` in these formats: better said before the work than after."""
    if isinstance(shape, NoiseShape):
        raise ModelError(f"networks for {shape} are not exported: what an export folder says knows no such task")
    for name in formats:
        if name not in FORMATS:
            raise ModelError(unknown("format", name, FORMATS))
        if not isinstance(shape, InputShape) and not FORMATS[name].for_text:
            raise ModelError(
                f"the format `{name}` is for networks that take images: give none, the weights are written"
            )
        if (package := FORMATS[name].missing) is not None:
            others = [f"--format {other}" for other in FORMATS if FORMATS[other].missing is None]
            raise ModelError(
                f"the format `{name}` needs the package `{package}`: pip install 'trueoracle[export]', or leave it out: "
                f"{' '.join(others)}"
            )
    if folder.exists():
        raise ModelError(f"`{folder}` exists already: name a folder that does not")
    if not folder.parent.is_dir():
        raise ModelError(f"the folder of `{folder}` does not exist")


def _written(subject: Subject, folder: Path, formats: Sequence[str]) -> Iterator[Check]:
    """Each file, written and compared."""
    (folder / WEIGHTS).write_bytes(state_bytes(subject.pruned))
    write_facts(_facts(subject, folder, ()), folder)
    again = load(folder, subject.whole)
    yield _check(subject, folder / WEIGHTS, _answering(again, subject))
    for name in formats:
        path = folder / FORMATS[name].file
        try:
            FORMATS[name].write(subject.pruned, None if subject.images_BCHW is None else subject.images_BCHW[:2], path)
        except ModelError:
            raise
        except Exception as error:  # whatever the tracing of a user's network raises
            first = str(error).strip().splitlines()[0]
            raise ModelError(f"the network cannot be written as {name}: {type(error).__name__}: {first}") from error
        run = FORMATS[name].reader(path)
        yield _check(subject, path, _answering(run, subject) if isinstance(run, nn.Module) else run)


def _answering(net: nn.Module, subject: Subject) -> Callable[[Tensor], Tensor]:
    """What a network says of the subject's inputs, text or images."""
    return lambda _images: _logits(net, subject)


def _files(path: Path) -> list[Path]:
    """A file itself, or all files of a folder."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _check(subject: Subject, path: Path, run: Callable[[Tensor], Tensor]) -> Check:
    wanted_BK = _logits(subject.pruned, subject)
    images_BCHW = subject.images_BCHW if subject.images_BCHW is not None else torch.empty(0)
    difference = float((run(images_BCHW) - wanted_BK).abs().max())
    allowed = TOLERANCE * max(1.0, float(wanted_BK.abs().max()))
    if not difference <= allowed:  # not a number is none either
        raise ModelError(
            f"`{path.name}` gives other outputs than the network in memory: they differ by {difference:.2g}, "
            f"but {allowed:.2g} is allowed"
        )
    return Check(file=path.name, bytes=sum(file.stat().st_size for file in _files(path)), difference=difference)


def _logits(net: nn.Module, subject: Subject) -> Tensor:
    with torch.inference_mode():
        if subject.images_BCHW is None:
            return logits_of_noise(net, subject.shape, 2)
        logits_BK: Tensor = net(subject.images_BCHW)
        return logits_BK


def _facts(subject: Subject, folder: Path, formats: Sequence[str]) -> Pruning:
    shape, normalisation = subject.shape, subject.normalisation
    images = None
    if isinstance(shape, InputShape):
        images = Images(
            channels=shape.channels,
            height=shape.height,
            width=shape.width,
            classes=shape.classes,
            mean=normalisation.mean if normalisation is not None else None,
            deviation=normalisation.deviation if normalisation is not None else None,
        )
    paths = [folder / WEIGHTS, *(file for name in formats for file in _files(folder / FORMATS[name].file))]
    return Pruning(
        trueoracle=release(),
        model=subject.model,
        width_factor=subject.width_factor,
        images=images,
        sites={part.site: Kept(units=part.units, kept=part.kept) for part in subject.mask.sites}
        if isinstance(subject.mask, Mask)
        else {},
        weights={layer: Held(weights=n, kept=kept) for layer, (n, kept) in subject.mask.kept_by_layer.items()}
        if isinstance(subject.mask, WeightMask)
        else {},
        origin=subject.origin,
        figures=subject.figures or {},
        files={str(path.relative_to(folder)): sha256_of(path) for path in paths},
    )


def _timed(subject: Subject, folder: Path, formats: Sequence[str], progress: Progress) -> Iterator[Timed]:
    """Latency of the whole and of the pruned network, in torch and, where it was written, in ONNX Runtime; in torch on a GPU
    as well, if there is one.
    """
    if subject.images_BCHW is None:
        return
    cpu = torch.device("cpu")
    runs: list[tuple[str, str, Callable[[Tensor], Tensor], torch.device]] = []
    for runtime, device in (("torch", cpu), *_gpus()):
        for network, net in (("whole", subject.whole), ("pruned", subject.pruned)):
            there = net if device == cpu else deepcopy(net).to(device)
            runs.append((runtime, network, _inference(there), device))
    with TemporaryDirectory() as scratch:
        if "onnx" in formats:
            onnx, dense = FORMATS["onnx"], Path(scratch) / "whole.onnx"
            onnx.write(subject.whole, subject.images_BCHW[:2], dense)
            runs.append(("ONNX Runtime", "whole", onnx.reader(dense), cpu))
            runs.append(("ONNX Runtime", "pruned", onnx.reader(folder / onnx.file), cpu))
        with tf32(False), progress.task("timing", len(runs) * len(_BATCHES), "runs") as advance:
            for batch in _BATCHES:
                images_BCHW = _repeated(subject.images_BCHW, batch)
                for runtime, network, run, device in runs:
                    yield Timed(runtime=runtime, network=network, latency=latency(run, images_BCHW.to(device)))
                    advance(1)


def _gpus() -> Iterator[tuple[str, torch.device]]:
    """The first one, by its name; none where there is none."""
    if torch.cuda.is_available():
        yield f"torch on {torch.cuda.get_device_name()}", torch.device("cuda")


def _repeated(images_BCHW: Tensor, batch: int) -> Tensor:
    """So many of the images, over again where there are fewer."""
    return images_BCHW[torch.arange(batch) % len(images_BCHW)].contiguous()


def _inference(net: nn.Module) -> Callable[[Tensor], Tensor]:
    def run(images_BCHW: Tensor) -> Tensor:
        with torch.inference_mode():
            logits_BK: Tensor = net(images_BCHW)
        return logits_BK

    return run
