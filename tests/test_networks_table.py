"""The table of docs/networks.md is what its script says."""

import sys
from collections import Counter
from pathlib import Path

import pytest

import zoo

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))

import networks  # noqa: E402
from networks_peer import Direct, used_directly  # noqa: E402


def told(line: str) -> list[str]:
    """Network, sites and share of parameters: differences and what Torch-Pruning does in a minute may vary."""
    return [part.strip() for part in line.split("|")[1:4]]


@pytest.mark.slow
@pytest.mark.parametrize("group", networks.GROUPS)
def test_the_table_is_what_the_script_says(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "used_directly", lambda _net, _shape: Direct(outcome=""))
    rows = list(networks.rows(group, [], masks=3))
    assert all(row.exact for row in rows)
    table = [told(line) for line in (DOCS / "networks.md").read_text().splitlines() if line.startswith("|")]
    for row in rows:
        assert told(row.markdown()) in table


def test_a_row_of_the_table() -> None:
    (row,) = networks.rows("handmade", ["concatenation"], masks=2)
    assert row.covers
    assert told(row.markdown()) == ["concatenation", "3 filter", "69%"]
    assert (row.direct.outcome, row.direct.groups, row.direct.right) == ("69% gone, exact", 3, 3)
    # half of 8, 8 and 12 filters, and the 8 + 4 inputs that these feed; the last layer's 6
    assert row.direct.thinned == {
        ("a.weight", 0): 4, ("b.weight", 0): 4, ("c.weight", 1): 8, ("c.weight", 0): 6, ("fc.weight", 1): 6
    }  # fmt: skip
    assert row.covered == 1


def test_groups_that_mix_channels_are_not_right_and_ask_for_nothing() -> None:
    direct = used_directly(zoo.made(zoo.HANDMADE["flipped"]), zoo.IMAGES)
    assert (direct.outcome, direct.groups, direct.right) == ("65% gone, but not exact", 2, 1)
    assert set(direct.thinned) == {("b.weight", 0), ("fc.weight", 1)}


def test_what_is_covered_is_counted_in_channels_of_one_side() -> None:
    direct = Direct(outcome="", groups=2, right=2, thinned=Counter({("a.weight", 0): 4, ("b.weight", 1): 6}))
    assert direct.covered_by(Counter({("a.weight", 0): 9, ("a.weight", 1): 6, ("b.weight", 1): 3})) == 0.7
    assert Direct(outcome="fails: KeyError").covered_by(Counter({("a.weight", 0): 9})) is None
