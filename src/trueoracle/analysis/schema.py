"""The JSON Schema of an analysis, read off the types of its parts: `python -m trueoracle.analysis.schema` prints it.

What can be absent is null, and `absent` says why; nothing else changes its type. `docs/analysis.schema.json` holds it.
"""

import json
import types
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from trueoracle.analysis.result import SCHEMA, Absent, CellAnalysis, Interval

_LEFT_OUT = {"UnitNull": {"taus"}}


def json_schema() -> dict[str, Any]:
    """Of the list that `trueoracle analyze --json` prints."""
    cell = _object(CellAnalysis)
    flat = {
        "schema": {"const": SCHEMA},
        "kendall_tau": {"type": "number"},
        "kendall_p": {"type": "number"},
        "anomaly_ratio": {"type": "number"},
        "interval": _either(_object(Interval)),
        "absent": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    cell["properties"] = {**flat, **cell["properties"]}
    cell["required"] = list(cell["properties"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "trueoracle analyze --json",
        "type": "array",
        "items": cell,
    }


def _object(kind: type) -> dict[str, Any]:
    hints, left_out = get_type_hints(kind), _LEFT_OUT.get(kind.__name__, set())
    assert is_dataclass(kind)
    properties = {field.name: _type(hints[field.name]) for field in fields(kind) if field.name not in left_out}
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split()),
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _type(hint: Any) -> dict[str, Any]:
    if get_origin(hint) in (Union, types.UnionType):
        (kind,) = (part for part in get_args(hint) if part is not Absent)
        return _either(_type(kind))
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _type(get_args(hint)[0])}
    if issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    simple = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": simple[hint]} if hint in simple else _object(hint)


def _either(schema: dict[str, Any]) -> dict[str, Any]:
    """The type, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))  # noqa: T201 - to be redirected into the file
