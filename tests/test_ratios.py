"""Block-wise pruning by ratios, as CR-Diff does it: which weights go, amplification, the search."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trueoracle import api
from trueoracle.cli.app import main
from trueoracle.data import load_dataset
from trueoracle.nets import Amplified, build, evaluate, mask_weights, shuffled, smallest, state_bytes, weight_groups
from trueoracle.search import Ask, Budget, Found, Hunt, Judged, Memory, rank_of, ratio_space, ratios_of, search
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import ModelError, SpecError, StoreError
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import NoiseShape

SMALL = NoiseShape(channels=1, height=8, width=8)
SPACE = ratio_space(("down", "mid", "up"))


class Block(nn.Module):
    def __init__(self, first: list[float], second: list[float]) -> None:
        super().__init__()
        self.attn1, self.ff = (nn.Linear(2, len(values) // 2) for values in (first, second))
        self.attn2, self.conv = nn.Linear(2, 2), nn.Conv2d(1, 1, 3)
        for layer, values in ((self.attn1, first), (self.ff, second)):
            layer.weight.data = torch.tensor(values).reshape(-1, 2)


class Toy(nn.Module):
    """Named as a UNet of `diffusers` is."""

    def __init__(self) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList([Block([0.1, -5.0, 0.2, 6.0], [0.3, -0.05]), Block([1.0, -2.0], [3.0, 4.0])])
        self.mid_block = Block([1.0, -2.0], [3.0, -4.0])
        self.up_blocks = nn.ModuleList([Block([1.0, 1.0], [1.0, 1.0])])
        self.attn_outside = nn.Linear(2, 2)


def test_groups_are_those_of_cr_diff() -> None:
    groups = weight_groups(Toy())
    assert groups == {
        "down": ["down_blocks.0.attn1", "down_blocks.0.ff", "down_blocks.1.attn1", "down_blocks.1.ff"],
        "mid": ["mid_block.attn1", "mid_block.ff"],
        "up": ["up_blocks.0.attn1", "up_blocks.0.ff"],
    }
    assert weight_groups(Toy(), ["*conv"])["mid"] == ["mid_block.conv"]
    unet = weight_groups(build("unet2d-condition-mini", SMALL))
    assert sum(map(len, unet.values())) == 6 * 4
    assert not any("attn2" in name or "conv" in name for names in unet.values() for name in names)


def test_smallest_of_a_group_go_by_one_threshold_over_its_layers() -> None:
    net = Toy()
    mask = smallest(net, {"down": 0.4, "mid": 0.5, "up": 0.25}, weight_groups(net))
    gone = {name: part.reshape(-1).nonzero()[0].tolist() for name, part in mask.gone_by_layer.items()}
    assert gone == {
        "down_blocks.0.attn1": [0, 2], "down_blocks.0.ff": [0, 1], "down_blocks.1.attn1": [], "down_blocks.1.ff": [],
        "mid_block.attn1": [0, 1], "mid_block.ff": [], "up_blocks.0.attn1": [0], "up_blocks.0.ff": [],
    }  # fmt: skip
    before = state_bytes(net)
    pruned = mask_weights(net, mask)
    assert pruned.get_submodule("mid_block.attn1").weight.flatten().tolist() == [0, 0]
    assert state_bytes(net) == before
    torch.testing.assert_close(pruned.get_submodule("mid_block.attn2").weight, net.mid_block.attn2.weight)


def test_shuffled_takes_as_many_of_each_layer() -> None:
    net = build("unet2d-condition-mini", SMALL)
    mask = smallest(net, {"down": 0.3, "up": 0.7}, weight_groups(net))
    drawn, again, other = (shuffled(mask, seed) for seed in (1, 1, 2))
    assert drawn.kept_by_layer == mask.kept_by_layer
    assert drawn == again
    assert drawn != other
    gone, whole = drawn.gone_by_layer, mask.gone_by_layer
    assert any((gone[name] != whole[name]).any() for name in whole)


def test_pruned_network_is_dense_weights_times_mask() -> None:
    """The slow twin: every weight multiplied by one or zero in the forward pass, in float64."""
    net = build("unet2d-condition-mini", SMALL, seed=1).double()
    mask = smallest(net, {"down": 0.3, "mid": 0.5, "up": 0.7}, weight_groups(net))
    pruned = mask_weights(net, mask)
    images, levels = (
        torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
        torch.tensor([1, 900]),
    )
    hooks = [
        net.get_submodule(name).register_forward_hook(_masked(torch.from_numpy(gone.copy())))
        for name, gone in mask.gone_by_layer.items()
    ]
    with torch.inference_mode():
        wanted = net(images, levels)
    for hook in hooks:
        hook.remove()
    with torch.inference_mode():
        torch.testing.assert_close(pruned(images, levels), wanted, rtol=1e-12, atol=1e-12)
        whole = net(images, levels)
        assert not torch.allclose(whole, wanted, rtol=1e-3)
        told = Amplified(net, pruned, 1.5)(images, levels)
        torch.testing.assert_close(told, 1.5 * wanted - 0.5 * whole, rtol=1e-12, atol=1e-12)
        assert torch.equal(Amplified(net, pruned, 1.0)(images, levels), pruned(images, levels))


def _masked(gone: Tensor):  # type: ignore[no-untyped-def]
    def linear(layer: nn.Linear, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        return nn.functional.linear(inputs[0], layer.weight * ~gone, layer.bias)

    return linear


@pytest.mark.parametrize("k", [0.99, -1, float("nan"), float("inf")])
def test_amplification_below_one_is_refused(k: float) -> None:
    with pytest.raises(ModelError, match="must be at least 1"):
        Amplified(nn.Linear(1, 1), nn.Linear(1, 1), k)


def test_networks_without_such_groups() -> None:
    with pytest.raises(ModelError, match=r"selects no layer of the group `down` of UNet2DModel: give globs"):
        weight_groups(build("unet2d-mini", SMALL))
    assert all(weight_groups(build("unet2d-mini", SMALL), ["*attentions*"]).values())
    with pytest.raises(ModelError, match="DiTTransformer2DModel has no layers in the group `down`"):
        weight_groups(build("dit-mini", SMALL))
    with pytest.raises(ModelError, match="unknown group of blocks `middle`"):
        smallest(Toy(), {"middle": 0.5}, weight_groups(Toy()))
    with pytest.raises(ModelError, match=r"must lie in \[0, 1\), but got -0.1"):
        smallest(Toy(), {"mid": -0.1}, weight_groups(Toy()))


def bowl(ask: Ask) -> Judged:
    """Lowest at 0.2, 0.5, 0.7."""
    best = np.array([0.2, 0.5, 0.7])
    loss_M = np.array([float(np.abs(np.array([*ratios_of(SPACE, rank).values()]) - best).sum()) for rank in ask.ranks])
    return Judged(loss_M=loss_M, accuracy_M=loss_M, standard_error_M=np.zeros(len(loss_M)))


def found(method: str, evaluations: int = 120, seed: int = 0) -> Found:
    hunt = Hunt(method=method, budget=Budget(evaluations=evaluations), seed=seed)
    return search(Memory(bowl), SPACE, 10, hunt)


def test_ratios_are_masks_of_their_space() -> None:
    ratios = {"down": 0.1, "mid": 0.425, "up": 0.8}
    assert ratios_of(SPACE, rank_of(SPACE, ratios)) == ratios
    assert SPACE.count == 141**3


@pytest.mark.parametrize("method", ["cr-diff", "swaps", "evolution", "draws"])
def test_searches_find_better_ratios_at_the_same_cost(method: str) -> None:
    one = found(method)
    assert one.evaluations <= 120
    assert one.ranks == found(method).ranks
    assert (
        one.loss
        < 0.5
        < float(
            bowl(
                Ask(space=SPACE, ranks=[rank_of(SPACE, {"down": 0.3, "mid": 0.3, "up": 0.3})], images=range(10))
            ).loss_M[0]
        )
    )


def test_cr_diff_begins_at_three_tenths_and_moves_one_ratio_at_a_time() -> None:
    tried = [ratios_of(SPACE, rank) for rank in found("cr-diff").ranks]
    assert tried[0] == {"down": 0.3, "mid": 0.3, "up": 0.3}
    first = [group for group in tried[0] if tried[0][group] != tried[1][group]]
    assert len(first) == 1
    assert abs(tried[1][first[0]] - 0.3) <= 0.1
    assert all(0.1 <= ratio <= 0.8 for ratios in tried for ratio in ratios.values())


def test_cr_diff_is_for_ratios_alone() -> None:
    space = MaskSpace((SiteChoice(site="a", units=5, pruned=2),))
    with pytest.raises(SpecError, match="not for masks of units"):
        search(Memory(bowl), space, 10, Hunt(method="cr-diff", budget=Budget(evaluations=10)))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "unet.safetensors"
    path.write_bytes(state_bytes(build("unet2d-condition-mini", SMALL, seed=1)))
    return path


def test_ratios_of_a_network_are_found_and_gone_on_with(tmp_path: Path, weights: Path) -> None:
    """Losses that are kept are not computed again: those made up in the file come back."""
    keep = tmp_path / "kept.jsonl"
    ask = {"images": 4, "evaluations": 5, "data_dir": None, "progress": Quiet()}
    one = api.ratios("unet2d-condition-mini", weights, "denoise:digits@8:500", keep=keep, **ask)
    images = load_dataset("denoise:digits@8:500", None, torch.device("cpu"), Quiet()).train
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:4]
    net = build("unet2d-condition-mini", SMALL, seed=1)
    for rank, loss in zip(one.found.ranks[:2], one.found.loss_M, strict=False):
        pruned = mask_weights(net, smallest(net, ratios_of(SPACE, rank), weight_groups(net)))
        assert evaluate(pruned, images.take(order)).loss == pytest.approx(float(loss), rel=1e-5)
    assert one.dense_loss == pytest.approx(evaluate(net, images.take(order)).loss, rel=1e-5)
    first, *kept = keep.read_text().splitlines()
    changed = [json.dumps({**json.loads(line), "losses": [7.0]}) for line in kept[:2]]
    keep.write_text("\n".join([first, *changed]) + "\n")
    again = api.ratios("unet2d-condition-mini", weights, "denoise:digits@8:500", keep=keep, **ask)
    assert again.found.loss_M[:2].tolist() == [7, 7]
    assert (again.found.loss_M < 2).sum() == len(again.found.ranks) - 2 > 0
    with pytest.raises(StoreError, match="of another search"):
        api.ratios("unet2d-condition-mini", weights, "denoise:digits@8:500", keep=keep, **{**ask, "images": 5})


def test_ratios_from_the_command_line(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["trueoracle", "ratios", "unet2d-condition-mini", "--weights", str(weights), "--images", "4"]
    table = tmp_path / "ratios.csv"
    for data, more, code, told in (
        ("denoise:digits@8:500", ["--evaluations", "3"], 0, "of the whole network"),
        ("digits", [], 2, "has no noise to be told"),
        ("denoise:digits@9", [], 2, "multiples of 2, but got 9x9"),
        ("denoise:digits@8", ["--amplify", "0.5"], 2, "must be at least 1, but got 0.5"),
        ("denoise:digits@8", ["--search", "crdiff"], 2, "unknown search `crdiff`: did you mean `cr-diff`"),
    ):
        monkeypatch.setattr("sys.argv", [*words, "--data", data, *more, "-o", str(table)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        assert (end.value.code or 0) == code
        assert told in (said.err if code else said.out)
    assert table.read_text().splitlines()[0] == "down,mid,up,loss"
    assert not list(tmp_path.glob("*.jsonl"))
