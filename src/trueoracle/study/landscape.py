"""The oracle on its own: the pruned train losses of one network, as a table or streamed into a file.

Streamed, memory is bounded by the group of masks that the evaluator takes at once (see `oracle.accumulate`), however
many masks there are: a group's losses become rows of the file before the next group begins.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from torch import nn

from trueoracle.data import Dataset
from trueoracle.executors import Executor
from trueoracle.nets import Cost, Removal, cost, find_sites, remove, state_bytes
from trueoracle.oracle import Evaluator, Loop, PrunedLosses, evaluator, loss_table
from trueoracle.space import MaskSpace
from trueoracle.store.landscape import Landscape, rivals
from trueoracle.study.survey import part_of, survey
from trueoracle.words.examples import Examples
from trueoracle.words.mask import Mask
from trueoracle.words.progress import Progress

_ROWS_A_GROUP = 2**20


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which masks of which network are to be judged on which images; made by `ask`.

    `one_by_one` makes the evaluator of another space of the network, for a few of its masks; `cost_of` says what a mask
    leaves of it costs.
    """

    space: MaskSpace
    ranks: Sequence[int]
    evaluator: Evaluator
    one_by_one: Callable[[MaskSpace], Evaluator]
    cost_of: Callable[[Mask], Cost]
    images: Examples
    population: int
    identity: str

    def losses(self, executor: Executor, progress: Progress, folder: Path | None = None) -> Iterator[PrunedLosses]:
        """The answer, a group of masks after another, in order of rank."""
        what = "+".join(site.site for site in self.space.sites)
        return survey(
            self.evaluator, self.ranks, self.images, executor, progress, what=what, population=self.population,
            folder=folder, identity=self.identity,
        )  # fmt: skip


def ask(
    net: nn.Module,
    space: MaskSpace,
    data: Dataset,
    progress: Progress,
    *,
    sample: int | None = None,
    seed: int = 0,
    removal: Removal = "aligned",
    path: str = "auto",
    images: int | None = None,
) -> Question:
    """All masks of `space` or `sample` drawn ones, on the whole train split or on `images` drawn from it."""
    ranks = range(space.count) if sample is None else space.draw(sample, seed)
    sites = find_sites(net, data.shape)
    facts = f"{space} {removal} {images} {seed} {data.fingerprint} {data.name}"
    return Question(
        space=space,
        ranks=ranks,
        evaluator=evaluator(net, space, data.shape, removal, path, progress),
        one_by_one=lambda other: Loop(net=net, space=other, shape=data.shape, removal=removal, known=sites),
        cost_of=lambda mask: cost(remove(net, mask, sites, removal), data.shape),
        images=part_of(data.train, images, seed),
        population=len(data.train),
        identity=sha256(facts.encode() + state_bytes(net)).hexdigest(),
    )


def write_landscape(
    question: Question, output: Path, executor: Executor, progress: Progress, top: int = 10
) -> Landscape:
    """Stream the answer into `output` (.parquet or .csv), written whole or not at all.

    While it is in the making, sums are kept in a folder beside it, from which the same question goes on after a kill.
    """
    folder = output.with_name(f"{output.name}.unfinished")
    folder.mkdir(exist_ok=True)
    partial = folder / output.name
    landscape = Landscape(path=question.evaluator.path, images=len(question.images))
    with _writer(partial) as write:
        for losses in question.losses(executor, progress, folder):
            for part in losses.parts(_ROWS_A_GROUP):
                table = loss_table(part, question.space)
                landscape.add(table, top)
                write(table)
    if "standard_error" in landscape.best:
        landscape.rivals = rivals(partial, landscape.best.iloc[0])
    partial.replace(output)
    rmtree(folder)
    return landscape


def losses_frame(question: Question, executor: Executor, progress: Progress) -> pd.DataFrame:
    """The whole answer as a table in memory, a row a mask."""
    tables = [loss_table(losses, question.space) for losses in question.losses(executor, progress)]
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return frame


def write_tables(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema, one after another, as one Parquet or CSV file by its ending."""
    with _writer(path) as write:
        for table in tables:
            write(table)


class _Write(Protocol):
    def __call__(self, table: pa.Table) -> None: ...


@contextmanager
def _writer(path: Path) -> Iterator[_Write]:
    """Writes tables of one schema one after another into a file."""
    opened: pq.ParquetWriter | pa_csv.CSVWriter | None = None

    def write(table: pa.Table) -> None:
        nonlocal opened
        if opened is None:
            csv = path.suffix == ".csv"
            opened = (
                pa_csv.CSVWriter(path, table.schema)
                if csv
                else pq.ParquetWriter(path, table.schema, compression="zstd")
            )
        opened.write_table(table)

    try:
        yield write
    finally:
        if opened is not None:
            opened.close()
