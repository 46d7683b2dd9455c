"""The command `trueoracle`: every word of it is a call of `trueoracle.api`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from trueoracle import analysis, api
from trueoracle.cli import show
from trueoracle.store import DEFAULT_URL, Store, StudyRecord
from trueoracle.words.errors import SpecError, StoreError, TableError, TrueOracleError
from trueoracle.words.files import write_whole
from trueoracle.words.progress import Bars, Quiet
from trueoracle.words.spec import parse_spec

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does the loss of a pruned network before retraining predict how well it does after?",
)

StudyName = Annotated[str, typer.Argument(help="A stored study, by name or by the beginning of its digest.")]
StoreUrl = Annotated[str, typer.Option("--store", help="Database URL of the store.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder with the datasets; else TRUEORACLE_DATA.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(help="At work at a time; as many as there are cores if not given.")]


def main() -> None:
    """Run the command line; a broken rule is one line on standard error and exit code 2."""
    try:
        app()
    except TrueOracleError as error:
        show.problem(str(error))
        sys.exit(2)


@app.command()
def studies() -> None:
    """List the built-in studies."""
    show.studies(api.studies().values())


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A built-in study, NAME-CELL for one cell of it, or a YAML file.")],
    scale: Annotated[
        str, typer.Option(help="tiny, small or paper: minutes, about an hour, or as published.")
    ] = "paper",
    store: StoreUrl = DEFAULT_URL,
    data_dir: DataDir = None,
    base_weights: Annotated[Path | None, typer.Option(help="A safetensors file: no base network is trained.")] = None,
    device: Device = "cpu",
    threads: Threads = None,
    backend: Annotated[str, typer.Option(help="What trains: auto, lanes, stacked or loop.")] = "auto",
    changes: Annotated[list[str] | None, typer.Option("--set", help="path=value, such as retrain.epochs=2.")] = None,
) -> None:
    """Run a study, or resume it where it was left."""
    from trueoracle.study import Paused

    wanted = api.Study(
        study,
        scale=scale,
        set=dict(_change(text) for text in changes or []),
        store=store,
        data_dir=data_dir,
        base_weights=base_weights,
        device=device,
        threads=threads,
        backend=backend,
    )
    try:
        before = wanted.stored_status()
        if before is not None and not before.left:
            show.say(f"{wanted.spec.name} is finished already: {before.finished} trials; nothing was run")
        else:
            wanted.run()
    except Paused:
        show.say(f"stopped; what was finished is kept in {store}. To resume, give the same command again")
        sys.exit(130)
    show.status(wanted.spec.name, wanted.status(), wanted.spec.retrain.epochs)
    try:
        show.analyses(wanted.analyze())
        show.pooled(wanted.pooled())
    except TableError as problem:  # a tiny study's masks may all end alike; that the study ran is not changed by it
        show.say(f"the trials are kept, but cannot be analysed: {problem}")


@app.command()
def status(study: StudyName, store: StoreUrl = DEFAULT_URL) -> None:
    """How far a study is."""
    opened = Store(store)
    record = opened.find(study)
    epochs = parse_spec(json.loads(record.spec), record.name).retrain.epochs
    show.status(record.name, opened.status(record.digest, _total(opened, record)), epochs)


@app.command()
def trials(
    study: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", help="A .parquet or .csv file.")],
    curves: Annotated[bool, typer.Option("--curves", help="A row an epoch instead of a row a trial.")] = False,
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """Write a study's trials as a table."""
    opened = Store(store)
    digest = opened.find(study).digest
    table = opened.curve_table(digest) if curves else opened.trial_table(digest)
    api.write_table(table, output)
    show.say(f"{len(table)} rows written to {output}")


