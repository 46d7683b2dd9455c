"""The table of docs/networks.md is what its script says."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))

import networks  # noqa: E402


def told(line: str) -> list[str]:
    """Network, sites and share of parameters: differences and what Torch-Pruning does in a minute may vary."""
    return [part.strip() for part in line.split("|")[1:4]]


@pytest.mark.slow
@pytest.mark.parametrize("group", networks.GROUPS)
def test_the_table_is_what_the_script_says(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "used_directly", lambda _net, _shape: "")
    rows = list(networks.rows(group, [], masks=3))
    assert all(row.exact for row in rows)
    table = [told(line) for line in (DOCS / "networks.md").read_text().splitlines() if line.startswith("|")]
    for row in rows:
        assert told(row.markdown()) in table


def test_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "PATIENCE", 30)
    (row,) = networks.rows("handmade", ["concatenation"], masks=2)
    assert row.exact
    assert told(row.markdown()) == ["concatenation", "3 filter", "69%"]
    assert row.direct == "69% gone, runs"
