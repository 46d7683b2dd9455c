"""Weights in and out, as safetensors only: no file that could run code is ever loaded."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from trueoracle.words.errors import ModelError

_NAMED = 4  # tensors of another network that an error names


def state_bytes(net: nn.Module) -> bytes:
    """The state dict of `net` as the bytes of a safetensors file; tied weights stand there under each of their names."""
    tensors: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, tensor in net.state_dict().items():
        content = tensor.detach().cpu().contiguous()
        tensors[name] = content.clone() if content.data_ptr() in written else content
        written.add(content.data_ptr())
    return save(tensors)


def load_weights(net: nn.Module, path: Path) -> None:
    """Put the weights of a safetensors file into `net`; `ModelError` if it is no such file or does not fit."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the weights `{path}` cannot be read: {error.strerror}") from None
    weights_from_bytes(net, content, str(path))


def weights_from_bytes(net: nn.Module, content: bytes, source: str) -> None:
    """Put the weights of a safetensors file's bytes into `net`; `source` names them in errors."""
    try:
        state = load(content)
    except SafetensorError as error:
        raise ModelError(f"the weights `{source}` are no safetensors file: {error}") from None
    _check_fit(net.state_dict(), state, source)
    net.load_state_dict(state)


def _check_fit(wanted: dict[str, Tensor], given: dict[str, Tensor], source: str) -> None:
    missing = sorted(wanted.keys() - given.keys())
    extra = sorted(given.keys() - wanted.keys())
    if missing or extra:
        parts = [f"it lacks {_some(missing)}"] * bool(missing) + [f"it has {_some(extra)} besides"] * bool(extra)
        raise ModelError(f"the weights `{source}` do not fit the network: {'; '.join(parts)}")
    for name, tensor in wanted.items():
        if given[name].shape != tensor.shape:
            raise ModelError(
                f"the weights `{source}` do not fit the network: `{name}` has shape {tuple(given[name].shape)}, "
                f"but the network's is {tuple(tensor.shape)}"
            )
        if not given[name].isfinite().all():
            raise ModelError(f"the weights `{source}` hold values in `{name}` that are not finite")


def _some(names: list[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
