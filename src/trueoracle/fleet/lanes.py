"""Fleets in lanes, for chains of layers on a CPU: sixteen networks, or one network on sixteen samples at a time.

A lane never sees another one, so a network's numbers depend neither on its mates nor on its lane.

Letters: N images (networks in a fleet's own methods), K classes, L lanes, B batch.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import log, prod
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from trueoracle.data import Dataset, Split, images_of
from trueoracle.fleet.chain import Chain, Product
from trueoracle.fleet.distillation import answers_on
from trueoracle.fleet.evaluated import Evaluated
from trueoracle.fleet.fleet import Place, Stop, Stopped
from trueoracle.fleet.kernels import Layout, lay_out, padded, source
from trueoracle.fleet.optimisers import Floats, optimiser
from trueoracle.lanes import LANES, aligned, build, target
from trueoracle.nets import Evaluation, channels_last, kept_weights
from trueoracle.words.progress import Progress
from trueoracle.words.spec import Distillation, Recipe
from trueoracle.words.trial import SplitAnswers

# A call of a kernel cannot be stopped, so none does more multiply-adds a lane than this: a third of a second.
_MULTIPLY_ADDS_A_CALL = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """Compiled code for one chain, and the layout of its arrays."""

    layout: Layout
    module: ModuleType
    samples_a_call: int


@dataclass(frozen=True, kw_only=True)
class _Images:
    """A split as kernels read it, flat: images with their padding, windows that are all background, labels."""

    pixels: Floats
    marks: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def kernels(chain: Chain, net: nn.Module, *, lone: bool, progress: Progress, distills: bool = False) -> Kernels:
    """The kernels for networks of the shape of `net`; compiled once a machine."""
    sizes = {name: parameter.numel() for name, parameter in net.named_parameters()}
    layout = lay_out(chain, sizes, lone=lone, distills=distills)
    module = build("samples" if lone else "fleet", source(layout, target()), progress)
    sums = sum(_multiply_adds(stage) for stage in chain.stages if isinstance(stage, Product))
    calls = max(LANES, _MULTIPLY_ADDS_A_CALL // (3 * sums) // LANES * LANES)
    return Kernels(layout=layout, module=module, samples_a_call=calls)


def _multiply_adds(stage: Product) -> int:
    return stage.outputs * prod(stage.grid) * stage.entry[0] * prod(stage.kernel)


class LaneFleet:
    """Up to sixteen networks of one shape, or with kernels for a lone one, one network, as arrays: a `Fleet`."""

    def __init__(
        self,
        code: Kernels,
        nets: Sequence[nn.Module],
        data: Dataset,
        recipes: Sequence[Recipe],
        teacher: nn.Module | None = None,
    ) -> None:
        self._code = code
        self._at = code.layout
        self._nets = nets
        self.weights = _packed(nets)
        self.gradients: Floats = aligned(len(self.weights))
        self._held = _held(nets)
        self._optimiser = optimiser(recipes[0], len(self.weights))
        self._rate, self._decay = aligned(len(self.weights)), self._spread([own.weight_decay for own in recipes])
        self._floats = aligned(self._at.floats)
        self._integers = aligned(self._at.integers, np.int32)
        train, test = images_of(data.train), images_of(data.test)
        background_C = _background(train.images_NCHW)
        self._train, self._test = (_images(split, background_C, self._at) for split in (train, test))
        self._validation = (
            None if data.validation is None else _images(images_of(data.validation), background_C, self._at)
        )
        self._background = _blank_image(background_C, self._at)
        distill = recipes[0].distill
        self._lesson = () if distill is None or teacher is None else _lesson(teacher, train, distill)

    def set_rates(self, lr_N: Sequence[float]) -> None:
        """As `Fleet.set_rates`."""
        self._rate = self._spread(lr_N)

    def step(self, batch_B: Tensor, place: Place, stop: Stop) -> None:  # noqa: ARG002 - nothing in it is random
        """As `Fleet.step`."""
        self.set_gradients(batch_B.numpy(), stop)
        with np.errstate(all="ignore"):  # a diverging lane may overflow
            self._optimiser.step(self.weights, self.gradients, self._rate, self._decay)

    def set_gradients(self, order: NDArray[np.int64], stop: Stop) -> None:
        """Gradients of the mean loss over the train images `order`, summed in that order."""
        self.gradients.fill(0)
        for part in self._parts(order, stop):
            images = self._train
            self._code.module.gradients(
                images.pixels, images.marks, images.labels, part, self.weights, self.gradients,
                self._floats, self._integers, self._background, 1.0 / len(order), *self._lesson,
            )  # fmt: skip
        if self._at.lone:
            rows = self.gradients.reshape(-1, LANES)
            rows[:] = _halved(rows)
        if self._held is not None:
            np.copyto(self.gradients, np.float32(0), where=self._held)

    def evaluate(self, stop: Stop) -> list[Evaluated]:
        """As `Fleet.evaluate`."""
        splits = [s for s in (self._train, self._test, self._validation) if s is not None]
        with np.errstate(all="ignore"):
            each = zip(*(self._evaluate(images, stop) for images in splits), strict=True)
            return [Evaluated.of(*of_network) for of_network in each]

    def member(self, index: int) -> nn.Module:
        """As `Fleet.member`: the network of a lane."""
        net = channels_last(deepcopy(self._nets[index]))
        numbers = torch.from_numpy(self.weights.reshape(-1, LANES)[:, index].copy())
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                place = self._at.weights[name] // LANES
                parameter.copy_(numbers[place : place + parameter.numel()].view(parameter.shape))
        return net.eval()

    def freeze(self, index: int) -> None:
        """As `Fleet.freeze`; a lane never sees another one, so there is nothing to do."""

    def state(self) -> dict[str, Tensor]:
        """As `Fleet.state`."""
        return {"weights": torch.from_numpy(self.weights), **self._optimiser.state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """As `Fleet.restore`."""
        self.weights[:] = state["weights"].numpy()
        self._optimiser.restore(state)

    def _evaluate(self, images: _Images, stop: Stop) -> list[Evaluation]:
        losses: list[NDArray[np.float64]] = []
        right: list[NDArray[np.bool_]] = []
        for part in self._parts(np.arange(len(images)), stop):
            logits_NKL = self._logits(images, part)
            labels_N = images.labels[part]
            losses_NL = np.empty((len(part), logits_NKL.shape[2]))
            self._code.module.losses(logits_NKL, labels_N, losses_NL)
            losses.append(losses_NL)
            right.append(logits_NKL.argmax(1) == labels_N[:, None])
        loss_L = sum((part_NL.sum(0) for part_NL in losses), np.zeros(1)) / len(images)
        right_NL, losses_NL = np.concatenate(right), np.concatenate(losses)
        return [
            Evaluation(
                loss=float(loss_L[lane]),
                accuracy=int(right_NL[:, lane].sum()) / len(images),
                answers=SplitAnswers.of(right_NL[:, lane], losses_NL[:, lane]),
            )
            for lane in range(len(self._nets))
        ]

    def _logits(self, images: _Images, part: NDArray[np.int64]) -> Floats:
        """Logits (N, K, L); of a lone network, whose lanes are samples, the same in every lane."""
        rounds = -(-len(part) // LANES) if self._at.lone else len(part)
        out = np.empty(rounds * self._at.chain.classes * LANES, np.float32)
        self._code.module.logits(
            images.pixels, images.marks, images.labels, part, self.weights, self.gradients,
            self._floats, self._integers, self._background, out,
        )  # fmt: skip
        logits: Floats = out.reshape(rounds, -1, LANES)
        return logits.swapaxes(1, 2).reshape(rounds * LANES, -1, 1)[: len(part)] if self._at.lone else logits

    def _spread(self, value_N: Sequence[float]) -> Floats:
        """One value a network, for each number of the weights; a lone network's value in all lanes."""
        rest = value_N[0] if self._at.lone else 0.0
        lanes = [*value_N, *[rest] * (LANES - len(value_N))]
        return np.tile(np.array(lanes, np.float32), len(self.weights) // LANES)

    def _parts(self, order: NDArray[np.int64], stop: Stop) -> Iterator[NDArray[np.int64]]:
        for first in range(0, len(order), self._code.samples_a_call):
            if stop():
                raise Stopped
            yield order[first : first + self._code.samples_a_call]


def _lesson(teacher: nn.Module, train: Split, distill: Distillation) -> tuple[Floats, Floats]:
    """What kernels read of a teacher: its softened answers to the train images, flat, and three factors.

    Those are of the fault against the classes, of that against the teacher (of the square of the temperature its derivative
    leaves one), and of a logit's distance to the highest, for powers of 2.
    """
    weight, temperature = distill.weight, distill.temperature
    taught: Floats = F.softmax(answers_on(teacher, train) / temperature, 1).numpy().reshape(-1)
    factors = np.array([1 - weight, weight * temperature, 1 / (temperature * log(2))], np.float32)
    return taught, factors


def _packed(nets: Sequence[nn.Module]) -> Floats:
    """All parameters, one network a lane; lanes without a network repeat the first."""
    lanes = [torch.cat([p.detach().flatten() for p in net.parameters()]).numpy() for net in nets]
    lanes += [lanes[0]] * (LANES - len(lanes))
    packed: Floats = aligned(len(lanes[0]) * LANES)
    packed[:] = np.stack(lanes, axis=1).reshape(-1)
    return packed


def _held(nets: Sequence[nn.Module]) -> NDArray[np.bool_] | None:
    """Which numbers of the packed weights a mask holds at zero, None where there is no mask.

    Their gradients are put to zero; momentum and decay then leave them at zero, to the bit.
    """
    masks = [kept_weights(net) for net in nets]
    if not any(masks):
        return None
    lanes = [
        torch.cat([
            (~kept[name] if name in kept else torch.zeros_like(p, dtype=torch.bool)).flatten()
            for name, p in net.named_parameters()
        ]).numpy()
        for net, kept in zip(nets, masks, strict=True)
    ]  # fmt: skip
    lanes += [lanes[0]] * (LANES - len(lanes))
    return np.stack(lanes, axis=1).reshape(-1)


def _halved(rows: Floats) -> Floats:
    """Sums over the lanes, in halves, so that the order is the same on every machine."""
    while rows.shape[1] > 1:
        half = rows.shape[1] // 2
        rows = rows[:, :half] + rows[:, half:]
    return rows


# Padding and marking take about a second for a dataset, a fleet sometimes less.
_PREPARED: Any = WeakTensorKeyDictionary()


def _images(split: Split, background_C: Tensor, layout: Layout) -> _Images:
    first = layout.chain.stages[0]
    known = _PREPARED.setdefault(split.images_NCHW, {})
    windows = (first.padding, first.stride, first.kernel, first.window) if isinstance(first, Product) else None
    key = (windows, layout.skips, tuple(background_C.tolist()))
    if key not in known:
        known[key] = _prepared(split, background_C, layout)
    found: _Images = known[key]
    return found


def _prepared(split: Split, background_C: Tensor, layout: Layout) -> _Images:
    first = layout.chain.stages[0]
    images_NCHW = split.images_NCHW.contiguous()
    if isinstance(first, Product) and any(first.padding):
        down, across = first.padding
        images_NCHW = F.pad(images_NCHW, (across, across, down, down))
    marks = np.zeros(1, np.uint8)
    if layout.skips and isinstance(first, Product):
        marks = np.concatenate([_marked(part, background_C, first) for part in torch.split(images_NCHW, 1000)])
    return _Images(pixels=images_NCHW.numpy().reshape(-1), marks=marks.reshape(-1), labels=split.labels_N.numpy())


def _blank_image(background_C: Tensor, layout: Layout) -> Floats:
    pixels = prod(padded(layout.chain.stages[0])[1:])
    return np.ascontiguousarray(background_C.numpy()[:, None].repeat(pixels, 1), np.float32).reshape(-1)


def _background(images_NCHW: Tensor) -> Tensor:
    """Each channel's most frequent value, over the first images."""
    return images_NCHW[:100].transpose(0, 1).flatten(1).mode(1).values


def _marked(images_NCHW: Tensor, background_C: Tensor, first: Product) -> NDArray[np.uint8]:
    """Which windows of the first stage, with their kernels around them, see background alone."""
    foreground = (images_NCHW != background_C[:, None, None]).any(1, keepdim=True).float()
    reach = [k + (w - 1) * s for k, w, s in zip(first.kernel, first.window, first.stride, strict=True)]
    step = [w * s for w, s in zip(first.window, first.stride, strict=True)]
    seen = F.max_pool2d(foreground, reach, step)[..., : first.cells[0], : first.cells[1]]
    return (seen == 0).numpy().astype(np.uint8)