@app.command()
def base(
    study: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write.")],
    number: Annotated[int, typer.Option(help="Which one, where the study has several; from 0.")] = 0,
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """Write the weights of a study's base network, for `oracle` or for `run --base-weights`."""
    content = api.Study.stored(study, store=store).base_weights(number)
    write_whole(output, lambda partial: partial.write_bytes(content), StoreError)
    show.say(f"weights written to {output}")


@app.command()
def sites(
    model: Annotated[str, typer.Argument(help="A network: a name, package.module:factory, or hf:HUB-ID.")],
    data: Annotated[str | None, typer.Option(help="A dataset, for its images; a built-in network has its own.")] = None,
) -> None:
    """What can be pruned of a network, and what a unit of it costs."""
    show.sites(api.sites(model, data))


@app.command()
def oracle(
    model: Annotated[str, typer.Option(help="A network: a name, package.module:factory, or hf:HUB-ID.")],
    data: Annotated[str, typer.Option(help="A dataset by name.")],
    prune: Annotated[list[str], typer.Option(help="SITE=RATIO, by name or glob; again for a joint space.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .parquet or .csv file.")],
    weights: Annotated[Path | None, typer.Option(help="A safetensors file; hf: models have their own.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Draw so many masks instead of taking all.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws of masks and images.")] = 0,
    images: Annotated[int | None, typer.Option(help="Draw so many train images instead of taking all.")] = None,
    removal: Annotated[
        str, typer.Option(help="aligned, or released: as the paper's released code has it.")
    ] = "aligned",
    path: Annotated[str, typer.Option(help="auto, exact, batched or loop: how losses are computed.")] = "auto",
    top: Annotated[int, typer.Option(min=1, help="Print so many masks of lowest loss.")] = 5,
    data_dir: DataDir = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """The pruned train loss of every mask. Killed, the same command goes on where it was."""
    from trueoracle.executors import Threads as Workers
    from trueoracle.study.landscape import write_landscape

    api.check_table_path(output)
    progress = Bars()
    question = api.ask_oracle(
        model, weights, data, dict(_ratio(text) for text in prune), sample=sample, seed=seed, images=images,
        removal=_removal(removal), path=path, data_dir=data_dir, device=device, progress=progress,
    )  # fmt: skip
    try:
        found = write_landscape(question, output, Workers(api.threads_or_all(threads)), progress, top)
    except KeyboardInterrupt:
        show.say(f"stopped; what was done is kept beside {output}. To resume, give the same command again")
        sys.exit(130)
    show.landscape(found, output)


@app.command()
def analyze(
    source: Annotated[str, typer.Argument(help="A stored study, or a .parquet or .csv file.")],
    x: Annotated[
        list[str] | None,
        typer.Option(
            help="A predictor, known before retraining; again to rank several, the first is judged. [default: pruned_train_loss]"
        ),
    ] = None,
    y: Annotated[str, typer.Option(help="The result after it.")] = "final_test_accuracy",
    group: Annotated[str | None, typer.Option(help="Column of a table: one line for each of its values.")] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="Number of classes of a table's task; again as GROUP=N for groups of another task."),
    ] = None,
    margin: Annotated[float, typer.Option(help="|tau| below it does not matter.")] = 0.1,
    alpha: Annotated[float, typer.Option(help="Level of the tests.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Seed of resamples and relabellings.")] = 0,
    resamples: Annotated[
        int | None, typer.Option(help="Resamples and relabellings. [default: 9,999, fewer for over 4,000 masks]")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A .csv, .parquet or .tex file to write.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A list with an object a group.")] = False,
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """Does x predict y? What every column means: docs/statistics.md; what a verdict means: docs/verdicts.md."""
    if output is not None:
        api.check_table_path(output, api.ANALYSIS_ENDINGS)
    xs = x or ["pruned_train_loss"]
    progress = Quiet() if as_json else Bars()
    options = analysis.Options(margin=margin, alpha=alpha, seed=seed, resamples=resamples)
    if source.endswith((".parquet", ".csv")):
        table = analysis.read_table(Path(source))
        found = analysis.analyze_table(table, xs, y, group, *_classes(classes or []), options, progress)
    elif group is not None or classes is not None:
        raise SpecError("`--group` and `--classes` are for tables; a stored study knows its cells and classes")
    else:
        found = analysis.analyze_study(Store(store), source, xs, y, options, progress)
    if output is not None:
        api.write_analyses(found, output)
    if as_json:
        print(json.dumps([cell.as_dict() for cell in found], indent=2))
        return
    show.analyses(found)
    if not source.endswith((".parquet", ".csv")):
        opened = Store(store)
        show.pooled(analysis.pool(found, opened.cells(opened.find(source).digest)))


@app.command()
def plan(
    pilot: Annotated[
        str | None, typer.Argument(help="A stored study whose noise, units and rate are taken over.")
    ] = None,
    tau: Annotated[
        float | None,
        typer.Option(help="tau between x and what masks end with on average. [default: 0.2, for equivalence 0]"),
    ] = None,
    claim: Annotated[analysis.Claim, typer.Option(help="What is to be shown.")] = analysis.Claim.RELATION,
    repeats: Annotated[
        list[int] | None, typer.Option(help="Repeats a mask; again for several. [default: 1 2 3 5]")
    ] = None,
    reliability: Annotated[
        float | None, typer.Option(help="Without a pilot: correlation of two repeats over masks.")
    ] = None,
    units: Annotated[
        list[int] | None, typer.Option(help="Without a pilot: units of a site; again for each site.")
    ] = None,
    trial_seconds: Annotated[float | None, typer.Option(help="Without a pilot: core-seconds a trial.")] = None,
    margin: Annotated[float, typer.Option(help="|tau| below it does not matter.")] = 0.1,
    alpha: Annotated[float, typer.Option(help="Level of the test.")] = 0.05,
    power: Annotated[float, typer.Option(help="Chance of showing the claim if it holds.")] = 0.8,
    as_json: Annotated[
        bool, typer.Option("--json", help="A list with an object a cell and number of repeats.")
    ] = False,
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """How many masks and repeats a claim takes, and what they cost. How it is computed: docs/statistics.md."""
    found = api.plan_claim(
        claim, pilot=pilot, tau=tau, repeats=repeats or (1, 2, 3, 5), reliability=reliability, units=units or (),
        trial_seconds=trial_seconds, margin=margin, alpha=alpha, power=power, store=store,
    )  # fmt: skip
    if as_json:
        print(json.dumps([{"cell": cell, **need.as_dict()} for cell, need in found], indent=2))
    else:
        show.needs(claim, found)


@app.command()
def report(
    study: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("report.html"),
    x: Annotated[str, typer.Option(help="The predictor that is judged; all others are ranked.")] = "pruned_train_loss",
    y: Annotated[str, typer.Option(help="The result after retraining.")] = "final_test_accuracy",
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """Write a study's report, one self-contained page."""
    from trueoracle.report import write_report

    write_report(Store(store), study, output, x, y, progress=Bars())
    show.say(f"report written to {output}")


@app.command()
def figures(
    study: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write into.")] = Path("figures"),
    x: Annotated[str, typer.Option(help="The predictor.")] = "pruned_train_loss",
    y: Annotated[str, typer.Option(help="The result after retraining.")] = "final_test_accuracy",
    store: StoreUrl = DEFAULT_URL,
) -> None:
    """Write a study's figures for a manuscript, as PDF and SVG."""
    from trueoracle.report import write_figures

    written = write_figures(Store(store), study, output, x, y, progress=Bars())
    show.say(f"{len(written)} files written to {output}")


@app.command()
def doctor(store: StoreUrl = DEFAULT_URL, data_dir: DataDir = None) -> None:
    """Check versions, devices, data and the store."""
    show.facts(api.doctor(store, data_dir))


def _total(store: Store, record: StudyRecord) -> int:
    """Trials of a stored study."""
    spec = parse_spec(json.loads(record.spec), record.name)
    cells = store.cells(record.digest)
    if not cells:
        raise StoreError(f"study `{record.name}` was stopped before it began: run it again")
    return spec.repeats * sum(cell.masks for cell in cells)


def _change(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise SpecError(f"`--set` takes path=value, but got `{text}`")
    try:
        return path, yaml.safe_load(value)
    except yaml.YAMLError:
        raise SpecError(f"`--set {path}`: the value `{value}` is no YAML") from None


def _classes(texts: list[str]) -> tuple[int | None, dict[str, int]]:
    """The number for all groups, and those of some."""
    everywhere, somewhere = None, {}
    for text in texts:
        group, equals, number = text.rpartition("=")
        if not number.isdecimal() or (equals and not group):
            raise SpecError(f"`--classes` takes N or GROUP=N, but got `{text}`")
        if equals:
            somewhere[group] = int(number)
        else:
            everywhere = int(number)
    return everywhere, somewhere


def _removal(name: str) -> Any:
    from trueoracle.nets import check_removal

    check_removal(name)
    return name


def _ratio(text: str) -> tuple[str, float]:
    site, _, ratio = text.partition("=")
    try:
        return site, float(ratio)
    except ValueError:
        raise SpecError(f"`--prune` takes SITE=RATIO such as conv1=0.5, but got `{text}`") from None
