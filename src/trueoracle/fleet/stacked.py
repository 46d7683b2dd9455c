"""Many networks of one shape as one stacked network: a leading model axis on every weight, one step for all.

`torch.func.vmap` turns a layer over stacked weights into grouped convolutions and batched products, so any module
whose forward pass it can follow takes part, BatchNorm included. On a GPU a whole step is captured once as a CUDA
graph and replayed; on a CPU the same steps run one by one (slower than one network at a time: it is there so that the
code that runs on GPUs is tested without one).

Letters: N models, B batch, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from trueoracle.data import Dataset, Split, images_of
from trueoracle.fleet.loop import Stopped, Trained, batches, learning_rate, orders
from trueoracle.spec import Recipe
from trueoracle.trial import Figures, Outcome, best_epoch

Tensors = dict[str, Tensor]

# AdamW's constants, as torch has them.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_EVALUATED_AT_ONCE = {"cpu": 250, "cuda": 1000}


def train_stacked(
    nets: Sequence[nn.Module],
    data: Dataset,
    recipe: Recipe,
    order_seed: int,
    stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[], None] = lambda: None,
) -> list[Trained]:
    """As `train` for each of `nets`, all of one shape, in lockstep on the same batches; results in their order.

    A member whose loss is no longer finite is `DIVERGED` and its weights stay as they were; the others go on as
    if it were not there.
    """
    train = images_of(data.train)
    stack = _Stack(nets, recipe)
    curves: list[list[Figures]] = [[] for _ in nets]
    kept: list[nn.Module | None] = [None for _ in nets]
    for epoch, order in orders(recipe, len(data.train), order_seed):
        stack.lr.fill_(learning_rate(recipe, epoch))
        for batch_B in batches(order, recipe.batch_size, data.device):
            if stop():
                raise Stopped
            stack.step(train.images_NCHW[batch_B], train.labels_N[batch_B])
        for member, figures in enumerate(stack.figures(data)):
            if not stack.alive_N[member]:
                continue
            if not figures.finite():
                stack.alive_N[member] = False
                continue
            curves[member].append(figures)
            if recipe.keep == "best_on_test" and best_epoch(curves[member]) == epoch:
                kept[member] = stack.member(member)
        on_epoch()
    return [
        Trained(
            net=kept[member] or stack.member(member),
            curve=tuple(curves[member]),
            outcome=Outcome.FINISHED if stack.alive_N[member] else Outcome.DIVERGED,
        )
        for member in range(len(nets))
    ]


class _Stack:
    """Stacked weights and buffers of N networks with the state of their optimiser."""

    def __init__(self, nets: Sequence[nn.Module], recipe: Recipe) -> None:
        self._skeleton = deepcopy(nets[0])
        self._recipe = recipe
        parameters, buffers = stack_module_state(list(nets))
        self._parameters: Tensors = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        self._buffers: Tensors = {name: b.clone() for name, b in buffers.items()}
        device = next(iter(self._parameters.values())).device
        moments = 1 if recipe.optimiser == "sgd" else 2
        self._moments = [{n: torch.zeros_like(p) for n, p in self._parameters.items()} for _ in range(moments)]
        self._steps = torch.zeros((), dtype=torch.float64, device=device)
        self.lr = torch.zeros((), dtype=torch.float64, device=device)
        self.alive_N = torch.ones(len(nets), dtype=torch.bool, device=device)
        self._graphs: dict[int, _Graph] = {}

    def step(self, images_BCHW: Tensor, labels_B: Tensor) -> None:
        """One step of the optimiser for every member on the same batch."""
        if images_BCHW.device.type != "cuda":
            self._step(images_BCHW, labels_B)
            return
        size = len(labels_B)
        if size not in self._graphs:  # two sizes at most: whole batches and the last
            self._graphs[size] = _Graph(self._step, images_BCHW, labels_B, self._state())
        self._graphs[size].replay(images_BCHW, labels_B)

    def figures(self, data: Dataset) -> Iterator[Figures]:
        """Losses and accuracies of each member on both splits, eval mode."""
        splits = [self._evaluate(images_of(split)) for split in (data.train, data.test)]
        for (train_loss, train_accuracy), (test_loss, test_accuracy) in zip(*splits, strict=True):
            yield Figures(
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                test_loss=test_loss,
                test_accuracy=test_accuracy,
            )

    def member(self, index: int) -> nn.Module:
        """A member as a network of its own, in eval mode."""
        net = deepcopy(self._skeleton)
        state = {**self._parameters, **self._buffers}
        net.load_state_dict({name: state[name][index].detach() for name in net.state_dict()})
        return net.eval()

    def _logits(self, images_BCHW: Tensor) -> Tensor:
        """Logits of every member, (N, B, K)."""

        def forward(parameters: Tensors, buffers: Tensors) -> Tensor:
            logits: Tensor = functional_call(self._skeleton, (parameters, buffers), (images_BCHW,))
            return logits

        logits_NBK: Tensor = vmap(forward, randomness="different")(self._parameters, self._buffers)
        return logits_NBK

    def _step(self, images_BCHW: Tensor, labels_B: Tensor) -> None:
        self._skeleton.train()
        losses_NB = _cross_entropy(self._logits(images_BCHW), labels_B)
        # The members share no weight, so the gradient of the sum holds each member's own.
        gradients = torch.autograd.grad(losses_NB.mean(1).sum(), list(self._parameters.values()))
        with torch.no_grad():
            self._steps += 1
            for (name, parameter), gradient in zip(self._parameters.items(), gradients, strict=True):
                alive = self.alive_N.view(-1, *[1] * (parameter.ndim - 1))
                parameter.copy_(torch.where(alive, self._updated(name, parameter, gradient), parameter))

    def _updated(self, name: str, parameter: Tensor, gradient: Tensor) -> Tensor:
        """A weight after this step: torch's momentum SGD and AdamW, written out over the stack."""
        decay = self._recipe.weight_decay
        if self._recipe.optimiser == "sgd":
            velocity = self._moments[0][name]
            velocity.mul_(self._recipe.momentum).add_(gradient).add_(parameter, alpha=decay)
            return parameter - self.lr * velocity
        mean, square = (moment[name] for moment in self._moments)
        mean.mul_(_BETA1).add_(gradient, alpha=1 - _BETA1)
        square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        root = (square / (1 - _BETA2**self._steps)).sqrt() + _EPSILON
        return parameter * (1 - self.lr * decay) - self.lr * mean / (1 - _BETA1**self._steps) / root

    @torch.no_grad()
    def _evaluate(self, split: Split) -> list[tuple[float, float]]:
        self._skeleton.eval()
        device = split.labels_N.device
        size = _EVALUATED_AT_ONCE[device.type]
        loss_N = torch.zeros(len(self.alive_N), dtype=torch.float64, device=device)
        correct_N = torch.zeros(len(self.alive_N), dtype=torch.int64, device=device)
        for images, labels in zip(torch.split(split.images_NCHW, size), torch.split(split.labels_N, size), strict=True):
            logits_NBK = self._logits(images).double()
            loss_N += _cross_entropy(logits_NBK, labels).sum(1)
            correct_N += (logits_NBK.argmax(2) == labels).sum(1)
        count = len(split)
        return list(zip((loss_N / count).tolist(), (correct_N.double() / count).tolist(), strict=True))

    def _state(self) -> list[Tensor]:
        """Every tensor that a step changes."""
        moments = [tensor for moment in self._moments for tensor in moment.values()]
        return [*self._parameters.values(), *self._buffers.values(), *moments, self._steps]


class _Graph:
    """A step captured as a CUDA graph for one batch size."""

    def __init__(
        self, step: Callable[[Tensor, Tensor], None], images: Tensor, labels: Tensor, state: list[Tensor]
    ) -> None:
        self._images, self._labels = images.clone(), labels.clone()
        before = [tensor.detach().clone() for tensor in state]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose their kernels in these rounds, outside the capture
            for _ in range(3):
                step(self._images, self._labels)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            step(self._images, self._labels)
        with torch.no_grad():  # the warming rounds did not count
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)

    def replay(self, images: Tensor, labels: Tensor) -> None:
        """Run the step on another batch of the same size."""
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()


def _cross_entropy(logits_NBK: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy of each member on each image, (N, B)."""
    n, b, k = logits_NBK.shape
    return F.cross_entropy(logits_NBK.reshape(n * b, k), labels_B.repeat(n), reduction="none").view(n, b)
