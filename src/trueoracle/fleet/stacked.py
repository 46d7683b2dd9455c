"""Fleets on a GPU: networks of one shape as one, with a leading axis of networks on every weight and buffer.

`torch.func.vmap` turns a layer over stacked weights into grouped convolutions and batched products, so every network
whose layers it can follow takes part, BatchNorm included. On a GPU a whole step is captured once as a CUDA graph
and replayed; on a CPU the same steps run one by one, slower than one network at a time: so the code that runs on
GPUs is tested without one.

Letters: N networks, B batch, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from threading import Lock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from trueoracle.data import Dataset, Split, images_of
from trueoracle.fleet.distillation import answers_on, divergence
from trueoracle.fleet.evaluated import Evaluated
from trueoracle.fleet.fleet import Place, Stop, Stopped
from trueoracle.lanes import LANES
from trueoracle.nets import Evaluation, kept_weights
from trueoracle.words.spec import Recipe
from trueoracle.words.trial import SplitAnswers

Tensors = dict[str, Tensor]

# AdamW's constants, as torch has them.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
# What is free is shared with the gradients of activations and with the workspace of the libraries.
_SHARE_OF_MEMORY = 0.4
# Weight, gradient, two moments, the updated weight and a copy of the best epoch.
_COPIES_OF_A_WEIGHT = 6

# Held while a fleet is trained on a GPU: its size was chosen for all of the memory, and the capture of a step must
# not see the work of another thread.
_ONE_AT_A_TIME = Lock()


class NotStackable(Exception):
    """Why networks cannot be stacked: the end of a sentence that begins with the network."""


def check_stackable(net: nn.Module, data: Dataset) -> None:
    """`NotStackable` says what in `net` keeps copies of it from being trained as one."""
    for name, layer in net.named_modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            raise NotStackable(f"draws at random (`{name}`)")
        if any(True for _ in layer.parameters(recurse=False)) and not isinstance(layer, _LAYERS):
            raise NotStackable(f"has weights in a layer of another kind (`{type(layer).__name__}`)")
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            raise NotStackable(f"has frozen weights (`{name}`)")
    try:
        _bytes_for_backward(net, images_of(data.train).images_NCHW[:2])
    except Exception as problem:
        raise NotStackable(f"cannot be followed by vmap ({type(problem).__name__})") from None


def fleet_size(net: nn.Module, data: Dataset, batch_size: int) -> int:
    """How many such networks fit the GPU's free memory, at least one; on a CPU, sixteen."""
    if data.device.type != "cuda":
        return LANES
    free, _ = torch.cuda.mem_get_info(data.device)
    return max(1, int(_SHARE_OF_MEMORY * free / bytes_a_network(net, data, batch_size)))


def bytes_a_network(net: nn.Module, data: Dataset, batch_size: int) -> int:
    """The memory that one more network of a fleet takes: copies of its weights and what backward needs of a batch."""
    state = sum(p.numel() * p.element_size() for p in net.parameters())
    return (
        _COPIES_OF_A_WEIGHT * state + _bytes_for_backward(net, images_of(data.train).images_NCHW[:2]) * batch_size // 2
    )


