"""Linear layers, GPT-2's `Conv1D` with its transposed weight included."""

from torch import nn


def is_linear(module: object) -> bool:
    """Whether it is a linear layer."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def outputs(layer: nn.Module) -> int:
    """Its output channels."""
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.nf)  # type: ignore[arg-type]


def inputs(layer: nn.Module) -> int:
    """Its input channels."""
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.nx)  # type: ignore[arg-type]
