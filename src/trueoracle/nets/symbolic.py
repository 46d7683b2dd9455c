"""A network's operations by torch.fx, safe among threads.

While torch.fx traces, every module of the process calls the tracer. So one thread traces at a time, and its tracer
lets the modules that other threads run alone.
"""

from collections.abc import Callable
from threading import Lock, get_ident
from typing import Any

from torch import fx, nn

_TRACING = Lock()


class _OfOneThread(fx.Tracer):
    """Sees the modules that its own thread calls, and no others."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = get_ident()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return super().call_module(m, forward, args, kwargs) if self._is_mine() else forward(*args, **kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return super().getattr(attr, attr_val, parameter_proxy_cache) if self._is_mine() else attr_val

    def _is_mine(self) -> bool:
        return get_ident() == self._thread


def traced(net: nn.Module) -> fx.GraphModule:
    """As `torch.fx.symbolic_trace(net)`; raises what the forward pass of `net` raises when proxies run through it."""
    with _TRACING:
        tracer = _OfOneThread()
        graph = tracer.trace(net)
    return fx.GraphModule(tracer.root, graph, type(net).__name__)
