"""Networks by name: the built-in ones, those of plug-ins (`trueoracle.models`), a user's own, the hub's."""

from collections.abc import Callable
from functools import partial
from inspect import signature

import torch
from torch import nn

from trueoracle.nets.diffusion import DENOISERS, check_tells_noise, denoiser
from trueoracle.nets.hugging_face import pretrained, resnet18, resnet50, vit_b16
from trueoracle.nets.language import llava_mini, pretrained_language_model
from trueoracle.nets.lenet import LeNet5Mini
from trueoracle.nets.outputs import give_logits
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.resnet import CifarResNet
from trueoracle.nets.text import vocabulary
from trueoracle.nets.vgg import CifarVGG
from trueoracle.words.errors import ModelError, TrueOracleError
from trueoracle.words.plugins import imported, look_up, with_plugins
from trueoracle.words.shape import InputShape, NoiseShape, Shape, TextShape

Architecture = Callable[..., nn.Module]
"""Takes an `InputShape`; and, where the network can be had narrower, `width_factor` as a keyword."""

MODELS: dict[str, Architecture] = {
    "lenet5-mini": LeNet5Mini,
    "lenet5-mini-w20": partial(LeNet5Mini, width=20),
    "lenet5-mini-w30": partial(LeNet5Mini, width=30),
    "lenet5-mini-w40": partial(LeNet5Mini, width=40),
    "lenet5-mini-d6": partial(LeNet5Mini, hidden=2),
    "lenet5-mini-d7": partial(LeNet5Mini, hidden=3),
    "lenet5-mini-d8": partial(LeNet5Mini, hidden=4),
    "resnet20": partial(CifarResNet, blocks=3),
    "resnet32": partial(CifarResNet, blocks=5),
    "resnet44": partial(CifarResNet, blocks=7),
    "resnet56": partial(CifarResNet, blocks=9),
    "resnet110": partial(CifarResNet, blocks=18),
    "vgg19": CifarVGG,
    "hf-resnet18": resnet18,
    "hf-resnet50": resnet50,
    "vit-b16": vit_b16,
}

LANGUAGE_MODELS: dict[str, Architecture] = {"llava-mini": llava_mini}
"""Those that read text, and are so no choice for images; freshly initialised, as those of `MODELS` are."""

_HUB = "hf:"
_GREY = InputShape(channels=1, height=32, width=32, classes=10)
_SMALL = InputShape(channels=3, height=32, width=32, classes=10)
_IMAGENET = InputShape(channels=3, height=224, width=224, classes=1000)
_USUAL = {"lenet5-mini": _GREY, "resnet": _SMALL, "vgg": _SMALL, "hf-resnet": _IMAGENET, "vit": _IMAGENET}


def build(name: str, shape: Shape, seed: int = 0, width_factor: float = 1.0, *, trained: bool = False) -> nn.Module:
    """A network on the CPU, in eval mode; the same for the same seed.

    `name` is one of `MODELS` or of the installed plug-ins, freshly initialised; `package.module:factory`, a user's own
    network; or `hf:` and a hub id or a folder, with its weights: a classifier where `shape` is of images, a language
    model where it is of text. `trained` says that it will be used as it is, so it
    must come with weights that know the classes. `width_factor` multiplies the filters, neurons or heads of every
    layer. Raises `ModelError` for an unknown name, a shape that the network cannot take, or a factor for a network of
    one width.
    """
    if trained and not has_weights(name):
        raise ModelError(f"`{name}` comes without weights: give them, as a safetensors file")
    architecture = _architecture(name, shape, trained)
    if width_factor != 1:
        if "width_factor" not in signature(architecture).parameters:
            raise ModelError(f"`{name}` has one width: leave `width_factor` at 1, not {width_factor:g}")
        architecture = partial(architecture, width_factor=width_factor)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = architecture(shape)
    if not isinstance(net, nn.Module):
        raise ModelError(f"`{name}` must make a torch.nn.Module, but made a {type(net).__name__}")
    check_forward(net.eval(), shape, name)
    return net


def usual_shape(name: str) -> Shape | None:
    """What a built-in network is known for: grey digits, CIFAR-10, ImageNet, or text; None for any other name."""
    if name in LANGUAGE_MODELS:
        return TextShape()
    families = (shape for family, shape in _USUAL.items() if name.startswith(family))
    return next(families, None) if name in MODELS else None


def classes_of(net: nn.Module, shape: Shape) -> int:
    """What `net` chooses among: classes, or tokens; 0 where it tells noise, and so chooses among nothing."""
    if isinstance(shape, NoiseShape):
        return 0
    return vocabulary(net) if isinstance(shape, TextShape) else shape.classes


def has_weights(name: str) -> bool:
    """Whether a network of this name comes trained."""
    return name.startswith(_HUB)


def check_forward(net: nn.Module, shape: Shape, name: str) -> None:
    """`ModelError` where `net` does not map images or texts of this shape to logits; it then returns them alone."""
    if not any(True for _ in net.parameters()):
        raise ModelError(f"`{name}` has no parameters")
    if isinstance(shape, InputShape):
        return give_logits(net, shape, name)
    if isinstance(shape, NoiseShape):
        return check_tells_noise(net, shape, name)
    try:
        with torch.inference_mode():
            logits_of_noise(net, shape, 1)
    except Exception as error:  # whatever a forward pass raises
        raise ModelError(f"`{name}` cannot take {shape}: {error}") from error


def _architecture(name: str, shape: Shape, trained: bool) -> Architecture:
    if isinstance(shape, TextShape):
        if name in LANGUAGE_MODELS:
            return LANGUAGE_MODELS[name]
        if not name.startswith(_HUB):
            raise ModelError(
                f"`{name}` reads no text: name llava-mini, or a language model such as hf:OWNER/NAME or hf:FOLDER"
            )
        return lambda _shape: pretrained_language_model(name.removeprefix(_HUB))
    if isinstance(shape, NoiseShape) and (
        name in DENOISERS or name.startswith(("diffusers:", _HUB)) or ":" not in name
    ):
        return partial(denoiser, name)
    if name.startswith(_HUB):
        return partial(pretrained, name.removeprefix(_HUB), new_head=not trained)
    if ":" in name:
        return _own(name)
    return look_up("model", name, with_plugins("models", MODELS), ModelError)


def _own(name: str) -> Architecture:
    """A user's factory: one with a parameter that must be given gets the `InputShape`, any other is called as it is."""
    factory = imported(name, ModelError)
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ModelError(
            f"`{name}` must be a function or class that makes a network, but is a {type(factory).__name__}"
        )
    needed = [
        parameter
        for parameter in signature(factory).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        names = ", ".join(parameter.name for parameter in needed)
        raise ModelError(f"`{name}` must need no argument or an `InputShape` alone, but it needs {names}")

    def make(shape: InputShape) -> nn.Module:
        try:
            return factory(shape) if needed else factory()  # type: ignore[no-any-return]
        except TrueOracleError:
            raise
        except Exception as error:  # whatever the user's code raises
            raise ModelError(f"`{name}` cannot be made for {shape}: {type(error).__name__}: {error}") from error

    return make
