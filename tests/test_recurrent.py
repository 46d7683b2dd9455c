"""Recurrent layers: hidden units as a site, held beside loops that are written out here and sizes that a hand computes."""

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import zoo
from odd_networks import NETWORKS, Sequence
from trueoracle.nets import Role, cost, find_sites, remove
from trueoracle.nets.recurrent import step_by_step
from trueoracle.oracle.paths import evaluator
from trueoracle.select.export import Subject, export
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import InputShape

SHAPE = InputShape(channels=3, height=32, width=32, classes=5)
LAYERS: dict[str, Callable[[], nn.RNNBase]] = {
    "LSTM": lambda: nn.LSTM(4, 6, 2, batch_first=True),
    "LSTM both ways": lambda: nn.LSTM(4, 6, 2, bidirectional=True),
    "LSTM that projects": lambda: nn.LSTM(4, 6, 2, bidirectional=True, proj_size=3, bias=False),
    "GRU": lambda: nn.GRU(4, 6, 3, bidirectional=True, batch_first=True),
    "RNN": lambda: nn.RNN(4, 6, 2),
    "RNN of ReLU": lambda: nn.RNN(4, 6, nonlinearity="relu", bias=False),
}
FUNCTIONS = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu"}


def product(layer: nn.Module) -> Callable[[Tensor, str], Tensor]:
    return lambda x, weight: nn.functional.linear(
        x, getattr(layer, weight), getattr(layer, weight.replace("weight", "bias"), None)
    )


@pytest.mark.parametrize("name", LAYERS)
def test_step_by_step_is_what_the_layer_computes(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    x = torch.randn(5, 3, 4).double()
    directions = layer.num_layers * (1 + layer.bidirectional)
    examples = 5 if layer.batch_first else 3
    state = torch.randn(directions, examples, layer.proj_size or 6).double()
    states = (state, torch.randn(directions, examples, 6).double()) if layer.mode == "LSTM" else state
    output, last = layer(x, states)
    found = step_by_step(layer, FUNCTIONS[layer.mode], (x, states), product(layer))
    torch.testing.assert_close(found, (output, *(last if isinstance(last, tuple) else (last,))))


@pytest.mark.parametrize("cell", [nn.LSTMCell(4, 6), nn.GRUCell(4, 6, bias=False), nn.RNNCell(4, 6)])
def test_step_by_step_is_what_the_cell_computes(cell: nn.Module) -> None:
    x, state = torch.randn(3, 4), torch.randn(3, 6)
    states = (state, torch.randn(3, 6)) if isinstance(cell, nn.LSTMCell) else state
    function = {nn.LSTMCell: "lstm_cell", nn.GRUCell: "gru_cell", nn.RNNCell: "rnn_tanh_cell"}[type(cell)]  # type: ignore[index]
    torch.testing.assert_close(step_by_step(cell, function, (x, states), product(cell)), cell(x, states))


def test_an_lstm_without_units_is_a_loop_that_zeroes_them_after_each_step() -> None:
    """By torch's own cell with the layer's weights, so that neither the removal nor the proof has a part in it."""
    net = zoo.made(lambda: Sequence(nn.LSTM(6, 5, batch_first=True), 5, lambda output, _: output[:, -1]))
    assert isinstance(net, Sequence)
    sites = find_sites(net, SHAPE)
    pruned = remove(net, mask_of("memory", 5, (0, 3)), sites)
    cell = nn.LSTMCell(6, 5).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in net.memory.state_dict().items()})
    x = torch.randn(4, 3, 32, 32).double()
    hidden = cells = torch.zeros(4, 5).double()
    for step in net.conv(x).relu().flatten(2).unbind(2):
        hidden, cells = cell(step, (hidden, cells))
        hidden = hidden * torch.tensor([1, 0, 0, 1, 0])
    torch.testing.assert_close(pruned(x), net.head(net.hidden(hidden).relu()))


def mask_of(site: str, units: int, kept: tuple[int, ...]) -> Mask:
    return Mask(rank=0, sites=(SiteMask(site=site, units=units, kept=kept),))


def test_hidden_units_go_from_every_gate_layer_and_direction() -> None:
    net = zoo.made(NETWORKS["LSTM of two layers, both ways"])
    sites = find_sites(net, SHAPE)
    assert list(sites) == ["conv", "memory", "hidden"]
    assert sites["memory"].units == 5
    memory = remove(net, mask_of("memory", 5, (1, 4)), sites).get_submodule("memory")
    assert isinstance(memory, nn.LSTM)
    assert (memory.input_size, memory.hidden_size) == (6, 2)
    whole = net.get_submodule("memory").weight_ih_l1_reverse
    assert torch.equal(memory.weight_ih_l1_reverse, whole[[1, 4, 6, 9, 11, 14, 16, 19]][:, [1, 4, 6, 9]])  # type: ignore[index]
    # 8 rows of each: 6 inputs, then 4; 2 hidden units; two biases; twice, for both directions
    assert sum(parameter.numel() for parameter in memory.parameters()) == 2 * 8 * (6 + 2 + 2) + 2 * 8 * (4 + 2 + 2)


