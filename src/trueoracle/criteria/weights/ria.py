"""As `wanda`, with the weight taken relative to its output's and its input's: (|W_ij| / sum over row i + |W_ij| / sum over column
j) ||X_j||_2^0.5 (RIA, Zhang et al., ICLR 2024, eq. 3 and 4).

A row is an output with all taps of a convolution, a column an input with all taps.
"""

from torch import Tensor

from trueoracle.criteria.weighed import Layer

_TINY = 1e-300


def importance(of: Layer) -> Tensor:
    """Without a unit of its own, but for the root of the inputs'."""
    size = of.weight.abs()
    others = [dim for dim in range(size.ndim) if dim not in (of.outputs, of.inputs)]
    row = size.sum([of.inputs, *others], keepdim=True).clamp(min=_TINY)
    column = size.sum([of.outputs, *others], keepdim=True).clamp(min=_TINY)
    return (size / row + size / column) * of.input_norm.sqrt()


CRITERION = importance
