"""Small random networks of every kind that people bring: what is said of all networks is tried on these.

`CLASSIFIERS` and `LANGUAGE` are architectures of `transformers`, `HANDMADE` what people write by hand: a function each,
that makes the network; `made` gives it in float64 with numbers that hide nothing. `NETWORKS` are all of them: group and
name -> function and what the network takes.
"""

from zoo.classifiers import CLASSIFIERS
from zoo.handmade import HANDMADE
from zoo.language import LANGUAGE
from zoo.made import IMAGES, LARGER, TEXT, made, shape_of

_GROUPS = {"handmade": HANDMADE, "classifiers": CLASSIFIERS, "language": LANGUAGE}
NETWORKS = {
    f"{group}: {name}": (factory, shape_of(group))
    for group, networks in _GROUPS.items()
    for name, factory in networks.items()
}

__all__ = ["CLASSIFIERS", "HANDMADE", "IMAGES", "LANGUAGE", "LARGER", "NETWORKS", "TEXT", "made", "shape_of"]
