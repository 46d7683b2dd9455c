"""What a user may get wrong, over every command: one line on standard error, exit code 2, and nothing is left behind."""

import shlex
import shutil
import sqlite3
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from typer.main import get_command

from bad_inputs import BAD_INPUTS
from trueoracle import Study
from trueoracle.cli.app import app, main
from trueoracle.nets import build
from trueoracle.words.shape import InputShape

LINES = [(f"{typed} {wrong}".strip(), answer) for typed, wrongs in BAD_INPUTS for wrong, answer in wrongs.items()]

TEXTS = {
    "text.db": "no database at all, only text that is long enough" * 50,
    "empty.db": "",
    "folder/kept": "",
    "folder.csv/kept": "",
    "folder.yaml/kept": "",
    "broken.yaml": "a: [1\nb: }",
    "list.yaml": "- 1",
    "empty.yaml": "",
    "bare.yaml": "name: bare",
    "python.yaml": "name: !!python/object/apply:os.system ['touch left']",
    "text.safetensors": "text",
    "own.py": "constant = 3\ndef number(**facts):\n    return 3\ndef raises(**facts):\n    raise RuntimeError('two\\nlines')\n",
    "broken/mnist/train.parquet": "text",
    "broken/mnist/test.parquet": "text",
    **{f"pictures/{split}/{name}/x.png": "text" for split in ("train", "test") for name in "ab"},
    "text.parquet": "text",
    "empty.csv": "",
    "header.csv": "x,y\n",
    "words.csv": "x,y\na,1\nb,2\nc,3\n",
    "holes.csv": "x,y\n1,1\n,2\n3,3\n",
    "constant.csv": "x,y\n1,1\n1,2\n1,3\n",
    "two.csv": "x,y\n1,1\n2,2\n",
    "doubled.csv": "x,x,y\n1,1,1\n2,2,2\n3,3,3\n",
}


@pytest.fixture(scope="module")
def place(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good files and broken ones."""
    folder = tmp_path_factory.mktemp("place")
    for name, text in TEXTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name in ("binary.yaml", "binary.csv"):
        (folder / name).write_bytes(bytes(range(256)))
    table = pd.DataFrame({"x": range(12), "y": [3, 1, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12]})
    table.to_csv(folder / "t.csv", index=False)
    table.to_parquet(folder / "t.parquet", index=False)
    _make_weights(folder)
    _make_stores(folder, Path(finished.store_url.removeprefix("sqlite:///")))
    return folder


def _make_weights(folder: Path) -> None:
    weights = build("lenet5-mini", InputShape(channels=1, height=32, width=32, classes=10)).state_dict()
    save_file(weights, folder / "good.safetensors")
    save_file({**weights, "conv1.weight": torch.full((10, 1, 5, 5), float("nan"))}, folder / "nan.safetensors")
    save_file({"w": torch.zeros(3)}, folder / "other.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "good.safetensors").read_bytes()[:1000])
    torch.save(weights, folder / "pickled.safetensors")


def _make_stores(folder: Path, good: Path) -> None:
    changes = {
        "good": "SELECT 1",
        "newer": "UPDATE meta SET value = '999' WHERE key = 'schema'",
        "unversioned": "UPDATE meta SET value = '' WHERE key = 'schema'",
        "flipped": "UPDATE trials SET test_accuracy = test_accuracy + 0.01 WHERE repeat = 1",
        "failed": "UPDATE trials SET outcome = 'FAILED', test_accuracy = NULL, checksum = NULL",
    }
    for name, change in changes.items():
        with sqlite3.connect(good) as source, sqlite3.connect(folder / f"{name}.db") as copy:
            source.backup(copy)
            copy.execute(change)
        source.close()
        copy.close()
    with sqlite3.connect(folder / "other.db") as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    other.close()
    whole = (folder / "good.db").read_bytes()
    (folder / "cut.db").write_bytes(whole[: len(whole) // 2])


def content(folder: Path) -> dict[str, str]:
    """Every file with the digest of what is in it, and every folder; what Python compiles of `own.py` aside."""
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    return {str(path): sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in folder.rglob("*")}


@pytest.mark.parametrize(("line", "answer"), LINES, ids=[line for line, _ in LINES])
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    line: str, answer: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.argv", ["trueoracle", *shlex.split(line)])
    before = content(place)
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr()
    assert end.value.code == 2
    assert told.err.startswith(f"error: {answer}")
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert content(place) == before


def test_every_command_is_on_the_list() -> None:
    listed = {line.split()[0] for line, _ in LINES if line}
    assert {"studies", "run", "serve"} < set(get_command(app).commands) <= listed  # type: ignore[attr-defined]
    assert len(LINES) >= 100


def test_without_a_word_all_commands_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["trueoracle"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    told = capsys.readouterr()
    assert "analyze" in told.out
    assert told.err == ""
