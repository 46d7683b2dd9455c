"""Datasets by name. Others add theirs through the entry-point group `trueoracle.datasets`.

Means and deviations are of the train split's pixels at their native size, as is customary for each set.
"""

from trueoracle.data.digits import read_digits
from trueoracle.data.hub import HubData
from trueoracle.data.source import Source
from trueoracle.errors import DataError
from trueoracle.plugins import look_up, with_plugins
from trueoracle.shape import InputShape

_GREY_10 = InputShape(channels=1, height=32, width=32, classes=10)
_COLOUR_10 = InputShape(channels=3, height=32, width=32, classes=10)
_COLOUR_100 = InputShape(channels=3, height=32, width=32, classes=100)


def _grey(name: str, hub_id: str | None, mean: float, deviation: float) -> Source:
    read = HubData(name=name, hub_id=hub_id, shape=_GREY_10, native=(28, 28))
    return Source(shape=_GREY_10, mean=(mean,), deviation=(deviation,), read=read)


DATASETS: dict[str, Source] = {
    "digits": Source(shape=_GREY_10, mean=(0.3054,), deviation=(0.3760,), read=read_digits),
    "mnist": _grey("mnist", "ylecun/mnist", 0.1307, 0.3081),
    "fashion-mnist": _grey("fashion-mnist", "zalando-datasets/fashion_mnist", 0.2860, 0.3530),
    "kmnist": _grey("kmnist", "tanganke/kmnist", 0.1918, 0.3483),
    "kmnist10k": _grey("kmnist10k", None, 0.1844, 0.3415),
    "cifar10": Source(
        shape=_COLOUR_10,
        mean=(0.4914, 0.4822, 0.4465),
        deviation=(0.2470, 0.2435, 0.2616),
        read=HubData(name="cifar10", hub_id="uoft-cs/cifar10", shape=_COLOUR_10, native=(32, 32)),
    ),
    "cifar100": Source(
        shape=_COLOUR_100,
        mean=(0.5071, 0.4865, 0.4409),
        deviation=(0.2673, 0.2564, 0.2762),
        read=HubData(name="cifar100", hub_id="uoft-cs/cifar100", shape=_COLOUR_100, native=(32, 32)),
    ),
}


def find_dataset(name: str) -> Source:
    """The source called `name`; `DataError` with the nearest known name if there is none."""
    return look_up("dataset", name, with_plugins("datasets", DATASETS), DataError)
