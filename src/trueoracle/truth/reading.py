"""The public table: measured truth to be looked up instead of trained again."""

from pathlib import Path
from typing import TYPE_CHECKING

from trueoracle.truth.columns import FILES, KEY
from trueoracle.truth.manifest import Manifest, StudyFacts, digest_of
from trueoracle.words.errors import TableError, unknown

if TYPE_CHECKING:
    import pandas as pd

PACKAGED = Path(__file__).parent / "data"
"""The table that comes with trueoracle."""


class TruthTable:
    """A table in a folder: a `manifest.json`, and a folder of Parquet files a study."""

    def __init__(self, folder: Path = PACKAGED) -> None:
        """Open the table; `TableError` where there is none."""
        self.folder = folder
        self.manifest = Manifest.read(folder)

    def facts(self, study: str) -> StudyFacts:
        """Of a study by name."""
        return self.manifest.study(study)

    def frame(self, name: str, file: str = "trials") -> "pd.DataFrame":
        """One file of a study, or of one of its cells: `digits`, `digits/conv1-0.5`. `TableError` for an unknown name.

        Masks are numbers, also those of which the file has text because they outgrow 64 bits.
        """
        import pandas as pd

        study, _, cell = name.partition("/")
        if file not in FILES:
            raise TableError(unknown("file", file, FILES))
        if cell and cell not in (known := self.cells(study)):
            raise TableError(unknown("cell", cell, known))
        of_cell = [("cell", "==", cell)] if cell and "cell" in KEY[file] else None
        found = pd.read_parquet(self._path(study, file), filters=of_cell)
        if "mask" in found and not pd.api.types.is_integer_dtype(found["mask"]):
            found["mask"] = pd.Series([int(rank) for rank in found["mask"]], found.index, object)
        return found

    def trials(self, name: str) -> "pd.DataFrame":
        """A row a trial of a study or cell, with what is known of its mask before retraining: loss, units, scores."""
        found = self.frame(name)
        for file in ("masks", "scores"):
            found = found.merge(self.frame(name, file), on=["study", *KEY["masks"]], validate="many_to_one")
        return found

    def cells(self, study: str) -> list[str]:
        """The names of a study's cells, in order."""
        import pandas as pd

        return list(dict.fromkeys(pd.read_parquet(self._path(study, "cells"), columns=["cell"])["cell"]))

    def check(self, study: str) -> None:
        """`TableError` at the first file of the study that is missing or not as it was published."""
        for name, facts in self.facts(study).files.items():
            if digest_of(self._path(study, name)) != facts.sha256:
                raise TableError(f"`{study}/{name}.parquet` is not as it was published: its SHA-256 differs")

    def _path(self, study: str, file: str) -> Path:
        if file not in self.facts(study).files:
            raise TableError(f"the table does not hold the {file} of `{study}`: run the study to have them")
        path = self.folder / study / f"{file}.parquet"
        if not path.is_file():
            raise TableError(f"the table is not whole: `{path}` is missing")
        return path


def table(name: str, file: str | None = None, folder: str | Path | None = None) -> "pd.DataFrame":
    """Measured truth of a study or one of its cells, such as `digits/conv1-0.5`: a row a trial, with its mask's scores.

    `file` asks for one file as it is: networks, cells, masks, scores, trials, curves or answers. `folder` holds another table
    than the one that comes with trueoracle. What every column means: `docs/table.md`. `TableError` for an unknown name.
    """
    opened = TruthTable(PACKAGED if folder is None else Path(folder))
    return opened.trials(name) if file is None else opened.frame(name, file)