def _bytes_for_backward(net: nn.Module, images_BCHW: Tensor) -> int:
    """Bytes that a stack's forward pass keeps for the backward pass, a network."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    stack = _Stack([net, net])
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        stack.logits(images_BCHW, training=True)
    return sum(kept.values()) // 2


class StackedFleet:
    """N networks of one shape and the state of their optimiser, stacked: a `Fleet`.

    With `capture` a step on a GPU is captured once and replayed; without, its kernels are launched one by one.
    """

    def __init__(
        self,
        nets: Sequence[nn.Module],
        data: Dataset,
        recipes: Sequence[Recipe],
        teacher: nn.Module | None = None,
        *,
        capture: bool = True,
    ) -> None:
        self._capture = capture and data.device.type == "cuda"
        self._recipe = recipes[0]
        self._train, self._test = images_of(data.train), images_of(data.test)
        self._validation = None if data.validation is None else images_of(data.validation)
        self._taught_NK = answers_on(teacher, self._train) if teacher is not None else None
        self._stack = _Stack(nets)
        weights = self._stack.parameters
        moments = 1 if self._recipe.optimiser == "sgd" else 2
        self._moments = [{n: torch.zeros_like(p) for n, p in weights.items()} for _ in range(moments)]
        first = next(iter(weights.values()))
        self._steps = torch.zeros((), dtype=torch.float64, device=first.device)
        self._lr_N = first.new_zeros(len(nets))
        self._decay_N = first.new_tensor([own.weight_decay for own in recipes])
        self._judged: dict[int, tuple[Tensor, Tensor]] = {}
        self._graphs: dict[tuple[str, int], _Graph] = {}

    def set_rates(self, lr_N: Sequence[float]) -> None:
        """As `Fleet.set_rates`."""
        self._lr_N.copy_(torch.tensor(lr_N, dtype=torch.float64))

    def step(self, batch_B: Tensor, place: Place, stop: Stop) -> None:  # noqa: ARG002 - nothing in it is random
        """As `Fleet.step`."""
        if stop():
            raise Stopped
        batch = [self._train.images_NCHW[batch_B], self._train.labels_N[batch_B]]
        if self._taught_NK is not None:
            batch.append(self._taught_NK[batch_B])
        self._run("step", self._step, batch, self._state)

    def evaluate(self, stop: Stop) -> list[Evaluated]:
        """As `Fleet.evaluate`."""
        splits = [s for s in (self._train, self._test, self._validation) if s is not None]
        each = zip(*(self._evaluate(split, stop) for split in splits), strict=True)
        return [Evaluated.of(*of_network) for of_network in each]

    def member(self, index: int) -> nn.Module:
        """As `Fleet.member`."""
        return self._stack.member(index)

    @torch.no_grad()
    def freeze(self, index: int) -> None:
        """As `Fleet.freeze`; all its numbers become zero, for a library may multiply those of neighbours by zero."""
        self._lr_N[index] = 0.0
        self._decay_N[index] = 0.0
        for tensor in self._state():
            if tensor.ndim:
                tensor[index] = 0

    def state(self) -> dict[str, Tensor]:
        """As `Fleet.state`."""
        return {str(number): tensor for number, tensor in enumerate(self._state())}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """As `Fleet.restore`; in place, for graphs that were captured write there."""
        for number, tensor in enumerate(self._state()):
            tensor.copy_(state[str(number)])

    def _step(self, images_BCHW: Tensor, labels_B: Tensor, taught_BK: Tensor | None = None) -> None:
        weights = self._stack.parameters
        with tf32(self._recipe.precision == "tf32"):
            gradients = self._gradients(images_BCHW, labels_B, taught_BK)
        with torch.no_grad():
            self._steps += 1
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                each = (-1, *[1] * (weight.ndim - 1))
                self._update(name, weight, gradient, self._lr_N.view(each), self._decay_N.view(each))

    def _gradients(self, images_BCHW: Tensor, labels_B: Tensor, taught_BK: Tensor | None) -> tuple[Tensor, ...]:
        """Of each network's mean loss: they share no weight, so the gradient of the sum holds each one's own.

        Where a mask holds weights at zero it is 0: momentum and decay then leave them at zero, to the bit.
        """
        with torch.autocast(labels_B.device.type, torch.bfloat16, enabled=self._recipe.precision == "bfloat16"):
            logits_NBK = self._stack.logits(images_BCHW, training=True)
            losses_NB = _cross_entropy(logits_NBK, labels_B)
            distill = self._recipe.distill
            if distill is not None and taught_BK is not None:
                losses_NB = losses_NB.lerp(divergence(logits_NBK, taught_BK, distill.temperature), distill.weight)
        found = torch.autograd.grad(losses_NB.mean(1).sum(), list(self._stack.parameters.values()))
        kept = self._stack.kept
        return tuple(
            torch.where(kept[name], gradient, 0.0) if name in kept else gradient
            for name, gradient in zip(self._stack.parameters, found, strict=True)
        )

    def _update(self, name: str, weight: Tensor, gradient: Tensor, lr: Tensor, decay: Tensor) -> None:
        """Momentum SGD and AdamW as torch has them, written out over the stack."""
        if self._recipe.optimiser == "sgd":
            velocity = self._moments[0][name]
            velocity.mul_(self._recipe.momentum).add_(gradient).add_(decay * weight)
            weight.sub_(lr * velocity)
            return
        mean, square = (moment[name] for moment in self._moments)
        mean.mul_(_BETA1).add_(gradient, alpha=1 - _BETA1)
        square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        root = (square / (1 - _BETA2**self._steps)).sqrt() + _EPSILON
        weight.mul_(1 - lr * decay).sub_(lr * mean / (1 - _BETA1**self._steps) / root)

    def _run(
        self,
        what: str,
        work: Callable[..., None],
        batch: Sequence[Tensor],
        state: Callable[[], list[Tensor]],
    ) -> None:
        """Do `work` on a batch, which changes the tensors of `state` alone; on a GPU, as a graph of its size.

        There are few sizes: whole batches and the last one of a split.
        """
        if not self._capture:
            return work(*batch)
        key = (what, len(batch[0]))
        if key not in self._graphs:
            self._graphs[key] = _Graph(work, batch, state())
        return self._graphs[key].replay(batch)

    @torch.no_grad()
    def _evaluate(self, split: Split, stop: Stop) -> list[Evaluation]:
        """In batches as large as those of training, for which there is memory; of few networks, in larger ones."""
        loss_N = torch.zeros_like(self._lr_N, dtype=torch.float64)
        losses: list[Tensor] = []
        right: list[Tensor] = []
        size = max(self._recipe.batch_size, split.at_once // len(self._lr_N))
        for images, labels in zip(torch.split(split.images_NCHW, size), torch.split(split.labels_N, size), strict=True):
            if stop():
                raise Stopped
            losses_NB, right_NB = self._judgement(len(labels))
            self._run("judge", self._judge, (images, labels), list)
            loss_N += losses_NB.sum(1)
            losses.append(losses_NB.float())  # kept as float16: the copy has half the memory and loses nothing
            right.append(right_NB.clone())
        right_of, losses_of = (torch.cat(parts, 1).cpu().numpy() for parts in (right, losses))
        return [
            Evaluation(
                loss=loss / len(split),
                accuracy=int(right_B.sum()) / len(split),
                answers=SplitAnswers.of(right_B, losses_B),
            )
            for loss, right_B, losses_B in zip(loss_N.tolist(), right_of, losses_of, strict=True)
        ]

    @torch.no_grad()
    def _judge(self, images_BCHW: Tensor, labels_B: Tensor) -> None:
        """Write losses and right answers where a graph writes them every time it runs."""
        losses_NB, right_NB = self._judgement(len(labels_B))
        logits_NBK = self._stack.logits(images_BCHW, training=False).double()
        losses_NB.copy_(_cross_entropy(logits_NBK, labels_B))
        right_NB.copy_(logits_NBK.argmax(2) == labels_B)

    def _judgement(self, size: int) -> tuple[Tensor, Tensor]:
        """The loss of each network on each image of a batch (float64), and whether it answers it right."""
        if size not in self._judged:
            shape, device = (len(self._lr_N), size), self._lr_N.device
            self._judged[size] = (
                torch.zeros(shape, dtype=torch.float64, device=device),
                torch.zeros(shape, dtype=torch.bool, device=device),
            )
        return self._judged[size]

    def _state(self) -> list[Tensor]:
        """Every tensor that a step changes."""
        moments = [tensor for moment in self._moments for tensor in moment.values()]
        return [*self._stack.parameters.values(), *self._stack.buffers.values(), *moments, self._steps]


class _Stack:
    """The weights and buffers of N networks, and their forward pass."""

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        self._skeleton = deepcopy(nets[0])
        self._working = _with_exact_norms(deepcopy(nets[0]))
        parameters, buffers = stack_module_state(list(nets))
        self.parameters: Tensors = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        self.buffers: Tensors = {name: b.clone() for name, b in buffers.items()}
        masks = [kept_weights(net) for net in nets]
        self.kept: Tensors = {name: torch.stack([of_net[name] for of_net in masks]) for name in masks[0]}

    def logits(self, images_BCHW: Tensor, *, training: bool) -> Tensor:
        """Logits of every network, (N, B, K); training, the statistics of BatchNorm move on."""
        self._working.train(training)

        def forward(parameters: Tensors, buffers: Tensors) -> Tensor:
            logits: Tensor = functional_call(self._working, (parameters, buffers), (images_BCHW,))
            return logits

        logits_NBK: Tensor = vmap(forward)(self.parameters, self.buffers)
        return logits_NBK

    def member(self, index: int) -> nn.Module:
        net = deepcopy(self._skeleton)
        state = {**self.parameters, **self.buffers}
        net.load_state_dict({name: state[name][index].detach() for name in net.state_dict()})
        return net.eval()


def _with_exact_norms(net: nn.Module) -> nn.Module:
    """`net` itself, whose BatchNorms get float32 at the least: on a GPU those over stacks take no bfloat16 beside
    statistics in float32.
    """
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_pre_hook(_exactly)
    return net


def _exactly(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.to(torch.promote_types(x.dtype, torch.float32)) for x in inputs)


class _Graph:
    """A step captured as a CUDA graph for one batch size."""

    def __init__(self, step: Callable[..., None], batch: Sequence[Tensor], state: list[Tensor]) -> None:
        self._batch = [tensor.clone() for tensor in batch]
        before = [tensor.detach().clone() for tensor in state]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose their kernels in these rounds, outside the capture
            for _ in range(3):
                step(*self._batch)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):  # other threads prune meanwhile
            step(*self._batch)
        with torch.no_grad():  # the warming rounds did not count
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)

    def replay(self, batch: Sequence[Tensor]) -> None:
        """Run the step on another batch of the same size."""
        for own, given in zip(self._batch, batch, strict=True):
            own.copy_(given)
        self._graph.replay()


@contextmanager
def gpu_to_itself(data: Dataset) -> Iterator[None]:
    """The GPU that the data lies on for one fleet; on a CPU, nothing."""
    if data.device.type != "cuda":
        yield
        return
    with _ONE_AT_A_TIME:
        yield


@contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """Products on a GPU rounded to TF32, or not."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = wanted
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _cross_entropy(logits_NBK: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy of each network on each image, (N, B)."""
    n, b, k = logits_NBK.shape
    return F.cross_entropy(logits_NBK.reshape(n * b, k), labels_B.repeat(n), reduction="none").view(n, b)
