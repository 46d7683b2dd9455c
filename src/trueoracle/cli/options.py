"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

StudyName = Annotated[str, typer.Argument(help="A stored study, by name or by the beginning of its digest.")]
StoreUrl = Annotated[str, typer.Option("--store", help="Database URL of the store.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder with the datasets; else TRUEORACLE_DATA.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Executor = Annotated[str, typer.Option(help="What does the work: threads of this process, or local: processes.")]
Workers = Annotated[int | None, typer.Option(help="How many processes of one thread each; with `--executor local`.")]
Threads = Annotated[int | None, typer.Option(help="At work at a time; as many as there are cores if not given.")]
