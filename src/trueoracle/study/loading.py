"""Studies by name or file: the built-in ones, a user's YAML, and changes to either by `path=value`."""

from collections.abc import Mapping
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from trueoracle.words.errors import SpecError, unknown
from trueoracle.words.spec import StudySpec, parse_spec
from trueoracle.words.trial import Scale


def builtin_studies() -> dict[str, StudySpec]:
    """The studies that come with trueoracle, by name."""
    return {name: parse_spec(at_scale(facts, "paper", name), name) for name, facts in _builtin().items()}


def load_spec(source: str, changes: Mapping[str, Any] | None = None, scale: str = "paper") -> StudySpec:
    """The study called `source`, or described in the YAML file at that path, at a scale, with `changes` applied.

    `NAME-CELL` is one cell of a built-in study as a study of its own. A change's key is a path such as
    `retrain.epochs` or `cells.0.draw`; `*` stands for every cell. `SpecError` for an unknown name or key, or a broken
    rule.
    """
    return changed(_facts(source, scale), changes or {}, source)


def at_scale(facts: Mapping[str, Any], scale: str, source: str) -> dict[str, Any]:
    """What `facts` say at this scale: the changes that stand there under `scales`, made; the name says which.

    At scale `paper` nothing changes. `SpecError` where the study does not say what the scale is.
    """
    known = [known.value for known in Scale]
    if scale not in known:
        raise SpecError(unknown("scale", scale, known))
    tree = deepcopy(dict(facts))
    scales = tree.pop("scales", {})
    _check_scales(scales, source)
    if scale == Scale.PAPER.value:
        return tree
    if scale not in scales:
        raise SpecError(f"{source} does not say what scale `{scale}` is: write its changes under `scales.{scale}`")
    for path, value in scales[scale].items():
        _change(tree, path, value)
    return {**tree, "name": f"{tree.get('name')}-{scale}", "scale": scale}


def _check_scales(scales: Any, source: str) -> None:
    shrunk = [scale.value for scale in Scale if scale is not Scale.PAPER]
    if not isinstance(scales, dict) or not all(isinstance(changes, dict) for changes in scales.values()):
        raise SpecError(f"{source}: `scales` must hold changes (path: value) under {' and '.join(shrunk)}")
    for name in scales:
        if name not in shrunk:
            raise SpecError(f"{source}: {unknown('scale', str(name), shrunk)}")


def changed(facts: Mapping[str, Any], changes: Mapping[str, Any], source: str) -> StudySpec:
    """The study that `facts` describe once each `path: value` is set in them; `source` names it in errors."""
    tree = deepcopy(dict(facts))
    for path, value in changes.items():
        _change(tree, path, value)
    return parse_spec(tree, source)


def _builtin() -> dict[str, dict[str, Any]]:
    """What the files of the built-in studies say, by name."""
    folder = files("trueoracle.study") / "builtin"
    texts = {entry.name: entry.read_text() for entry in folder.iterdir() if entry.name.endswith(".yaml")}
    return {facts["name"]: facts for facts in (yaml.safe_load(text) for _, text in sorted(texts.items()))}


def _facts(source: str, scale: str) -> dict[str, Any]:
    if source.endswith((".yaml", ".yml")):
        return at_scale(_read(Path(source)), scale, source)
    known = _builtin()
    if source in known:
        return at_scale(known[source], scale, source)
    owners = [name for name in known if source.startswith(f"{name}-") and len(known[name]["cells"]) > 1]
    if not owners:
        raise SpecError(unknown("study", source, known) + "; a file of your own ends in .yaml")
    owner = max(owners, key=len)
    spec = parse_spec(at_scale(known[owner], scale, owner), owner)
    cells = {f"{owner}-{cell.name}": cell.name for cell in spec.cells}
    if source not in cells:
        raise SpecError(unknown("study", source, cells))
    return spec.only(cells[source]).facts()


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
    if path.startswith("cells.*."):
        for number in range(len(facts.get("cells", []))):
            _change(facts, path.replace("*", str(number), 1), value)
        return
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
