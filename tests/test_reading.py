"""Tables as users have them: other separators, decimal commas, marks at the beginning, and what cannot be read."""

from pathlib import Path

import pandas as pd
import pytest

from trueoracle.analysis import analyze_table, read_table
from trueoracle.words.errors import TableError

WANTED = pd.DataFrame({"x": [0.5, 1.25, 2.0], "y": [3, 1, 2], "g": ["a", "b", "a"]})


def written(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "x,y,g\n0.5,3,a\n1.25,1,b\n2.0,2,a\n",
        "\ufeffx,y,g\r\n0.5,3,a\r\n1.25,1,b\r\n2.0,2,a\r\n",
        "x;y;g\n0,5;3;a\n1,25;1;b\n2,0;2;a\n",
        "\ufeffx;y;g\n0.5;3;a\n1.25;1;b\n2.0;2;a\n",
        "x\ty\tg\n0.5\t3\ta\n1.25\t1\tb\n2.0\t2\ta\n",
        '"x";"y";"g"\n"0,5";"3";"a"\n"1,25";"1";"b"\n"2,0";"2";"a"\n',
    ],
)
def test_separators_decimal_commas_and_byte_order_marks(tmp_path: Path, text: str) -> None:
    pd.testing.assert_frame_equal(read_table(written(tmp_path, text)), WANTED)


def test_a_missing_number_between_decimal_commas_stays_missing(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "x;y\n0,5;1\n;2\n1,5e-3;3\n"))
    assert table["x"].tolist() == pytest.approx([0.5, float("nan"), 0.0015], nan_ok=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,x\n1,2,3\n", "column `x` stands 2 times in `.*t.csv`: columns 1, 3"),
        ("x;y\n1.234,5;1\n2,5;2\n3,0;3\n", "column `x` must hold numbers, but row 1 .* holds `1.234,5`"),
        ("x,y\n1,2\n12.3%,4\n3,1\n", "column `x` must hold numbers, but row 2 holds `12.3%`"),
        ("x,y\n1,2\n2,four\n3,five\n", r"column `y` must hold numbers, but row 2 \(and 1 other\) holds `four`"),
        ("x,y\n1,2,9\n2,3,9\n3,4,9\n", "the table `.*t.csv` cannot be read: "),
        ("x,y\n1,2\n2,3,9\n3,4\n", "cannot be read: .*line 3"),
        ("", "cannot be read: "),
    ],
)
def test_what_cannot_be_read_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableError, match=message) as problem:
        analyze_table(read_table(written(tmp_path, text)), "x", "y")
    assert "\n" not in str(problem.value)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot be read: .*utf-8"):
        read_table(written(tmp_path, "größe,y\n1,2\n", "latin-1"))


def test_rows_without_a_group_do_not_vanish() -> None:
    table = pd.DataFrame({"x": range(40), "y": range(40), "g": ["a"] * 19 + [None] * 2 + ["b"] * 19})
    with pytest.raises(TableError, match=r"column `g` is empty in row 20 \(and 1 other\): name their group"):
        analyze_table(table, "x", "y", "g")


def test_a_column_that_stands_twice_in_a_frame_is_refused() -> None:
    table = pd.DataFrame([[1, 2, 3]] * 4, columns=["x", "y", "x"])
    with pytest.raises(TableError, match="column `x` stands 2 times in the table: columns 1, 3"):
        analyze_table(table, "x", "y")
