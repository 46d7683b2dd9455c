"""Recurrent layers and cells: which channels of their weights are hidden units, and what they compute step by step.

All layers and directions of a recurrent module have one hidden size, so hidden unit j is the j-th of each of them: its
row in every gate, its column in the recurrent weights, and its place among the inputs of the next layer.

Letters: T steps, B examples, S layers times directions, G gates, H hidden units (cells), P outputs of a direction (H, but
in an LSTM with projections), D directions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.rnn import RNNCellBase

from trueoracle.nets.flow import Flow, spread
from trueoracle.nets.sites import Role
from trueoracle.nets.ties import Numbers, Side

FUNCTIONS = ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
"""What torch calls the functions of these modules."""

_NOTED_SIZES = ("hidden_size", "hidden_dim")

Linear = Callable[[Tensor, str], Tensor]
"""The product of a tensor with the weight of a name, and its bias added."""


def is_recurrent(module: object) -> bool:
    """Whether it is a recurrent layer or cell."""
    return isinstance(module, nn.RNNBase | RNNCellBase)


def is_plain(layer: nn.Module, args: tuple[Any, ...]) -> bool:
    """Whether a function of `FUNCTIONS`, called so by `layer`, computes with its own weights, not on packed sequences."""
    if isinstance(layer, nn.RNNBase):
        packed = isinstance(args[1], Tensor) and not args[1].is_floating_point()
        return not packed and all(name in layer._parameters for name in layer._flat_weights_names)
    return isinstance(layer, RNNCellBase) and "weight_hh" in layer._parameters


def follow(flow: Flow, result: Any, args: tuple[Any, ...]) -> None:
    """Where channels go in and come out, and which rows and columns of the weights go together."""
    layer, layers = flow.module, _endings(flow.module)
    first, projects = layers[0][0], bool(getattr(layer, "proj_size", 0))
    outs_P = _side(flow, f"weight_hh{first}", Role.CONSUMER)
    cells_H = _side(flow, f"weight_hr{first}", Role.CONSUMER) if projects else outs_P
    for ways in layers:
        for ending in ways:
            for weight in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                _tie(flow, weight + ending, Role.FOLLOWER if weight.startswith("bias") else Role.PRODUCER, cells_H)
            _tie(flow, f"weight_hh{ending}", Role.CONSUMER, outs_P)
            _tie(flow, f"weight_hr{ending}", Role.CONSUMER, cells_H)
            _tie(flow, f"weight_hr{ending}", Role.PRODUCER, outs_P)
            if ways is layers[0]:
                flow.through(args[0], -1, Side(f"{flow.path}.weight_ih{ending}", Role.CONSUMER, 1))
            else:
                _tie(flow, f"weight_ih{ending}", Role.CONSUMER, outs_P)
    if projects:
        reason = "an LSTM that projects must have more cells than outputs, or torch takes it for one that does not"
        flow.ties.stuck.append((cells_H, reason))
    given = args[1] if isinstance(args[1], tuple | list) else args[1:2]
    for state, numbers in zip(given, (outs_P, cells_H), strict=False):
        if flow.resolved(state) is not None:
            flow.through(state, -1, Side(flow.path, Role.CONSUMER, 1), numbers)
    made = result if isinstance(result, tuple) else (result,)
    sequence = [np.tile(outs_P, len(layers[0]))] if isinstance(layer, nn.RNNBase) else []
    for value, numbers in zip(made, [*sequence, outs_P, cells_H], strict=False):
        spread(flow, value, -1, numbers)


def _tie(flow: Flow, weight: str, role: Role, numbers: Numbers) -> None:
    """The channels of one side of a weight, if the layer has it, are these, over and over again."""
    if getattr(flow.module, weight, None) is not None:
        own = _side(flow, weight, role)
        flow.ties.tie(np.tile(numbers, len(own) // len(numbers)), own)


def _side(flow: Flow, weight: str, role: Role) -> Numbers:
    dim, tensor = int(role is Role.CONSUMER), getattr(flow.module, weight)
    side = Side(f"{flow.path}.{weight}", role, dim, bare=role is Role.FOLLOWER)
    return flow.ties.side(side, tensor.shape[dim], tensor, dim)


def _endings(layer: nn.Module) -> list[list[str]]:
    """What the names of the weights of each layer end on, by direction; a cell has one layer, whose names end on nothing."""
    if not isinstance(layer, nn.RNNBase):
        return [[""]]
    ways = ("", "_reverse") if layer.bidirectional else ("",)
    return [[f"_l{number}{way}" for way in ways] for number in range(layer.num_layers)]


def tell_sizes(layer: Any, around: Any) -> None:
    """Its sizes are those of its weights; the module `around` it may have noted one, to begin at zeros of that size."""
    ending, before = _endings(layer)[0][0], layer.hidden_size
    layer.input_size = getattr(layer, f"weight_ih{ending}").shape[1]
    projection = getattr(layer, f"weight_hr{ending}", None)
    if projection is None:
        layer.hidden_size = getattr(layer, f"weight_hh{ending}").shape[1]
    else:
        layer.proj_size, layer.hidden_size = projection.shape
    for word in _NOTED_SIZES:
        if getattr(around, word, None) == before:
            setattr(around, word, layer.hidden_size)


@torch.no_grad()
def step_by_step(layer: nn.Module, function: str, args: tuple[Any, ...], linear: Linear) -> Any:
    """What `function` gives for `args`, by products that `linear` computes, each step of each layer by itself."""
    x, state = args[:2]
    kind = function.removesuffix("_cell")
    if not isinstance(layer, nn.RNNBase):
        hidden = tuple(state) if kind == "lstm" else (state,)
        made = _step(kind, linear, "", x, hidden, projects=False)
        return made if kind == "lstm" else made[0]
    states = tuple(state) if kind == "lstm" else (state,)
    x_TBI = x.transpose(0, 1) if layer.batch_first else x
    last: list[tuple[Tensor, ...]] = []
    for endings in _endings(layer):
        ways = []
        for ending in endings:
            hidden = tuple(one[len(last)] for one in states)
            steps = []
            backwards = ending.endswith("_reverse")
            for x_BI in reversed(x_TBI) if backwards else x_TBI:
                hidden = _step(kind, linear, ending, x_BI, hidden, projects=bool(layer.proj_size))
                steps.append(hidden[0])
            ways.append(torch.stack(steps[::-1] if backwards else steps))
            last.append(hidden)
        x_TBI = torch.cat(ways, -1)
    output = x_TBI.transpose(0, 1) if layer.batch_first else x_TBI
    return (output, *(torch.stack(one) for one in zip(*last, strict=True)))


def _step(
    kind: str, linear: Linear, ending: str, x_BI: Tensor, hidden: tuple[Tensor, ...], *, projects: bool
) -> tuple[Tensor, ...]:
    """The next hidden state, and of an LSTM the next cell state."""
    came, kept = linear(x_BI, f"weight_ih{ending}"), linear(hidden[0], f"weight_hh{ending}")
    if kind == "lstm":
        take, keep, new, show = (came + kept).chunk(4, -1)
        cell = keep.sigmoid() * hidden[1] + take.sigmoid() * new.tanh()
        out = show.sigmoid() * cell.tanh()
        return (linear(out, f"weight_hr{ending}") if projects else out), cell
    if kind == "gru":
        (reset, update, new), (reset_h, update_h, new_h) = came.chunk(3, -1), kept.chunk(3, -1)
        update = (update + update_h).sigmoid()
        new = (new + (reset + reset_h).sigmoid() * new_h).tanh()
        return ((1 - update) * new + update * hidden[0],)
    return ((came + kept).tanh() if kind == "rnn_tanh" else (came + kept).relu(),)
