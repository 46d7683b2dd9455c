"""A table made, or made larger: studies of a store written into its folder, and the manifest and metadata anew."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from trueoracle.store import Store
from trueoracle.truth.croissant import write_croissant
from trueoracle.truth.manifest import FORMAT, LICENCE, MANIFEST, Manifest, RunFacts, StudyFacts, file_facts
from trueoracle.truth.writing import write_study
from trueoracle.words.errors import TableError
from trueoracle.words.progress import Progress
from trueoracle.words.spec import parse_spec


def build(
    folder: Path,
    store: Store,
    studies: Sequence[str],
    progress: Progress,
    *,
    version: str,
    commit: str = "",
    hardware: str = "",
    without: Sequence[str] = (),
) -> Manifest:
    """Write studies of a store, by name or digest, into the table in `folder`, in the place of those of the same names.

    `folder` is made where it is not there. `version` is the table's from now on, and must be another than it has: what was published is
    never changed under its name. `commit` and `hardware` say what ran the studies. `without` names files that are left out, for their size.
    Each study is written whole or not at all.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise TableError(f"`version` must be like 1.1.0, but got `{version}`")
    records = [store.find(name) for name in studies]
    known = Manifest.read(folder) if (folder / MANIFEST).exists() else None
    if known is not None and known.version == version:
        raise TableError(f"the table in `{folder}` has version {version} already: give another one")
    folder.mkdir(parents=True, exist_ok=True)
    found = dict(known.studies) if known is not None else {}
    for record in records:
        partial = folder / f".{record.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        found[record.name] = _study(
            store, record.digest, record.name, record.spec, partial, progress, commit, hardware, without
        )
        shutil.rmtree(folder / record.name, ignore_errors=True)
        partial.replace(folder / record.name)
    manifest = Manifest(format=FORMAT, version=version, licence=LICENCE, studies=dict(sorted(found.items())))
    manifest.write(folder)
    write_croissant(folder, manifest)
    return manifest


def _study(
    store: Store,
    digest: str,
    name: str,
    text: str,
    folder: Path,
    progress: Progress,
    commit: str,
    hardware: str,
    without: Sequence[str],
) -> StudyFacts:
    facts = json.loads(text)
    spec = parse_spec(facts, name)
    rows = write_study(store, digest, spec, folder, progress)
    for file in without:
        if file not in rows or file == "trials":
            shutil.rmtree(folder)
            raise TableError(
                f"`{file}` is no file that can be left out: {', '.join(sorted(rows.keys() - {'trials'}))} are"
            )
        (folder / f"{file}.parquet").unlink()
        del rows[file]
    trials = store.trial_table(digest)
    return StudyFacts(
        digest=digest,
        spec=facts,
        trials=rows["trials"],
        planned=spec.repeats * sum(cell.masks for cell in store.cells(digest)),
        seconds=float(trials["seconds"].sum()),
        runs=tuple(
            RunFacts(started=run.started, last=run.last, trials=run.trials, threads=run.threads, versions=run.versions)
            for run in store.runs(digest)
        ),
        commit=commit,
        hardware=hardware,
        files={file: file_facts(folder / f"{file}.parquet", number) for file, number in rows.items()},
    )