def test_what_feeds_a_recurrent_layer_goes_from_its_inputs() -> None:
    net = zoo.made(NETWORKS["LSTM of two layers, both ways"])
    sites = find_sites(net, SHAPE)
    consumers = [cut.layer for cut in sites["conv"].cuts if cut.role is Role.CONSUMER]
    assert consumers == ["memory.weight_ih_l0", "memory.weight_ih_l0_reverse"]
    assert remove(net, mask_of("conv", 6, (2,)), sites).get_submodule("memory").input_size == 1


@pytest.mark.parametrize("name", ["GRU", "LSTM of two layers, both ways"])
def test_a_pruned_recurrent_network_is_exported_and_loaded_again(name: str, tmp_path: Path) -> None:
    net = zoo.made(NETWORKS[name]).float()
    sites = find_sites(net, SHAPE)
    mask = Mask(rank=0, sites=tuple(SiteMask(site=site.name, units=site.units, kept=(0, 2)) for site in sites.values()))
    subject = Subject(
        model="mine:Own",
        width_factor=1.0,
        shape=SHAPE,
        whole=net,
        pruned=remove(net, mask, sites),
        mask=mask,
        images_BCHW=torch.randn(5, 3, 32, 32),
    )
    exported = export(subject, tmp_path / "net")
    assert [check.file for check in exported.checks] == ["model.safetensors", "model.onnx", "model.pt2"]
    assert max(check.difference for check in exported.checks) < 1e-5


def test_a_pruned_recurrent_network_is_trained() -> None:
    net = zoo.made(NETWORKS["GRU"])
    sites = find_sites(net, SHAPE)
    pruned = remove(net, mask_of("memory", 5, (0, 2)), sites).train()
    before = deepcopy(pruned.state_dict())
    pruned(torch.randn(2, 3, 32, 32).double()).sum().backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(pruned.parameters(), 0.1).step()
    assert all(not torch.equal(before[name], parameter) for name, parameter in pruned.state_dict().items())


@pytest.mark.parametrize(
    ("site", "reason"),
    [
        ("memory", "the units of `memory` are made by a LSTM, not by a convolution or linear layer"),
        ("last", "`flatten` .* mixes the units of `last` in a way that is no sum"),
    ],
)
def test_the_batched_oracle_leaves_recurrent_layers_to_the_loop_with_a_reason(site: str, reason: str) -> None:
    net = zoo.made(NETWORKS["LSTM beside"]).float()
    units = find_sites(net, SHAPE)[site].units
    space = MaskSpace((SiteChoice.at_ratio(site, units, 0.5),))
    assert re.match(f"loop: {reason}", evaluator(net, space, SHAPE).path)


def test_the_batched_oracle_lets_no_layer_of_several_results_pass() -> None:
    class Straight(nn.Module):
        """The images of a batch are taken for the steps of one sequence."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.memory, self.head = nn.Linear(12, 6), nn.GRU(6, 4), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.memory(self.first(x.flatten(1)))[0])  # type: ignore[no-any-return]

    shape = InputShape(channels=3, height=2, width=2, classes=5)
    space = MaskSpace((SiteChoice.at_ratio("first", 6, 0.5),))
    path = evaluator(Straight(), space, shape).path
    assert path == "loop: `memory` makes of the units of `first` more than one tensor"


def test_cells_of_an_lstm_that_projects_and_packed_sequences_are_refused() -> None:
    sites = find_sites(zoo.made(NETWORKS["LSTM that projects"]), SHAPE)
    assert list(sites) == ["conv", "memory.weight_hr_l0", "hidden"]
    with pytest.raises(
        ModelError, match="`memory` is no site: an LSTM that projects must have more cells than outputs"
    ):
        sites.named("memory")


@pytest.mark.parametrize(
    ("name", "macs"), [("LSTM", 8 * 4 * 12 * (32 + 12 + 12 + 12)), ("GRU", 8 * 3 * 12 * (32 + 12 + 12 + 12))]
)
def test_every_gate_of_every_step_costs(name: str, macs: int) -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory, self.head = getattr(nn, name)(32, 12, 2, batch_first=True), nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.memory(x[:, 0])[0][:, -1])  # type: ignore[no-any-return]

    assert cost(Rows(), InputShape(channels=1, height=8, width=32, classes=5)).macs == macs + 12 * 5
