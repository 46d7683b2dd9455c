"""Small random networks of every kind that people bring: what is said of all networks is tried on these.

`CLASSIFIERS` and `LANGUAGE` are architectures of `transformers`, `HANDMADE` what people write by hand: a function each,
that makes the network; `made` gives it in float64 with numbers that hide nothing.
"""

from zoo.classifiers import CLASSIFIERS
from zoo.handmade import HANDMADE
from zoo.language import LANGUAGE
from zoo.made import IMAGES, LARGER, TEXT, made, shape_of

__all__ = ["CLASSIFIERS", "HANDMADE", "IMAGES", "LANGUAGE", "LARGER", "TEXT", "made", "shape_of"]
