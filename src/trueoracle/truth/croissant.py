"""The table's description for machines: Croissant 1.0 (JSON-LD), with its responsible-AI part.

Source: MLCommons, "Croissant format specification", version 1.0, and "Croissant RAI", version 1.0.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trueoracle.truth.manifest import Manifest

CROISSANT = "croissant.json"

_ADDRESS = "https://github.com/trueoracle/trueoracle"
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def write_croissant(folder: Path, manifest: Manifest) -> None:
    """Describe every file of the table, and every column of it, in `croissant.json`."""
    latest = max((run.last for facts in manifest.studies.values() for run in facts.runs), default=0.0)
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": "trueoracle-table",
        "description": "Pruned networks with what became of them after retraining: every mask of a study, its loss before "
        "retraining, and its loss, accuracy and answers after.",
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "url": _ADDRESS,
        "version": manifest.version,
        "datePublished": datetime.fromtimestamp(latest, UTC).date().isoformat(),
        "citeAs": "trueoracle, the public table of measured truth",
        "rai:dataCollection": "Every row was measured by training networks; see DATASHEET.md and each study's specification in manifest.json.",
        "rai:dataLimitations": "Small networks on small images, few base networks; see DATASHEET.md.",
        "rai:dataUseCases": "Judging what is said of a pruned network before retraining by how it ends.",
        "rai:personalSensitiveInformation": "None: numbers about networks.",
        "distribution": list(_files(manifest)),
        "recordSet": list(_records(folder, manifest)),
    }
    (folder / CROISSANT).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def _files(manifest: Manifest) -> Iterator[dict[str, Any]]:
    for study, facts in manifest.studies.items():
        for file, own in facts.files.items():
            yield {
                "@type": "cr:FileObject",
                "@id": f"{study}/{file}.parquet",
                "name": f"{study}/{file}.parquet",
                "contentUrl": f"{study}/{file}.parquet",
                "contentSize": f"{own.bytes} B",
                "encodingFormat": "application/x-parquet",
                "sha256": own.sha256,
            }


def _records(folder: Path, manifest: Manifest) -> Iterator[dict[str, Any]]:
    for study, facts in manifest.studies.items():
        for file in facts.files:
            name = f"{study}/{file}"
            schema = pq.read_schema(folder / f"{name}.parquet")
            yield {
                "@type": "cr:RecordSet",
                "@id": name,
                "name": name,
                "field": [_field(name, field) for field in schema],
            }


def _field(record: str, field: pa.Field) -> dict[str, Any]:
    repeated = pa.types.is_list(field.type)
    inner = field.type.value_type if repeated else field.type
    said = (field.metadata or {}).get(b"description", b"").decode()
    return {
        "@type": "cr:Field",
        "@id": f"{record}/{field.name}",
        "name": field.name,
        "description": said,
        "dataType": _kind(inner),
        **({"repeated": True} if repeated else {}),
        "source": {"fileObject": {"@id": f"{record}.parquet"}, "extract": {"column": field.name}},
    }


def _kind(type_: pa.DataType) -> str:
    if pa.types.is_list(type_):
        return _kind(type_.value_type)
    if pa.types.is_boolean(type_):
        return "sc:Boolean"
    if pa.types.is_integer(type_):
        return "sc:Integer"
    if pa.types.is_floating(type_):
        return "sc:Float"
    return "sc:Text"
