"""Datasets by name, or by where they are. Others add names through the entry-point group `trueoracle.datasets`.

Means and deviations are of the train split's pixels at their native size, as is customary for each set.
"""

from trueoracle.data.digits import read_digits
from trueoracle.data.hub import HubData
from trueoracle.data.normalisation import Normalisation
from trueoracle.data.own import own_source, stored_size
from trueoracle.data.pictures import Pixels
from trueoracle.data.source import Source
from trueoracle.words.known import check_dataset, names_own_data
from trueoracle.words.plugins import with_plugins
from trueoracle.words.shape import InputShape

_GREY_10 = InputShape(channels=1, height=32, width=32, classes=10)


def _grey(name: str, hub_id: str | None, mean: float, deviation: float) -> Source:
    pixels = Pixels(channels=1, height=32, width=32, native=(28, 28))
    return Source(
        shape=_GREY_10,
        normalisation=Normalisation(mean=(mean,), deviation=(deviation,)),
        read=HubData(name=name, hub_id=hub_id, pixels=pixels, classes=10),
    )


def _cifar(classes: int, hub_id: str, normalisation: Normalisation) -> Source:
    pixels = Pixels(channels=3, height=32, width=32, native=(32, 32))
    return Source(
        shape=InputShape(channels=3, height=32, width=32, classes=classes),
        normalisation=normalisation,
        read=HubData(name=f"cifar{classes}", hub_id=hub_id, pixels=pixels, classes=classes),
    )


def _imagenet(size: int) -> Source:
    kept = stored_size(size)
    pixels = Pixels(channels=3, height=kept, width=kept, native=None)
    return Source(
        shape=InputShape(channels=3, height=size, width=size, classes=1000),
        normalisation=Normalisation(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225)),
        read=HubData(name="imagenet-1k", hub_id="ILSVRC/imagenet-1k", pixels=pixels, classes=1000, test="validation"),
    )


DATASETS: dict[str, Source] = {
    "digits": Source(
        shape=_GREY_10, normalisation=Normalisation(mean=(0.3054,), deviation=(0.3760,)), read=read_digits
    ),
    "mnist": _grey("mnist", "ylecun/mnist", 0.1307, 0.3081),
    "fashion-mnist": _grey("fashion-mnist", "zalando-datasets/fashion_mnist", 0.2860, 0.3530),
    "kmnist": _grey("kmnist", "tanganke/kmnist", 0.1918, 0.3483),
    "kmnist10k": _grey("kmnist10k", None, 0.1844, 0.3415),
    "cifar10": _cifar(
        10, "uoft-cs/cifar10", Normalisation(mean=(0.4914, 0.4822, 0.4465), deviation=(0.2470, 0.2435, 0.2616))
    ),
    "cifar100": _cifar(
        100, "uoft-cs/cifar100", Normalisation(mean=(0.5071, 0.4865, 0.4409), deviation=(0.2673, 0.2564, 0.2762))
    ),
    "imagenet-1k": _imagenet(224),
}


def find_dataset(name: str) -> Source:
    """The source called `name`, or of the images that a path or `module:factory` leads to; `DataError` if there is none."""
    if names_own_data(name):
        return own_source(name)
    check_dataset(name)
    return with_plugins("datasets", DATASETS)[name]
