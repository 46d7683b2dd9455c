"""`trueoracle status`, `trials` and `base`: what the store keeps of a study."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trueoracle import api
from trueoracle.cli import show
from trueoracle.cli.options import StoreUrl, StudyName
from trueoracle.store import DEFAULT_URL
from trueoracle.words.errors import SpecError, StoreError

if TYPE_CHECKING:
    from trueoracle.store import Store, StudyRecord


def status(study: StudyName, store: StoreUrl = DEFAULT_URL) -> None:
    """How far a study is, and who is at it."""
    from trueoracle.store import Store
    from trueoracle.words.spec import parse_spec

    opened = Store(store)
    record = opened.find(study)
    epochs = parse_spec(json.loads(record.spec), record.name).retrain.epochs
    at_work = opened.in_flight(record.digest)
    if at_work and not opened.cells(record.digest):
        show.say(f"{record.name}: nothing is retrained yet, its base networks come first")
    else:
        show.status(record.name, opened.status(record.digest, _total(opened, record)), epochs)
    show.workers(at_work, opened.runs(record.digest))


def trials(
    study: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", help="A .parquet or .csv file.")],
    curves: Annotated[bool, typer.Option("--curves", help="A row an epoch instead of a row a trial.")] = False,
    answers: Annotated[
        bool, typer.Option("--answers", help="A row a trial and split: right or wrong, image by image (.parquet).")
    ] = False,
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """Write a study's trials as a table."""
    from trueoracle.store import Store, write_answers

    if curves and answers:
        raise SpecError("`--curves` and `--answers` are two tables: ask for one at a time")
    opened = Store(store)
    digest = opened.find(study).digest
    if answers:
        show.say(f"{write_answers(opened, digest, output)} rows written to {output}")
        return
    parts = opened.curve_parts(digest) if curves else opened.trial_parts(digest)
    show.say(f"{api.write_parts(parts, opened.largest_rank(digest), output)} rows written to {output}")


def base(
    study: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write.")],
    number: Annotated[int, typer.Option(help="Which one, where the study has several; from 0.")] = 0,
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """Write the weights of a study's base network, for `oracle` or for `run --base-weights`."""
    from trueoracle.words.files import write_whole

    content = api.Study.stored(study, store=store).base_weights(number)
    write_whole(output, lambda partial: partial.write_bytes(content), StoreError)
    show.say(f"weights written to {output}")


def _total(store: "Store", record: "StudyRecord") -> int:
    """Trials of a stored study."""
    from trueoracle.words.spec import parse_spec

    spec = parse_spec(json.loads(record.spec), record.name)
    cells = store.cells(record.digest)
    if not cells:
        raise StoreError(f"study `{record.name}` was stopped before it began: run it again")
    return spec.repeats * sum(cell.masks for cell in cells)
