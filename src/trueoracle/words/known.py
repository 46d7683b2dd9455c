"""What trueoracle brings, by name: known without loading any of it, so that a wrong word is refused at once.

The rooms hold the things themselves; tests bind these names to them.
"""

from typing import Literal

from trueoracle.words.errors import DataError, ModelError, SpecError, unknown
from trueoracle.words.plugins import plugin_names

Backend = Literal["auto", "lanes", "stacked", "loop"]
BACKENDS: tuple[Backend, ...] = ("auto", "lanes", "stacked", "loop")
PATHS = ("auto", "exact", "batched", "loop")
DEVICES = ("cpu", "cuda")

Removal = Literal["aligned", "released"]
"""How the layers that follow a pruned one are cut.

`aligned`: they lose the channels that the removed units fed. `released`: as the paper's released code does, they keep
the channels of the units of largest L1 norm, as many as the mask keeps, whichever mask it is; only the L1 mask
itself is then removed as it should be. That holds for every kind of unit: a following BatchNorm keeps the statistics
and affine parameters of the L1 mask's filters, an output projection the inputs of the L1 mask's heads.
"""

REMOVALS: tuple[Removal, ...] = ("aligned", "released")

DATASETS = ("cifar10", "cifar100", "digits", "fashion-mnist", "imagenet-1k", "kmnist", "kmnist10k", "mnist")

_LENET_UNITS = {"conv1": 10, "conv2": 10, "conv3": 10}
MODELS: dict[str, dict[str, int]] = {
    "lenet5-mini": _LENET_UNITS,
    "lenet5-mini-w20": {**_LENET_UNITS, "conv1": 20},
    "lenet5-mini-w30": {**_LENET_UNITS, "conv1": 30},
    "lenet5-mini-w40": {**_LENET_UNITS, "conv1": 40},
    "lenet5-mini-d6": _LENET_UNITS,
    "lenet5-mini-d7": _LENET_UNITS,
    "lenet5-mini-d8": _LENET_UNITS,
    "resnet20": {},
    "resnet32": {},
    "resnet44": {},
    "resnet56": {},
    "resnet110": {},
    "vgg19": {},
    "hf-resnet18": {},
    "hf-resnet50": {},
    "vit-b16": {},
}
"""Networks for images; with the units of the convolutions of those whose spaces built-in studies take whole."""

LANGUAGE_MODELS = ("llava-mini",)

DENOISERS = ("dit-mini", "unet2d-condition-mini", "unet2d-mini")
"""Networks for the noise in images."""


def check_model(name: str) -> None:
    """`ModelError` for a name that is no network's; what leads elsewhere (`hf:`, `module:factory`) is not followed."""
    known = {*MODELS, *plugin_names("models")}
    if ":" not in name and name not in {*known, *LANGUAGE_MODELS, *DENOISERS}:
        raise ModelError(unknown("model", name, known))


def names_own_data(name: str) -> bool:
    """Whether `name` is the path of a folder or file, or names something in a Python module."""
    path, at, size = name.rpartition("@")
    path = path if at and size.isdigit() else name
    return ":" in name or any(c in path for c in "/\\") or path.startswith((".", "~")) or path.endswith(".parquet")


def check_dataset(name: str) -> None:
    """`DataError` for a name that is no dataset's; paths, questions (`qa:`) and factories are not followed."""
    known = {*DATASETS, *plugin_names("datasets")}
    if not names_own_data(name) and name not in known:
        raise DataError(f"{unknown('dataset', name, known)}; images of your own are named by a path such as ./{name}")


def find_backend(name: str) -> Backend:
    """The backend of this name; `SpecError` where there is none."""
    for backend in BACKENDS:
        if name == backend:
            return backend
    raise SpecError(unknown("backend", name, BACKENDS))


def check_path(name: str) -> None:
    """`SpecError` for a path to pruned losses that there is not."""
    if name not in PATHS:
        raise SpecError(unknown("path", name, PATHS))


def check_device(name: str) -> None:
    """`SpecError` for a device that trueoracle does not compute on."""
    if name not in DEVICES:
        raise SpecError(f"`device` must be cpu or cuda, but got `{name}`")


def check_removal(removal: str) -> None:
    """`ModelError` for a removal that there is not."""
    if removal not in REMOVALS:
        raise ModelError(f"`removal` must be one of {', '.join(REMOVALS)}, but got {removal!r}")
