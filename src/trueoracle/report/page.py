"""The report: one HTML file that needs no network, written whole or not at all."""

import json
from pathlib import Path
from tempfile import NamedTemporaryFile

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from trueoracle.analysis.cells import X, Y, analyze_study, mean_over_repeats, scored_trials
from trueoracle.errors import StoreError
from trueoracle.report.scatter import scatter
from trueoracle.spec import parse_spec
from trueoracle.store import Store


def write_report(store: Store, study: str, path: Path) -> None:
    """Write the report of a study (by name or digest) to `path`; `StoreError` if it cannot be written."""
    record = store.find(study)
    spec = parse_spec(json.loads(record.spec), record.name)
    trials = scored_trials(store, study)
    cells = store.cells(record.digest)
    base = store.base(record.digest)
    status = store.status(record.digest, spec.repeats * sum(cell.masks for cell in cells))
    relations = analyze_study(store, study)
    shown = []
    for relation, cell in zip(relations, (c for c in cells if c.name in set(trials["cell"])), strict=True):
        masks, _ = mean_over_repeats(trials[trials["cell"] == cell.name], X, Y)
        exact = cell.masks == cell.space
        figure = scatter(masks, X, Y, f"{'exact' if exact else 'approximate'} oracle mask")
        shown.append(
            {
                "name": cell.name,
                "verdict": relation.verdict.value,
                "figure": figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False}),
            }
        )
    environment = Environment(
        loader=PackageLoader("trueoracle.report", "."), autoescape=True, undefined=StrictUndefined
    )
    html = environment.get_template("page.html").render(
        name=record.name,
        description=spec.description,
        digest=record.digest,
        model=spec.model,
        data=spec.data,
        final=spec.final.description,
        repeats=spec.repeats,
        spec=yaml.safe_dump(spec.facts(), sort_keys=False),
        x=X.replace("_", " "),
        y=Y.replace("_", " "),
        cells=shown,
        relations=relations,
        records=cells,
        base=base,
        total=status.total,
        finished=status.finished,
        diverged=status.diverged,
        failed=status.failed,
        plotly_js=get_plotlyjs(),
    )
    _write(path, html)


def _write(path: Path, text: str) -> None:
    try:
        with NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        Path(file.name).replace(path)
    except OSError as error:
        raise StoreError(f"`{path}` cannot be written: {error.strerror}") from None
