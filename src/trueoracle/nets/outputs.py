"""Where a network's logits are in what it returns: the tensor itself, or the one in a dict, an object or a tuple.

It is found once, on random images; from then on the network's forward pass returns the logits alone, so that nothing
that calls a network knows of any other output.

Letters: B images, K classes.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from trueoracle.nets.probe import logits_of_noise
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import InputShape

_IMAGES = 2  # one image would have no variance for a BatchNorm in training


def give_logits(net: nn.Module, shape: InputShape, name: str) -> None:
    """Let `net`, in eval mode, return logits alone, in training as well; its layers and weights keep their names.

    `ModelError` where it returns no tensor of shape (B, K), or several and none of them is called `logits`.
    """
    place = _place(_output(net, shape, name), shape, name)
    trained = _place_in_training(net, shape, name)
    if trained is not None and place is not None and trained != place:
        raise ModelError(f"`{name}` must return its logits in training where it returns them otherwise: {place!r}")
    found = trained if place is None else place
    if found is not None:
        _read_at(net, found)


def _output(net: nn.Module, shape: InputShape, name: str) -> Any:
    try:
        with torch.inference_mode():
            return logits_of_noise(net, shape, _IMAGES)
    except Exception as error:  # whatever a forward pass raises
        raise ModelError(f"`{name}` cannot take {shape}: {error}") from error


def _place_in_training(net: nn.Module, shape: InputShape, name: str) -> "str | int | None":
    """As `_place`, in train mode: some networks return more then. A network that fails there says so when it trains."""
    try:
        copy = deepcopy(net).train()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            output = logits_of_noise(copy, shape, _IMAGES)
    except Exception:
        return None
    return _place(output, shape, f"{name}, in training,")


def _place(output: Any, shape: InputShape, name: str) -> "str | int | None":
    """The key, attribute or index of the logits in what a network returned; None where that is the logits."""
    if isinstance(output, Tensor):
        if output.shape == (_IMAGES, shape.classes):
            return None
        raise _no_logits(name, shape, str(_form(output)))
    parts = _parts(output)
    fitting: list[str | int] = [key for key, part in parts.items() if _form(part) == (1, shape.classes)]
    if "logits" in fitting:
        return "logits"
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        held = ", ".join(f"{key}: {_form(part)}" for key, part in parts.items() if isinstance(part, Tensor))
        raise _no_logits(name, shape, f"a {type(output).__name__}" + (f" with {held}" if held else ""))
    raise ModelError(
        f"`{name}` returns {len(fitting)} tensors that could be the logits ({', '.join(map(str, fitting))}): "
        "return one, or call one `logits`"
    )


def _parts(output: Any) -> dict[str | int, Any]:
    """What lies in a dict, a tuple or an object, by key, index or attribute."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    if isinstance(output, tuple | list):
        return dict(enumerate(output))
    return dict(vars(output)) if hasattr(output, "__dict__") else {}


def _form(part: Any) -> tuple[int, ...] | None:
    """The shape of a tensor for one image; None for what is none."""
    return (1, *part.shape[1:]) if isinstance(part, Tensor) and part.ndim else None


def _no_logits(name: str, shape: InputShape, found: str) -> ModelError:
    return ModelError(
        f"`{name}` must map an image to a tensor of shape (1, {shape.classes}), a logit a class, but gives {found}"
    )


def _read_at(net: nn.Module, place: "str | int") -> None:
    """Make `net` return what lies at `place` of its output: it becomes of a class of its own, derived from its own."""
    own = type(net)

    def forward(self: nn.Module, x: Tensor) -> Any:
        output = own.forward(self, x)
        if isinstance(output, Mapping):
            return output[place]
        if isinstance(place, int):
            return output[place] if isinstance(output, tuple | list) else output
        is_object = isinstance(output, tuple) or (hasattr(output, "__dict__") and place in vars(output))
        return getattr(output, place) if is_object else output

    net.__class__ = type(own.__name__, (own,), {"forward": forward, "__module__": own.__module__})
