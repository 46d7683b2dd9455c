"""What criteria say of a user's own network: a table from Python and from the command line; who cannot judge what, and why."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import trueoracle
from test_own_network import GREY, Wired, module, wired
from trueoracle.api import criteria_agreement
from trueoracle.cli.app import main
from trueoracle.criteria import every_unit_criterion, judged
from trueoracle.data import load_dataset
from trueoracle.nets import find_sites
from trueoracle.study.survey import part_of
from trueoracle.words.errors import ModelError, SpecError
from trueoracle.words.progress import Quiet

__all__ = ["module"]  # the fixture


def table_of(net: nn.Module, **how: object) -> pd.DataFrame:
    return trueoracle.criteria(net, "digits", **{"images": 20, "threads": 1, "progress": Quiet(), **how})  # type: ignore[arg-type]


class Normalised(nn.Module):
    """Normalised with scales, and without; and a layer that no ReLU follows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.plain = nn.Conv2d(1, 6, 5, stride=3), nn.BatchNorm2d(6, affine=False)
        self.second, self.scaled = nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8)
        self.third, self.head = nn.Linear(8, 5), nn.Linear(5, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.scaled(self.second(self.plain(self.first(x)).relu())).relu().amax((2, 3))
        return self.head(self.third(x).tanh())


def test_every_criterion_judges_every_unit_of_every_site() -> None:
    net, every = wired(), every_unit_criterion()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    table = table_of(net, seed=3)
    assert list(table.columns) == ["site", "unit", "criterion", "value", "refused"]
    wanted = [(s, u, c) for s, units in (("first", 6), ("second", 8)) for u in range(units) for c in every]
    assert list(table[["site", "unit", "criterion"]].itertuples(index=False, name=None)) == wanted
    assert {"l1", "random", "bn_scale", "fisher", "wanda"} <= every.keys()
    data = load_dataset("digits", None, torch.device("cpu"), Quiet())
    copy = wired().eval()
    found, refused = judged(copy, find_sites(copy, GREY), part_of(data.train, 20, 3), every)
    for (site, criterion), rows in table.groupby(["site", "criterion"]):
        if site in refused.get(criterion, {}):
            assert set(rows["refused"]) == {refused[criterion][site]}
            assert rows["value"].isna().all()
        else:
            assert set(rows["refused"]) == {""}
            np.testing.assert_allclose(rows["value"], found[criterion][site], rtol=1e-6, atol=1e-12)
    assert refused.keys() == {"apoz", "bn_scale", "chip", "hrank"}
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert net.training
    assert not table_of(net, seed=4)["value"].equals(table["value"])
    pd.testing.assert_frame_equal(table_of(net, seed=3), table)


def test_who_cannot_judge_a_site_says_why_and_judges_the_others() -> None:
    torch.manual_seed(0)
    table = table_of(Normalised())
    refused = table[table["refused"] != ""].groupby("site")["criterion"].unique()
    assert {site: set(names) for site, names in refused.items()} == {
        "first": {"bn_scale"},
        "second": {"apoz", "chip", "hrank"},
        "third": {"apoz", "bn_scale", "chip", "hrank"},
    }
    why = table.drop_duplicates(["site", "criterion"]).set_index(["site", "criterion"])["refused"]
    assert why["first", "bn_scale"] == "no BatchNorm with scales follows the units of `first`"
    assert why["third", "apoz"].startswith("what `third` hands on is never zero")
    assert table[table["refused"] == ""]["value"].notna().all()


def test_frozen_weights_are_judged_as_any() -> None:
    frozen = wired()
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    pd.testing.assert_frame_equal(table_of(frozen), table_of(wired()))
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


class Attending(nn.Module):
    """torch's own attention, in which nothing can be heard as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(1, 8, 8, stride=8), nn.Linear(8, 10)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.patch(x).flatten(2).transpose(1, 2)).mean(1))


def test_the_heads_of_torchs_own_attention_are_heard() -> None:
    torch.manual_seed(0)
    net = Attending()
    table = table_of(net, criteria=["fisher", "wanda", "activation_std", "l1"], images=4)
    heads = table[table["site"] == "layer.self_attn"]
    assert len(heads) == 2 * 4
    assert set(heads["refused"]) == {""}
    assert (heads["value"] > 0).all()
    assert type(net.layer.self_attn) is nn.MultiheadAttention


def test_criteria_and_sites_are_chosen_and_images_are_read_only_for_those_that_look_at_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("no image is needed")

    chosen = table_of(wired(), criteria=["wanda", "l1"], sites=["sec*"])
    assert set(chosen["site"]) == {"second"}
    assert list(chosen["criterion"][:2]) == ["wanda", "l1"]
    monkeypatch.setattr("trueoracle.data.load_dataset", read)
    plain = table_of(wired(), criteria=["l1", "lamp"], images=None)
    assert set(plain["criterion"]) == {"l1", "lamp"}
    with pytest.raises(AssertionError, match="no image is needed"):
        table_of(wired(), criteria=["wanda"])


def test_agreement_by_hand() -> None:
    of_criteria = {
        "a": [1, 2, 3, 4], "b": [1, 2, 4, 3], "c": [4, 3, 2, 1], "same": [7, 7, 7, 7], "random": [2, 4, 1, 3],
    }  # fmt: skip
    rows = [("s", u, name, value, "") for name, values in of_criteria.items() for u, value in enumerate(values)]
    rows += [("t", u, name, np.nan if name == "b" else u, "") for name in "ab" for u in range(2)]
    found = criteria_agreement(pd.DataFrame(rows, columns=["site", "unit", "criterion", "value", "refused"]))
    one, two = found.to_dict("records")
    assert (one["site"], one["units"], one["criteria"], one["outsider"]) == ("s", 4, 4, "c")
    assert one["agreement"] == pytest.approx((0.8 - 1 - 0.8) / 3)  # of a with b, a with c, b with c
    assert one["outsider_agreement"] == pytest.approx((-1 - 0.8) / 2)
    assert (two["criteria"], two["outsider"]) == (1, "")
    assert np.isnan(two["agreement"])


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["trueoracle", "criteria", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_the_command_writes_a_table_and_says_who_disagrees(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(wired().state_dict(), "w.safetensors")
    words = ("--model", f"{module}:Wired", "--weights", "w.safetensors", "--data", "digits", "--images", "20")
    for ending in ("csv", "parquet"):
        assert call(monkeypatch, *words, "--threads", "1", "-o", f"t.{ending}") == 0
    said = capsys.readouterr().out
    pd.testing.assert_frame_equal(
        pd.read_csv("t.csv", keep_default_na=False, na_values={"value": ""}), pd.read_parquet("t.parquet")
    )
    pd.testing.assert_frame_equal(pd.read_parquet("t.parquet"), table_of(wired()))
    assert f"14 units of 2 sites by {len(every_unit_criterion())} criteria, written to t.csv" in said
    assert "bn_scale cannot judge 2 of 2 sites: no BatchNorm with scales follows the units of `first` (1 more)" in said
    agreement = criteria_agreement(table_of(wired())).iloc[0]
    line = next(line for line in said.splitlines() if line.startswith("first"))
    assert line.split() == [
        "first", "6", str(agreement["criteria"]), f"{agreement['agreement']:.2f}", agreement["outsider"],
        f"{agreement['outsider_agreement']:.2f}",
    ]  # fmt: skip
    assert (
        call(monkeypatch, *words, "--criteria", "fisher,l1", "--criteria", "obs", "--sites", "first", "-o", "f.csv")
        == 0
    )
    assert list(pd.read_csv("f.csv")["criterion"][:3]) == ["fisher", "l1", "obs"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--images", "0"], "`images` must lie in [2, "),
        (["--images", "1"], "`images` must lie in [2, "),
        (["--images", "9999"], "but got 9999"),
        (["--criteria", "fischer"], "unknown criterion `fischer`: did you mean `fisher`?"),
        (["--criteria", "l1,"], "unknown criterion ``"),
        (["--criteria", "naswot"], "`naswot` judges masks, not units"),
        (["--sites", "frist"], "unknown site `frist`: did you mean `first`?"),
        (["--sites", "head"], "`head` is no site: its units are the network's outputs"),
        (["--data", "digit"], "unknown dataset `digit`: did you mean `digits`?"),
        (["--data", "./nowhere"], "nowhere"),
        (["-o", "t.txt"], "`t.txt` must end in .parquet or .csv"),
        (["-o", "nowhere/t.csv"], "the folder of `nowhere/t.csv` does not exist"),
        (["--threads", "0"], "`threads` must be at least 1, but got 0"),
        (["--device", "gpu"], "`device` must be cpu or cuda, but got `gpu`"),
        (["--measure"], "`--measure` is for stored studies"),
        (["-k", "3"], "`--k` is for stored studies"),
        (["quickstart"], "but not both"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_one_line(
    words: list[str], line: str, module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(wired().state_dict(), "w.safetensors")
    usual = ["--model", f"{module}:Wired", "--weights", "w.safetensors", "--data", "digits", "-o", "t.csv"]
    assert call(monkeypatch, *usual, *words) == 2
    said = capsys.readouterr().err
    assert line in said
    assert len(said.splitlines()) == 1
    assert not Path("t.csv").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "name stored studies, or a network with `--model` and `--data`"),
        (["some-study", "--sites", "conv1"], "`--sites` is for a network: it goes with `--model`"),
        (["--model", "lenet5-mini", "-o", "t.csv"], "`--model` goes with `--data`"),
        (["--model", "lenet5-mini", "--data", "digits"], "`--model` goes with `--output`"),
        (
            ["--model", "lenet5-mini", "--data", "digits", "-o", "t.csv"],
            "`lenet5-mini` comes without weights: give them",
        ),
        (["--model", "lenet6-mini", "--data", "digits", "-o", "t.csv"], "unknown model `lenet6-mini`"),
    ],
)
def test_what_is_missing_is_one_line(
    words: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *words) == 2
    assert line in capsys.readouterr().err


def test_a_network_without_sites_is_refused() -> None:
    with pytest.raises(ModelError, match="Sequential has no site: of `1`, its units are the network's outputs"):
        table_of(nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)))
    with pytest.raises(SpecError, match="`criteria` names none"):
        table_of(Wired(), criteria=[])
