"""Tracing while other threads trace and run networks."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import torch
from torch import Tensor, fx, nn

from trueoracle.nets.symbolic import traced


class Slow(nn.Module):
    """Its forward pass stands still in the middle, until the test has looked at other networks."""

    def __init__(self, inside: Event, go_on: Event) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self._inside, self._go_on = inside, go_on

    def forward(self, images: Tensor) -> Tensor:
        middle = self.first(images)
        self._inside.set()
        assert self._go_on.wait(60)
        answer: Tensor = self.second(middle)
        return answer


def test_other_threads_networks_run_untouched_while_one_is_traced() -> None:
    inside, go_on = Event(), Event()
    slow, other = Slow(inside, go_on), nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    images = torch.randn(5, 3)
    expected = other(images)
    with ThreadPoolExecutor(1) as pool:
        tracing = pool.submit(traced, slow)
        assert inside.wait(60)
        try:
            found = other(images)
            weight = other[0].weight
        finally:
            go_on.set()
        module = tracing.result()
    assert torch.equal(found, expected)
    assert type(weight) is nn.Parameter
    assert [node.target for node in module.graph.nodes if node.op == "call_module"] == ["first", "second"]


def test_many_threads_trace_at_once_as_one_does() -> None:
    nets = [nn.Sequential(nn.Conv2d(1, 2 + i, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(traced, nets * 25))
    for net, module in zip(nets * 25, found, strict=True):
        assert str(module.graph) == str(fx.symbolic_trace(net).graph)
