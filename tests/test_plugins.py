"""What an installed package adds by entry points is known by its name: the documentation's own examples, run."""

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from trueoracle import Study, StudySpec
from trueoracle.criteria import mask_predictors
from trueoracle.nets import MODELS
from trueoracle.words.errors import TrueOracleError
from trueoracle.words.plugins import with_plugins
from trueoracle.words.progress import Quiet

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's package, as if it were installed."""
    module = ModuleType("mypruning")
    monkeypatch.setitem(sys.modules, "mypruning", module)
    exec("\n".join(blocks("python")), vars(module))
    (toml,) = blocks("toml")
    groups = re.findall(r'entry-points\."(.*?)"\]\n(.*?) = "(.*?)"', toml)
    assert len(groups) == 4
    points = [EntryPoint(name=name, value=value, group=group) for group, name, value in groups]
    monkeypatch.setattr("trueoracle.words.plugins.entry_points", lambda group: [p for p in points if p.group == group])


@pytest.mark.usefixtures("installed")
def test_the_pages_network_dataset_and_criterion_make_a_study(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    study = Study(
        StudySpec(**yaml.safe_load(text)), store=f"sqlite:///{tmp_path / 's.db'}", threads=1, progress=Quiet()
    )
    status = study.run()
    assert status.finished == status.total == 70
    (found,) = study.analyze(x="smallest", y="final_test_loss")
    assert (found.x, found.n) == ("smallest", 70)


@pytest.mark.usefixtures("installed")
def test_the_pages_predictor_is_one_of_those_that_are_measured() -> None:
    assert mask_predictors()["median_loss"].better == "lower"


def test_no_built_in_name_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="lenet5-mini", value="builtins:int", group="trueoracle.models")
    monkeypatch.setattr("trueoracle.words.plugins.entry_points", lambda **_: [point])
    assert with_plugins("models", MODELS) == MODELS


def test_a_plugin_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="broken", value="no_such_module:thing", group="trueoracle.models")
    monkeypatch.setattr("trueoracle.words.plugins.entry_points", lambda **_: [point])
    with pytest.raises(TrueOracleError, match="`broken` of `trueoracle.models` cannot be loaded: No module named"):
        with_plugins("models", MODELS)
