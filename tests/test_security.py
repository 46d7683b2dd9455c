"""Nothing that a user gives, or that others could put in its place, is run, unpickled or taken for markup."""

import ast
import json
import os
import pickle
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import trueoracle
from served import ask, serving
from trueoracle import Study
from trueoracle.analysis import Options
from trueoracle.lanes import build
from trueoracle.report import write_figures, write_report
from trueoracle.store import Store
from trueoracle.words.errors import CacheError
from trueoracle.words.progress import Quiet
from trueoracle.words.spec import parse_spec

SOURCE = """
@njit("int64(int64)", nogil=True, cache=True)
def doubled(number):
    return number + number
"""
EVIL = "<script>alert(1)</script>\"'&$x_"


class Told(Quiet):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def kernel_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRUEORACLE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def compiles() -> Iterator[Callable[[], list[str]]]:
    """Builds the kernel as a new process would, holds it against the truth, and returns what was said."""
    before = set(sys.modules)

    def forget() -> None:
        for name in set(sys.modules) - before:
            if name.startswith("trueoracle_doubling_"):
                del sys.modules[name]

    def build_it() -> list[str]:
        told = Told()
        assert build("doubling", SOURCE, told).doubled(21) == 42
        forget()
        return told.lines

    yield build_it
    forget()


def test_compiled_code_lies_in_a_folder_that_is_closed_to_others(
    kernel_folder: Path, compiles: Callable[[], list[str]]
) -> None:
    assert "compiling the doubling kernels" in compiles()[0]
    assert kernel_folder.stat().st_mode & 0o777 == 0o700
    assert compiles() == []
    kernel_folder.chmod(0o755)  # of an earlier version
    assert compiles() == []
    assert kernel_folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_write_is_refused(
    kernel_folder: Path, compiles: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_folder.mkdir(parents=True)
    for mode in (0o777, 0o770, 0o702):
        kernel_folder.chmod(mode)
        with pytest.raises(CacheError, match="holds code that would be run, and others may write to it"):
            compiles()
    kernel_folder.chmod(0o700)
    owner = os.getuid()
    monkeypatch.setattr("os.getuid", lambda: owner + 1)
    with pytest.raises(CacheError, match="holds code that would be run, and belongs to another user"):
        compiles()


def test_compiled_code_that_is_damaged_is_made_again(kernel_folder: Path, compiles: Callable[[], list[str]]) -> None:
    compiles()
    for pattern in ("*.nbi", "*.nbc", "*.sums"):
        (path,) = kernel_folder.rglob(pattern)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
        assert "compiling the doubling kernels" in compiles()[0]
        assert compiles() == []
    path.write_text("")
    assert "compiling the doubling kernels" in compiles()[0]


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_put_beside_the_kernels_is_not_read(
    kernel_folder: Path, compiles: Callable[[], list[str]], tmp_path: Path
) -> None:
    compiles()
    for path in kernel_folder.rglob("*.nb[ic]"):
        path.write_bytes(pickle.dumps(Evil(tmp_path / "run")) * 2)
    compiles()
    assert not (tmp_path / "run").exists()


FORBIDDEN = {"eval", "pickle", "cPickle", "joblib", "shelve", "marshal", "read_pickle", "unsafe_load", "full_load"}


def test_nothing_unpickles_or_evaluates_what_is_read() -> None:
    found = []
    for path in sorted(Path(trueoracle.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                found += [f"{path.name}: import {name}" for name in names & FORBIDDEN]
            elif isinstance(node, ast.Call):
                called, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
                if called in FORBIDDEN or called.rpartition(".")[2] in FORBIDDEN - {"eval"}:
                    found.append(f"{path.name}: {called}")
                if called in ("torch.load", "yaml.load") or (called in ("np.load", "numpy.load") and given.get("allow_pickle") != "False"):  # fmt: skip
                    found.append(f"{path.name}: {called}")
                if called == "exec" and path.name != "build.py":  # there it is what trueoracle itself has generated
                    found.append(f"{path.name}: exec")
                if given.get("trust_remote_code", "False") != "False":
                    found.append(f"{path.name}: {called} trusts remote code")
    assert found == []


@pytest.fixture
def marked(finished: Study, tmp_path: Path) -> str:
    """A store in which every name and text is markup."""
    path = tmp_path / "marked.db"
    with (
        closing(sqlite3.connect(finished.store_url.removeprefix("sqlite:///"))) as source,
        closing(sqlite3.connect(path)) as copy,
    ):
        source.backup(copy)
        copy.execute("UPDATE studies SET name = ?", (EVIL,))
        copy.execute("UPDATE studies SET spec = json_set(spec, '$.description', ?, '$.model', ?)", (EVIL, EVIL))
        copy.execute("UPDATE cells SET name = name || ?", (EVIL,))
        copy.execute("UPDATE cells SET sites = replace(sites, 'conv1', 'conv1<script>alert(1)</script>')")
        copy.execute("UPDATE masks SET pruned = replace(pruned, 'conv1', 'conv1<script>alert(1)</script>')")
        copy.execute("UPDATE trials SET error = ?", (EVIL,))
        copy.execute("UPDATE runs SET versions = json_set(versions, '$.torch', ?)", (EVIL,))
        (text,) = copy.execute("SELECT spec FROM studies").fetchone()
        digest = parse_spec(json.loads(text), EVIL).digest()
        copy.execute("UPDATE studies SET digest = ?", (digest,))
        for (table,) in copy.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            columns = {row[1] for row in copy.execute(f"PRAGMA table_info({table})")}
            if "study" in columns:
                copy.execute(f"UPDATE {table} SET study = ?", (digest,))
            if "checksum" in columns:
                copy.execute(f"UPDATE {table} SET checksum = NULL")
        copy.commit()
    return f"sqlite:///{path}"


def test_markup_in_names_and_texts_is_shown_and_not_obeyed(marked: str, tmp_path: Path) -> None:
    store = Store(marked)
    digest = store.studies()[0].digest
    write_report(store, digest, tmp_path / "report.html", options=Options(resamples=99))
    pages = [(tmp_path / "report.html").read_text(encoding="utf-8")]
    with serving(marked) as address:
        for path in ("/", f"/studies/{digest}", f"/studies/{digest}/trials", f"/studies/{digest}/cells/0"):
            status, _, text = ask(address, path)
            assert status == 200, text
            pages.append(text)
    for page in pages:
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


def test_names_that_a_formula_would_not_bear_are_drawn(marked: str, tmp_path: Path) -> None:
    store = Store(marked)
    written = write_figures(store, store.studies()[0].digest, tmp_path / "figures", options=Options(resamples=99))
    assert {path.suffix for path in written} == {".pdf", ".svg"}
    for path in written:
        assert path.suffix == ".pdf" or "<script>alert" not in path.read_text(encoding="utf-8")
