"""Sites that would break a forward pass, for numbers are written into it: mended where trials tell how, else refused."""

import pytest
import torch
from torch import Tensor, nn

import zoo
from trueoracle.nets import Role, find_sites, remove
from trueoracle.nets.sites import Written
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask


def test_a_number_that_a_module_keeps_is_told() -> None:
    net = zoo.made(zoo.HANDMADE["written_width"])
    sites = find_sites(net, zoo.IMAGES)
    assert list(sites) == ["stem", "hidden"]
    assert sites["stem"].written == (Written("", ("width",)),)
    pruned = remove(net, Mask(rank=0, sites=(SiteMask(site="stem", units=12, kept=(1, 5, 9)),)), sites)
    assert (pruned.width, net.width) == (3, 12)
    assert torch.equal(pruned.get_submodule("stem").weight, net.get_submodule("stem").weight[[1, 5, 9]])


def test_a_number_of_a_configuration_is_told_to_its_module_alone() -> None:
    net = zoo.made(zoo.CLASSIFIERS["SegFormer"])
    sites = find_sites(net, zoo.LARGER)
    last = sites["net.segformer.stages.3.patch_embeddings.proj"]
    assert {written.path for written in last.written} == {("config", "hidden_sizes", 3)}
    assert "net" in {written.module for written in last.written}
    pruned = remove(net, Mask(rank=0, sites=(SiteMask(site=last.name, units=32, kept=tuple(range(20))),)), sites)
    assert pruned.get_submodule("net").config.hidden_sizes == [8, 16, 16, 20]
    assert net.get_submodule("net").config.hidden_sizes == [8, 16, 16, 32]


def test_layers_that_must_stay_of_one_width_are_one_site() -> None:
    net = zoo.made(zoo.HANDMADE["reduced_tokens"])
    sites = find_sites(net, zoo.IMAGES)
    assert list(sites) == ["stem", "one"]
    cuts = {(cut.layer, cut.role) for cut in sites["stem"].cuts}
    assert cuts == {
        ("stem", Role.PRODUCER),
        ("reduction", Role.PRODUCER),
        ("reduction", Role.CONSUMER),
        ("one", Role.CONSUMER),
        ("other", Role.CONSUMER),
    }
    with pytest.raises(ModelError, match="`reduction` is no site: its units are those of the site `stem`"):
        sites.named("reduction")


def test_parts_of_a_layer_go_with_what_they_are_cut_by() -> None:
    net = zoo.made(zoo.HANDMADE["modulated"])
    (site,) = find_sites(net, zoo.IMAGES).values()
    made = {cut.role: cut.channels_UC.tolist() for cut in site.cuts if cut.layer == "made"}
    assert sorted(made[Role.PRODUCER][3]) == [3, 11]  # of 16; the last two, which say how much, stay
    assert made[Role.CONSUMER][3] == [3]


class Fixed(nn.Module):
    """A width that stands in the code alone, and an attribute of that value that has nothing to do with it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.hidden, self.fc, self.patience = nn.Conv2d(3, 12, 3), nn.Linear(12, 6), nn.Linear(6, 5), 12

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2).reshape(len(x), -1, 12)
        return self.fc(self.hidden(x).relu().mean(1))  # type: ignore[no-any-return]


def test_what_nobody_can_be_told_is_refused() -> None:
    sites = find_sites(Fixed(), zoo.IMAGES)
    assert list(sites) == ["hidden"]
    with pytest.raises(ModelError, match="`stem` is no site: without some of its units the forward pass fails"):
        sites.named("stem")
