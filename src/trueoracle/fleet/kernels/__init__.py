"""Kernels for fleets in lanes: where their numbers lie (`layout`), and their source (`batch`, `forward`, `backward`)."""

from trueoracle.fleet.kernels.batch import source
from trueoracle.fleet.kernels.layout import Layout, lay_out, padded

__all__ = ["Layout", "lay_out", "padded", "source"]
