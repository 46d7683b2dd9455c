"""Studies by name or file: the built-in ones, a user's YAML, and changes to either by `path=value`."""

from collections.abc import Mapping
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from trueoracle.errors import SpecError, unknown
from trueoracle.spec import StudySpec, parse_spec


def builtin_studies() -> dict[str, StudySpec]:
    """The studies that come with trueoracle, by name."""
    folder = files("trueoracle.study") / "builtin"
    texts = {entry.name: entry.read_text() for entry in folder.iterdir() if entry.name.endswith(".yaml")}
    specs = [parse_spec(yaml.safe_load(text), name) for name, text in sorted(texts.items())]
    return {spec.name: spec for spec in specs}


def load_spec(source: str, changes: Mapping[str, Any] | None = None) -> StudySpec:
    """The study called `source`, or described in the YAML file at that path, with `changes` applied.

    `NAME-CELL` is one cell of a built-in study as a study of its own. A change's key is a path such as
    `retrain.epochs` or `cells.0.draw`. `SpecError` for an unknown name or key, or a broken rule.
    """
    return changed(_facts(source), changes or {}, source)


def changed(facts: Mapping[str, Any], changes: Mapping[str, Any], source: str) -> StudySpec:
    """The study that `facts` describe once each `path: value` is set in them; `source` names it in errors."""
    tree = deepcopy(dict(facts))
    for path, value in changes.items():
        _change(tree, path, value)
    return parse_spec(tree, source)


def _facts(source: str) -> dict[str, Any]:
    if source.endswith((".yaml", ".yml")):
        return _read(Path(source))
    known = builtin_studies()
    for spec in known.values():
        if source == spec.name:
            return spec.facts()
        cells = {f"{spec.name}-{cell.name}": cell.name for cell in spec.cells}
        if source in cells:
            return spec.only(cells[source]).facts()
        if len(cells) > 1 and source.startswith(f"{spec.name}-"):
            raise SpecError(unknown("study", source, cells))
    raise SpecError(unknown("study", source, known) + "; a file of your own ends in .yaml")


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SpecError(f"the study `{path}` cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"the study `{path}` is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(facts, dict):
        raise SpecError(f"the study `{path}` must hold keys and values, but holds {type(facts).__name__}")
    return facts


def _change(facts: dict[str, Any], path: str, value: Any) -> None:
    """Set one value in place; a step into what is no tree is the one thing the later check cannot see."""
    *parents, last = path.split(".")
    place: Any = facts
    for step in parents:
        place = _step(place, step, path)
    if isinstance(place, list):
        place[_index(place, last, path)] = deepcopy(value)
    elif isinstance(place, dict):
        place[last] = deepcopy(value)
    else:
        raise SpecError(f"cannot set `{path}`: what it leads through is the value {place!r}")


def _step(place: Any, step: str, path: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, step, path)]
    if isinstance(place, dict):
        return place.setdefault(step, {})
    raise SpecError(f"cannot set `{path}`: `{step}` is no key of the value {place!r}")


def _index(place: list[Any], step: str, path: str) -> int:
    if not step.isdigit() or int(step) >= len(place):
        raise SpecError(f"cannot set `{path}`: `{step}` must be a number from 0 to {len(place) - 1}")
    return int(step)
