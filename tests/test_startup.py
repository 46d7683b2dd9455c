"""Commands start at once: what they do not need is not loaded, and every exported name is there when asked for."""

import json
import subprocess
import sys
from importlib import import_module

import pytest

HEAVY = {"torch", "pandas", "numba", "scipy", "matplotlib", "transformers", "sqlalchemy", "pyarrow", "datasets"}
ROOMS = ["", ".analysis", ".api", ".cli.show", ".data", ".fleet", ".nets", ".report", ".serve", ".store", ".study"]


def loaded_by(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded once it has run `code`."""
    tell = "import atexit, json, sys; atexit.register(lambda: print('\\n' + json.dumps(sorted(sys.modules))))\n"
    done = subprocess.run([sys.executable, "-c", tell + code], capture_output=True, text=True, check=False)
    return HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


def command(*words: str) -> str:
    return f"import sys; sys.argv = {['trueoracle', *words]!r}; from trueoracle.cli.app import main; main()"


def test_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import trueoracle") == set()
    assert loaded_by("import trueoracle; trueoracle.StudySpec") == set()


@pytest.mark.parametrize("words", [["--help"], ["oracle", "--help"], ["run"], ["run", "quickstart", "--nonsense"]])
def test_help_and_wrong_usage_load_nothing_heavy(words: list[str]) -> None:
    assert loaded_by(command(*words)) == set()


@pytest.mark.parametrize(
    "words",
    [
        ["studies"],
        ["studies", "lenet5-mini-mnist"],
        ["status", "quickstart", "--store", "sqlite:///nowhere.db"],
        ["run", "quickstrat"],
        ["run", "quickstart", "--set", "retrain.epoch=3"],
        ["run", "quickstart", "--threads", "0"],
        ["run", "quickstart", "--set", "model=lenet5-mimi"],
        ["run", "quickstart", "--set", "data=minst"],
        ["run", "quickstart", "--device", "tpu"],
        ["run", "quickstart", "--backend", "lane"],
        ["oracle", "--model", "lenet", "--data", "digits", "--prune", "conv1=0.5", "-o", "t.csv"],
        ["sites", "lenet"],
        ["report", "quickstart", "--store", "sqlite:///nowhere.db"],
        ["analyze", "quickstart", "--store", "sqlite:///nowhere.db"],
        ["plan"],
    ],
)
def test_what_reads_only_words_or_the_store_loads_no_torch(words: list[str]) -> None:
    assert loaded_by(command(*words)) <= {"sqlalchemy"}


def test_the_server_needs_no_torch() -> None:
    assert "torch" not in loaded_by("import trueoracle.serve.server")


@pytest.mark.parametrize("room", ROOMS)
def test_every_exported_name_of_a_room_is_there(room: str) -> None:
    module = import_module(f"trueoracle{room}")
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="has no attribute `nonsense`"):
        module.nonsense  # noqa: B018


def test_a_room_gives_what_it_exports_and_not_the_module_of_that_name() -> None:
    code = "import trueoracle.nets.cost, trueoracle.nets as nets; assert nets.cost.__module__ == 'trueoracle.nets.cost'"
    subprocess.run([sys.executable, "-c", code], check=True)
