"""Figures for a manuscript: vector, whole, the same bytes every time."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from trueoracle import Study
from trueoracle.words.errors import ReportError


@pytest.fixture(scope="module")
def figures(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures") / "out"
    finished.figures(folder)
    return folder


def test_every_cell_has_its_figures_in_both_formats(figures: Path) -> None:
    names = {path.name for path in figures.iterdir()}
    for cell in ("conv1-0.5", "conv3-0.2"):
        assert {f"{what}-{cell}.{kind}" for what in ("scatter", "curves") for kind in ("pdf", "svg")} <= names
    assert {"grid.pdf", "grid.svg"} <= names
    assert not [name for name in names if "partial" in name]


def test_they_are_the_same_bytes_every_time(figures: Path, finished: Study, tmp_path: Path) -> None:
    for path in finished.figures(tmp_path / "again"):
        assert path.read_bytes() == (figures / path.name).read_bytes(), path.name


def test_pdf_embeds_its_fonts_and_holds_no_pixels(figures: Path) -> None:
    for path in figures.glob("*.pdf"):
        content = path.read_bytes()
        assert b"/FontFile2" in content, path.name
        assert b"/Subtype /Image" not in content, path.name


def test_svg_needs_no_fonts_and_holds_no_pixels(figures: Path) -> None:
    for path in figures.glob("*.svg"):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
        assert "path" in tags
        assert not tags & {"text", "image"}, path.name


def test_they_fit_the_columns_of_a_page(figures: Path) -> None:
    def inches(name: str) -> float:
        box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", (figures / name).read_bytes())
        assert box is not None
        return float(box[1]) / 72

    assert inches("scatter-conv1-0.5.pdf") == pytest.approx(3.35, abs=0.01)
    assert inches("curves-conv1-0.5.pdf") == pytest.approx(6.9, abs=0.01)


def test_the_parent_of_the_folder_must_exist(finished: Study, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="the folder `.*nowhere` does not exist"):
        finished.figures(tmp_path / "nowhere" / "figures")
