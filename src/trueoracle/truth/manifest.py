"""What a table is: its version, its studies with all that made them, and the SHA-256 of every file."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from trueoracle.words.errors import TableError, unknown
from trueoracle.words.spec import StudySpec, parse_spec

MANIFEST = "manifest.json"
FORMAT = 1
LICENCE = "CC-BY-4.0"


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileFacts(_Facts):
    """One file of a study."""

    sha256: str
    bytes: int
    rows: int


class RunFacts(_Facts):
    """A process that retrained: seconds since 1970, trials, and what it ran with."""

    started: float
    last: float
    trials: int
    threads: int
    versions: dict[str, str]


class StudyFacts(_Facts):
    """One study: its specification, how much of it is run, by what, and its files by name.

    `trials` of `planned` are there. `seconds` are those of retraining alone, of threads, by the clock. `commit` names the code that ran it and `hardware` the
    machine, as far as whoever made the table said so.
    """

    digest: str
    spec: dict[str, Any]
    trials: int
    planned: int
    seconds: float
    runs: tuple[RunFacts, ...]
    commit: str
    hardware: str
    files: dict[str, FileFacts]

    @property
    def parsed(self) -> StudySpec:
        """The specification; `SpecError` where this version cannot run it."""
        return parse_spec(self.spec, str(self.spec.get("name")))


class Manifest(_Facts):
    """The table's version (semantic: a file that changes is a new version) and its studies by name."""

    format: int
    version: str
    licence: str
    studies: dict[str, StudyFacts]

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of the table in `folder`; `TableError` where there is none, or it is of a newer format."""
        path = folder / MANIFEST
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise TableError(
                f"there is no table in `{folder}`: `{MANIFEST}` cannot be read ({error.strerror})"
            ) from None
        except ValueError:
            raise TableError(f"the table's `{path}` is damaged: it is no JSON") from None
        if not isinstance(facts, dict) or not isinstance(facts.get("format"), int):
            raise TableError(f"the table's `{path}` is damaged: it does not say its format")
        if facts["format"] > FORMAT:
            raise TableError(
                f"the table in `{folder}` has format {facts['format']}, newer than {FORMAT}: update trueoracle"
            )
        try:
            return cls.model_validate(facts)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise TableError(f"the table's `{path}` is damaged at `{where}`") from None

    def write(self, folder: Path) -> None:
        """Write it, in an order that changes only where facts do."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")

    def study(self, name: str) -> StudyFacts:
        """The facts of a study; `TableError` for an unknown one."""
        if name not in self.studies:
            raise TableError(unknown("study", name, self.studies))
        return self.studies[name]


def file_facts(path: Path, rows: int) -> FileFacts:
    """Of a file that has just been written."""
    return FileFacts(sha256=digest_of(path), bytes=path.stat().st_size, rows=rows)


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        found = sha256()
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()
