"""The figures of a cell as rows of a table: what it is called, its value, and what must be said beside it."""

from dataclasses import dataclass

from trueoracle.analysis import Absent, CellAnalysis, Interval, Metric
from trueoracle.analysis.cells import X
from trueoracle.analysis.result import AtK, Stratified
from trueoracle.report.findings import CellFindings
from trueoracle.report.wording import column, difference, images, interval, number, probability, result, share, signed
from trueoracle.words.mask import WeightMask, read_mask

_UNITS_NAMED = 24
_LAYERS_NAMED = 8
_RIVALS_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One row; `note` may be empty."""

    name: str
    value: str
    note: str = ""


def tables(cell: CellFindings) -> list[tuple[str, list[Fact]]]:
    """The tables of a cell by their captions."""
    return [
        ("Does it predict?", relation(cell.analysis)),
        (f"Choosing the mask of lowest {column(cell.analysis.x)}", choosing(cell)),
        ("Under which conditions", conditions(cell)),
    ]


def relation(found: CellAnalysis) -> list[Fact]:
    """The correlation, its null, its ceiling and the tests."""
    a, decision, e = found.association, found.decision, found.on_others
    tau = [Fact(name="Kendall's τ-b", value=signed(a.kendall_tau), note=f"as measured, {_measured_on(found)}")]
    if isinstance(e, Absent):
        tau.append(Fact(name="τ on other images", value="unknown", note=e.why))
    else:
        tau.append(
            Fact(
                name=f"τ on {e.other_images:,} other images",
                value=f"{signed(e.tau)} {interval(e.interval)}",
                note=f"95% interval, of these masks retrained anew; p of none {probability(e.zero_p)}",
            )
        )
    tau += [
        Fact(
            name="τ of the mask space",
            value=interval(a.kendall_interval),
            note=_why(a.kendall_interval)
            or "95% interval, on these images: bootstrap over masks, for a space that is finite",
        ),
        Fact(
            name="τ of other retrainings",
            value=interval(a.kendall_retraining_interval),
            note=_why(a.kendall_retraining_interval) or "95% interval, of the same masks on these images",
        ),
        Fact(name="Spearman's rho, Pearson's r", value=f"{signed(a.spearman_rho)}, {signed(a.pearson_r)}"),
    ]
    tests = [
        Fact(name="p that chance aligns units as far", value=probability(decision.unit_p), note=_null(found)),
        Fact(
            name="p of no relation",
            value=probability(decision.zero_p),
            note="naive" if decision.zero_p == a.kendall_p else f"the larger of that one and the p that τ is zero for {found.target.sentence}",
        ),
        Fact(
            name="corrected over cells",
            value=f"{probability(decision.zero_p_holm)} (Holm), {probability(decision.zero_p_bh)} (Benjamini-Hochberg)",
            note=f"over {decision.cells} cells",
        ),
        Fact(name="naive p", value=probability(a.kendall_p), note="takes masks that share units for independent: too small"),
        Fact(
            name=f"p of a relation of {decision.margin:g} or more",
            value=probability(decision.equivalence_p),
            note=_why(decision.equivalence_p) or "small: whatever relation there is lies below the margin",
        ),
    ]  # fmt: skip
    if decision.cells == 1:
        tests = [test for test in tests if test.name != "corrected over cells"]
    return [*tau, *tests, *_ceilings(found)]


def _measured_on(found: CellAnalysis) -> str:
    return "on the test images" if isinstance(found.images, Absent) else f"on {found.images:,} test images"


def choosing(cell: CellFindings) -> list[Fact]:
    """What the oracle mask is worth after retraining."""
    c, y = cell.analysis.choice, cell.analysis.y_metric
    in_noise = (
        "" if isinstance(c.regret_in_noise, Absent) else f", {signed(c.regret_in_noise, 1)} deviations of a retraining"
    )
    few = images(c.regret, cell.analysis.images)
    basis = c.regret_basis.value
    if isinstance(c.regret_interval, Interval):
        basis += f"; 95% interval on other images {_differences(c.regret_interval.low, c.regret_interval.high, y)}"
    facts = [
        Fact(
            name=f"{'exact' if cell.exact else 'approximate'} oracle mask",
            value=result(c.oracle_result, y),
            note=f"{_mask(cell, cell.oracle)}; {column(cell.analysis.x)} {c.oracle_x:.4g}, {_runner_up(cell)}; "
            f"the best mask reaches {result(c.best_result, y)}",
        ),
        Fact(name="regret", value=difference(c.regret, y) + (f" ({few})" if few else "") + in_noise, note=basis),
        Fact(name="masks that end worse", value=share(c.percentile), note="ties counted half"),
        Fact(
            name="anomaly ratio",
            value=f"{share(c.anomaly_ratio)} ({c.anomalies:,} masks)",
            note=f"end strictly better than the oracle mask; {c.tied_with_oracle:,} tie with it",
        ),
    ]
    facts += _with_tail(cell.analysis.stratified)
    facts += [_at_k(cell, at) for at in c.at[1:]]
    if not isinstance(c.tenth_tau, Absent):
        note = f"{c.tenth_n:,} masks, 95% interval {interval(c.tenth_interval)}"
        facts.append(Fact(name="τ within the lowest tenth", value=signed(c.tenth_tau), note=note))
    return facts


def _with_tail(found: Stratified | Absent) -> list[Fact]:
    if isinstance(found, Absent):
        return []
    note = f"{found.n:,} masks, those drawn where the loss is low among them, that stand for {found.stands_for:,}; 95% interval {{}}"
    low, high = (getattr(found.anomaly_interval, end, None) for end in ("low", "high"))
    ends = "unknown" if low is None or high is None else f"[{share(low)}, {share(high)}]"
    return [
        Fact(name="τ with the tail, weighted", value=signed(found.kendall_tau), note=note.format(interval(found.kendall_interval))),
        Fact(name="anomaly ratio with the tail, weighted", value=share(found.anomaly_ratio), note=note.format(ends)),
    ]  # fmt: skip


def _mask(cell: CellFindings, index: int) -> str:
    """A mask by what it prunes, or by how many units where those are too many to name; of weights, by how many each layer keeps."""
    pruned = read_mask(cell.masks.pruned[index]) if cell.masks.pruned else {}
    if isinstance(pruned, WeightMask):
        layers = [f"{layer} keeps {kept:,} of {n:,} weights" for layer, (n, kept) in pruned.kept_by_layer.items()]
        more = [f"and so on in {len(layers) - _LAYERS_NAMED} more layers"] if len(layers) > _LAYERS_NAMED else []
        return "; ".join(layers[:_LAYERS_NAMED] + more)
    units = sum(map(len, pruned.values()))
    if units > _UNITS_NAMED:
        return f"without {units:,} units at {len(pruned)} {'sites' if len(pruned) > 1 else 'site'}"
    return "; ".join(f"{site} without {', '.join(map(str, gone))}" for site, gone in pruned.items())


def _runner_up(cell: CellFindings) -> str:
    """How far ahead the oracle mask is; a loss on the whole split has no sampling error, one on a part of it has."""
    error = cell.standard_error_n[cell.oracle]
    if error > 0 and cell.analysis.x == X:
        named = ", ".join(map(str, cell.rivals[:_RIVALS_NAMED])) + (", ..." if len(cell.rivals) > _RIVALS_NAMED else "")
        found = f"{len(cell.rivals):,} other masks" + (f" ({named})" if cell.rivals else "")
        return f"standard error {error:.2g}: {found} lie within two standard errors of it"
    first, second = sorted(-cell.masks.promise(cell.analysis.x))[:2]
    return f"the next is {second - first:.2g} worse" if second > first else "another mask ties with it"


def _at_k(cell: CellFindings, at: AtK) -> Fact:
    n, low, high = cell.analysis.n, share(at.anomaly_ratio_low), share(at.anomaly_ratio_high)
    return Fact(
        name=f"the {at.k} of lowest {column(cell.analysis.x)}",
        value=f"{share(at.precision, 0)} are among the {at.k} best",
        note=f"at random {share(at.chance_precision)}; the best of them is number {at.best_rank:,.4g} of {n:,}; "
        f"anomaly ratio {share(at.anomaly_ratio)} on average, {low} to {high}",
    )


def conditions(cell: CellFindings) -> list[Fact]:
    """The regime, the space, the costs, and what was left out."""
    r, record = cell.analysis.regime, cell.record
    chance = (
        ""
        if isinstance(r.chance_loss, Absent)
        else f"pruned train loss above ln({cell.base.classes}) = {r.chance_loss:.3f}"
    )
    left_out = [
        f"{count:,} {sentence}" for sentence, count in cell.outcomes.items() if count and sentence != "finished"
    ]
    return [
        Fact(
            name="masks",
            value=f"{record.masks - cell.masks.searched:,} of {number(record.space)}",
            note="the whole space: the oracle mask is exact" if cell.exact else "drawn at random: the oracle mask is the lowest of these",
        ),
        Fact(name="trials", value=f"{cell.analysis.trials:,} finished", note="; ".join(left_out) or "none left out"),
        Fact(name="worse than guessing", value=share(r.collapsed_share), note=_why(r.collapsed_share) or chance),
        Fact(
            name=f"variance that single {'weights' if record.of_weights else 'units'} explain",
            value=f"{share(r.x_main_effects, 0)} of {column(cell.analysis.x)}, {share(r.y_main_effects, 0)} of {column(cell.analysis.y)}",
            note=_why(r.x_main_effects),
        ),
        Fact(name="parameters kept", value=share(r.parameters_kept), note=f"{record.parameters:,} of {cell.base.parameters:,}"),
        Fact(name="multiply-accumulates kept", value=share(r.operations_kept), note=f"{record.macs:,} of {cell.base.macs:,} an input"),
    ]  # fmt: skip


def _ceilings(found: CellAnalysis) -> list[Fact]:
    ceiling, e = found.ceiling, found.on_others
    facts = []
    if isinstance(ceiling, Absent):
        facts.append(Fact(name="ceiling on these images", value="unknown", note=ceiling.why))
    else:
        facts.append(
            Fact(
                name="ceiling on these images",
                value=signed(ceiling.tau),
                note=f"the τ of one who knows these images; reliability {ceiling.reliability:.2f}, "
                f"one retraining deviates by {difference(ceiling.repeat_deviation, found.y_metric)}",
            )
        )
    if isinstance(e, Absent):
        return facts
    relative = e.relative_tau
    return [
        *facts,
        Fact(
            name="ceiling from other images",
            value=f"{signed(e.ceiling)} {interval(e.ceiling_interval)}",
            note=f"the τ here of one who knows what each mask reaches on {e.other_images:,} other images",
        ),
        Fact(
            name="τ relative to that ceiling",
            value=f"{signed(relative)} {interval(e.relative_interval)}" if not isinstance(relative, Absent) else "unknown",
            note=_why(relative),
        ),
    ]  # fmt: skip


def _null(found: CellAnalysis) -> str:
    null = found.null
    if isinstance(null, Absent):
        return null.why
    error = ", at most" if null.p_at_most else f", known to {null.p_error:.1g}" if null.p_error else ""
    return (
        f"{null.kind.value}; {null.relabellings:,} relabellings{error}; 95% of null |τ| at most {null.abs_tau_95:.2f}"
    )


def _differences(low: float, high: float, y: Metric) -> str:
    return f"{difference(low, y)} to {difference(high, y)}"


def _why(value: object) -> str:
    return value.why if isinstance(value, Absent) else ""
